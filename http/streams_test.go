package http

import (
	"fmt"
	"testing"

	"github.com/logcluster/logcluster/segment"
)

// What is used stays in the cache, and the cache stays small.
func TestStreamCache(t *testing.T) {
	limits := Options{}.withDefaults().Ingest
	c := newStreamCache(&limits)
	var scratch []byte
	get := func(tenant, text string) *segment.Stream {
		t.Helper()
		s, grown, err := c.parsed(tenant, []byte(text), scratch)
		if scratch = grown; err != nil {
			t.Fatal(err)
		}
		return s
	}
	used := get("t", `{a="used"}`)
	if other := get("u", `{a="used"}`); other == used || other.Tenant != "u" {
		t.Errorf("tenants share %v", other)
	}
	for i := range 4 * cachedStreams {
		get("t", fmt.Sprintf(`{a="%d"}`, i))
		if i%(cachedStreams/2) == 0 && get("t", `{a="used"}`) != used {
			t.Fatalf("lost a stream that is used, after %d", i)
		}
	}
	if n := len(c.young) + len(c.old); n > 2*cachedStreams {
		t.Errorf("%d streams in the cache", n)
	}
	for i := range 4 * cachedBytes / cachedLabels {
		get("t", fmt.Sprintf(`{a="%03900d"}`, i))
		if c.bytes > cachedBytes {
			t.Fatalf("%d bytes in the cache", c.bytes)
		}
	}
	set := segment.Labels{{Name: "a", Value: "set"}}
	first, _, err := c.set("t", set, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, _, _ := c.set("t", set, nil); again != first || again.Labels[0].Value != "set" {
		t.Error("a set is not found again")
	}
	// Labels as text that looks like the key of a set.
	if _, _, err := c.parsed("t", set.AppendKey(nil), nil); err == nil {
		t.Error("a key is no label string")
	}
}
