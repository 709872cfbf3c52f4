// SPDX-License-Identifier: BSD-2-Clause
/*
 * A simulated disk: an I/O engine that fails where it is told, and whose power can be cut.
 *
 * Drivers open real files (on tmpfs) and submit to this engine as to any other.  It does each operation on the real
 * file, so reads see what was written; and it remembers for each file what would survive a power cut:
 *
 *	durable content		as of the last completed fsync
 *	the journal		every write, fallocate and truncate since then, in the order in which they took effect
 *
 * An fsync makes durable what had been completed before the fsync was submitted, nothing else.  One that fails as
 * SIMDISK_LOST does what Linux does: what could not be written is clean from then on, so the file reads as before, the
 * next fsync succeeds, and what is lost shows after a power cut.
 *
 * Operations take effect when they complete, and those that are in flight together complete in random order, from a
 * seed: the same seed and the same caller give the same run.  Operations are counted from 1, all files together,
 * reads and fsyncs included, in the order in which they take effect.
 *
 *	simdisk_fail(sim, n, kind)		the n-th operation fails
 *	simdisk_cut(sim, n)			power fails before operation n takes effect: it and all later ones are
 *						-EIO and do nothing
 *	simdisk_crash(sim, &crash)		take the state of the moment of the cut (or of now)
 *	simdisk_make(crash, how, arg)		write one of the images that may be found after the cut into the files
 *
 * After a cut: close the image (its writes fail), take the crash, and for each image wanted make it, open, look, close.
 * simdisk_make turns the power on again, and what it wrote is durable.
 *
 * Files are known from their first operation on; what was in them then is durable.  Small files only (64 MiB).
 * One thread.  A failure of the simulation itself (no memory) ends the program.
 */
#ifndef TESTS_LIB_SIMDISK_H
#define TESTS_LIB_SIMDISK_H

#include <blktap/io.h>

struct simdisk;
struct simdisk_state;

struct simdisk *simdisk_new(uint64_t seed);
void simdisk_free(struct simdisk *sim);

/* An engine on sim; at most one at a time; td_engine_free by the caller. */
TD_CHECK int simdisk_engine(struct simdisk *sim, struct td_loop *loop, struct td_pool *pool,
			    struct td_engine **ret_engine);

/* Make a file known before its first operation. */
void simdisk_add(struct simdisk *sim, const char *path);

/* Does the file system punch holes, and zero ranges?  It does both at first; else they are -EOPNOTSUPP. */
void simdisk_features(struct simdisk *sim, bool punch, bool zero_range);

/* Begin a run: power on, no failure planned, operations counted from 1, random numbers from seed. */
void simdisk_start(struct simdisk *sim, uint64_t seed);

/* How many operations have taken effect or failed since simdisk_start. */
uint64_t simdisk_count(const struct simdisk *sim);

enum simdisk_fault {
	SIMDISK_EIO,    /* nothing done, -EIO */
	SIMDISK_ENOSPC, /* nothing done, -ENOSPC */
	SIMDISK_SHORT,  /* read, write: a part done, its length returned (others: EIO) */
	SIMDISK_TORN,   /* write: some first sectors done, -EIO (others: EIO) */
	SIMDISK_LOST,   /* fsync: random pieces of what it covers never become durable, -EIO (others: EIO) */
	SIMDISK_FAULTS
};

/* Operation n (0: none) fails.  One at a time. */
void simdisk_fail(struct simdisk *sim, uint64_t n, enum simdisk_fault kind);

/* Has the planned failure happened?  Was it an fsync's? */
bool simdisk_failed(const struct simdisk *sim);
bool simdisk_sync_failed(const struct simdisk *sim);

/* No power from operation n on (0: never). */
void simdisk_cut(struct simdisk *sim, uint64_t n);
bool simdisk_is_cut(const struct simdisk *sim);

/* fn(arg) is called at the moment of the cut; NULL: nothing is. */
void simdisk_on_cut(struct simdisk *sim, void (*fn)(void *arg), void *arg);

/* ---- states: snapshots of all files ---- */

/* All files as they are now, everything durable: to start each run of a loop from the same place. */
struct simdisk_state *simdisk_save(struct simdisk *sim);
void simdisk_restore(struct simdisk *sim, const struct simdisk_state *state);

/* What the disk knows at this moment: durable content and journal, what was in flight at the cut included. */
struct simdisk_state *simdisk_crash(struct simdisk *sim);

/*
 * How many pieces may or may not have reached the disk: each sector (512 bytes) of each unflushed write and fallocate,
 * each truncate.
 */
uint64_t simdisk_pieces(const struct simdisk_state *crash);

enum simdisk_lost {
	SIMDISK_LOSE_ALL,    /* only what is durable */
	SIMDISK_LOSE_NONE,   /* all arrived, what was in flight too */
	SIMDISK_LOSE_ONE,    /* all but operation number arg % operations */
	SIMDISK_KEEP_ONE,    /* none but operation number arg % operations */
	SIMDISK_LOSE_OPS,    /* random whole operations; arg: seed */
	SIMDISK_LOSE_PIECES, /* random pieces: writes are torn; arg: seed */
	SIMDISK_KILL, /* of what was in flight, random pieces; all else is there: no power cut, a kill */
};

/* How many unflushed operations there are: the range of arg for LOSE_ONE and KEEP_ONE. */
uint64_t simdisk_unflushed(const struct simdisk_state *crash);

void simdisk_make(struct simdisk *sim, const struct simdisk_state *crash, enum simdisk_lost how,
		  uint64_t arg);

/* All is written back, and the files show what the disk has: not what a failed fsync lost. */
void simdisk_drop_cache(struct simdisk *sim);

void simdisk_state_free(struct simdisk_state *state);

#endif
