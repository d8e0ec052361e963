package logql

import (
	"testing"
)

func BenchmarkParseLabels(b *testing.B) {
	for name, text := range map[string]string{
		"labels=1/escapes=no":  `{app="checkout"}`,
		"labels=5/escapes=no":  `{app="checkout", env="production", host="web-17.example.org", level="info", zone="eu-west-1a"}`,
		"labels=5/sorted=no":   `{zone="eu-west-1a", level="info", host="web-17.example.org", env="production", app="checkout"}`,
		"labels=5/escapes=yes": `{app="checkout", env="produc\ttion", host="web-17.example.org", level="\"info\"", zone="eu-west-1a"}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseLabels(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for name, query := range map[string]string{
		"query=selector":    `{app="checkout", env="production"}`,
		"query=filters":     `{app="checkout"} |= "error" != "timeout" |~ "user=[0-9]+ (a|b)" !~ "x"`,
		"query=aggregation": `sum by (app) (rate({app=~".+"} |= "error" [5m])) / sum by (app) (rate({app=~".+"}[5m]))`,
		"query=health":      `vector(1)+vector(1)`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(query)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(query); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
