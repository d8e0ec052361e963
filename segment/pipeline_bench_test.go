package segment

import (
	"testing"

	"github.com/logcluster/logcluster/segment/field"
)

// BenchmarkPipeline sends one line through pipelines, row by row.
func BenchmarkPipeline(b *testing.B) {
	line := []byte(`{"level":"info","ts":"2026-08-22T10:11:12.123456789Z","caller":"checkout/handler.go:57","msg":"request completed","method":"GET","path":"/api/v1/checkout/list","status":200,"duration_ms":12.345,"bytes":20123,"user_id":123456,"client_ip":"10.1.2.3","trace_id":"0123456789abcdef0123456789abcdef","span_id":"0123456789abcdef"}`)
	stream := NewStream("t", Labels{{"app", "checkout"}, {"env", "prod"}, {"host", "checkout-01"}})
	all, err := NewJSONStage()
	if err != nil {
		b.Fatal(err)
	}
	status, err := NewJSONStage(field.Expression{Label: "status", Path: "status"})
	if err != nil {
		b.Fatal(err)
	}
	clean := noError(b, MatchEqual, "")
	number := &LabelFilter{Kind: FilterNumber, Name: "status", Comparison: CompareLess, Number: 500}
	text, err := NewMatcher("method", MatchRegexp, "GET|POST")
	if err != nil {
		b.Fatal(err)
	}
	for name, p := range map[string]*Pipeline{
		"stages=json/labels=all":        NewPipeline(all, clean),
		"stages=json/labels=group":      NewPipeline(all, clean).Narrow([]string{"path"}),
		"stages=json-path,number":       NewPipeline(status, clean, number).Narrow(nil),
		"stages=json,number,regexp":     NewPipeline(all, number, &LabelFilter{Kind: FilterString, Name: "method", Matcher: text}).Narrow(nil),
		"stages=json-path,unwrap,clean": NewPipeline(status, &UnwrapStage{Label: "status"}, clean).Narrow(nil),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			var row PipelineRow
			for b.Loop() {
				if !p.Run(&row, stream, nil, line) || row.Err() != nil {
					b.Fatal("the line is dropped")
				}
			}
		})
	}
}
