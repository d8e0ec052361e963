package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestOwnershipChaos has three nodes fight for a shard for ten minutes of faults, lost leases and restarts. Whatever happens,
// every epoch is granted once, epochs only rise, and who is told that it owns one is whom the store granted it to.
func TestOwnershipChaos(t *testing.T) {
	for range 10 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %#x", seed), func(t *testing.T) {
			inCluster(t, func(t *testing.T, store *MemStore) { runChaos(t, store, seed) })
		})
	}
}

func runChaos(t *testing.T, store *MemStore, seed uint64) {
	var mu sync.Mutex // Of the numbers and the grants.
	numbers := rand.New(rand.NewPCG(seed, 1))
	number := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return numbers.IntN(n)
	}
	store.Inject(func(call MemCall) MemFault {
		if number(3) > 0 || call.Client == "observer" {
			return FaultNone
		}
		return allFaults[number(len(allFaults))]
	})
	granted := make(map[uint64]Owner)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var nodes sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		nodes.Go(func() {
			for ctx.Err() == nil {
				p := process{MemMeta: store.Client(name), self: Self{Node: name, Folder: testMember(name).Folder, Boot: newUUID(), Addr: name}}
				err := liveAndDie(ctx, store, p, number, func(grant Grant) {
					mu.Lock()
					defer mu.Unlock()
					if other, twice := granted[grant.Epoch()]; twice {
						t.Errorf("epoch %d was granted to %+v and to %+v", grant.Epoch(), other, grant.Owner)
					}
					granted[grant.Epoch()] = grant.Owner
				})
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				p.Close()
			}
		})
	}
	var last uint64
	changes := store.Client("observer")
	defer changes.Close()
	nodes.Go(func() {
		for news := range changes.Watch(ctx, configPrefix, 1) {
			for _, event := range news.Events {
				config, err := decodeRecord[ShardConfig](event.KeyValue)
				if err != nil || config.Epoch < last || config.Epoch == last && last != 0 {
					t.Errorf("epoch %d after %d, %v", config.Epoch, last, err)
				}
				last = config.Epoch
				mu.Lock()
				if owner, told := granted[last]; told && owner.Nonce != config.LastOwner.Nonce {
					t.Errorf("epoch %d is %+v's, but was told to %+v", last, config.LastOwner, owner)
				}
				mu.Unlock()
			}
		}
	})
	nodes.Wait()
	if len(granted) < 50 || last < uint64(len(granted)) {
		t.Errorf("%d grants up to epoch %d: too little happened", len(granted), last)
	}
}

// liveAndDie is one process that takes the shard over a few times, loses leases, gives up, and is killed.
func liveAndDie(ctx context.Context, store *MemStore, p process, number func(int) int, told func(Grant)) error {
	lease, err := p.Grant(ctx, leaseTTL)
	if err != nil {
		return err
	}
	for range 1 + number(10) {
		seen, err := readShard(ctx, p, 0)
		if err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, time.Duration(number(5000))*time.Millisecond)
		grant, err := takeOver(short, p, seen, p.self, lease, uint64(number(3)))
		cancel()
		switch {
		case err == nil:
			told(grant)
		case errors.Is(err, ErrLeaseNotFound):
			if lease, err = p.Grant(ctx, leaseTTL); err != nil {
				return err
			}
			continue
		case errors.Is(err, ErrOutrun), errors.Is(err, ErrUnknownOutcome), errors.Is(err, ErrUnavailable):
			continue
		default:
			return err
		}
		switch number(4) {
		case 0:
			if err := release(ctx, p, grant); err != nil {
				return err
			}
		case 1:
			store.Expire(lease)
			if lease, err = p.Grant(ctx, leaseTTL); err != nil {
				return err
			}
			if _, err := reassert(ctx, p, grant, lease); err != nil && !errors.Is(err, ErrDeposed) && !errors.Is(err, ErrLeaseNotFound) {
				return err
			}
		case 2:
			time.Sleep(time.Duration(number(20)) * time.Second)
		}
	}
	return nil
}
