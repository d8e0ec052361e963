// # Segment file
//
// Its name is seg-FIRST-LAST-ROOT: indexes in decimal, root in hexadecimal.
//
//	┌────────────────┐ 0
//	│ HEADER, 64 B   │
//	├────────────────┤ 64
//	│ block 0: TS ORDER TID COLUMNS NUM… ID… STR… BIN… FALLBACK… META…
//	│ block 1: …         chunks, each at a multiple of 8, none with anything in between
//	├────────────────┤
//	│ STREAMS        │ chunks of the whole segment
//	│ TEMPLATES      │ if there are any
//	│ DICT           │ if there are any folds
//	│ FILTERS…       │ parts of the filter of values, then the rest; optional
//	│ INDEX          │
//	├────────────────┤ a multiple of 8
//	│ LEAVES         │ SHA-256 of each 256 KiB of all that is before, 32 bytes each
//	├────────────────┤
//	│ TRAILER, 256 B │
//	└────────────────┘
//
//	HEADER
//	 at size field
//	  0   8  magic "LCSEG\r\n\x1a": a transfer as text would change it
//	  8   2  major version: 1
//	 10   2  minor version: 0
//	 12   4  required feature bits: 1 folds (DICT)
//	 16   4  optional feature bits: 1 there is FILTERS
//	 20   4  reserved
//	 24  16  uuid: SHA-256("segment" ‖ log id ‖ first index ‖ last index ‖ chain), begin
//	 40   8  first offset
//	 48   8  entries
//	 56   4  reserved
//	 60   4  CRC32C of bytes 0 to 59
//
//	chunk
//	  0   4  length of the payload as stored
//	  4   4  length of the payload once decompressed
//	  8   1  codec: 0 none, 1 s2, 2 zstd (one frame that states its size)
//	  9   1  kind
//	 10   2  number of the block; 0 for chunks of the segment
//	 12   4  CRC32C of bytes 0 to 11 and the payload
//	 16      payload, then zeros up to a multiple of 8, which readers check
//
//	kinds of a block                          kinds of the segment
//	 1 TS        timestamps                   32 STREAMS
//	 2 TID       template of each row         33 TEMPLATES
//	 3 NUM       numbers                      34 METATEMPLATES  reserved
//	 4 ID        ids of dictionaries          35 DICT           folds
//	 5 STR       strings                      36 FILTERS
//	 6 LEN       reserved: lengths            37 INDEX
//	 7 BIN       bits and bytes               38 OPENBLOCK      in open-N.aux only
//	 8 EXC       reserved: exceptions
//	 9 FALLBACK  whole lines
//	10 META      structured metadata
//	11 ORDER     offsets
//	12 COLUMNS   directory of the columns
//
//	TRAILER
//	  0  84  seven extents, each offset (8) and length (4): INDEX, LEAVES, STREAMS, ORDER,
//	         TEMPLATES, DICT, FILTERS. ORDER is reserved and zero, and so are TEMPLATES, DICT
//	         and FILTERS if the file has none. That of a chunk goes from its header to the end
//	         of its payload. Of FILTERS it is the last chunk.
//	 84   4  reserved
//	 88   8  rows                      128   8  first index
//	 96   8  bytes of all lines        136   8  last index
//	104   8  smallest timestamp        144   8  first offset
//	112   8  largest timestamp         152   8  end offset, not included
//	120   8  digest: Σ h·(offset+1)    160   8  log id
//	168   2  major version             170   2  minor version
//	172   4  blocks
//	176  16  chain of the record with the last index
//	192  20  reserved
//	212  32  root: SHA-256(LEAVES ‖ bytes 0 to 211)
//	244   4  CRC32C of bytes 0 to 243
//	248   8  magic, the header's backwards
//
// So the root stands for every byte of the file: HEADER, chunks and tables by their
// leaves, LEAVES and the trailer directly. Who knows it from the SEAL record can tell
// which 256 KiB are bad, and fetch those from another replica.
//
// # Chunks of a block
//
// Rows stand by stream, in the order of the streams' references, and inside a stream by
// offset; the rows of one stream are a run. TS and ORDER are one chunk each for all rows,
// and so are TID and COLUMNS, which are there if any line has a template. FALLBACK and META
// are cut into chunks of about 512 KiB raw, also within a run; first row and rows of a
// FALLBACK chunk count only the rows without a template. NUM, ID, STR and BIN are of no
// rows in particular: their references have 0 for both.
//
//	TS        1   encoding: 1
//	          1   width: bytes of a distance, 0 to 8
//	          8   smallest distance
//	              for each run, uvarint: its first timestamp less the run's smallest
//	              planes: the lowest bytes of all distances, then the next higher ones…
//	          A distance is that of a row to the row before it in its run, as an int64 that
//	          may have overflowed; the planes hold it less the smallest, modulo 2⁶⁴.
//	ORDER     pairs of uvarints, in the order of offsets from the block's first: (1 + run,
//	          rows) for the next rows of that run, (0, offsets) for offsets without entries
//	FALLBACK, of the rows without a template, in the order of rows:
//	          4   length of the next section
//	              lengths of the lines, uvarint each
//	              the bytes of all lines, one behind the other
//	META      as in frames, for the rows of the chunk; empty if none of them has any
//
// # Tables
//
//	STREAMS   uvarint: streams. For each, in the order of their first use, which gives it
//	          its reference: uvarint, how many bytes its canonical form shares with that of
//	          the stream before; the rest after its length (uvarint)
//	TEMPLATES uvarint: templates. For each, in the order of their first use, which numbers
//	          them: its canonical form after its length (uvarint)
//	DICT      see Folds
//	INDEX     uvarint: blocks. For each its directory, uvarints but where said otherwise:
//	          number · first index · last − first index · first offset · end − first offset ·
//	          rows · bytes of the lines · smallest timestamp (varint) · largest − smallest ·
//	          digest (8 bytes) · chain of the record with the last index (16 bytes) ·
//	          runs, for each: stream · rows · its smallest timestamp − the block's ·
//	              its largest − its smallest · bytes of its lines
//	          templates that its lines have, for each: number in TEMPLATES · rows; its place
//	              here is what TID calls it by
//	          chunks, for each: kind · position in the file · stored length · raw length ·
//	              first row · rows
//
//	FILTERS   of the file's templates, one after the other, all slots in turn:
//	          uvarint: sets of bytes. For each two words of 8 bytes: bit i of word i/64 for
//	          byte i; NUL stands for itself and for all bytes from 128 on
//	          uvarint: slots, as many as the templates have. Then for each slot the number of
//	          the set that its values are of · for each the bytes of its shortest value, at
//	          most 65,535 · for each its longest less its shortest; a longest of 65,535 is
//	          any length · for each flags: 1 listed, 2 grammed
//	          uvarint: bytes of the filter of grams, a power of two, or 0; as many bytes
//	          uvarint: parts of the filter of values. For each, in the order of their
//	          chunks, which stand one behind the other up to this one: its position behind
//	          the first of them · stored length · raw length
//
// A gram is four bytes that follow each other, g as a little-endian number. Its bit in a
// filter of 2ᵏ bits (bit 0 is the lowest of byte 0) is number (h >> 8) mod 2ᵏ, with
// h = (x xor x >> 15)·85ebca6b₁₆ and x = g·9e3779b1₁₆, all mod 2³². The filter has the grams of all
// lines without a template, and of all values of the slots that are grammed.
//
// A listed slot's values are all in the filter of values, by their key: xxhash64 of the value. Of n
// parts it is in part key·n >> 64. A part is a binary fuse filter of 8 bits:
//
//	 0   8  seed
//	 8   4  s, places in a segment of the filter, a power of two
//	12   4  m, segments in which the first place of a key may be
//	16      a byte for each of (m+2)·s places
//
// With h = mix(key + seed), where mix(x) is the finaliser of MurmurHash3, the places of a key are
// p = h·m·s >> 64, p+s with its bits below s flipped by h >> 18, and p+2·s with those flipped by
// h. The key may be in the filter if the bytes there, one xor the other, are (h xor h >> 32) mod 256.
//
// Which slots are listed and grammed, and how many bits there are, is the writer's choice:
// it keeps the filter of values below 1/32 of the file and that of grams below 1/100 (or 4 KiB).
// What readers may conclude is only that something is not there (C7); Verify compares with all rows.
//
// Directories answer for streams, time ranges and counts without a look at the block. A
// reader refuses one whose runs, templates and chunks do not cover the rows exactly, and Verify
// compares every number of it with the rows.
//
// # Open segment
//
// open-N, N being the index of its first record, holds blocks as a segment file does, with
// 64 bytes of room for HEADER. open-N.aux holds for each block one chunk of kind OPENBLOCK
// with the block's number: the streams that it was the first to use, as in STREAMS, the
// templates that it was the first to use, as in TEMPLATES, what it added to folds (how many,
// and for each its number and, as in DICT, what is new of it: without template and slots
// if the number was there), then its directory. Neither is synced before the seal. ResumeOpen takes over blocks as long as
// record, checksums, every row and the digest are right, and the caller finds range and
// chain in its log; it cuts off the rest.
package segment
