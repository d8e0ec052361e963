//go:build !linux

package shard

// lowerPriority does nothing: only Linux has a priority for each thread.
func lowerPriority() func() { return func() {} }
