package cluster

import (
	"errors"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestEtcdLog(t *testing.T) {
	for _, level := range []zapcore.Level{zap.DebugLevel, zap.ErrorLevel} {
		core, logged := observer.New(level)
		log := newEtcdLog(zap.New(core))
		logger := log.logger.With(zap.String("field", "value"))
		logger.Info("not for us")
		logger.Warn("a warning")
		logger.Error("failed to apply request")
		logger.Error("an error")
		var texts []string
		for _, entry := range logged.All() {
			texts = append(texts, entry.Message)
			if len(entry.Context) != 1 {
				t.Errorf("%q has lost its fields", entry.Message)
			}
		}
		want := []string{"a warning", "an error"}
		if level > zap.WarnLevel {
			want = want[1:]
		}
		if len(texts) != len(want) || texts[0] != want[0] || texts[len(texts)-1] != "an error" {
			t.Errorf("at level %s it logs %q, want %q", level, texts, want)
		}
	}
}

// TestEtcdLogEnds has etcd end the process in its two ways, during a start and after.
func TestEtcdLogEnds(t *testing.T) {
	core, logged := observer.New(zap.DebugLevel)
	log := newEtcdLog(zap.New(core))
	for _, end := range []func(string, ...zap.Field){log.logger.Panic, log.logger.Fatal} {
		for range 2 { // Only the first says why.
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				end("it is over", zap.Int("n", 1), zap.Error(errors.New("bad sector")))
				t.Error("it went on")
			}()
			<-ended
		}
		if got := <-log.failed; got != "it is over: bad sector" {
			t.Errorf("during a start: %q, want the message and the error", got)
		}
	}
	log.started.Store(true)
	defer func() {
		if got := recover(); got != "it is over" {
			t.Errorf("after the start: %v, want what zap does", got)
		}
		if logged.Len() != 5 {
			t.Errorf("logged %v, want all five", logged.All())
		}
	}()
	log.logger.Panic("it is over")
}
