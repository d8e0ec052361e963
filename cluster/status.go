package cluster

import (
	"time"

	"github.com/logcluster/logcluster/shard"
)

// Status is what a node says of itself.
type Status struct {
	Name      string
	ClusterID string
	Uptime    time.Duration
	DiskFree  uint64 // bytes
	DiskTotal uint64
	Shards    []ShardStatus // in order
}

// ShardStatus is one shard as this node sees it.
type ShardStatus struct {
	shard.Status
	Owner    string // name of the node; empty: none
	Epoch    uint64 // of the owner
	Replicas []string
}

// Status returns the state of the node and of its shards.
func (n *Node) Status() (Status, error) {
	st := Status{Name: n.o.Name, ClusterID: n.cluster.ID, Uptime: time.Since(n.began)}
	var err error
	if st.DiskFree, st.DiskTotal, err = n.o.FS.Free(n.o.Dir); err != nil {
		return st, err
	}
	for _, r := range n.sorted() {
		st.Shards = append(st.Shards, r.status())
	}
	return st, nil
}

func (r *replica) status() ShardStatus {
	r.mu.Lock()
	s, serving, failure, grant := r.shard, r.serving, r.failure, r.grant
	r.mu.Unlock()
	st := ShardStatus{Status: shard.Status{Shard: r.number, State: "no owner"}, Epoch: grant.Epoch()}
	for _, c := range r.config.Replicas {
		st.Replicas = append(st.Replicas, c.Node)
	}
	if s != nil {
		st.Status = s.Status()
	}
	if serving {
		st.Owner = r.node.o.Name
	}
	if failure != nil {
		if st.State == "ok" || s == nil {
			st.State = "failed"
		}
		st.Damage = append(st.Damage, failure.Error())
	}
	return st
}
