package cluster

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// etcdLog passes etcd's warnings and errors on. During a start it turns etcd's ways of ending the process, from whatever
// goroutine, into a cause that is sent to failed, for startEtcd to make an error of; the goroutine ends. Once started is
// set the process ends as etcd wants: etcd must not go on then.
type etcdLog struct {
	logger  *zap.Logger
	failed  chan string
	started atomic.Bool
}

func newEtcdLog(base *zap.Logger) *etcdLog {
	log := &etcdLog{failed: make(chan string, 1)}
	log.logger = base.Named("etcd").WithOptions(
		zap.WrapCore(func(core zapcore.Core) zapcore.Core { return etcdCore{core} }),
		zap.WithFatalHook(etcdHook{log, zapcore.WriteThenFatal}),
		zap.WithPanicHook(etcdHook{log, zapcore.WriteThenPanic}),
	)
	return log
}

// etcdCore drops what is below warning level and what does not concern us. (zap.IncreaseLevel does not do for a logger
// whose own level may be set above warning while it runs.)
type etcdCore struct{ zapcore.Core }

func (c etcdCore) Enabled(level zapcore.Level) bool {
	return level >= zapcore.WarnLevel && c.Core.Enabled(level)
}

func (c etcdCore) With(fields []zapcore.Field) zapcore.Core { return etcdCore{c.Core.With(fields)} }

func (c etcdCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level < zapcore.WarnLevel {
		return checked
	}
	switch entry.Message {
	// These two are about a client port, and there is none.
	case "Running http and grpc server on single port. This is not recommended for production.",
		"simple token is not cryptographically signed",
		// Said of the new store of a first start, which has no term yet: the next look finds one.
		"Failed to detect schema version",
		"failed to update storage version",
		// Said when a member stops soon after its start; else it tries again.
		"failed to update cluster version",
		// Whoever made the request is told, and knows better whether it matters.
		"failed to apply request",
		// Said at every regular Close; when it is an error, Err says it.
		"setting up serving from embedded etcd failed.":
		return checked
	}
	return c.Core.Check(entry, checked)
}

type etcdHook struct {
	log  *etcdLog
	then zapcore.CheckWriteHook
}

// OnWrite is called after a message of level fatal or panic was logged.
func (h etcdHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	if h.log.started.Load() {
		h.then.OnWrite(entry, fields)
		return
	}
	cause := entry.Message
	for _, field := range fields {
		if err, ok := field.Interface.(error); ok {
			cause = fmt.Sprintf("%s: %v", cause, err)
		}
	}
	select {
	case h.log.failed <- cause:
	default: // The first cause is the cause.
	}
	runtime.Goexit()
}
