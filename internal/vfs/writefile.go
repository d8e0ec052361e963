package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// TempSuffix is what WriteFile appends to a name for its temporary file. A
// crash may leave such a file behind; the next WriteFile of the name replaces
// it, and nobody else may take it for content.
const TempSuffix = ".tmp"

// WriteFile replaces the content of a file, or creates it, so that a crash at
// any point leaves the old content or the new one, whole: it writes a
// temporary file in the same folder, syncs it, renames it and syncs the
// folder. When it returns nil, the new content is durable.
//
// After an error either content may be the durable one, and the temporary file
// is removed if the file system still allows it. Calls for one name must not
// overlap.
func WriteFile(fsys FS, name string, data []byte) error {
	temp := name + TempSuffix
	f, err := createAnew(fsys, temp)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if len(data) > 0 {
		_, err = f.WriteAt(data, 0)
	}
	if err != nil {
		err = fmt.Errorf("write %s: %w", name, errors.Join(err, f.Close()))
	} else {
		err = CommitFile(fsys, f, temp, name)
	}
	if err != nil {
		// Best effort: the temporary file may have been renamed already, and
		// an error here adds nothing to the one that is reported.
		_ = fsys.Remove(temp)
	}
	return err
}

// createAnew creates a file in place of the one that a crash may have left.
func createAnew(fsys FS, name string) (File, error) {
	f, err := fsys.Create(name)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := fsys.Remove(name); err != nil {
		return nil, err
	}
	return fsys.Create(name)
}

// CommitFile is the second half of WriteFile, for a file that was written in
// a stream: it syncs and closes f, renames it from tempName to name, replacing
// what was there, and syncs the folder. f is closed in any case; tempName is
// left to the caller on an error, who must not commit it again if it was the
// sync that failed.
func CommitFile(fsys FS, f File, tempName, name string) error {
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("commit %s: %w", name, err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("commit %s: %w", name, err)
	}
	if err := fsys.Rename(tempName, name); err != nil {
		return fmt.Errorf("commit %s: %w", name, err)
	}
	folder, tempFolder := filepath.Dir(name), filepath.Dir(tempName)
	if err := fsys.SyncDir(folder); err != nil {
		return fmt.Errorf("commit %s: %w", name, err)
	}
	if tempFolder == folder {
		return nil
	}
	if err := fsys.SyncDir(tempFolder); err != nil {
		return fmt.Errorf("commit %s: %w", name, err)
	}
	return nil
}

// ReadFile returns the content of a file of at most limit bytes. A larger file
// is refused before anything is allocated, with an error that wraps
// ErrTooLarge.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f, limit)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return data, nil
}

func readAll(f File, limit int64) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("read %s: %d bytes, at most %d are allowed: %w", f.Name(), size, limit, ErrTooLarge)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		return data, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read %s: %d of %d bytes: %w", f.Name(), n, size, err)
}
