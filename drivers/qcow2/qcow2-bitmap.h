// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of dirty bitmaps share.
 *
 * A bitmap's bits are loaded when somebody needs them: the first write, or a question.  From the moment at which the
 * disk says in_use of it (qcow2-bitmap.c) its bits in memory are the truth, until they are stored
 * (qcow2-bitmap-store.c).
 */
#ifndef QCOW2_BITMAP_H
#define QCOW2_BITMAP_H

#include "qcow2-int.h"

/* Of all bitmaps of an image.  What honest ones need is far below: 32 MiB for 16 TiB in steps of 64 KiB. */
#define QCOW2_BITS_LIMIT  (128u << 20)
#define QCOW2_BITMAPS_MAX 4096u /* each costs work at the first write and at the last */
#define QCOW2_BITS_CHUNK  4096u /* bytes of bits that are kept, or not, together */

/* ---- qcow2-bitmap-bits.c: bits in memory ---- */

struct qcow2_bits {
	unsigned granularity_bits;
	uint64_t nr;        /* bits */
	uint64_t nr_chunks; /* of chunk[] */
	uint8_t **chunk;    /* NULL: all clear; a mark of its own: all set */
	size_t *held;       /* bytes of all bitmaps of this image; this one's are counted there */
	size_t limit;       /* that *held shall not pass */
};

/* All clear.  -EFBIG: *held would pass the limit; -ENOMEM. */
TD_CHECK int qcow2_bits_new(uint64_t size, unsigned granularity_bits, size_t *held, size_t limit,
			    struct qcow2_bits **ret);
void qcow2_bits_free(struct qcow2_bits *b); /* NULL is fine */

/* Bytes of the disk that were written.  Never fails: where there is no memory more bits are set than have to be. */
void qcow2_bits_set(struct qcow2_bits *b, uint64_t off, uint64_t len);

/* How far has the disk from off on, below end, the same answer?  off < end. */
bool qcow2_bits_at(const struct qcow2_bits *b, uint64_t off, uint64_t end, uint64_t *ret_end);

/* Stored bits: len bytes, from byte `at` on (both multiples of 512, or up to the end).  -EFBIG, -ENOMEM. */
TD_CHECK int qcow2_bits_load(struct qcow2_bits *b, uint64_t at, const uint8_t *bytes, size_t len);
void qcow2_bits_load_ones(struct qcow2_bits *b, uint64_t at, size_t len);

/* The other way; what is behind the last bit is zero.  What all these bytes are, or neither. */
enum qcow2_bits_kind { QCOW2_BITS_ZEROS, QCOW2_BITS_ONES, QCOW2_BITS_MIXED };
enum qcow2_bits_kind qcow2_bits_store(const struct qcow2_bits *b, uint64_t at, uint8_t *ret, size_t len);

/* ---- qcow2-bitmap.c ---- */

struct qcow2_bitmap {
	uint8_t *raw;                /* its directory entry, which e points into */
	struct qcow2_bitmap_entry e; /* as on disk; of one that is not there yet, table_off is 0 */
	char *name;
	struct qcow2_bits *bits; /* NULL: not loaded */
	bool marking;            /* it is about to be, and nobody knows yet what the disk says */
	bool marked;             /* in_use on disk because of us: its bits are those here */
	bool changed;            /* to be stored, though nothing was written to the disk */
	bool gone;               /* to be left out of the next directory */
};

struct qcow2_bitmaps {
	bool named; /* the header names a directory, and says that it is right */
	bool bad;   /* it is not */
	struct qcow2_bitmaps_ext ext;
	uint32_t nr;
	struct qcow2_bitmap *at;
	size_t held;   /* bytes of bits in memory */
	uint64_t read; /* pieces of bits that were read */
	unsigned told; /* lines about what is lost */
};

/* Can it be asked? */
static inline bool qcow2_bitmap_valid(const struct qcow2_bitmap *b)
{
	return b->e.usable && (b->marked || !(b->e.flags & QCOW2_BITMAP_IN_USE));
}

struct qcow2_bitmap *qcow2_bitmap_find(const struct qcow2 *q, const char *name); /* NULL: none */

/* Its bits are in memory afterwards.  header_lock is held.  -EUCLEAN, -EFBIG, -ENOMEM, -errno of a read. */
TD_CO TD_CHECK int qcow2_bitmap_load(struct qcow2 *q, struct qcow2_bitmap *b);

/* Empty bits for it, whatever it had. */
TD_CHECK int qcow2_bitmap_bits_new(struct qcow2 *q, const struct qcow2_bitmap *b, struct qcow2_bits **ret);

/* An entry with this name; raw and name are its own. */
TD_CHECK int qcow2_bitmap_init(struct qcow2_bitmap *b, const struct qcow2_bitmap_entry *e);
void qcow2_bitmap_done(struct qcow2_bitmap *b);

/*
 * Make the disk say in_use of those that are enabled, or of all.  Their bits are in memory then, or they are lost.
 * header_lock is held, and the header is settled: the directory that it names is the one on disk.
 */
TD_CO TD_CHECK int qcow2_bitmaps_mark_locked(struct qcow2 *q, bool all);

/* Its word is broken: somebody should know. */
void qcow2_bitmap_tell_lost(const struct qcow2 *q, const struct qcow2_bitmap *b, int why);

/* The directory, of those that are not gone.  *ret is the caller's to free. */
TD_CHECK int qcow2_bitmaps_encode(const struct qcow2 *q, uint8_t **ret, struct qcow2_bitmaps_ext *ret_ext);

#endif
