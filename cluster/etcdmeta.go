package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// Bounds of the time that one try of a call gets. A call that etcd lost with its leader is answered by nobody; the
	// next try goes to the new leader.
	etcdFirstTry = 250 * time.Millisecond
	etcdLongTry  = time.Second
	// Pause after a try that failed at once.
	etcdRetryPause = 25 * time.Millisecond
	// Pause before a watch that ended by itself is begun anew.
	etcdWatchPause = 200 * time.Millisecond
)

// etcdMeta is Meta on the in-process client of the node's own member.
type etcdMeta struct {
	client *clientv3.Client
	closed context.Context // Ends at Close.
	cancel context.CancelFunc

	mu      sync.Mutex // Orders the start of watches and Close.
	watches sync.WaitGroup
}

var _ Meta = (*etcdMeta)(nil)

func newEtcdMeta(client *clientv3.Client) *etcdMeta {
	closed, cancel := context.WithCancel(context.Background())
	return &etcdMeta{client: client, closed: closed, cancel: cancel}
}

// Get is that of Meta.
func (m *etcdMeta) Get(ctx context.Context, key string) (KeyValue, error) {
	found := KeyValue{Key: key}
	if key == "" {
		return found, errors.New("get a metadata key: it has no name")
	}
	err := m.retry(ctx, fmt.Sprintf("get metadata key %q", key), func(ctx context.Context) error {
		response, err := m.client.Get(ctx, key)
		if err == nil && len(response.Kvs) > 0 {
			found = fromEtcd(response.Kvs[0])
		}
		return err
	})
	return found, err
}

// List is that of Meta.
func (m *etcdMeta) List(ctx context.Context, prefix string) (found []KeyValue, revision int64, err error) {
	err = m.retry(ctx, fmt.Sprintf("list metadata keys %q", prefix), func(ctx context.Context) error {
		response, err := m.client.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		found, revision = make([]KeyValue, 0, len(response.Kvs)), response.Header.Revision
		for _, kv := range response.Kvs {
			found = append(found, fromEtcd(kv))
		}
		return nil
	})
	return found, revision, err
}

// Txn is that of Meta.
func (m *etcdMeta) Txn(ctx context.Context, txn Txn) (TxnResult, error) {
	if err := txn.check(); err != nil {
		return TxnResult{}, err
	}
	what := fmt.Sprintf("metadata transaction on %q", txn.Then[0].Key)
	if m.closed.Err() != nil {
		return TxnResult{}, fmt.Errorf("%s: %w", what, ErrMetaClosed)
	}
	if err := ctx.Err(); err != nil {
		return TxnResult{}, fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	compares, then := toEtcd(txn)
	try, cancel := m.bound(ctx, etcdLongTry)
	defer cancel()
	response, err := m.client.Txn(try).If(compares...).Then(then...).Commit()
	switch {
	case err != nil && m.closed.Err() != nil:
		return TxnResult{}, fmt.Errorf("%s: %w: %w", what, txnError(err), ErrMetaClosed)
	case err != nil:
		return TxnResult{}, fmt.Errorf("%s: %w", what, txnError(err))
	}
	return TxnResult{Succeeded: response.Succeeded, Revision: response.Header.Revision}, nil
}

// Watch is that of Meta.
func (m *etcdMeta) Watch(ctx context.Context, prefix string, from int64) <-chan WatchEvents {
	out := make(chan WatchEvents)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Err() != nil {
		close(out)
		return out
	}
	m.watches.Go(func() {
		defer close(out)
		m.watch(ctx, prefix, max(from, 1), out)
	})
	return out
}

// watch runs one watch of etcd after the other until it may end.
func (m *etcdMeta) watch(ctx context.Context, prefix string, from int64, out chan<- WatchEvents) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.closed, cancel)()
	for ctx.Err() == nil {
		next, reset := m.watchOnce(ctx, prefix, from, out)
		if reset {
			return
		}
		from = next
		pause := time.NewTimer(etcdWatchPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// watchOnce runs until etcd's watch ends, and returns where the next one goes on, or that history is gone.
func (m *etcdMeta) watchOnce(ctx context.Context, prefix string, from int64, out chan<- WatchEvents) (next int64, reset bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for response := range m.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		news := WatchEvents{Revision: response.CompactRevision, Reset: response.CompactRevision != 0}
		for _, event := range response.Events {
			news.Revision = event.Kv.ModRevision
			news.Events = append(news.Events, WatchEvent{KeyValue: fromEtcd(event.Kv), Deleted: event.Type == clientv3.EventTypeDelete})
		}
		if !news.Reset && len(news.Events) == 0 {
			continue
		}
		select {
		case out <- news:
		case <-ctx.Done():
			return from, false
		}
		if news.Reset {
			return from, true
		}
		from = news.Revision + 1
	}
	return from, false
}

// Grant is that of Meta.
func (m *etcdMeta) Grant(ctx context.Context, ttl time.Duration) (id LeaseID, err error) {
	err = m.retry(ctx, "grant a lease", func(ctx context.Context) error {
		response, err := m.client.Grant(ctx, leaseSeconds(ttl))
		if err == nil {
			id = LeaseID(response.ID)
		}
		return err
	})
	return id, err
}

// KeepAlive is that of Meta.
func (m *etcdMeta) KeepAlive(ctx context.Context, id LeaseID) error {
	return m.retry(ctx, fmt.Sprintf("keep lease %x alive", int64(id)), func(ctx context.Context) error {
		_, err := m.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
		return err
	})
}

// Revoke is that of Meta.
func (m *etcdMeta) Revoke(ctx context.Context, id LeaseID) error {
	err := m.retry(ctx, fmt.Sprintf("revoke lease %x", int64(id)), func(ctx context.Context) error {
		_, err := m.client.Revoke(ctx, clientv3.LeaseID(id))
		return err
	})
	if errors.Is(err, ErrLeaseNotFound) {
		return nil
	}
	return err
}

// Close is that of Meta. The client stays open: it is the member's.
func (m *etcdMeta) Close() error {
	m.mu.Lock()
	m.cancel()
	m.mu.Unlock()
	m.watches.Wait()
	return nil
}

// bound limits a try in time and by Close.
func (m *etcdMeta) bound(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(m.closed, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// retry tries something that may be done twice until it is decided or ctx ends.
func (m *etcdMeta) retry(ctx context.Context, what string, do func(context.Context) error) error {
	limit := etcdFirstTry
	var last error
	for {
		if m.closed.Err() != nil {
			return fmt.Errorf("%s: %w", what, ErrMetaClosed)
		}
		if err := ctx.Err(); err != nil {
			if last == nil || errors.Is(last, err) {
				return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
			}
			return fmt.Errorf("%s: %w: %w (last answer: %w)", what, ErrUnavailable, err, last)
		}
		try, cancel := m.bound(ctx, limit)
		last = do(try)
		cancel()
		switch {
		case last == nil:
			return nil
		case errors.Is(last, rpctypes.ErrLeaseNotFound):
			return fmt.Errorf("%s: %w", what, ErrLeaseNotFound)
		}
		limit = min(2*limit, etcdLongTry)
		pause := time.NewTimer(etcdRetryPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
		case <-m.closed.Done():
		}
		pause.Stop()
	}
}

// txnError sorts what etcd says of a transaction: what was refused before it reached the log, or by all members alike
// when they came to it in the log, changed nothing. Of everything else nothing is known.
func txnError(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return ErrLeaseNotFound
	case errors.Is(err, rpctypes.ErrEmptyKey), errors.Is(err, rpctypes.ErrDuplicateKey), errors.Is(err, rpctypes.ErrTooManyOps),
		errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: %w", ErrInvalidTxn, err)
	case errors.Is(err, rpctypes.ErrNoSpace), errors.Is(err, rpctypes.ErrTooManyRequests), errors.Is(err, rpctypes.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}

func toEtcd(txn Txn) (compares []clientv3.Cmp, then []clientv3.Op) {
	for _, compare := range txn.If {
		compares = append(compares, clientv3.Compare(clientv3.ModRevision(compare.Key), "=", compare.ModRevision))
	}
	for _, op := range txn.Then {
		switch {
		case op.Delete:
			then = append(then, clientv3.OpDelete(op.Key))
		case op.Lease != 0:
			then = append(then, clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease))))
		default:
			then = append(then, clientv3.OpPut(op.Key, string(op.Value)))
		}
	}
	return compares, then
}

func fromEtcd(kv *mvccpb.KeyValue) KeyValue {
	return KeyValue{Key: string(kv.Key), Value: kv.Value, ModRevision: kv.ModRevision, Lease: LeaseID(kv.Lease)}
}
