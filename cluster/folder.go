package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/logcluster/logcluster/internal/vfs"
)

// A folder is what the node knows of itself before it asks anybody: DIR/node.
type folder struct {
	fs     vfs.FS
	dir    string
	lock   io.Closer
	uuid   string
	known  string            // id of the cluster that the folder belongs to; "" before the first start is done
	shards map[uint32]string // replica (folder uuid and incarnation) of each shard that was ever held here
}

// ErrFolderInUse says that another process has the data folder.
var ErrFolderInUse = errors.New("data folder is in use")

// openFolder locks the data folder and reads the node's identity, which it makes if the
// folder is new.
func openFolder(fsys vfs.FS, dir string) (*folder, error) {
	f := &folder{fs: fsys, dir: dir + "/node", shards: map[uint32]string{}}
	if err := fsys.MkdirAll(f.dir); err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(dir + "/shards"); err != nil {
		return nil, err
	}
	lock, err := fsys.Lock(f.dir + "/LOCK")
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%w: another process runs on %q; stop it, or start with another --data", ErrFolderInUse, dir)
	}
	if err != nil {
		return nil, err
	}
	f.lock = lock
	if err := f.read(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return f, nil
}

func (f *folder) read() error {
	uuid, err := f.text("UUID")
	if errors.Is(err, fs.ErrNotExist) {
		uuid = newUUID()
		err = vfs.WriteFile(f.fs, f.dir+"/UUID", []byte(uuid+"\n"))
	}
	if err != nil {
		return err
	}
	f.uuid = uuid
	if f.known, err = f.text("CLUSTER"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, err := vfs.ReadFile(f.fs, f.dir+"/SHARDS", 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &f.shards); err != nil {
		return fmt.Errorf("%q is damaged: %w; it lists the shards that this node holds: put it back from a copy", f.dir+"/SHARDS", err)
	}
	return nil
}

func (f *folder) text(name string) (string, error) {
	b, err := vfs.ReadFile(f.fs, f.dir+"/"+name, 4096)
	if err != nil && !errors.Is(err, vfs.ErrTooLarge) {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if len(s) != 32 || strings.Trim(s, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is damaged: it must hold 32 hex digits; put it back from a copy", f.dir+"/"+name)
	}
	return s, nil
}

// join remembers the cluster that the folder belongs to.
func (f *folder) join(cluster string) error {
	if f.known == cluster {
		return nil
	}
	f.known = cluster
	return vfs.WriteFile(f.fs, f.dir+"/CLUSTER", []byte(cluster+"\n"))
}

// holds remembers, durably, that the folder holds a replica of each of the shards:
// from now on a missing one is a lost disk.
func (f *folder) holds(replicas map[uint32]string) error {
	changed := false
	for shard, replica := range replicas {
		if f.shards[shard] != replica {
			f.shards[shard] = replica
			changed = true
		}
	}
	if !changed {
		return nil
	}
	b, err := json.Marshal(f.shards)
	if err != nil {
		return err
	}
	return vfs.WriteFile(f.fs, f.dir+"/SHARDS", append(b, '\n'))
}

func (f *folder) close() error { return f.lock.Close() }
