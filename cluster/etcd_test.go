package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// newEtcdOptions are those of a member that is alone, in a new folder.
func newEtcdOptions(t *testing.T) etcdOptions {
	return etcdOptions{
		Dir:           filepath.Join(t.TempDir(), "etcd"),
		Name:          "a",
		Listen:        "127.0.0.1:0",
		HTTP:          "http://127.0.0.1:3100",
		UnsafeNoFsync: true,
	}
}

// runEtcdServer starts a member that ends with the test.
func runEtcdServer(t *testing.T, options etcdOptions) *etcdServer {
	t.Helper()
	server, err := startEtcd(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeEtcd(t, server) })
	return server
}

func closeEtcd(t *testing.T, server *etcdServer) {
	t.Helper()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-server.Done():
	default:
		t.Error("Done is open after Close")
	}
	if err := server.Err(); err != nil {
		t.Errorf("Err after Close: %v", err)
	}
}

// checkLeaks fails the test if, at its very end, there are goroutines that were not there when it began.
func checkLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func TestEtcdMeta(t *testing.T) {
	checkLeaks(t)
	server := runEtcdServer(t, newEtcdOptions(t))
	compact := func(t *testing.T) {
		_, revision, err := server.Meta().List(t.Context(), "nothing")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.client.Compact(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
	}
	testMeta(t, func(t *testing.T, part func(*testing.T, metaUnderTest)) {
		part(t, metaUnderTest{Meta: server.Meta(), compact: compact})
	})
}

// TestEtcdRestart finds everything again after a start on another port, opens no port but one, and says nothing while
// all is well.
func TestEtcdRestart(t *testing.T) {
	checkLeaks(t)
	core, logged := observer.New(zap.DebugLevel)
	options := newEtcdOptions(t)
	options.Logger = zap.New(core)
	server := runEtcdServer(t, options)
	if peers, clients := len(server.etcd.Peers), len(server.etcd.Clients); peers != 1 || clients != 0 {
		t.Errorf("%d listeners for members and %d for clients, want 1 and 0", peers, clients)
	}
	lease := mustGrant(t, server.Meta(), time.Minute)
	revision := mustTxn(t, server.Meta(), Txn{Then: []Op{PutOp("a", []byte("1"), 0), PutOp("b", nil, lease)}})
	closeEtcd(t, server)
	closeEtcd(t, server)

	server = runEtcdServer(t, options)
	if kv := mustGet(t, server.Meta(), "a"); string(kv.Value) != "1" || kv.ModRevision != revision {
		t.Errorf("after the restart: %+v, want value 1 at %d", kv, revision)
	}
	if kv := mustGet(t, server.Meta(), "b"); kv.Lease != lease {
		t.Errorf("after the restart: %+v, want lease %x", kv, lease)
	}
	if err := server.Meta().KeepAlive(t.Context(), lease); err != nil {
		t.Error(err)
	}
	self := server.etcd.Server.Cluster().Member(server.etcd.Server.MemberID())
	if want := "http://" + server.Address(); len(self.PeerURLs) != 1 || self.PeerURLs[0] != want {
		t.Errorf("the cluster knows the member at %v, want %s", self.PeerURLs, want)
	}
	if len(self.ClientURLs) != 1 || self.ClientURLs[0] != options.HTTP {
		t.Errorf("the cluster knows the node at %v, want %s", self.ClientURLs, options.HTTP)
	}
	closeEtcd(t, server)
	for _, entry := range logged.All() {
		t.Errorf("logged without a reason: %s %s %v", entry.Level, entry.Message, entry.ContextMap())
	}
}

func TestEtcdRefuses(t *testing.T) {
	checkLeaks(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	refused := func(what string, change func(*etcdOptions), want error, texts ...string) {
		t.Helper()
		options := newEtcdOptions(t)
		change(&options)
		server, err := startEtcd(t.Context(), options)
		if err == nil {
			closeEtcd(t, server)
		}
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
			return
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %q", what, err, text)
			}
		}
	}
	listen := func(address string) func(*etcdOptions) {
		return func(o *etcdOptions) { o.Listen = address }
	}
	refused("no HTTP address", func(o *etcdOptions) { o.HTTP = "http://:3100" }, nil, "--listen", "HOST:PORT")
	refused("no name", func(o *etcdOptions) { o.Name = "" }, nil, "name")
	refused("port in use", listen(taken.Addr().String()), ErrEtcdListen, "--etcd-listen", taken.Addr().String(), "stop that one")
	refused("all addresses", listen("0.0.0.0:0"), ErrEtcdListen, "loopback")
	refused("no address", listen(":2380"), ErrEtcdListen, "IP address or localhost")
	refused("another machine's address", listen("192.0.2.1:2380"), ErrEtcdListen, "127.0.0.1:2380")
	refused("a name", listen("example.org:2380"), ErrEtcdListen, "IP address or localhost")
	refused("no port", listen("127.0.0.1"), ErrEtcdListen, "HOST:PORT")
	refused("a bad port", listen("127.0.0.1:99999"), ErrEtcdListen, "99999")
	refused("nothing to advertise", func(o *etcdOptions) { o.Listen, o.Insecure = "0.0.0.0:0", true }, ErrEtcdListen, "name the one")
	refused("not an own address", func(o *etcdOptions) { o.Listen, o.Insecure = "192.0.2.1:2380", true }, ErrEtcdListen, "192.0.2.1")
	refused("free port in a cluster", func(o *etcdOptions) { o.InitialCluster = make([]etcdPeer, 2) }, ErrEtcdListen, "name one")
}

func TestEtcdListensBeyondLoopbackWhenAllowed(t *testing.T) {
	checkLeaks(t)
	options := newEtcdOptions(t)
	options.Listen, options.Advertise, options.Insecure = "0.0.0.0:0", "127.0.0.1:2380", true
	server := runEtcdServer(t, options)
	if url := server.etcd.Config().AdvertisePeerUrls[0].String(); url != "http://127.0.0.1:2380" {
		t.Errorf("advertises %s", url)
	}
}

// TestEtcdDamaged damages the log of a member that was stopped.
func TestEtcdDamaged(t *testing.T) {
	t.Parallel()
	original := newEtcdOptions(t)
	server := runEtcdServer(t, original)
	for i := range 10 {
		mustTxn(t, server.Meta(), Txn{Then: []Op{PutOp("a", []byte(fmt.Sprint("value ", i)), 0)}})
	}
	closeEtcd(t, server)
	start := func(t *testing.T, options etcdOptions) (*etcdServer, error) {
		server, err := startEtcd(t.Context(), options)
		if err == nil {
			t.Cleanup(func() { closeEtcd(t, server) })
		}
		return server, err
	}
	log, err := os.ReadFile(onlyWAL(t, original.Dir))
	if err != nil {
		t.Fatal(err)
	}
	log = log[:walEnd(t, log)+1<<16] // The rest is zeros.
	damaged := func(name string, damage func(t *testing.T, log []byte), check func(t *testing.T, options etcdOptions, server *etcdServer, err error)) {
		t.Run(name, func(t *testing.T) {
			options := newEtcdOptions(t)
			if err := os.CopyFS(options.Dir, os.DirFS(original.Dir)); err != nil {
				t.Fatal(err)
			}
			path := onlyWAL(t, options.Dir)
			log := slices.Clone(log)
			damage(t, log)
			if err := os.WriteFile(path, log, 0o600); err != nil {
				t.Fatal(err)
			}
			server, err := start(t, options)
			check(t, options, server, err)
		})
	}
	damaged("nothing", func(*testing.T, []byte) {}, func(t *testing.T, _ etcdOptions, _ *etcdServer, err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	damaged("record in the middle", func(t *testing.T, log []byte) {
		// A piece of a value, so that it is the checksum that tells.
		at := bytes.Index(log, []byte("value 5"))
		if at < 0 {
			t.Fatal("no value in the log")
		}
		log[at] ^= 1
	}, func(t *testing.T, options etcdOptions, _ *etcdServer, err error) {
		if !errors.Is(err, ErrEtcdDamaged) || !strings.Contains(err.Error(), options.Dir) {
			t.Fatalf("got %v, want ErrEtcdDamaged and the folder", err)
		}
	})
	t.Run("contents", func(t *testing.T) {
		// Of this, etcd tells by a panic. What it had begun stays as it is, so this test does not look for leaks.
		core, logged := observer.New(zap.WarnLevel)
		options := newEtcdOptions(t)
		options.Logger = zap.New(core)
		if err := os.CopyFS(options.Dir, os.DirFS(original.Dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(options.Dir, "member", "snap", "db"), make([]byte, 1<<16), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := start(t, options); !errors.Is(err, ErrEtcdDamaged) || !strings.Contains(err.Error(), "database") {
			t.Fatalf("got %v, want ErrEtcdDamaged and what is damaged", err)
		}
		if entries := logged.All(); len(entries) == 0 || entries[0].LoggerName != "etcd" {
			t.Errorf("logged %v, want what etcd says", entries)
		}
	})
	damaged("torn end", func(t *testing.T, log []byte) {
		// The length of a record of which nothing else came to the disk.
		binary.LittleEndian.PutUint64(log[walEnd(t, log):], 4096)
	}, func(t *testing.T, options etcdOptions, server *etcdServer, err error) {
		// A member that is alone goes on, and keeps what was cut.
		if err != nil {
			t.Fatal(err)
		}
		kept, err := filepath.Glob(onlyWAL(t, options.Dir) + ".broken-kept-*")
		if err != nil || len(kept) != 1 {
			t.Fatalf("kept %v, %v", kept, err)
		}
		// One of several does not.
		others := options
		others.InitialCluster = []etcdPeer{{Name: options.Name, URL: "http://127.0.0.1:1"}, {Name: "other", URL: "http://127.0.0.1:2"}}
		if err := others.checkBrokenWAL(); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(kept[0], onlyWAL(t, options.Dir)+".broken"); err != nil {
			t.Fatal(err)
		}
		if err := others.checkBrokenWAL(); !errors.Is(err, ErrEtcdDamaged) || !strings.Contains(err.Error(), ".broken") {
			t.Fatalf("got %v, want ErrEtcdDamaged and the file", err)
		}
		if kv := mustGet(t, server.Meta(), "a"); string(kv.Value) != "value 9" {
			t.Fatalf("got %+v", kv)
		}
	})
}

func onlyWAL(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(found) != 1 {
		t.Fatalf("logs %v, %v; want one", found, err)
	}
	return found[0]
}

// walEnd returns where the zeros begin that etcd's log is filled with: its frames are a length, of which the upper byte
// tells the padding, and a record (go.etcd.io/etcd/server/v3/storage/wal, doc.go).
func walEnd(t *testing.T, log []byte) int {
	t.Helper()
	at := 0
	for at+8 <= len(log) {
		field := binary.LittleEndian.Uint64(log[at:])
		if field == 0 {
			return at
		}
		at += 8 + int(field&(1<<56-1))
		if field>>63 != 0 {
			at += int(field >> 56 & 7)
		}
	}
	t.Fatalf("no end of the log in %d bytes", len(log))
	return 0
}

// TestEtcdFolderInUse starts a second member in the folder of a running one: etcd would wait for ever.
func TestEtcdFolderInUse(t *testing.T) {
	options := newEtcdOptions(t)
	// The second start goes on when the first member has closed, and is then taken back.
	checkLeaks(t)
	server := runEtcdServer(t, options)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := startEtcd(ctx, options); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), options.Dir) {
		t.Fatalf("got %v, want DeadlineExceeded and the folder", err)
	}
	if kv := mustGet(t, server.Meta(), "a"); kv.ModRevision != 0 {
		t.Fatalf("got %+v", kv)
	}
}

// TestEtcdStops has a member end without Close.
func TestEtcdStops(t *testing.T) {
	checkLeaks(t)
	server := runEtcdServer(t, newEtcdOptions(t))
	if err := server.Err(); err != nil {
		t.Fatalf("Err of a running member: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := server.Meta().Watch(ctx, "a", 1)
	server.etcd.Server.HardStop()
	<-server.Done()
	if err := server.Err(); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Fatalf("Err: %v, want that it stopped", err)
	}
	_, err := server.Meta().Txn(t.Context(), Txn{Then: []Op{PutOp("a", nil, 0)}})
	if !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("transaction of a stopped member: %v, want ErrUnknownOutcome", err)
	}
	short, end := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer end()
	if _, err := server.Meta().Get(short, "a"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("get from a stopped member: %v, want ErrUnavailable and DeadlineExceeded", err)
	}
	cancel()
	for range watch {
	}
	server.err = nil // For closeEtcd: this end was meant.
}

// TestEtcdWatchGoesOn ends etcd's watch under one of Meta, which begins another where that ended.
func TestEtcdWatchGoesOn(t *testing.T) {
	checkLeaks(t)
	server := runEtcdServer(t, newEtcdOptions(t))
	meta := server.Meta()
	first := mustTxn(t, meta, Txn{Then: []Op{PutOp("a", nil, 0)}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := make(chan WatchEvents)
	var next int64
	var reset bool
	var watch sync.WaitGroup
	watch.Go(func() { next, reset = server.meta.watchOnce(ctx, "a", first, out) })
	if news := <-out; news.Revision != first {
		t.Errorf("got %+v, want revision %d", news, first)
	}
	mustTxn(t, meta, Txn{Then: []Op{PutOp("a", nil, 0)}})
	cancel()
	watch.Wait()
	if next != first+1 || reset {
		t.Errorf("goes on at %d, reset %v; want at %d", next, reset, first+1)
	}
}

// TestEtcdThreeVoters starts a cluster of three, whose first member waits for the second, and stops one. (Closed members
// leave idle connections to each other behind, so leaks are not looked for.)
func TestEtcdThreeVoters(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c"}
	all := make([]etcdOptions, len(names))
	var peers []etcdPeer
	for i, name := range names {
		all[i] = newEtcdOptions(t)
		all[i].Name = name
		address, _, err := all[i].address()
		if err != nil {
			t.Fatal(err)
		}
		all[i].Listen = address
		peers = append(peers, etcdPeer{Name: name, URL: "http://" + address})
	}
	for i := range all {
		all[i].InitialCluster = peers
	}
	alone, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := startEtcd(alone, all[0]); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), peers[1].URL) {
		t.Fatalf("one of three: %v, want DeadlineExceeded and whom it waits for", err)
	}
	servers := make([]*etcdServer, len(names))
	var started sync.WaitGroup
	for i := range all {
		started.Go(func() {
			var err error
			if servers[i], err = startEtcd(t.Context(), all[i]); err != nil {
				t.Error(err)
			}
		})
	}
	started.Wait()
	t.Cleanup(func() {
		// Without handing leadership over, which takes seconds when there is nobody left to take it.
		var closed sync.WaitGroup
		for _, server := range servers {
			closed.Go(func() {
				server.closing.Store(true)
				server.etcd.Server.HardStop()
				closeEtcd(t, server)
			})
		}
		closed.Wait()
	})
	first := mustTxn(t, servers[0].Meta(), Txn{Then: []Op{PutOp("a", []byte("1"), 0)}})
	for i, server := range servers {
		if kv := mustGet(t, server.Meta(), "a"); kv.ModRevision != first {
			t.Errorf("member %s: %+v, want revision %d", names[i], kv, first)
		}
	}
	for i, server := range servers {
		if server.etcd.Server.MemberID() == server.etcd.Server.Leader() {
			closeEtcd(t, server)
			servers = append(servers[:i], servers[i+1:]...)
			break
		}
	}
	if kv := mustGet(t, servers[0].Meta(), "a"); kv.ModRevision != first {
		t.Errorf("after the leader was closed: %+v, want revision %d", kv, first)
	}
	mustTxn(t, servers[1].Meta(), Txn{If: []Compare{{Key: "a", ModRevision: first}}, Then: []Op{PutOp("a", []byte("2"), 0)}})
}
