package http

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A route is a line of the route table.
type route struct {
	name     string   // its path, as metrics show it
	methods  []string // HEAD goes with GET, where there is no POST
	node     bool     // it needs a node
	deadline int      // status when time runs out
	handle   handler
}

// The Loki routes' beginning.
const lokiPrefix = "/loki/api/v1"

// table is all that the server answers.
func (s *Server) table() []*route {
	get := []string{http.MethodGet}
	post := []string{http.MethodPost}
	both := []string{http.MethodGet, http.MethodPost}
	const late, busy = http.StatusGatewayTimeout, http.StatusServiceUnavailable
	metrics := promhttp.HandlerFor(s.options.Gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	return []*route{
		{"/ingest", post, true, busy, s.ingest},
		{"/query", both, true, late, s.query},

		{lokiPrefix + "/push", post, true, busy, s.push},
		{lokiPrefix + "/query_range", both, true, late, s.lokiQueryRange},
		{lokiPrefix + "/query", both, true, late, s.lokiQuery},
		{lokiPrefix + "/labels", both, true, late, s.lokiLabels},
		{lokiPrefix + "/label", both, true, late, s.lokiLabels},
		{lokiPrefix + "/label/{name}/values", both, true, late, s.lokiLabelValues},
		{lokiPrefix + "/series", both, true, late, s.lokiSeries},
		{lokiPrefix + "/status/buildinfo", get, true, late, s.lokiBuildInfo},

		{"/admin/seal", post, true, busy, s.seal},
		{"/status", get, true, late, s.status},

		{"/ready", get, false, late, s.readiness},
		{"/livez", get, false, late, s.liveness},
		{"/metrics", get, false, late, func(w http.ResponseWriter, r *http.Request, _ *Node) error {
			metrics.ServeHTTP(w, r)
			return nil
		}},
		{"/log_level", []string{http.MethodGet, http.MethodPut, http.MethodPost}, false, late, s.logLevel},
		{"/", get, false, late, s.index},
	}
}

// A router finds routes.
type router struct {
	exact   map[string]*route
	values  *route // the one with a parameter
	unknown *route // stands for all other paths
}

func newRouter(s *Server) *router {
	r := &router{exact: map[string]*route{}, unknown: &route{name: "unknown", deadline: http.StatusServiceUnavailable}}
	for _, route := range s.table() {
		if strings.Contains(route.name, "{") {
			r.values = route
			continue
		}
		r.exact[route.name] = route
	}
	return r
}

const (
	valuesPrefix = lokiPrefix + "/label/"
	valuesSuffix = "/values"
)

// labelInPath returns the name in /loki/api/v1/label/{name}/values.
func labelInPath(p string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(p, valuesPrefix)
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(rest, valuesSuffix)
	return name, ok && name != "" && !strings.Contains(name, "/")
}

// find returns the route of a request, also if an error says why it is not answered.
func (t *router) find(r *http.Request) (*route, error) {
	p := r.URL.Path
	if len(p) > 1 {
		p = strings.TrimSuffix(p, "/")
	}
	found := t.exact[p]
	if found == nil {
		if _, ok := labelInPath(p); ok {
			found = t.values
		}
	}
	if found == nil {
		return t.unknown, t.notFound(p)
	}
	head := r.Method == http.MethodHead && len(found.methods) == 1 && found.methods[0] == http.MethodGet
	if head || slices.Contains(found.methods, r.Method) {
		return found, nil
	}
	allow := strings.Join(found.methods, ", ")
	return found, &statusError{
		code: http.StatusMethodNotAllowed, allow: allow,
		text: fmt.Sprintf("%s does not take %s: use %s", found.name, quote(r.Method), strings.Join(found.methods, " or ")),
	}
}

// notFound names the routes that the path may have been meant to be.
func (t *router) notFound(p string) error {
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	short := shorten(p)
	last := path.Base(short)
	for name := range t.exact {
		if name == "/" {
			continue
		}
		distance := editDistance(short, name)
		if path.Base(name) == last {
			distance = min(distance, 1) // The right word under another prefix.
		}
		if distance <= 2+len(name)/8 {
			near = append(near, candidate{name, distance})
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	text := fmt.Sprintf("there is no %s here", quote(p))
	for i, c := range near[:min(len(near), 3)] {
		if i == 0 {
			text += ": did you mean " + c.name
		} else {
			text += " or " + c.name
		}
	}
	end := "."
	if len(near) > 0 {
		end = "?"
	}
	return &statusError{code: http.StatusNotFound, text: text + end + " GET / lists what there is"}
}

// editDistance is how many bytes must be inserted, removed or replaced to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
