package cli

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

const goodStatus = `{"name":"a","version":"1.2.3","cluster":"c0ffee","ready":true,"uptime_seconds":93784.5,
"disk":{"free_bytes":1073741824,"total_bytes":4294967296},
"shards":[{"shard":0,"health":"ok","owner":"a","epoch":3,"replicas":["a","b"],"first_index":1,"last_index":9,"commit":9,
"next_offset":1234567,"tail_bytes":2048,"open_blocks":2,"sealed_segments":4,"sealed_bytes":1048576,"raw_bytes":10485760},
{"shard":11,"health":"ok","owner":"","epoch":1,"replicas":[],"next_offset":0}]}
`

func TestStatus(t *testing.T) {
	f := func(code int, body string, wantExit int, wantOut, wantErr string, flags ...string) {
		t.Helper()
		u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			io.WriteString(w, body)
		})
		r := testProgram().invoke(t, append([]string{"status", "--url", u}, flags...)...)
		if r.code != wantExit || r.stdout != wantOut || r.stderr != wantErr {
			t.Errorf("exit %d, want %d\n%swant\n%s\n%swant\n%s", r.code, wantExit, r.stdout, wantOut, r.stderr, wantErr)
		}
	}
	table := `node a, ready
version  1.2.3, up for 26h3m4s
cluster  c0ffee
disk     1.0 GiB free of 4.0 GiB

SHARD  HEALTH  OWNER  EPOCH  REPLICAS  ENTRIES    TAIL     BLOCKS  SEGMENTS  SEALED   RATIO
0      ok      a      3      a,b       1,234,567  2.0 KiB  2       4         1.0 MiB  10.0
11     ok      none   1                0          0 B      0       0         0 B      -
`
	f(200, goodStatus, 0, table, "")
	f(200, goodStatus, 0, goodStatus, "", "--output", "json")
	damaged := strings.Replace(goodStatus, `"raw_bytes":10485760`, `"raw_bytes":10485760,"damage":["segment x\u001b: bad"]`, 1)
	damagedTable := strings.Replace(table, "0      ok      a ", "0      damaged  a ", 1)
	damagedTable = strings.NewReplacer("HEALTH  OWNER", "HEALTH   OWNER", "ok      none", "ok       none").Replace(damagedTable)
	f(200, damaged, 1, damagedTable+"shard 0: segment x\\x1b: bad\n", "logcluster: not well: shard 0\n")
	f(200, damaged, 1, damaged, "logcluster: not well: shard 0\n", "-o", "json")
	f(200, strings.Replace(goodStatus, `"health":"ok"`, `"health":"no owner"`, 2), 1,
		strings.NewReplacer("0      ok      a", "0      no owner  a", "11     ok      none", "11     no owner  none", "HEALTH  ", "HEALTH    ").Replace(table),
		"logcluster: not well: shard 0, 11\n")
	f(200, `{"name":"a","ready":false,"reason":"joins etcd","shards":[]}`, 1,
		"node a, NOT READY: joins etcd\nversion  , up for 0s\ncluster  \ndisk     0 B free of 0 B\nno shards\n",
		"logcluster: node a is not ready: joins etcd\n")
	f(503, "starting\n", 1, "", "logcluster: starting (HTTP 503)\n")
	p := testProgram()
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") })
	if r := p.invoke(t, "status", "--url", u); r.code != 1 || !strings.Contains(r.stderr, "is it a logcluster node?") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	if r := p.invoke(t, "status", "--url", "127.0.0.1:1"); r.code != 1 || !strings.Contains(r.stderr, "Is a node running there?") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
