package segment

import (
	"errors"
	"fmt"
	"io/fs"
)

// Sentinels for errors.Is.
var (
	// ErrCorrupt: bytes on disk or on the wire are not what was written, or cannot be read.
	ErrCorrupt = errors.New("corrupt")
	// ErrVersion: the bytes were written by a version this one cannot read. They are whole.
	ErrVersion = errors.New("unsupported version")
	// ErrTooLarge: a line, or what belongs to it, is above the limits of the format.
	ErrTooLarge = errors.New("too large")
)

// A CorruptError says where bytes are damaged. It is an ErrCorrupt.
type CorruptError struct {
	Path   string // empty for bytes that are not of a file
	Offset int64  // position in the file
	What   string // what should stand there
	Err    error  // what is wrong; may be nil
}

func (e *CorruptError) Error() string {
	s := "corrupt " + e.What
	if e.Path != "" {
		s += fmt.Sprintf(" in %q at byte %d", e.Path, e.Offset)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap makes errors.Is(err, ErrCorrupt) hold.
func (e *CorruptError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrCorrupt}
	}
	return []error{ErrCorrupt, e.Err}
}

func corrupt(what, format string, args ...any) *CorruptError {
	return &CorruptError{What: what, Err: fmt.Errorf(format, args...)}
}

// damaged says where in a file a reading failed. What cannot be read is as good as
// damaged, and is repaired alike; but a later version's bytes are whole, and that a file
// was closed says nothing of it.
func damaged(path string, at int64, what string, err error) error {
	if errors.Is(err, ErrVersion) || errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("%s of %q: %w", what, path, err)
	}
	return &CorruptError{Path: path, Offset: at, What: what, Err: err}
}
