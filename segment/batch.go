package segment

// A Key is an idempotency key. The zero key means that there is none: the entries are
// stored as often as they are pushed.
type Key [16]byte

// A Row is one entry of a Batch.
type Row struct {
	Timestamp int64
	Line      []byte // not copied: it must not change until the batch is appended
	Stream    uint32 // index in Batch.Streams
	Metadata  uint32 // 1 + index in Batch.Metadata; 0: none
	// Refused marks a line that was found bad. It is not stored, but counts where the
	// batch is cut into parts, so that a retry of the same request is cut alike.
	Refused bool
}

// A Batch holds the decoded and validated entries of one request, in their order.
type Batch struct {
	Streams  []*Stream
	Metadata []Labels
	Rows     []Row
	// Key makes a repeat of the same request harmless.
	Key Key
}

// A Receipt is the proof that a batch is stored.
type Receipt struct {
	// Duplicate: the batch had been stored before, by its key, and was not stored again.
	Duplicate bool
	// Positions name the last entry stored in each shard, for reads that must see them.
	Positions []Position
}

// A Position is a place in a shard's log.
type Position struct {
	Shard  uint32
	Epoch  uint64
	Offset uint64 // of the last entry
}
