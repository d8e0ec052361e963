// Package segment is the bytes of the store: the records that a shard's log consists of
// (frames), the files of compressed blocks that they become (segments), and the search
// in both. It starts no goroutine and knows no clock. What is committed, which files
// there are and who may write is decided above, in package shard.
//
// # Guarantees
//
//   - S1 A sealed file never changes. Nothing here writes to one, and its name ends with a
//     hash that stands for every byte of it.
//   - S3 A read yields the entries that were written, or an error that says what is damaged
//     (ErrCorrupt, with a CorruptError that names file and place), never other bytes. Every
//     changed bit of a frame and every changed byte of a sealed file is found.
//   - Q1 The answer of a unit (Block, FrameUnit) to a Query or an Aggregation is the answer
//     that its plain rows would give. Frames, blocks of open and of sealed segments are
//     read by the same code and answer alike.
//   - G1 What a reader would refuse is refused before it is in the log: a frame that Encode
//     returned can be decoded, a block that Append returned can be sealed.
//   - G2 The same rows are cut into the same parts, whichever of them are refused, so that
//     a repeated request is recognised part by part.
//   - G3 A block is decoded again and compared with the rows it was made of, byte by byte,
//     and its digest with the sum of the records' digests, before anybody may use it.
//   - G4 Open segments hold nothing of their own: all of it can be made again from the log.
//     After a restart a block is used again only if it is wholly intact.
//   - G5 The final name of a segment file exists only for a whole, synced file.
//   - G6 A unit that turns out to be damaged adds nothing to an aggregation: its share may be
//     asked for elsewhere.
//   - G7 No bytes from outside cause a panic or more memory than a small multiple of the
//     limits below. Lengths are compared before anything is allocated.
//
// # How entries go
//
//	write   Batch ─FrameEncoder.Encode→ Frames ─(shard: place, chain, fsync)→ tail file
//	        tail file ─FrameDecoder.Decode→ Data ─BlockEncoder.Add→ rows
//	        rows ─Open.Append→ sort by stream and offset, cut lines into templates and columns,
//	              encode chunks, decode them again and compare (G3), write to open-N, then its
//	              directory to open-N.aux
//	seal    Open.Seal → STREAMS, TEMPLATES, FILTERS and INDEX behind the blocks, HEADER into the room left for it,
//	              LEAVES from what the disk gives back, TRAILER with the root; sync; read
//	              back headers, tables and all checksums; rename; sync the folder
//	read    OpenSegment → HEADER, TRAILER, LEAVES against the root; STREAMS, TEMPLATES, FILTERS and INDEX. No block
//	              is read before a query needs it.
//	merge   Rewriter: the blocks of sealed segments, several small ones as one, encoded again
//	              into an open segment; sealed if range, counts and digest are the inputs'
//	search  SelectUnits: units by their time range, each opened when it may hold the next entry; AggregateUnits:
//	              all of them. Side by side, as far as the query's Workers allow
//	        Block.Select: runs by stream and time (directory) → filters against templates and FILTERS →
//	              columns of those that are open, and FALLBACK → TS, ORDER → the first Limit →
//	              their lines and metadata, when they are asked for
//	        Block.Aggregate: from the directory alone where a run falls into one window and no
//	              filter asks for lines, else TS, else columns, else lines
//	check   Verify → every leaf, chunk, timestamp, offset, line and metadata; runs and digests
//
// Lines without a template are searched chunk by chunk: a filter in all lines at once, by
// the byte of its text that logs hold least often; regular expressions by the texts that
// every match must contain. Lines are looked at one by one only where such a text stands.
//
// # Concurrency
//
// Blocks, Segments and what queries return may be used by any number of goroutines.
// The answer to a query does not depend on how many Workers it has nor on which is faster:
// sums of values are added up in groups of units that are always the same.
// Encoders, decoders, iterators and Open are for one at a time; the blocks of an Open may
// be read while it grows, while it is sealed and after, until its Close.
//
// # Numbers
//
// All numbers of fixed size are little-endian. uvarint and varint are those of
// encoding/binary, in their shortest form: a reader refuses a longer one, so that equal
// things have equal bytes. Checksums are CRC32C (Castagnoli). Timestamps are unix
// nanoseconds, any int64 but the largest, which no query's end could lie behind.
//
//	                            limit         constant
//	line                        16 MiB        MaxLine
//	entries in a frame          65,535        MaxFrameEntries
//	raw bytes of a frame with
//	more than one entry         4 MiB         MaxFrameRaw
//	any payload, raw or stored  24 MiB        MaxPayload
//	parts of a request          32,768        PartLast
//	records in an fsync group   65,536        MaxGroupRecords
//	rows in a block             65,536        MaxBlockRows
//	lines' bytes in a block of
//	more than one record        8 MiB         MaxBlockRaw
//	offsets that a block spans  4,294,967,295
//	blocks in a file            1,024         MaxBlocks
//	any chunk, raw or stored    48 MiB
//	raw bytes of a block        1 GiB
//	streams in a file           1,048,576, of 64 MiB in canonical form
//	templates in a file         32,768, of 4 MiB in canonical form
//	slots of a template         255
//	line that is cut            64 KiB
//	file                        64 GiB
//
// Open.Full says when a further block might go beyond one of these; the segment is then
// sealed as it is.
//
// # Versions
//
// A frame has a version byte. A file has a major version: a reader refuses any but its
// own. Minor versions tell who wrote a file and change nothing for readers. Of the feature
// bits in HEADER, an unknown required one is refused and an unknown optional one is
// ignored: an encoding that older readers would misread comes with a required bit, a
// section that they may skip with an optional one. Being refused is ErrVersion and never
// ErrCorrupt: the bytes are whole. Reserved bytes are written as zeros and not looked at.
// Chunk kinds and extents that this version does not write have their numbers already.
// Files that older versions wrote are in testdata/segment and are opened by the tests.
package segment
