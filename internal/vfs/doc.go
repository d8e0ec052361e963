// Package vfs is the seam between the store and the disk: the few operations
// that the store needs of a file system (FS, File), done by the machine (OS),
// by a model in memory that can lose power (Mem), and with faults put in
// (Fault).
//
// # What the store may rely on
//
// Code above this package is correct if it is correct under these rules and no
// kinder ones. Mem keeps exactly to them; OS gives at least as much on Linux
// with ext4, xfs or btrfs on a disk that does not lie about flushes.
//
// D1. Bytes and the size of a file are durable once File.Sync has returned
// nil, and stay so until they are written or cut again.
//
// D2. Names are durable once FS.SyncDir of their folder has returned nil.
// Syncing a file says nothing of its name: a new file, however well synced,
// may be gone. Nor does syncing a folder make the folder's own name durable;
// MkdirAll does that for what it makes.
//
// D3. What is not durable may survive all the same, in any part and any order:
// the system writes back when it likes. Of the bytes, each 512-byte sector is
// on disk as it was or as it is. A page written twice between syncs may be
// found in the state between.
//
// D4. A size that is not durable may be found as the old one, the present one,
// or one in between, independently of the bytes: a file may end before bytes
// that were written, may have zeros (with CrashOptions.Garbage: anything) where
// bytes did not make it, and a file that was cut may keep its size and have
// zeros where it was cut.
//
// D5. Changes of names are found done or not done, each as a whole. A rename
// is one change: a file with a durable name is found under the old or the new
// name, never under both or neither, and a file that it replaces stays until
// then. Two changes may be found in another order than they were made, the
// later without the earlier, unless they concern the same name or the same
// file, or are the emptying and the removal of one folder, or move folders.
//
// D6. A failed Sync is final (FS and File say what follows for the caller).
// The bytes may be readable until the power fails, and a later Sync may report
// success without having written them.
//
// D7. The end of the process alone loses nothing that was written, but makes
// nothing durable either: what the next process reads may be lost by a later
// power loss, unless it syncs that again.
//
// D8. Damage is possible anywhere at any time: a read may return other bytes
// than were written. Only checksums of the layers above find out.
//
// Not modelled: writes that land in another place, sectors torn within, and a
// folder that is damaged as a whole.
//
// # How tests use it
//
// Mem.Crash returns the file system that the next process would find.
// Fault calls an Injector before each operation, and Trigger is one that fails
// the k-th operation or calls a function around it; together they give the
// sweeps that code above the disk has to stand:
//
//	fail the k-th operation     FailAt(k, syscall.EIO)
//	fill the disk               Mem.SetCapacity or NoSpaceFrom(k)
//	lose power at operation k   Before(k, func() { found = mem.Crash(rng, options) })
//	lose bytes in a sync        At(k, Decision{Lose: true}, Kinds(OpSync))
//	lie about syncs             From(0, Decision{Drop: true}, Kinds(OpSync, OpSyncDir))
//	damage byte k               Mem.Corrupt(name, k, mask), or Decision.Flip for one read
//
// # How Mem works
//
// A file has two images, the page cache and the platter, as tables of pages
// that are shared and copied on write; so a crash copies tables, not bytes. A
// folder has two sets of names alike, and the changes between them wait in one
// list until a SyncDir or chance makes them durable. A power loss is nothing
// but a copy, a random write-back in the copy, and dropping its page cache.
package vfs
