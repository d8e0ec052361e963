package shard

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// seeds multiplies the work of the random tests: go test ./shard -seeds 50.
var seeds = flag.Int("seeds", 1, "how many times as many seeds the random tests try")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bench is a node's worth of what a shard needs, on any file system.
type bench struct {
	fs       vfs.FS
	root     string // "" or a folder with a slash behind
	floor    *Floor
	encoders *Encoders
	shard    *Shard
	epoch    uint64
	options  Options
}

func newBench(fsys vfs.FS) *bench {
	return &bench{fs: fsys, options: Options{FS: fsys, Dir: "shards/3", Number: 3,
		Ident: Ident{ClusterID: "c", Shard: 3, LogID: 77, Node: "n", Replica: "r"}, Create: true, MergeFanout: -1}}
}

// start opens the shard and makes it the owner in a new epoch. After an error nothing
// is open.
func (b *bench) start() error {
	if err := b.open(); err != nil {
		return err
	}
	if err := b.lead(); err != nil {
		_ = b.stop()
		return err
	}
	return nil
}

func (b *bench) open() error {
	for _, dir := range []string{"node", "shards"} {
		if err := b.fs.MkdirAll(b.root + dir); err != nil {
			return err
		}
	}
	var err error
	if b.floor, err = OpenFloor(b.fs, b.root+"node/FLOOR"); err != nil {
		return err
	}
	b.encoders = NewEncoders(1)
	o := b.options
	o.FS, o.Floor, o.Encoders = b.fs, b.floor, b.encoders
	if b.shard, err = Open(o); err != nil {
		b.encoders.Close()
		_ = b.floor.Close()
		return err
	}
	return nil
}

func (b *bench) lead() error {
	b.epoch = max(b.epoch, b.shard.Promise().Epoch) + 1
	if _, err := b.shard.Fence(Promise{Epoch: b.epoch, Node: "n", Boot: fmt.Sprint(b.epoch)}); err != nil {
		return err
	}
	return b.shard.Lead(context.Background(), LeadOptions{AcceptLoss: true})
}

func (b *bench) stop() error {
	err := b.shard.Close()
	b.encoders.Close()
	if ferr := b.floor.Close(); err == nil {
		err = ferr
	}
	return err
}

// encode makes a block of what waits, however little it is.
func (b *bench) encode() error {
	done := make(chan error, 1)
	b.encoders.do(b.shard, func(e *segment.BlockEncoder) {
		_, err := b.shard.encodeBlock(e)
		if err != nil {
			b.shard.encodeFailed(err)
		}
		done <- err
	})
	return <-done
}

func (b *bench) seal() error {
	_, err := b.shard.Seal(context.Background())
	return err
}

// merge merges all sealed segments, if there are several.
func (b *bench) merge() error {
	done := make(chan error, 1)
	b.encoders.do(b.shard, func(e *segment.BlockEncoder) { done <- b.shard.mergeAll(e) })
	return <-done
}

func (s *Shard) mergeAll(e *segment.BlockEncoder) error {
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	s.mu.Lock()
	n := len(s.view.sealed)
	s.mu.Unlock()
	if n < 2 {
		return nil
	}
	err := s.beginMerge(0, n)
	for more := true; more && err == nil; {
		more, err = s.mergeStep(e)
	}
	if err != nil {
		s.mergeFailed(err)
	}
	s.dropMerge()
	return err
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

var testStreams = []*segment.Stream{
	segment.NewStream("default", segment.LabelsFromMap(map[string]string{"app": "a"})),
	segment.NewStream("default", segment.LabelsFromMap(map[string]string{"app": "b", "host": "h"})),
}

// largeWriter is the first of the writers whose lines take 20 KB that do not compress.
const largeWriter = 8

func lineText(writer, number int) string {
	text := fmt.Sprintf("writer %d line %d of the test", writer, number)
	if writer >= largeWriter {
		at := (writer*31 + number) * largeLine % (len(noise) - largeLine)
		text += noise[at : at+largeLine]
	}
	return text
}

const largeLine = 20_000

// noise is random bytes.
var noise = func() string {
	rng, b := generator(0), make([]byte, 4<<20)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return string(b)
}()

// batch makes n entries numbered from first on, of both streams in turn.
func batch(writer, first, n int, key string) *segment.Batch {
	b := &segment.Batch{Streams: testStreams}
	copy(b.Key[:], key)
	for i := first; i < first+n; i++ {
		b.Rows = append(b.Rows, segment.Row{Timestamp: int64(i) * 1000, Line: []byte(lineText(writer, i)), Stream: uint32(i % 2)})
	}
	return b
}

func framesOf(b *segment.Batch) ([]*segment.Frame, error) {
	var e segment.FrameEncoder
	rows := make([]uint32, len(b.Rows))
	for i := range rows {
		rows[i] = uint32(i)
	}
	return e.Encode(b, rows)
}

func (b *bench) append(batch *segment.Batch) (bool, error) {
	frames, err := framesOf(batch)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, duplicate, err := b.shard.Append(ctx, frames)
	return duplicate, err
}

// A found entry of the shard.
type found struct {
	line   string
	offset uint64
}

// read returns every entry in the order of offsets, and what was reported as damaged.
func (b *bench) read() (entries []found, damage []error, err error) {
	q := &segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64, Direction: segment.Forward}
	var mu sync.Mutex
	q.OnDamage = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		damage = append(damage, err)
	}
	it, err := b.shard.Select(context.Background(), q)
	if err != nil {
		return nil, nil, err
	}
	for it.Next() {
		entries = append(entries, found{string(it.At().Line), it.At().Offset})
	}
	slices.SortFunc(entries, func(x, y found) int { return int(int64(x.offset) - int64(y.offset)) })
	return entries, damage, errors.Join(it.Err(), it.Close())
}

// check fails the test unless the shard holds exactly lines [0, n) of writer 0.
func (b *bench) check(t testing.TB, n int) {
	t.Helper()
	entries, damage, err := b.read()
	ok(t, err)
	if len(damage) > 0 {
		t.Fatalf("damage: %v", damage)
	}
	if len(entries) != n {
		t.Fatalf("%d lines, want %d", len(entries), n)
	}
	for i, e := range entries {
		if want := lineText(0, i); e.line != want || e.offset != uint64(i) {
			t.Fatalf("line %d is %q at offset %d, want %q", i, e.line, e.offset, want)
		}
	}
}

// An oracle knows what was sent and what was acknowledged. Each writer sends one batch
// after the other, and repeats one until it is acknowledged.
type oracle struct {
	mu    sync.Mutex
	sent  map[int]int // by writer: lines [0, n) were sent
	acked map[int]int // lines [0, n) were acknowledged
}

func newOracle() *oracle { return &oracle{sent: map[int]int{}, acked: map[int]int{}} }

func (o *oracle) sending(writer, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent[writer] = max(o.sent[writer], n)
}

func (o *oracle) acknowledged(writer, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acked[writer] = n
}

// write sends the next lines of a writer under a key that names them, so that a repeat
// of the same call is a retry.
func (o *oracle) write(b *bench, writer int) error {
	n := batchSize(writer)
	o.mu.Lock()
	first := o.acked[writer]
	o.mu.Unlock()
	o.sending(writer, first+n)
	if _, err := b.append(batch(writer, first, n, fmt.Sprintf("%d/%d+%d", writer, first, n))); err != nil {
		return err
	}
	o.acknowledged(writer, first+n)
	return nil
}

// batchSize is how many lines a writer always sends in a batch: a repeat is cut alike.
func batchSize(writer int) int { return 2 + writer%3 }

// writeTogether sends lines of a writer as several records in one fsync group.
func (o *oracle) writeTogether(b *bench, writer, records int) error {
	n := batchSize(writer)
	o.mu.Lock()
	first := o.acked[writer]
	o.mu.Unlock()
	o.sending(writer, first+records*n)
	var frames []*segment.Frame
	for r := range records {
		f, err := framesOf(batch(writer, first+r*n, n, fmt.Sprintf("%d/%d+%d", writer, first+r*n, n)))
		if err != nil {
			return err
		}
		frames = append(frames, f...)
	}
	if _, _, err := b.shard.Append(context.Background(), frames); err != nil {
		return err
	}
	o.acknowledged(writer, first+records*n)
	return nil
}

// at returns the oracle as it is now. A power loss between two calls of it loses
// nothing that the first has acknowledged, and leaves nothing that the second has not
// sent.
func (o *oracle) at() *oracle {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &oracle{sent: maps.Clone(o.sent), acked: maps.Clone(o.acked)}
}

// verify compares entries with what must and may be there. lost says whether the entry
// at an offset is known to be lost; of the end, with openEnd, nobody knows how much is.
func (o *oracle) verify(entries []found, lost func(offset uint64) bool, openEnd bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := map[int]int{} // by writer
	expected := uint64(0)
	gap := 0
	for _, e := range entries {
		if e.offset < expected {
			return fmt.Errorf("offset %d twice", e.offset)
		}
		for ; expected < e.offset; expected++ {
			if !lost(expected) {
				return fmt.Errorf("offset %d is missing before %q", expected, e.line)
			}
			gap++
		}
		expected++
		var w, i int
		if _, err := fmt.Sscanf(e.line, "writer %d line %d of the test", &w, &i); err != nil || e.line != lineText(w, i) {
			return fmt.Errorf("offset %d: %q was never sent", e.offset, e.line)
		}
		switch n := next[w]; {
		case i >= o.sent[w]:
			return fmt.Errorf("offset %d: %q was never sent", e.offset, e.line)
		case i < n:
			return fmt.Errorf("offset %d: %q is there twice, or in the wrong order", e.offset, e.line)
		case i > n && gap < i-n && !openEnd:
			return fmt.Errorf("offset %d: %q follows line %d of its writer, and %d entries are lost", e.offset, e.line, n-1, gap)
		case i > n:
			gap -= i - n
		}
		next[w] = i + 1
	}
	for ; lost(expected); expected++ {
		gap++
	}
	for w, n := range o.acked {
		if missing := n - next[w]; missing > 0 {
			if gap < missing && !openEnd {
				return fmt.Errorf("line %d of writer %d was acknowledged and is gone (%d entries are known to be lost)", next[w], w, gap)
			}
			gap -= missing
		}
	}
	return nil
}

func nothingLost(uint64) bool { return false }

// lossesOf returns what the committed log says to be lost.
func (b *bench) lossesOf() func(offset uint64) bool {
	b.shard.mu.Lock()
	defer b.shard.mu.Unlock()
	losses := slices.Clone(b.shard.state.Losses)
	return func(offset uint64) bool {
		return slices.ContainsFunc(losses, func(l Loss) bool { return l.FirstOffset <= offset && offset < l.EndOffset })
	}
}

// healthy reads all and returns an error if anything is wrong, missing or said to be
// damaged.
func (b *bench) healthy(o *oracle) error {
	entries, damage, err := b.read()
	if err != nil {
		return err
	}
	if st := b.shard.Status(); len(damage) > 0 || len(st.Damage) > 0 || st.State != "ok" {
		return fmt.Errorf("damage is reported where there is none: state %q, %q, %v", st.State, st.Damage, damage)
	}
	return o.verify(entries, nothingLost, false)
}

func generator(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 3)) }

// crashModes are the ways to stop that every sweep tries.
var crashModes = []struct {
	name    string
	options vfs.CrashOptions
}{
	{"drop", vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}},
	{"kill", vfs.CrashOptions{Mode: vfs.CrashKeepAll}},
	{"random", vfs.CrashOptions{}},
	{"garbage", vfs.CrashOptions{Garbage: true}},
}

// fileBytes reads a file of a test's file system.
func fileBytes(t testing.TB, fsys vfs.FS, name string) []byte {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name, 1<<30)
	ok(t, err)
	return data
}

// replaceFile writes a file's whole content, durably.
func replaceFile(t testing.TB, fsys vfs.FS, name string, data []byte) {
	t.Helper()
	ok(t, vfs.WriteFile(fsys, name, data))
}

// filesOf lists the files of the shard and the node.
func filesOf(t testing.TB, fsys vfs.FS) []string {
	t.Helper()
	var all []string
	for _, dir := range []string{"shards/3", "node"} {
		names, err := fsys.List(dir)
		ok(t, err)
		for _, n := range names {
			all = append(all, dir+"/"+n)
		}
	}
	return all
}

// fileLike returns the one file whose name begins so.
func fileLike(t testing.TB, fsys vfs.FS, prefix string) string {
	t.Helper()
	var match string
	for _, f := range filesOf(t, fsys) {
		if strings.HasPrefix(f, prefix) && !strings.HasSuffix(f, ".aux") {
			if match != "" {
				t.Fatalf("%q and %q both begin with %q", match, f, prefix)
			}
			match = f
		}
	}
	if match == "" {
		t.Fatalf("no file begins with %q: %q", prefix, filesOf(t, fsys))
	}
	return match
}
