package cluster

import (
	"testing"
	"testing/synctest"
)

func TestMemMeta(t *testing.T) {
	testMeta(t, func(t *testing.T, part func(*testing.T, metaUnderTest)) {
		synctest.Test(t, func(t *testing.T) {
			store := NewMemStore()
			client := store.Client("a")
			defer client.Close()
			part(t, metaUnderTest{Meta: client, compact: func(*testing.T) { store.Compact() }})
		})
	})
}
