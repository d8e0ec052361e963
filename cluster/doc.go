// Package cluster makes one store of many nodes: it runs the embedded etcd, knows who
// belongs to the cluster, decides who owns which shard, sends each request to the
// shards that it concerns, and puts their answers together.
//
// # What it guarantees
//
//   - C2 At most one owner commits in an epoch. An epoch is granted by one transaction
//     in etcd, to one process (node and boot id), once; every start and every failure of
//     a shard means a new one. Even alone, a node becomes the owner of its shards in this
//     way, and takes writes only as their owner.
//   - C4 A shard is served only after the owner's barrier is committed.
//   - H2 That metadata is missing is never a reason to delete or to begin anew: an empty
//     etcd under a data folder that belongs to a cluster is an error, and so is an empty
//     shard folder that node/SHARDS lists.
//   - H16 A folder has an identity (node/UUID), made once and registered as member/NAME.
//     A name that comes back with another folder is refused.
//   - H28 Two processes cannot have one data folder: node/LOCK.
//   - Q2 No answer is silently partial: a shard that cannot be read is told to the query's
//     OnDamage, or fails the query.
//
// # Metadata and other nodes
//
// Only files named etcd*.go know etcd; the rest sees Meta, a small linearizable map with
// transactions, leases and watches, which MemMeta implements for simulations. In the
// same way grpc*.go will be the only ones to know the network between nodes.
//
// The keys, and who writes them, stand in meta.go; what they mean in members.go (who
// belongs to the cluster) and ownership.go (who owns a shard).
//
// # A node's start
//
//	folder      lock, UUID, CLUSTER, SHARDS                        folder.go
//	etcd        embedded member; no port beyond loopback           etcd*.go
//	bootstrap   member/NAME; cluster, route/1, config/S, once      members.go
//	session     one lease for the process; node/NAME               ownership.go
//	replicas    open each shard's folder by shard.Open             replica.go
//	SHARDS      is written before any shard takes a line
//	lead        claim → fence → barrier, for each shard            replica.go
//
// A shard that fails later (a failed fsync, say) is closed, opened again and led in a new
// epoch, after a pause that doubles; requests wait for it for OwnerWait, then they are told to
// come back. The other shards go on.
//
// # The way of a request
//
// Append groups a batch by shard under the newest route, encodes one frame (or several
// parts) for each, and hands them to the owners. Entries, Partial and Streams, the
// query engine's source, ask all shards side by side and merge. Whatever the number of shards
// and queries, no more units of stored entries are read at a time than there are processors
// (workers.go).
//
// One ticker a node does what is due by time for all its shards; no shard has a timer
// of its own.
package cluster
