package cluster

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of the node and its shards. What a shard knows anyway is read when
// it is asked for.
type metrics struct {
	node  *Node
	fsync prometheus.Histogram
	descs []shardDesc
	disk  [2]*prometheus.Desc
	files [3]*prometheus.Desc
}

// shardDesc is one metric that is read off a shard's status.
type shardDesc struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*ShardStatus) float64
}

func newMetrics(n *Node) *metrics {
	m := &metrics{node: n, fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "logcluster_wal_fsync_duration_seconds", Help: "Time of one fsync of a shard's log.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14),
	})}
	add := func(name, help string, kind prometheus.ValueType, value func(*ShardStatus) float64) {
		m.descs = append(m.descs, shardDesc{prometheus.NewDesc("logcluster_shard_"+name, help, []string{"shard"}, nil), kind, value})
	}
	add("leading", "1 if this node owns the shard and serves it.", prometheus.GaugeValue, func(s *ShardStatus) float64 {
		if s.Owner == n.o.Name {
			return 1
		}
		return 0
	})
	add("epoch", "Epoch of the shard's owner.", prometheus.GaugeValue, func(s *ShardStatus) float64 { return float64(s.Epoch) })
	add("last_index", "Index of the last record in the shard's log here.", prometheus.CounterValue, func(s *ShardStatus) float64 { return float64(s.LastIndex) })
	add("commit_index", "Index up to which records are committed.", prometheus.CounterValue, func(s *ShardStatus) float64 { return float64(s.Commit) })
	add("next_offset", "Offset of the shard's next entry: how many it ever took.", prometheus.CounterValue, func(s *ShardStatus) float64 { return float64(s.NextOffset) })
	add("tail_bytes", "Bytes of the shard's log that are not sealed.", prometheus.GaugeValue, func(s *ShardStatus) float64 { return float64(s.TailBytes) })
	add("backlog_bytes", "Raw bytes that no block holds yet.", prometheus.GaugeValue, func(s *ShardStatus) float64 { return float64(s.Backlog) })
	add("sealed_segments", "Sealed segment files of the shard.", prometheus.GaugeValue, func(s *ShardStatus) float64 { return float64(s.SealedSegments) })
	add("sealed_bytes", "Bytes of the sealed segment files.", prometheus.GaugeValue, func(s *ShardStatus) float64 { return float64(s.SealedBytes) })
	add("sealed_raw_bytes", "Bytes of the lines in sealed segments.", prometheus.GaugeValue, func(s *ShardStatus) float64 { return float64(s.SealedRaw) })
	add("merges_total", "Merges of sealed segments since the shard was opened.", prometheus.CounterValue, func(s *ShardStatus) float64 { return float64(s.Merges) })
	add("merged_raw_bytes_total", "Bytes of the lines that merges have written again since the shard was opened.", prometheus.CounterValue, func(s *ShardStatus) float64 { return float64(s.MergedRaw) })
	add("damages", "Known damages and losses of the shard.", prometheus.GaugeValue, func(s *ShardStatus) float64 { return float64(len(s.Damage)) })
	m.disk[0] = prometheus.NewDesc("logcluster_disk_free_bytes", "Free space of the file system that holds the data.", nil, nil)
	m.disk[1] = prometheus.NewDesc("logcluster_disk_total_bytes", "Size of the file system that holds the data.", nil, nil)
	m.files[0] = prometheus.NewDesc("logcluster_segment_files_open", "Sealed segment files that are open.", nil, nil)
	m.files[1] = prometheus.NewDesc("logcluster_segment_tables_bytes", "Memory of the open files' streams, templates and directories, about.", nil, nil)
	m.files[2] = prometheus.NewDesc("logcluster_segment_catalogue_bytes", "Memory of what is known of the streams in sealed segment files, about.", nil, nil)
	return m
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	if err := reg.Register(m.fsync); err != nil {
		return err
	}
	return reg.Register(m)
}

func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg != nil {
		reg.Unregister(m.fsync)
		reg.Unregister(m)
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		out <- d.desc
	}
	out <- m.disk[0]
	out <- m.disk[1]
	for _, d := range m.files {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	st, err := m.node.Status()
	if err == nil {
		out <- prometheus.MustNewConstMetric(m.disk[0], prometheus.GaugeValue, float64(st.DiskFree))
		out <- prometheus.MustNewConstMetric(m.disk[1], prometheus.GaugeValue, float64(st.DiskTotal))
	}
	files := m.node.files.Status()
	for i, v := range []float64{float64(files.Open), float64(files.Tables), float64(files.Catalogue)} {
		out <- prometheus.MustNewConstMetric(m.files[i], prometheus.GaugeValue, v)
	}
	for i := range st.Shards {
		label := strconv.FormatUint(uint64(st.Shards[i].Shard), 10)
		for _, d := range m.descs {
			out <- prometheus.MustNewConstMetric(d.desc, d.kind, d.value(&st.Shards[i]), label)
		}
	}
}
