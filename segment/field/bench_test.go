package field

import "testing"

const benchJSON = `{"level":"info","ts":"2026-08-22T10:11:12.123456789Z","caller":"checkout/handler.go:57","msg":"request completed","method":"GET","path":"/api/v1/checkout/list","status":200,"duration_ms":12.345,"bytes":20123,"user_id":123456,"client_ip":"10.1.2.3","trace_id":"0123456789abcdef0123456789abcdef","span_id":"0123456789abcdef"}`

const benchLogfmt = `level=info ts=2026-08-22T10:11:12.123Z caller=proxy.go:57 msg="request done" method=GET status=200 duration=0.123s bytes=20123 peer=10.1.2.3:4567`

func bench(b *testing.B, line string, scan func(line []byte, f *Fields) error) {
	data := []byte(line)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var f Fields
	for b.Loop() {
		f.Reset()
		if err := scan(data, &f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	paths, err := NewJSONPaths([]Expression{{"status", "status"}})
	if err != nil {
		b.Fatal(err)
	}
	keys, err := NewLogfmtKeys([]Expression{{"status", "status"}}, false)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("parser=json/fields=all", func(b *testing.B) { bench(b, benchJSON, NewJSON(nil).Scan) })
	b.Run("parser=json/fields=wanted", func(b *testing.B) { bench(b, benchJSON, NewJSON([]string{"status", "path"}).Scan) })
	b.Run("parser=json/fields=path", func(b *testing.B) { bench(b, benchJSON, paths.Scan) })
	b.Run("parser=logfmt/fields=all", func(b *testing.B) { bench(b, benchLogfmt, NewLogfmt(nil, false, false).Scan) })
	b.Run("parser=logfmt/fields=key", func(b *testing.B) { bench(b, benchLogfmt, keys.Scan) })
}
