// # Streams
//
// A stream's canonical form is the tenant, then the name and the value of each label,
// sorted by name, each name once; all of these after their lengths as uvarints. Its id is
// xxhash64 of that.
//
// # Frames
//
// A record on disk and on the wire is a frame: header, payload, trailer, with no padding.
// Header and payload are the shipped part, the same on all replicas.
//
//	┌──────────────────────────┬───────────────────────────────┬─────────────────────┐
//	│ header, 140 bytes        │ payload, PayloadLength bytes  │ trailer, 20 bytes   │
//	└──────────────────────────┴───────────────────────────────┴─────────────────────┘
//	 header CRC: 0 to 135        payload CRC, in the header      CRC: 0 to 15, header CRC
//	 chain: SHA-256(previous chain ‖ header 0 to 119 ‖ payload), its first 16 bytes
//
//	header
//	 at size field
//	  0   4  magic "LCFR"
//	  4   1  version: 1
//	  5   1  type: 1 DATA, 2 BARRIER, 3 SEAL, 4 RETAIN, 5 REPLACE, 6 LOSS
//	  6   1  codec of the payload: 0 none, 1 s2 (a block without framing), 2 zstd
//	  7   1  flags: 1 ROLL, every replica begins a tail file with this record
//	  8   2  header length: 140
//	 10   2  part of the request, from 0; bit 15: the last part
//	 12   4  payload length, as stored
//	 16   4  raw length, once decompressed
//	 20   4  count of entries; 0 but in DATA
//	 24   4  streams that the payload defines
//	 28   8  log id
//	 36   8  index of the record: 1 more than that of the record before
//	 44   8  offset of the first entry; of the next entry in records without any
//	 52   8  epoch
//	 60   8  epoch of the record before
//	 68   8  smallest timestamp of the entries; 0 if there are none
//	 76   8  largest timestamp
//	 84  16  idempotency key of the request; zeros: none
//	100   8  digest A: Σ hᵢ over the entries, i from 0, modulo 2⁶⁴
//	108   8  digest B: Σ hᵢ·(i+1)
//	116   4  CRC32C of the payload as stored
//	120  16  chain
//	136   4  CRC32C of bytes 0 to 135
//
//	trailer, of each replica's own
//	  0   8  fsync group: number in the upper 48 bits, place in the group in the lower 16
//	  8   8  highest index that the replica knew to be committed
//	 16   4  CRC32C of bytes 0 to 15 and of the header's bytes 136 to 139
//
// hᵢ = xxhash64(timestamp, 8 bytes ‖ stream id, 8 bytes ‖ line ‖ metadata, each name and
// each value after its length as a uvarint). A record with its first entry at offset o adds
// o·A + B to the digest of its range, which is Σ h·(offset+1): known from headers alone,
// and to be had from a decoded segment.
//
// The place in the fsync group is there for recovery. Behind a record that cannot be read
// a whole one may stand. Its index less its place is the first index of its group: so it
// tells whether the unreadable record was written and synced together with it (a torn
// group, which was never acknowledged, if no later group follows) or before it (damage of
// acknowledged data). The number alone could not: the bad record's own may be unreadable.
//
// # Payload of DATA
//
// Self-contained: references are to streams and name lists of the same payload. After
// decompressing:
//
//	 0  5×4  lengths of the five sections that follow
//	20       streams     canonical forms, each after its length (uvarint)
//	         runs        (stream uvarint, entries uvarint) in order; no empty run
//	         timestamps  varint each: the first, then the distance to the one before, mod 2⁶⁴
//	         lengths     of the lines, uvarint each
//	         metadata    nothing if no entry has any, else as below
//	         lines       the bytes of all lines, one behind the other, to the end
//
//	metadata, also the content of a META chunk
//	         lists       uvarint: how many lists of names follow
//	         each list   uvarint: names; each name after its length, ascending
//	         each entry  uvarint: 0 for none, else 1 + the number of its list, then as many
//	                     values as the list has names, each after its length
//
// The payload of SEAL is a Sealed: first and last index, first and end offset, entries,
// raw bytes, smallest and largest timestamp, digest, length of the file, 8 bytes each;
// chain, 16 bytes; root, 32 bytes. That of REPLACE is the count of the segments that are
// replaced, 4 bytes, the first index, last index and root of each, 48 bytes, and the Sealed
// of the one in their place.
package segment
