// Package shard keeps one replica of one shard's log on this node: the tail that takes
// the writes, the open segment that is encoded from it, the sealed segment files, and
// the state that the committed log describes.
//
// # Invariants
//
// The numbers stand in comments and in the names of tests.
//
//	S2   In a tail, everything up to the last acknowledged record was fsynced before it
//	     was acknowledged. A torn end is dropped; damage in the middle is never cut.
//	H1   One goroutine writes the log (writeLoop). Indexes and offsets are dense, and
//	     all records of an epoch are of one process.
//	H2   A file is removed only after a durable MANIFEST has forgotten it.
//	C1   A record is acknowledged when a majority has fsynced it. This replica's vote
//	     counts after its own fsync; LeadOptions.Quorum knows those of the others.
//	C2   A replica refuses epochs below the one that it has promised, and the same one
//	     of another process. The promise survives any crash.
//	C3   Readers see committed entries only, and each of them in exactly one place.
//	C4   Nothing is appended or read before this epoch's barrier is committed.
//	C5   A replica that is damaged says so in FenceReply; it is no proof that a record
//	     does not exist.
//
// The numbers from H3 on are those of the review in the replication design, as far as
// they are about one replica:
//
//	H3   Leading needs an epoch above that of the log's last record: no process goes on
//	     in the epoch of another.
//	H5   A promise is fsynced before Fence answers, in two slots one after the other.
//	     Slots that differ when the file is opened are written anew before any answer.
//	     A promise below the log's last epoch is an old copy of the file: ErrLost.
//	H6   Fence waits for the group that is being written, and its answer includes it.
//	     No group begins meanwhile, and none is acknowledged in the old epoch after it.
//	H12  What may stand in the page cache only is carried forward before Open returns.
//	H13  A failed write or fsync ends the shard: no file of it is synced again, reads go
//	     on, and it is opened again with Options.AfterFailure.
//	H14  Damage is told from a torn end by the table below.
//	H15  On a replica set of one, the owner declares what is damaged as lost, with a
//	     LOSS record, and goes on behind it. The damaged file is kept, Status and every
//	     query say what is lost, and a loss is declared once.
//	H16  A folder that is missing, of somebody else, or cannot say what it promised is a
//	     lost disk: ErrLost, ErrForeign. Nobody answers for it.
//	H17  Header, payload and place of a record are checked at every read.
//	H20  Nothing is deleted because metadata is missing: without IDENT no file that was
//	     used is touched, and a name that nobody knows is left alone.
//	H21  A tail file goes only when sealed files that this replica holds, or later tail
//	     files, have all of its part of the log.
//	H22  What is sealed, what is merged and what is lost are records of the log. MANIFEST
//	     is a snapshot of what they add up to. A REPLACE is applied in one way or not at
//	     all: the old segments are just those that stand there, side by side, and the
//	     new one holds what they hold, by range, counts, chain and digest.
//	H36  A request that is repeated is answered like the first time, after the first is
//	     committed. The table of keys is a function of the log.
//	H38  Nothing below what MANIFEST or FLOOR know to have been fsynced is cut.
//
// Of reading:
//
//	F1   What a node keeps in memory and open of its sealed files is bounded, whatever they
//	     hold: by Files, and by what queries read at the moment. A file stays as long as a
//	     query may come to it, also when it is replaced.
//	K1   The catalogue leaves a file out of a query only if nothing in it matches. A file
//	     that it does not describe is read.
//
// # Files of a shard's folder
//
//	IDENT          whose replica of which log this is; made last, never changed
//	IDENT.copy     the same
//	PROMISE        the highest epoch that was promised, twice
//	MANIFEST       snapshot of the state machine, and which tail files there are
//	MANIFEST.copy  the same, written after it
//	tail-N         records, N rising
//	open-I         blocks of the open segment, from record I on; never synced
//	open-I.aux     their directories (package segment)
//	merge-I, .aux  the same of a merge that is under way; never taken up again
//	seg-A-B-ROOT   sealed segment of records A to B (package segment)
//	catalogue      which sealed segment has which streams; derived, may be missing
//	*.tmp          a file that was being written (vfs.WriteFile)
//
// and of the node's: FLOOR, for all shards. Integers are little-endian, checksums
// CRC32C. What there are two copies of is repaired from the other when it is opened.
//
// IDENT, MANIFEST and their copies are envelopes:
//
//	8  magic "LCIDENT\x00" or "LCMANIF\x01"
//	4  length of the payload
//	4  checksum of the payload
//	   payload: of IDENT, the JSON of Ident
//
// MANIFEST:
//
//	8       sequence number; of two whole copies the higher counts
//	4, ...  STATE after its length, equal on all replicas at an index:
//	          8 index of the last record applied · 8 next offset · 8 its epoch ·
//	          8 config version · 8 log start · 16 its chain
//	          4, 16 each   epoch history: epoch, first index
//	          4, 128 each  sealed segments (segment.Sealed)
//	          4, 48 each   losses: first, last index; first, end offset; chain
//	          4, 34 each   idempotency keys: key 16, part 2, index 8, last offset 8
//	4, 49   LOCAL: tail files, in order: number 8, and what the header repeats: index 8,
//	        offset 8, epoch 8, chain 16, unchained 1
//	4, 64   LOCAL: damages: file 8, position 8, and the loss 48
//
// catalogue is an envelope with magic "LCCATAL\x01" and integers of 4 bytes if not said
// otherwise:
//
//	4, ...  streams: canonical form after its length
//	4, ...  sealed segments: first index 8 · last index 8 · root 32 ·
//	          4, 6 each    streams: number · first and last slot with entries, 1 each, of 256
//	                       equal ones that the segment's time range is cut into
//
// tail-N begins with a header of 72 bytes, and frames follow without padding, then
// zeros (segment.Header, segment.Trailer):
//
//	8  magic "LCTAIL\r\n"          8  offset of the next entry
//	2  version 1                   8  epoch of the record before
//	1  1: chain is not known       16 chain of the record before
//	5  zero                        4  zero
//	8  log id                      4  checksum of the 68 bytes before
//	8  index of the first record
//
// A tail file's part of the log ends where a later one in MANIFEST begins, whatever it
// holds behind: that is how a suffix is dropped. Nothing is overwritten.
//
// PROMISE has a slot of 168 bytes at byte 0 and one at byte 4096:
//
//	8 magic "LCPROMIS" · 8 sequence · 8 epoch · 8 config version ·
//	2+64 node · 2+64 boot, each after its length · 4 checksum
//
// FLOOR has for each shard a pair of slots of 128 bytes, on the pages 2·p and 2·p+1
// (32 slots a page), written in turn:
//
//	4 magic "FLOR" · 4 shard · 8 sequence · 8 tail file · 8 position · 8 epoch · 8 index ·
//	8 next offset · 8 fsync group · 16 chain · 8 log id · 36 zero · 4 checksum
//
// # Write path
//
//	Append, any goroutine:
//	    wait for room: queue < 32 MiB, backlog of the encoder < MaxBacklog; or Unavailable
//	    drop parts whose key is known; join those in flight
//	    queue the rest, wake writeLoop, wait
//	writeLoop, the only writer:
//	    take all that waits, up to 16 MiB, as one group; stop at a record with FlagRoll
//	    if that is the first of them: roll
//	    give out index, offset, epoch, chain; encode into one buffer
//	    wait if it reaches into what the filler writes
//	    write once, fsync once, settle with the filler
//	    write the mark into FLOOR (its fsync is the node's ticker's)
//	    move the end of the log; commit as far as Quorum says:
//	        apply to the state, list for readers, answer
//
// While one group is on its way to the disk the next one gathers: a group commit
// without a timer. At most one group is not fsynced, which the table below relies on.
//
// The filler writes zeros ahead of the end in steps of 1 MiB, with its own handle and
// fsync, once a tail is longer than 64 KiB: an fsync that does not change the size is a
// third faster. Its fsync may be the one that reports a failure for what the writer
// wrote; so the writer takes no fsync of its own for good before it has settled.
//
//	roll:   end the filler; trim the old tail, fsync it
//	        make the next tail file, durable with its name
//	        MANIFEST names it; only then the record with FlagRoll goes into it
//	encode: of the oldest frames that are in no block, as many as fit
//	        append the block to open-I; in one step readers see it in place of the frames
//	seal:   append a BARRIER with FlagRoll; encode all before it
//	        finish open-I, read it back, fsync, rename to seg-…, fsync the folder
//	        append SEAL; when it is committed, in the same step, readers see the file in
//	        place of the blocks
//	        MANIFEST forgets the tail files that are covered; unlink them
//
// Merge, in the background, when the node's encoders have nothing else to do, one shard of
// a node at a time:
//
//	plan:   segments side by side of about one size: MergeFanout of them or, if a further
//	        one would be too much, half as many; together twice as large as the largest,
//	        at most MergeBytes
//	write:  open all of them; decode blocks, encode them into merge-I (segment.Rewriter),
//	        one block of it at a time, so that blocks and seals come between
//	seal:   if it holds what they hold: finish merge-I, read it back, fsync, rename to
//	        seg-…, fsync the folder
//	        append REPLACE: the names of the old segments, and the new one
//	        when it is committed, in the same step, readers see the new file in place of the
//	        old ones; queries that run keep those
//	        MANIFEST forgets the old files; each is removed when no query may come to it
//
// A merge ends with its epoch and with the shard. What is left of it is removed by Lead, when
// it is known what is committed, after MANIFEST says so too. An input that is damaged is left
// out from then on; after any other error nothing is merged for 10 minutes, also where
// less than a tenth of the disk is free. A merge holds up to 64 files open.
//
//	payload of REPLACE: 4, 48 each  old segments: first index, last index, root
//	                    128         the new one (segment.Sealed)
//
// testdata/trace has all of this as a list of operations on the disk, and the test
// compares it.
//
// # Read path
//
//	a query takes all that is committed, under the lock: the list of sealed files, the
//	    open segment's blocks, the frames
//	the catalogue leaves out sealed files by time, tenant and matchers; the rest is
//	    retained, and the query begins anew if one of them was replaced meanwhile
//	files are opened when they are read, by way of Files: Select when the first of their
//	    entries may be the next, Aggregate 16 at a time, Streams those only that the
//	    catalogue does not describe
//
// The catalogue describes a file when it is sealed. What it does not know when the shard
// is opened an encoder with nothing else to do reads from the files. It is saved when the
// shard is closed, and behind 64 files that are new in it; nothing waits for that.
//
// # Open
//
//	O1  IDENT (or its copy) names this replica, else ErrLost or ErrForeign (H16). With
//	    Options.Create an empty folder is filled: PROMISE, tail-1, MANIFEST, FLOOR, then
//	    IDENT; without IDENT nothing of it was used.
//	O2  PROMISE: the newer whole slot; none is ErrLost (H5, H16).
//	O3  MANIFEST: the newer whole copy; none is ErrLost. No step that relies on a
//	    manifest is taken before both copies are written: the older one is as good.
//	O4  The tail files that MANIFEST names: one missing, or with a header that is whole
//	    and of another place or log, is ErrLost. A damaged header is noted; MANIFEST
//	    repeats it.
//	O5  All records are read in order and checked: both checksums, log id, index,
//	    offset, epochs, chain. What cannot be read is decided by the table.
//	O6  Records up to the highest commit index in any trailer are applied to STATE; and
//	    up to the last block of open-I, since only committed records are encoded. The
//	    rest waits for an owner.
//	O7  open-I is copied, since an fsync of it may have failed in the last process and
//	    what reads well then is never written (H13). The copy is used as far as its
//	    blocks are intact and fit the chain of the log; the rest is encoded again.
//	O8  Records above the mark are copied into a new tail file, which is fsynced and
//	    named by MANIFEST (H12). The log goes on in a new file also behind a torn end,
//	    damage, or a failure. Else it goes on in the last one.
//	O9  MANIFEST is written if anything changed or a copy was damaged; else the folder is
//	    fsynced, since the last process may have died between a rename and that.
//
// # Torn or damaged
//
// The mark is what FLOOR says: up to that position of that file everything was fsynced.
// It may be old by any number of groups. A bad place is one at which no record can be
// read that continues the log. A later record is a whole frame of this log behind it
// that may belong there: records are dense, so that the bytes between bound its index
// and offset, and epochs and the numbers of fsync groups never fall. Old sectors behind
// a torn end, and copies of frames in lines, are none (T10).
//
//	    file      place                       behind it               decision
//	T1  last      end of file, or zeros       nothing                 the end of the log
//	T2  last      any; FLOOR or MANIFEST                              damage from here up to
//	              know of records beyond it                           what they know
//	T3  last      bad, beyond the mark        no later record         torn
//	T4  last      bad, beyond the mark        later records of the    torn
//	                                          bad one's group only
//	T5  last      bad, beyond the mark        a later record of a     damage up to the later
//	                                          later group             record
//	T6  last      bad, below the mark, or     a later record          damage up to the later
//	              the mark is not known                               record
//	T7  any       in a loss that is known                             stepped over
//	T8  not last  bad, or it ends             a later record, or the  damage up to that
//	                                          next file
//	T9  last      bad, no mark is known       nothing                 damage of one record at
//	                                          least
//
// T4 holds since a group is only begun when the one before is fsynced: only the last
// group can be torn, and none of it was acknowledged. Each trailer says the place of
// the record in its group, so that a whole record tells whether a bad one before it was
// of the same group. What is left: a power loss and a damaged record of the last second
// on the same disk, which only other replicas can tell (H38).
//
// Torn ends stay in their files, and are superseded by a later file that begins there.
//
// # Locks
//
//	Shard.sealMu      the open segment, and the merge; held over encoding and sealing
//	Shard.manifestMu  the order of MANIFEST's writes
//	Shard.mu          the rest; held for moments, but for the write of a promise
//	catalogue.mu      which file has which streams
//	Encoders.mu       the tasks
//	Files.mu          which sealed files are open
//
// are taken in this order. Floor.syncMu comes before Floor.mu, filler.syncMu before
// filler.mu, sealedFile.opening before Files.mu; nobody takes another lock under the
// first four of these, Files.mu, or the interner's.
//
// # Refused
//
//   - A size or a clean-shutdown flag as the end of the log: a flag is a second truth,
//     and the group number in each trailer needs none.
//   - Cutting at the first bad record, as logs commonly do: it takes all that was
//     acknowledged behind a flipped bit.
//   - An fsync of FLOOR with each group: a second fsync for what only a power loss
//     together with damage needs.
//   - Truncating a torn end in place: a crash in the middle of that leaves a third
//     state, and an fsync that failed before may have left others.
//   - Syncing open-I as it grows: the tail has it all.
//   - Retrying after a failed fsync: the system may have dropped the pages and call
//     them clean.
//   - Taking up a merge that a process left: it is rare, and its inputs are whole.
//   - Copying full blocks in a merge instead of encoding them again: templates and what
//     columns refer to are numbered by segment.
//   - A catalogue by stream, with a list of files for each: files come and go, and 100,000
//     of ten streams each are looked through in 4 ms.
//   - A goroutine or timer for each shard: one that nobody uses costs nothing.
package shard
