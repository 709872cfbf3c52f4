// SPDX-License-Identifier: BSD-2-Clause
/*
 * Memory of a format driver that outlives its process: a file in the run-time directory, mapped shared.
 *
 * A driver that answers a write before all of its metadata is in the image keeps what is still to be written here.  If
 * the process is killed, the next one that opens the image finds the file, verifies it against the image, and writes
 * what is missing.  An orderly close removes it.  It costs no system call and no disk write: the kernel keeps the pages
 * of a mapped file whatever becomes of the process.  It does not outlive the machine, and must not: what was answered
 * without a flush is not promised then, and its data may be gone.
 *
 *	| head: whose file it is | areas: one a kind of metadata, each | units' states ... | units' bytes ... |
 *
 * A unit is a piece of metadata as it is to be on disk (512 to 4096 bytes).  Its state says whether it is dirty, that
 * is not surely on disk, and what the disk holds instead: a sum for each sector of what was last read or written, and
 * one of what is being written.  So whoever adopts the file knows an image that somebody else has changed since.
 *
 * A kill may come between any two instructions, so stores are made in this order: a unit is marked before it is
 * changed, sums are there before the state that speaks of them, and a state is one word.
 */
#ifndef BLKTAP_KEEP_H
#define BLKTAP_KEEP_H

#include <blktap/image.h>

#define TD_KEEP_SECTOR 512u
#define TD_KEEP_KINDS  4u

/* Bits of a unit's state.  0: it holds nothing. */
#define TD_KEEP_DIRTY   0x01u
#define TD_KEEP_KNOWN   0x02u /* the sums of the disk's version are there */
#define TD_KEEP_SECOND  0x04u /* ... in the second set */
#define TD_KEEP_WRITING 0x08u /* and the other set has the sums of what is being written over it */
#define TD_KEEP_UNSURE  0x10u /* a write of it failed: the disk may hold anything of it */

struct td_keep_unit {
	uint64_t off; /* in the image's file */
	uint32_t state;
	uint32_t sum[]; /* two sets, one a sector */
};

struct td_keep;

/* An array of units; `keep` NULL: there is none, and nothing is kept. */
struct td_keep_area {
	struct td_keep *keep;
	unsigned kind, sectors; /* of a unit */
	size_t unit, stride;    /* bytes of a unit, and of its state */
	uint64_t nr, used;
	uint8_t *states, *bytes;
};

/* ---- the file of an image that is open for writing ---- */

/* Ask the system now for what is needed of it later: a process in a sandbox is not told any more. */
void td_keep_prepare(void);

/* Whose file it is; both processes have to say the same. */
struct td_keep_tag {
	uint32_t word[2];
};

/*
 * Make it, empty.  *ret NULL without an error: there is no place for it, or no file below the image.
 * -errno: it cannot be made (no space ...); env->notice was told.
 */
TD_CHECK int td_keep_new(struct td_image *im, const struct td_keep_tag *tag, struct td_keep **ret);

/* Unmap.  remove: all is on disk; else the file stays, for who opens the image next.  NULL is fine. */
void td_keep_free(struct td_keep *k, bool remove);

/*
 * From here on nothing is promised any more: the file goes, the memory stays.  why: -errno, which env->notice is told
 * of; 0: it is known already.  NULL is fine.
 */
void td_keep_give_up(struct td_keep *k, int why);

bool td_keep_holds(const struct td_keep *k); /* a kill loses nothing.  NULL: no */

/* Room for nr units of this kind; takes the place of the area that the kind had. */
TD_CHECK int td_keep_area_new(struct td_keep *k, unsigned kind, size_t unit, uint64_t nr,
			      struct td_keep_area *ret);
void td_keep_area_free(struct td_keep_area *a);

/* nr more units, all zero: number *ret and those after it.  -ENOSPC. */
TD_CHECK int td_keep_take(struct td_keep_area *a, uint64_t nr, uint64_t *ret);

/* State and sums of unit i (< nr) of the area. */
static inline struct td_keep_unit *td_keep_unit(const struct td_keep_area *a, uint64_t i)
{
	return (struct td_keep_unit *)(void *)(a->states + i * a->stride);
}

/* ---- a unit's life; NULL is fine everywhere ---- */

/* One store, which the compiler moves across no other: a kill finds the state before it or after it. */
static inline void td_keep_state(struct td_keep_unit *u, uint32_t state)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&u->state, state, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Its memory is for something else now. */
static inline void td_keep_drop(struct td_keep_unit *u)
{
	if (u)
		td_keep_state(u, 0);
}

/* td_keep_mark(), below, of one that is not marked yet. */
void td_keep_mark_slow(struct td_keep_unit *u, uint64_t off, const void *bytes, unsigned sectors);

/* It is going to be changed; bytes: as they are on disk, unless it is marked already. */
static inline void td_keep_mark(struct td_keep_unit *u, uint64_t off, const void *bytes, unsigned sectors)
{
	if (u && !(u->state & TD_KEEP_DIRTY))
		td_keep_mark_slow(u, off, bytes, sectors);
}

/* These bytes are going to be written; changed: a bit for each sector that may not be as on disk. */
void td_keep_writing(struct td_keep_unit *u, const uint8_t *bytes, unsigned sectors, uint32_t changed);

/* They were (or that failed); dirty: changed again meanwhile. */
void td_keep_written(struct td_keep_unit *u, bool ok, bool dirty);

/* A sum of one sector: to tell versions apart, not to withstand somebody who wants to be mistaken. */
uint32_t td_keep_sum(const void *sector);

/* ---- what a killed process left ---- */

struct td_keep_old;

/*
 * Look for it.  *ret NULL: there is none, or it is of no use any more (the machine was started anew since, or another
 * file has the image's place) and was removed.  Errors, with the sentence: it is not what a process of ours left for
 * this image (-EUCLEAN), it is in use (-EBUSY), it cannot be read.
 */
TD_CHECK int td_keep_find(struct td_image *im, const struct td_keep_tag *tag, struct td_keep_old **ret,
			  struct td_err *ret_err);

/* Let go of it.  remove: it is done with.  NULL is fine. */
void td_keep_old_free(struct td_keep_old *o, bool remove);

/* The data that it names may be lost: whoever finds it next is told that it is no good. */
void td_keep_old_spoil(const struct td_keep_old *o);

/* Of the file, for messages; as long as o. */
const char *td_keep_old_path(const struct td_keep_old *o);

/* For whoever looks at files of unknown images. */
#define TD_KEEP_IMAGE_MAX 1024

struct td_keep_about {
	char image[TD_KEEP_IMAGE_MAX]; /* where the image was */
	int pid;                       /* of the process that was killed */
	bool useless;                  /* nobody can adopt it any more */
};

/*
 * What is in this file?  It stays locked until *ret_fd is closed.  -EBUSY: a process has it; -EUCLEAN: not one of ours.
 */
TD_CHECK int td_keep_look(const char *file, struct td_keep_about *ret, int *ret_fd);

/* How many units a kind has, and their size in bytes. */
uint64_t td_keep_old_nr(const struct td_keep_old *o, unsigned kind);
size_t td_keep_old_unit_size(const struct td_keep_old *o, unsigned kind);
const struct td_keep_unit *td_keep_old_unit(const struct td_keep_old *o, unsigned kind, uint64_t i);
TD_CHECK int td_keep_old_bytes(const struct td_keep_old *o, unsigned kind, uint64_t i, void *ret_bytes);

/*
 * Does the image have there what it should?  Each sector of `have` is what the other process last read or wrote, what
 * it was just writing, or what it is to become (want).
 */
bool td_keep_old_fits(const struct td_keep_unit *u, unsigned sectors, const uint8_t *have,
		      const uint8_t *want);

/* Is it what the other process last read or wrote there, to the byte?  Nobody has begun to write it anew then. */
bool td_keep_old_untouched(const struct td_keep_unit *u, unsigned sectors, const uint8_t *have);

/*
 * The sentence of a failure to adopt it, returned as r: -ESTALE: the image was changed since; -EUCLEAN: the file is no
 * good; -EBUSY: it holds something, and we only read.
 */
int td_keep_old_error(const struct td_keep_old *o, int r, struct td_err *ret_err);

/* Remove the file of this image, whatever it holds, unless a process has it. */
TD_CHECK int td_keep_forget(struct td_image *im, struct td_err *ret_err);

#endif
