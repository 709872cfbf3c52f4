// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of the metadata cache (blktap/meta.h) share.  Called downward: meta.c, meta-keep.c, meta-commit.c,
 * meta-cache.c.
 */
#ifndef DRIVERS_META_INT_H
#define DRIVERS_META_INT_H

#include <blktap/err.h>
#include <blktap/lock.h>
#include <blktap/meta.h>

#define META_MIN_UNITS 8u
#define META_PARALLEL  8u /* writes of a commit at a time */

struct meta_unit {
	uint64_t off;
	uint8_t *bytes;            /* as on disk */
	struct td_keep_unit *kept; /* of bytes; NULL: they go with the process */
	unsigned pins;             /* whoever waits for it, or writes it back: it stays */
	int error;                 /* of the load */
	bool loading, dirty, used;
	bool dead; /* no longer in the table: goes with the last pin */
	struct td_waitq waiters;
	struct meta_unit *hash_next;
	TAILQ_ENTRY(meta_unit) link;       /* clock, or the free list */
	TAILQ_ENTRY(meta_unit) dirty_link; /* while dirty */
};

TAILQ_HEAD(meta_units, meta_unit);

/* The units of one level. */
struct meta_cache {
	size_t unit;
	unsigned sectors; /* of a unit */
	unsigned limit, nr, nr_dirty;
	unsigned hash_bits;
	struct meta_unit **hash;
	struct meta_units clock, dirty, unused;
	struct meta_chunk *chunks; /* memory of the units; grows with use, given back at close */
	struct td_keep_area kept;
	uint64_t hits, misses, evictions;
};

struct td_meta {
	struct td_image *im;
	struct td_meta_config config;
	struct meta_cache cache[TD_META_LEVELS];
	struct td_keep *keep; /* NULL: what is dirty goes with the process */
	bool committing;
	STAILQ_HEAD(meta_committers, meta_committer) committers; /* wait for the next one */
	bool tidying;                                            /* a coroutine of our own commits */
	struct td_waitq tidied;
	uint64_t commits, barriers;
};

/* ---- meta-cache.c: never yields ---- */

TD_CHECK int meta_cache_init(struct meta_cache *c, size_t unit, uint64_t bytes);
void meta_cache_done(struct meta_cache *c);

struct meta_unit *meta_cache_find(const struct meta_cache *c, uint64_t off); /* may be loading; NULL */

/* Memory for one more: of a clean unit that nobody used lately, if all is taken; NULL: none is clean, too. */
struct meta_unit *meta_cache_evict(struct meta_cache *c);
struct meta_unit *meta_cache_take(struct meta_cache *c); /* whatever the bound is; NULL: no memory */

void meta_cache_insert(struct meta_cache *c, struct meta_unit *u, uint64_t off); /* it is loading then */
void meta_cache_remove(struct meta_cache *c, struct meta_unit *u);
void meta_cache_unpin(struct meta_cache *c, struct meta_unit *u);

void meta_cache_mark(struct meta_cache *c, struct meta_unit *u);
void meta_cache_remark(struct meta_cache *c, struct meta_unit *u); /* a commit failed: still changed */
void meta_cache_unmark(struct meta_cache *c, struct meta_unit *u);

/* ---- meta-commit.c ---- */

/*
 * All that was written to the child is durable.  If not, nobody knows what of it is, and no later barrier tells: then
 * nothing is written that counts on it, nor anything else, until the image is opened anew.
 */
TD_CO TD_CHECK int meta_barrier(struct td_meta *m);

/* What is dirty, in order; with a barrier behind it if one of those whom it serves wants one. */
TD_CO TD_CHECK int meta_commit(struct td_meta *m, bool barrier);

/* ---- meta-keep.c ---- */

/* What the file holds of a unit.  -EUCLEAN: it is not inside it. */
TD_CO TD_CHECK int meta_read(const struct td_meta *m, unsigned level, uint64_t off, uint8_t *ret_bytes);

/* Both copies. */
TD_CO TD_CHECK int meta_adopt(struct td_meta *m, struct td_opts *opts, struct td_err *ret_err);
void meta_keep_start(struct td_meta *m);

#endif
