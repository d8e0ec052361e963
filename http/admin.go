package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// writeJSON answers 200 with a value.
func writeJSON(w http.ResponseWriter, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(body, '\n'))
	return err
}

// writeText answers 200 with a text.
func writeText(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := io.WriteString(w, text)
	return err
}

// seal answers when everything open is sealed. It takes as long as it takes.
func (s *Server) seal(w http.ResponseWriter, r *http.Request, n *Node) error {
	result, err := n.Admin.Seal(r.Context())
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return writeJSON(w, result)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request, n *Node) error {
	status, err := n.Admin.Status(r.Context())
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if status.Shards == nil {
		status.Shards = []Shard{}
	}
	return writeJSON(w, status)
}

// readiness is for load balancers: may traffic be sent here?
func (s *Server) readiness(w http.ResponseWriter, _ *http.Request, _ *Node) error {
	if err := s.ready(); err != nil {
		return err
	}
	return writeText(w, "ready\n")
}

// liveness is for supervisors: does the process answer? It depends on nothing.
func (s *Server) liveness(w http.ResponseWriter, _ *http.Request, _ *Node) error {
	return writeText(w, "ok\n")
}

// lokiVersion is what buildinfo tells: Grafana switches features on by it.
const lokiVersion = "3.5.0"

// lokiBuildInfo answers as Loki of the version whose API this is.
func (s *Server) lokiBuildInfo(w http.ResponseWriter, _ *http.Request, _ *Node) error {
	b := s.options.Build
	return writeJSON(w, struct {
		Version   string `json:"version"`
		Revision  string `json:"revision"`
		Branch    string `json:"branch"`
		BuildUser string `json:"buildUser"`
		BuildDate string `json:"buildDate"`
		GoVersion string `json:"goVersion"`
	}{lokiVersion, b.Revision, "logcluster " + b.Version, "", b.Date, runtime.Version()})
}

// levels are those of the node's own log.
var levels = []zapcore.Level{zapcore.DebugLevel, zapcore.InfoLevel, zapcore.WarnLevel, zapcore.ErrorLevel, zapcore.FatalLevel}

// logLevel shows, or sets and shows, the level of the node's own log. A new level stands
// in the parameter log_level, in the body as a form, as {"level": …}, or alone.
func (s *Server) logLevel(w http.ResponseWriter, r *http.Request, _ *Node) error {
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		text, err := wantedLevel(r)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(levels, func(l zapcore.Level) bool { return l.String() == text })
		if i < 0 {
			return badRequest("unknown level %s: the levels are debug, info, warn, error and fatal", quote(text))
		}
		if old := s.options.Level.Level(); old != levels[i] {
			s.options.Level.SetLevel(levels[i])
			s.log.Warn("log level changed", zap.Stringer("from", old), zap.Stringer("to", levels[i]))
		}
	}
	return writeJSON(w, struct {
		Level string `json:"level"`
	}{s.options.Level.Level().String()})
}

// wantedLevel finds the level in a request.
func wantedLevel(r *http.Request) (string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", badRequest("cannot read the parameters of the URL: %v", err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, 1024))
	if err != nil {
		var size *http.MaxBytesError
		if errors.As(err, &size) {
			return "", err
		}
		return "", badRequest("cannot read the body: %v", err)
	}
	text := strings.TrimSpace(string(body))
	if query.Has("log_level") {
		text = query.Get("log_level")
	} else if strings.HasPrefix(text, "{") {
		var object struct {
			Level string `json:"level"`
		}
		if err := json.Unmarshal(body, &object); err != nil {
			return "", badRequest(`the body is no JSON such as {"level":"debug"}: %v`, err)
		}
		text = object.Level
	} else if form, err := url.ParseQuery(text); err == nil && form.Has("log_level") {
		text = form.Get("log_level")
	}
	return strings.ToLower(strings.TrimSpace(text)), nil
}
