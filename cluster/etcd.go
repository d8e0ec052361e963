package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

const (
	// How often a free port is chosen anew because somebody else took it before etcd did.
	etcdPortTries = 8
	// How long a start may go on before the log says what it waits for.
	etcdPatience = 5 * time.Second
	// How long a start tries to tell the other members of a changed address.
	etcdUpdateTime = 5 * time.Second
	// What to do about a damaged member.
	etcdReplace = "if other nodes run, this one can come back as a new member, with an empty --data and another --name; " +
		"if it is alone, put the folder back from a copy, or restore the cluster from a backup"
)

var (
	// ErrEtcdDamaged says that etcd's own files cannot be trusted or read.
	ErrEtcdDamaged = errors.New("the metadata member's files are damaged")
	// ErrEtcdListen says that the address for the other metadata members cannot be used.
	ErrEtcdListen = errors.New("--etcd-listen cannot be used")
)

// etcdServer is the node's own etcd member: a voter or learner in the process, without a client port.
type etcdServer struct {
	etcd    *embed.Etcd
	client  *clientv3.Client
	meta    *etcdMeta
	address string

	close   sync.Once
	closing atomic.Bool
	done    chan struct{} // Closed when the member has stopped, for whatever reason.
	err     error         // Why it stopped, unless by Close. Written before done is closed.
}

// startEtcd starts the member and waits until it serves. With other voters in InitialCluster that takes until a
// majority of them runs; ctx bounds the wait. Errors match ErrEtcdListen or ErrEtcdDamaged, or are those of ctx. After
// ErrEtcdDamaged, or when ctx ended while another process held etcd's files, the process should end: etcd gives no way
// to take back all of a start that stuck.
func startEtcd(ctx context.Context, options etcdOptions) (*etcdServer, error) {
	options = options.withDefaults()
	if err := options.check(); err != nil {
		return nil, err
	}
	if err := options.checkBrokenWAL(); err != nil {
		return nil, err
	}
	etcd, address, err := openEtcd(ctx, options)
	if err != nil {
		return nil, err
	}
	s := &etcdServer{etcd: etcd, address: address, done: make(chan struct{})}
	s.client = v3client.New(etcd.Server)
	s.meta = newEtcdMeta(s.client)
	go s.watchEnd()
	// This start may have found a bad record and cut the log there.
	if err := options.checkBrokenWAL(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.waitReady(ctx, options); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.updateAddress(ctx, options)
	return s, nil
}

// openEtcd starts the member on the wanted address, or on a free port.
func openEtcd(ctx context.Context, options etcdOptions) (*embed.Etcd, string, error) {
	for try := 1; ; try++ {
		address, chosen, err := options.address()
		if err != nil {
			return nil, "", err
		}
		etcd, err := runEtcd(ctx, options, address)
		switch {
		case err == nil:
			return etcd, address, nil
		case errors.Is(err, syscall.EADDRINUSE) && chosen && try < etcdPortTries:
		case errors.Is(err, syscall.EADDRINUSE):
			return nil, "", fmt.Errorf("%w: %s is in use by another process; stop that one or choose another address: %w", ErrEtcdListen, address, err)
		default:
			var failed *net.OpError
			if errors.As(err, &failed) && failed.Op == "listen" {
				return nil, "", fmt.Errorf("%w: %s: %w", ErrEtcdListen, address, err)
			}
			return nil, "", err
		}
	}
}

// runEtcd calls StartEtcd, which knows no context and may wait for ever for a file lock, and which ends the process or
// panics, in goroutines of its own too, where it does not like what it finds.
func runEtcd(ctx context.Context, options etcdOptions, address string) (*embed.Etcd, error) {
	log := newEtcdLog(options.Logger)
	config, err := options.config(address, log.logger)
	if err != nil {
		return nil, err
	}
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	results := make(chan result)
	go func() {
		etcd, err := callEtcd(config, log)
		select {
		case results <- result{etcd, err}:
		case <-ctx.Done():
			// Nobody waits for it any more. What it was stuck on has ended all the same.
			if etcd != nil {
				etcd.Close()
			}
		}
	}()
	select {
	case r := <-results:
		return r.etcd, r.err
	case cause := <-log.failed:
		return nil, etcdDamaged(options.Dir, cause)
	case <-ctx.Done():
		return nil, fmt.Errorf("start the metadata member in %s: %w; does another process use that folder?", options.Dir, ctx.Err())
	}
}

func callEtcd(config *embed.Config, log *etcdLog) (etcd *embed.Etcd, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			etcd, err = nil, etcdDamaged(config.Dir, cause)
		}
	}()
	etcd, err = embed.StartEtcd(config)
	switch {
	case errors.Is(err, wal.ErrCRCMismatch), errors.Is(err, wal.ErrFileNotFound), errors.Is(err, wal.ErrMetadataConflict),
		errors.Is(err, wal.ErrSnapshotMismatch), errors.Is(err, wal.ErrSnapshotNotFound),
		// A record whose frame is not whole is no message any more, before its checksum is looked at.
		errors.Is(err, proto.Error):
		return nil, etcdDamaged(config.Dir, err)
	case err != nil:
		return nil, fmt.Errorf("start the metadata member in %s: %w", config.Dir, err)
	}
	log.started.Store(true)
	return etcd, nil
}

func etcdDamaged(dir string, cause any) error {
	return fmt.Errorf("%w: etcd could not open %s: %v; %s", ErrEtcdDamaged, dir, cause, etcdReplace)
}

// checkBrokenWAL refuses a member whose log etcd cut at a record it could not read: it cannot tell the torn end of a
// power loss from damage to records it had promised to keep (replication.md, H14 and H31).
//
// A member that is alone goes on: nobody else counts on its promises, and what its shards promised they keep
// themselves (PROMISE), so that an epoch that went back is found and passed at the next takeover. What etcd kept of
// the log is set aside under another name, and told.
func (o etcdOptions) checkBrokenWAL() error {
	folder := filepath.Join(o.Dir, "member", "wal")
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for damage in the metadata member's log: %w", err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".broken") {
			if len(o.InitialCluster) <= 1 {
				kept := filepath.Join(folder, entry.Name()+fmt.Sprintf("-kept-%d", time.Now().Unix()))
				if err := os.Rename(filepath.Join(folder, entry.Name()), kept); err != nil {
					return fmt.Errorf("set the metadata member's cut log aside: %w", err)
				}
				o.Logger.Warn("the metadata log ended with a record that was not whole, as a power loss leaves one; it was cut off and the log is kept as it was", zap.String("kept", kept))
				continue
			}
			return fmt.Errorf("%w: etcd met a record it could not read, cut its log there, and kept the log as it was in %s; %s; "+
				"if the machine had just lost power, that record was most likely the last one, still being written, and nobody relied on it",
				ErrEtcdDamaged, filepath.Join(folder, entry.Name()), etcdReplace)
		}
	}
	return nil
}

// waitReady waits until the member has joined and told the others of itself.
func (s *etcdServer) waitReady(ctx context.Context, options etcdOptions) error {
	patience := time.NewTimer(etcdPatience)
	defer patience.Stop()
	for {
		select {
		case <-s.etcd.Server.ReadyNotify():
			return nil
		case <-patience.C:
			options.Logger.Info("waiting for a majority of the metadata members",
				zap.String("name", options.Name), zap.String("members", options.initialCluster(s.address)))
		case <-s.done:
			return fmt.Errorf("start the metadata member: %w", s.err)
		case <-ctx.Done():
			return fmt.Errorf("wait for a majority of the metadata members %s: %w", options.initialCluster(s.address), ctx.Err())
		}
	}
}

// updateAddress tells the other members where this one listens now, if that has changed. It is no condition of serving:
// they hear from it anyway as soon as it calls them.
func (s *etcdServer) updateAddress(ctx context.Context, options etcdOptions) {
	id := s.etcd.Server.MemberID()
	self := s.etcd.Server.Cluster().Member(id)
	want := options.peerURL(s.address)
	if self == nil || len(self.PeerURLs) == 1 && self.PeerURLs[0] == want {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, etcdUpdateTime)
	defer cancel()
	if _, err := s.client.MemberUpdate(ctx, uint64(id), []string{want}); err != nil {
		options.Logger.Warn("the metadata members were not told of this one's new address",
			zap.String("address", want), zap.Strings("known", self.PeerURLs), zap.Error(err))
	}
}

// watchEnd waits for the end of the member.
func (s *etcdServer) watchEnd() {
	defer close(s.done)
	var err error
	select {
	case err = <-s.etcd.Err():
	case <-s.etcd.Server.StopNotify():
	}
	if s.closing.Load() {
		return
	}
	if err == nil {
		err = errors.New("it was removed from the cluster or gave up; its log says which")
	}
	s.err = fmt.Errorf("the metadata member stopped: %w", err)
}

// Meta returns the in-process client of the member. It is closed by Close.
func (s *etcdServer) Meta() Meta { return s.meta }

// Address is where the member listens for the others, HOST:PORT.
func (s *etcdServer) Address() string { return s.address }

// Done is closed when the member has stopped: by Close, or because it failed (Err).
func (s *etcdServer) Done() <-chan struct{} { return s.done }

// Err says, once Done is closed, why the member stopped by itself; nil after Close.
func (s *etcdServer) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Close hands leadership over if there is somebody to take it, stops the member and waits for its goroutines. Calls of
// its Meta under way end with ErrMetaClosed.
func (s *etcdServer) Close() error {
	s.close.Do(func() {
		s.closing.Store(true)
		_ = s.meta.Close() // It has nothing that could fail.
		_ = s.client.Close()
		s.etcd.Close()
	})
	<-s.done
	return nil
}
