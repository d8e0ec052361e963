package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of every Meta, the same in the in-memory twin as in the embedded etcd.
const (
	// MaxTxnOps is the largest number of compares, and of operations, in one transaction: the creation of a cluster
	// writes one configuration for each of up to MaxShards shards, and a few keys more.
	MaxTxnOps = MaxShards + 64
	// MaxTxnBytes bounds the keys and values of one transaction. The creation of the largest cluster takes about 2.6 MiB;
	// with as much again for its framing, etcd warns of requests above 10 MiB.
	MaxTxnBytes = 4 << 20
)

var (
	// ErrUnknownOutcome says that a transaction may or may not have been applied, now or a little later. The caller reads
	// back what it compared before it does anything else (replication.md, H4): a transaction with a compare that no longer
	// holds can never be applied any more.
	ErrUnknownOutcome = errors.New("the outcome of the metadata transaction is unknown")
	// ErrUnavailable says that the metadata store did not answer in time and that nothing was changed.
	ErrUnavailable = errors.New("the metadata store is unavailable")
	// ErrLeaseNotFound says that a lease expired, was revoked or never existed; a transaction that names it changed nothing.
	ErrLeaseNotFound = errors.New("the lease is unknown to the metadata store, or has expired")
	// ErrInvalidTxn says that a transaction is malformed or beyond MaxTxnOps or MaxTxnBytes; nothing was changed.
	ErrInvalidTxn = errors.New("invalid metadata transaction")
	// ErrMetaClosed is returned by every call after Close. An error of a transaction that was under way also matches
	// ErrUnknownOutcome.
	ErrMetaClosed = errors.New("the metadata client is closed")
)

// Meta is the metadata store as everything but the etcd*.go files sees it: a small, linearizable map with revisions,
// compare-and-set transactions, leases and watches. The embedded etcd and MemMeta implement it alike, and one
// conformance suite runs against both. All methods may be called from several goroutines.
//
// Every change of the store has a revision, one higher than the one before. A key's ModRevision is the revision of its
// last change, 0 while it does not exist.
type Meta interface {
	MetaStore
	MetaWatcher
	MetaLeases
	// Close ends all watches of this client and waits for their goroutines. Keys and leases stay. Calls under way return
	// ErrMetaClosed; a second Close does nothing.
	Close() error
}

// MetaStore reads and changes keys.
type MetaStore interface {
	// Get returns the key as of a moment after the call began (linearizable). An absent key is no error: ModRevision is 0
	// and Value nil. It retries until ctx ends; then the error matches ErrUnavailable and the error of ctx.
	Get(ctx context.Context, key string) (KeyValue, error)
	// List returns all keys with the prefix in bytewise order, as of one revision, and that revision: Watch from the next
	// one misses nothing. Errors as of Get.
	List(ctx context.Context, prefix string) (found []KeyValue, revision int64, err error)
	// Txn applies all operations at once if all compares hold, else none. It is tried once, for at most a second. That a
	// compare did not hold is no error: see TxnResult. Errors: ErrUnknownOutcome; else nothing was changed:
	// ErrUnavailable, ErrLeaseNotFound, ErrInvalidTxn.
	Txn(ctx context.Context, txn Txn) (TxnResult, error)
}

// MetaWatcher follows changes.
type MetaWatcher interface {
	// Watch delivers all changes of keys with the prefix from the given revision (1 or more) on, in order, and goes on
	// through restarts of the store. The channel is closed when ctx ends, when the client is closed, and after an element
	// with Reset. The reader must read until then, or end ctx.
	Watch(ctx context.Context, prefix string, from int64) <-chan WatchEvents
}

// MetaLeases grants leases: keys that were put under one go, in one revision, when nobody has kept it alive for its
// time to live. A lease is a hint about who lives, never a proof that somebody does not (replication.md, H7).
type MetaLeases interface {
	// Grant makes a lease; ttl is rounded up to whole seconds, at least 1. It retries until ctx ends; a lease that was
	// granted but not heard of expires by itself.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)
	// KeepAlive renews the lease once, for its full time to live. It retries until ctx ends (ErrUnavailable; the lease may
	// still live). ErrLeaseNotFound is final: the lease and its keys are gone.
	KeepAlive(ctx context.Context, id LeaseID) error
	// Revoke ends the lease and deletes its keys; an unknown lease is no error. It retries until ctx ends.
	Revoke(ctx context.Context, id LeaseID) error
}

// LeaseID names a lease; 0 is none.
type LeaseID int64

// KeyValue is one key as of some revision.
type KeyValue struct {
	Key         string
	Value       []byte // Read only.
	ModRevision int64  // 0: the key does not exist.
	Lease       LeaseID
}

// Txn is a transaction: If all compares hold, then all operations are done, at one revision. No key may stand in Then
// twice.
type Txn struct {
	If   []Compare
	Then []Op // At least one.
}

// Compare holds if the key's ModRevision is this one; 0: the key does not exist.
type Compare struct {
	Key         string
	ModRevision int64
}

// Op puts or deletes one key. Make it with PutOp or DeleteOp.
type Op struct {
	Key    string
	Value  []byte
	Lease  LeaseID // Of a put: the lease that the key hangs on from now on; 0: none.
	Delete bool
}

// PutOp sets the key to the value, under the lease if it is not 0.
func PutOp(key string, value []byte, lease LeaseID) Op {
	return Op{Key: key, Value: value, Lease: lease}
}

// DeleteOp removes the key; an absent one is no error.
func DeleteOp(key string) Op { return Op{Key: key, Delete: true} }

// check refuses what no store would take, so that all of them refuse alike.
func (t Txn) check() error {
	if len(t.Then) == 0 {
		return fmt.Errorf("%w: it has no operations", ErrInvalidTxn)
	}
	if len(t.If) > MaxTxnOps || len(t.Then) > MaxTxnOps {
		return fmt.Errorf("%w: %d compares and %d operations, at most %d of each are allowed", ErrInvalidTxn, len(t.If), len(t.Then), MaxTxnOps)
	}
	size := 0
	for _, compare := range t.If {
		if compare.Key == "" {
			return fmt.Errorf("%w: a compare has no key", ErrInvalidTxn)
		}
		size += len(compare.Key)
	}
	seen := make(map[string]struct{}, len(t.Then))
	for _, op := range t.Then {
		if op.Key == "" {
			return fmt.Errorf("%w: an operation has no key", ErrInvalidTxn)
		}
		if _, twice := seen[op.Key]; twice {
			return fmt.Errorf("%w: key %q stands in two operations", ErrInvalidTxn, op.Key)
		}
		seen[op.Key] = struct{}{}
		size += len(op.Key) + len(op.Value)
	}
	if size > MaxTxnBytes {
		return fmt.Errorf("%w: %d bytes of keys and values, at most %d are allowed", ErrInvalidTxn, size, MaxTxnBytes)
	}
	return nil
}

// TxnResult is the outcome of a transaction that was decided.
type TxnResult struct {
	Succeeded bool
	// Revision is that of the change if it succeeded (the ModRevision of every key put), else that of the moment of the
	// comparison.
	Revision int64
}

// WatchEvents is what happened up to a revision.
type WatchEvents struct {
	// Revision of the last event; List, or a watch from the next one, goes on from there.
	Revision int64
	Events   []WatchEvent
	// Reset says that history from the wanted revision on is gone (compacted): List again and watch from there. There are
	// no events and the channel is closed after it.
	Reset bool
}

// WatchEvent is one change. Of a deleted key, KeyValue has the key, the revision of the deletion as ModRevision, and no
// value.
type WatchEvent struct {
	KeyValue
	Deleted bool
}

// leaseSeconds rounds a time to live up to the whole seconds that leases are counted in.
func leaseSeconds(ttl time.Duration) int64 {
	return max(1, int64((ttl+time.Second-1)/time.Second))
}

// Bounds and defaults of a cluster.
const (
	MaxShards       = 1024 // The most shards that a cluster can be created with.
	MaxReplicas     = 7    // The most replicas of a shard: any three may be lost.
	DefaultShards   = 16
	DefaultReplicas = 3

	// Format of the values below; a higher one was written by a newer release.
	recordFormat = 1
	// The longest value that is decoded. The longest written is the routing map of MaxShards shards, about 5 KiB.
	maxRecordBytes = 64 << 10
)

// Keys of the metadata store. Each value is {"v":1,"data":{…}}: the format and one of the structs below. Integers are
// exact over all 64 bits; those that are random from the start are strings, for readers that know only float64.
const (
	clusterKey   = "cluster" // Cluster
	routePrefix  = "route/"  // VERSION, counted from 1: Route. The newest is for writes, all are for reads.
	configPrefix = "config/" // SHARD, decimal: ShardConfig
	ownerPrefix  = "owner/"  // SHARD, under the owner's lease: Owner
	nodePrefix   = "node/"   // NAME, under the node's lease: NodeState
	memberPrefix = "member/" // NAME: Member
)

// ErrBadRecord says that a value of the metadata store cannot be understood.
var ErrBadRecord = errors.New("bad metadata record")

// Cluster says what was decided when the cluster was created.
type Cluster struct {
	ID       string    `json:"cluster_id"` // 32 hex digits.
	Shards   int       `json:"shards"`     // 1–MaxShards.
	Replicas int       `json:"replicas"`   // Replicas of a shard that are wanted, 1–MaxReplicas; there are fewer while there are fewer nodes.
	Created  time.Time `json:"created"`
}

// Route is a routing map: it says which shard a stream's id belongs to.
type Route struct {
	Shards []uint32 `json:"shards"` // Equal parts of the space of ids, in order.
}

// shard returns the shard of a stream: the upper half of the id, scaled to the number of shards.
func (r Route) shard(stream uint64) uint32 {
	return r.Shards[(stream>>32)*uint64(len(r.Shards))>>32]
}

// Replica is one copy of a shard: a node, by its data folder. A folder that was lost comes back with a higher
// incarnation, so that nothing it promised before is expected of it (replication.md, H16).
type Replica struct {
	Node        string `json:"node"`
	Folder      string `json:"folder"`      // 32 hex digits.
	Incarnation uint64 `json:"incarnation"` // From 1.
}

// ShardConfig is what all replicas of a shard go by.
type ShardConfig struct {
	LogID      uint64     `json:"log_id,string"` // Random, not 0; the shard's log for ever, new after a restore.
	Generation uint64     `json:"generation"`    // Raised by a restore of the metadata; upper 24 bits of the epoch.
	Epoch      uint64     `json:"epoch"`         // The last epoch granted; never falls. Generation<<40 before the first.
	Version    uint64     `json:"version"`       // Of Replicas and Learners: 1 at creation, 1 more at every change.
	Replicas   []Replica  `json:"replicas"`
	Learners   []Replica  `json:"learners,omitempty"` // Copies that do not count yet.
	LastOwner  *LastOwner `json:"last_owner,omitempty"`
}

// LastOwner names the process that the last epoch was granted to. It outlives the lease.
type LastOwner struct {
	Node  string `json:"node"`
	Boot  string `json:"boot"`
	Nonce string `json:"nonce"` // Of the one call of takeOver that was granted the epoch.
}

// Owner says who owns a shard, as long as its lease lives.
type Owner struct {
	Epoch uint64 `json:"epoch"`
	Node  string `json:"node"`
	Boot  string `json:"boot"`
	Addr  string `json:"addr"` // HOST:PORT for other nodes.
	Nonce string `json:"nonce"`
}

// Addresses of a node, HOST:PORT each.
type Addresses struct {
	HTTP string `json:"http"`
	Peer string `json:"peer,omitempty"`
	Etcd string `json:"etcd,omitempty"`
}

// Member is a node that belongs to the cluster, running or not.
type Member struct {
	Name      string    `json:"-"`      // The key says it.
	Folder    string    `json:"folder"` // 32 hex digits, made once with the data folder.
	Addresses Addresses `json:"addresses"`
}

// NodeState is what a running process says of itself.
type NodeState struct {
	Boot      string    `json:"boot"` // 32 hex digits, new at every start.
	Folder    string    `json:"folder"`
	Addresses Addresses `json:"addresses"`
	Disk      string    `json:"disk"` // "ok", or what is wrong with the disk, in words.
}

func configKey(shard uint32) string { return configPrefix + strconv.FormatUint(uint64(shard), 10) }
func ownerKey(shard uint32) string  { return ownerPrefix + strconv.FormatUint(uint64(shard), 10) }
func routeKey(version int) string   { return routePrefix + strconv.Itoa(version) }
func nodeKey(name string) string    { return nodePrefix + name }
func memberKey(name string) string  { return memberPrefix + name }

func badRecord(what string) error { return fmt.Errorf("%w: %s", ErrBadRecord, what) }
func oneTo(n, high int) bool      { return 1 <= n && n <= high }

// shardOfKey returns the shard of a configKey or ownerKey.
func shardOfKey(prefix, key string) (uint32, error) {
	digits, ok := strings.CutPrefix(key, prefix)
	shard, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || strconv.FormatUint(shard, 10) != digits {
		return 0, badRecord(fmt.Sprintf("key %q is not %sSHARD", key, prefix))
	}
	return uint32(shard), nil
}

// record is one of the structs that stand in the metadata store.
type record interface {
	Cluster | Route | ShardConfig | Owner | Member | NodeState
	check() error
}

// encodeRecord makes the value of a key. The record is one that check passes.
func encodeRecord[R record](value R) ([]byte, error) {
	if err := value.check(); err != nil {
		return nil, fmt.Errorf("write a metadata record: %w", err)
	}
	return json.Marshal(struct {
		Format int `json:"v"`
		Data   R   `json:"data"`
	}{recordFormat, value})
}

// decodeRecord reads a value strictly: what it does not know might change the meaning of what it does.
func decodeRecord[R record](kv KeyValue) (value R, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("metadata key %q: %w", kv.Key, err)
		}
	}()
	if len(kv.Value) > maxRecordBytes {
		return value, badRecord(fmt.Sprintf("%d bytes, at most %d are expected", len(kv.Value), maxRecordBytes))
	}
	var envelope struct {
		Format int             `json:"v"`
		Data   json.RawMessage `json:"data"`
	}
	if err := strictJSON(kv.Value, &envelope); err != nil {
		return value, err
	}
	if envelope.Format != recordFormat {
		return value, badRecord(fmt.Sprintf("format %d, this release reads %d: start a release that is as new as the newest node", envelope.Format, recordFormat))
	}
	if err := strictJSON(envelope.Data, &value); err != nil {
		return value, err
	}
	return value, value.check()
}

func strictJSON(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badRecord("something follows the JSON value")
	}
	return nil
}

func (c Cluster) check() error {
	switch {
	case !isUUID(c.ID):
		return badRecord(fmt.Sprintf("cluster id %q is not 32 hex digits", c.ID))
	case !oneTo(c.Shards, MaxShards):
		return badRecord(fmt.Sprintf("%d shards, not 1–%d", c.Shards, MaxShards))
	case !oneTo(c.Replicas, MaxReplicas):
		return badRecord(fmt.Sprintf("%d replicas, not 1–%d", c.Replicas, MaxReplicas))
	}
	return nil
}

func (r Route) check() error {
	if !oneTo(len(r.Shards), MaxShards) {
		return badRecord(fmt.Sprintf("a routing map of %d shards, not 1–%d", len(r.Shards), MaxShards))
	}
	return nil
}

func (c ShardConfig) check() error {
	switch {
	case c.LogID == 0:
		return badRecord("log id 0")
	case c.Epoch>>epochCounterBits != c.Generation:
		return badRecord(fmt.Sprintf("epoch %d is not of generation %d", c.Epoch, c.Generation))
	case c.Version == 0:
		return badRecord("version 0 of the replica set")
	case !oneTo(len(c.Replicas), MaxReplicas) || len(c.Learners) > MaxReplicas:
		return badRecord(fmt.Sprintf("%d replicas and %d learners, not 1–%d and 0–%d", len(c.Replicas), len(c.Learners), MaxReplicas, MaxReplicas))
	case c.LastOwner != nil && (checkName(c.LastOwner.Node) != nil || !isUUID(c.LastOwner.Boot) || !isUUID(c.LastOwner.Nonce)):
		return badRecord("the last owner has no proper name, boot or nonce")
	}
	seen := make(map[string]bool)
	for _, replica := range slices.Concat(c.Replicas, c.Learners) {
		if checkName(replica.Node) != nil || !isUUID(replica.Folder) || replica.Incarnation == 0 {
			return badRecord(fmt.Sprintf("replica %+v has no proper name, folder or incarnation", replica))
		}
		if seen[replica.Node] {
			return badRecord(fmt.Sprintf("node %s holds two replicas", replica.Node))
		}
		seen[replica.Node] = true
	}
	return nil
}

func (o Owner) check() error {
	if o.Epoch == 0 || checkName(o.Node) != nil || !isUUID(o.Boot) || !isUUID(o.Nonce) {
		return badRecord("the owner has no proper epoch, name, boot or nonce")
	}
	return nil
}

func (m Member) check() error {
	if !isUUID(m.Folder) {
		return badRecord(fmt.Sprintf("folder %q is not 32 hex digits", m.Folder))
	}
	return nil
}

func (n NodeState) check() error {
	if !isUUID(n.Boot) || !isUUID(n.Folder) {
		return badRecord(fmt.Sprintf("boot %q or folder %q is not 32 hex digits", n.Boot, n.Folder))
	}
	return nil
}

// checkName accepts what can be a node's name: a host name, say.
func checkName(name string) error {
	ok := oneTo(len(name), 253) && name != "." && name != ".."
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%q cannot be a node's name: 1–253 of a–z A–Z 0–9 _ . - can", name)
	}
	return nil
}

// newUUID returns 16 random bytes as 32 hex digits: the form of cluster ids, folder ids, boot ids and nonces.
func newUUID() string {
	var id [16]byte
	rand.Read(id[:]) // Never fails (crypto/rand).
	return hex.EncodeToString(id[:])
}

func isUUID(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 16 && text == strings.ToLower(text)
}

// newLogID returns a random id that is not 0.
func newLogID() uint64 {
	for {
		var id [8]byte
		rand.Read(id[:])
		if n := binary.LittleEndian.Uint64(id[:]); n != 0 {
			return n
		}
	}
}
