package cluster

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// testRecords is one of each kind, with all fields set.
func testRecords() []any {
	replica := Replica{Node: "a", Folder: testID("f"), Incarnation: 1}
	return []any{
		Cluster{ID: testID("c"), Shards: 16, Replicas: 3, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		Route{Shards: []uint32{0, 1, 7}},
		ShardConfig{
			LogID: 1<<64 - 1, Generation: 1, Epoch: 1<<40 + 5, Version: 2, Replicas: []Replica{replica},
			Learners:  []Replica{{Node: "b", Folder: testID("g"), Incarnation: 2}},
			LastOwner: &LastOwner{Node: "a", Boot: testID("b"), Nonce: testID("n")},
		},
		Owner{Epoch: 1<<40 + 5, Node: "a", Boot: testID("b"), Addr: "a:3101", Nonce: testID("n")},
		Member{Folder: testID("f"), Addresses: Addresses{HTTP: "a:3100", Peer: "a:3101", Etcd: "a:2380"}},
		NodeState{Boot: testID("b"), Folder: testID("f"), Addresses: Addresses{HTTP: "a:3100"}, Disk: "ok"},
	}
}

// recode decodes a value as the type of the sample and encodes it again.
func recode(sample any, value []byte) (again []byte, decoded any, err error) {
	kv := KeyValue{Key: "k", Value: value}
	switch sample.(type) {
	case Cluster:
		return recodeAs[Cluster](kv)
	case Route:
		return recodeAs[Route](kv)
	case ShardConfig:
		return recodeAs[ShardConfig](kv)
	case Owner:
		return recodeAs[Owner](kv)
	case Member:
		return recodeAs[Member](kv)
	case NodeState:
		return recodeAs[NodeState](kv)
	}
	return nil, nil, fmt.Errorf("unknown record %T", sample)
}

func recodeAs[R record](kv KeyValue) ([]byte, any, error) {
	decoded, err := decodeRecord[R](kv)
	if err != nil {
		return nil, nil, err
	}
	again, err := encodeRecord(decoded)
	return again, decoded, err
}

// TestRecordFormat pins what stands in the store: other releases read it.
func TestRecordFormat(t *testing.T) {
	const folder, boot, nonce = "66000000000000000000000000000000", "62000000000000000000000000000000", "6e000000000000000000000000000000"
	for i, want := range []string{
		`{"v":1,"data":{"cluster_id":"63000000000000000000000000000000","shards":16,"replicas":3,"created":"2026-01-02T03:04:05Z"}}`,
		`{"v":1,"data":{"shards":[0,1,7]}}`,
		`{"v":1,"data":{"log_id":"18446744073709551615","generation":1,"epoch":1099511627781,"version":2,` +
			`"replicas":[{"node":"a","folder":"` + folder + `","incarnation":1}],` +
			`"learners":[{"node":"b","folder":"67000000000000000000000000000000","incarnation":2}],` +
			`"last_owner":{"node":"a","boot":"` + boot + `","nonce":"` + nonce + `"}}}`,
		`{"v":1,"data":{"epoch":1099511627781,"node":"a","boot":"` + boot + `","addr":"a:3101","nonce":"` + nonce + `"}}`,
		`{"v":1,"data":{"folder":"` + folder + `","addresses":{"http":"a:3100","peer":"a:3101","etcd":"a:2380"}}}`,
		`{"v":1,"data":{"boot":"` + boot + `","folder":"` + folder + `","addresses":{"http":"a:3100"},"disk":"ok"}}`,
	} {
		record := testRecords()[i]
		again, decoded, err := recode(record, []byte(want))
		if err != nil || string(again) != want || !reflect.DeepEqual(decoded, record) {
			t.Errorf("%T:\n got %s %+v, %v\nwant %s %+v", record, again, decoded, err, want, record)
		}
	}
}

func TestRecordErrors(t *testing.T) {
	owner := func(data string) string { return `{"v":1,"data":{` + data + `}}` }
	good := `"epoch":1,"node":"a","boot":"` + testID("b") + `","addr":"a:1","nonce":"` + testID("n") + `"`
	if _, _, err := recode(Owner{}, []byte(owner(good))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ value, want string }{
		{"", "EOF"},
		{"null", "format 0"},
		{"{}", "format 0"},
		{`{"v":1}`, "EOF"},
		{`{"v":1,"data":null}`, "owner"},
		{`{"v":2,"data":{}}`, "as new as the newest node"},
		{`{"v":1,"data":{},"more":1}`, "more"},
		{owner(good) + "x", "follows"},
		{owner(good + `,"more":1`), "more"},
		{owner(strings.Replace(good, `"epoch":1`, `"epoch":-1`, 1)), "epoch"},
		{owner(strings.Replace(good, `"epoch":1`, `"epoch":0`, 1)), "epoch"},
		{owner(strings.Replace(good, `"epoch":1`, `"epoch":18446744073709551616`, 1)), "epoch"},
		{owner(strings.Replace(good, `"node":"a"`, `"node":"/"`, 1)), "name"},
		{owner(good + `,"addr":"` + strings.Repeat("a", maxRecordBytes) + `"`), "bytes"},
	} {
		_, _, err := recode(Owner{}, []byte(test.value))
		if !errors.Is(err, ErrBadRecord) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), `"k"`) {
			t.Errorf("%.60s: %v, want ErrBadRecord, the key and %q", test.value, err, test.want)
		}
	}
	config := testRecords()[2].(ShardConfig)
	for name, change := range map[string]func(*ShardConfig){
		"log id":      func(c *ShardConfig) { c.LogID = 0 },
		"generation":  func(c *ShardConfig) { c.Generation = 2 },
		"version":     func(c *ShardConfig) { c.Version = 0 },
		"no replicas": func(c *ShardConfig) { c.Replicas = nil },
		"folder":      func(c *ShardConfig) { c.Replicas = []Replica{{Node: "a", Folder: "F", Incarnation: 1}} },
		"incarnation": func(c *ShardConfig) { c.Replicas = []Replica{{Node: "a", Folder: testID("f")}} },
		"twice":       func(c *ShardConfig) { c.Learners = c.Replicas },
		"last owner":  func(c *ShardConfig) { c.LastOwner = &LastOwner{Node: "a"} },
	} {
		changed := config
		change(&changed)
		if _, err := encodeRecord(changed); !errors.Is(err, ErrBadRecord) {
			t.Errorf("%s: %v, want ErrBadRecord", name, err)
		}
	}
}

// FuzzRecords decodes anything as each kind of record: it is refused, or comes out of another turn the same.
func FuzzRecords(f *testing.F) {
	for _, sample := range testRecords() {
		switch record := sample.(type) {
		case Cluster:
			addRecord(f, record)
		case Route:
			addRecord(f, record)
		case ShardConfig:
			addRecord(f, record)
		case Owner:
			addRecord(f, record)
		case Member:
			addRecord(f, record)
		case NodeState:
			addRecord(f, record)
		}
	}
	f.Add([]byte(`{"v":1,"data":{"log_id":"0x1"}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, sample := range testRecords() {
			first, decoded, err := recode(sample, value)
			if err != nil {
				continue
			}
			second, same, err := recode(sample, first)
			if err != nil || string(first) != string(second) || !reflect.DeepEqual(decoded, same) {
				t.Errorf("%T: %s, then %s, %v", sample, first, second, err)
			}
		}
	})
}

func addRecord[R record](f *testing.F, value R) {
	data, err := encodeRecord(value)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
}

func TestRouteShard(t *testing.T) {
	route := Route{Shards: []uint32{5, 6, 9}}
	for _, test := range []struct {
		stream uint64
		want   uint32
	}{
		{0, 5}, {0x55555555_00000000, 5}, {0x55555556_00000000, 6}, {0xaaaaaaaa_ffffffff, 6}, {0xaaaaaaab_00000000, 9}, {1<<64 - 1, 9},
	} {
		if got := route.shard(test.stream); got != test.want {
			t.Errorf("stream %#x is of shard %d, want %d", test.stream, got, test.want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "host-1.example.org": true, "A_9": true, strings.Repeat("n", 253): true,
		"": false, ".": false, "..": false, "a b": false, "a/b": false, "a=b": false, "a,b": false, "ä": false, "a:1": false, strings.Repeat("n", 254): false,
	} {
		if err := checkName(name); (err == nil) != want {
			t.Errorf("%.20q: %v, want it accepted: %v", name, err, want)
		}
	}
	ids := []string{newUUID(), newUUID()}
	if !isUUID(ids[0]) || !isUUID(ids[1]) || ids[0] == ids[1] || isUUID(strings.ToUpper(testID("z"))) || isUUID(ids[0][:30]) {
		t.Errorf("ids %q", ids)
	}
	logs := []uint64{newLogID(), newLogID(), 0}
	if slices.Index(logs, 0) != 2 || logs[0] == logs[1] {
		t.Errorf("log ids %v", logs)
	}
}
