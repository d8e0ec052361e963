package shard

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// lowerPriority makes the calling goroutine's thread give way to those that serve
// requests, and returns what gives the thread back.
func lowerPriority() func() {
	runtime.LockOSThread()
	// An error changes nothing but the speed of others.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 10)
	// The thread is not unlocked: it ends with its goroutine and its priority with it.
	return func() {}
}
