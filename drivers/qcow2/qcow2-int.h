// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of the qcow2 driver share.  Nothing outside this folder includes it (tests may).
 *
 * Names: guest_off is a byte of the virtual disk, host_off a byte of the child image; "cluster" alone is a number of
 * a host cluster (host_off / cluster size).  "May yield" is said where it is so; everything else runs to its end
 * without another coroutine in between, which is what the order on disk rests on (qcow2-commit.c).
 *
 * Locks, in the order in which they are taken:
 *	shape_lock   what is done to the image as a whole: resize, snapshot, amend.
 *	ranges       bytes of the guest.  Shared: reads, and writes into clusters that we own.  Exclusive, on whole
 *	             clusters: whatever changes the mapping.
 *	alloc_lock   refcounts, the refcount table, the L1 table, the end of the file.
 *	commit       one at a time (qcow2_commit).  Takes neither of those above.
 *	header_lock  the header sector.
 */
#ifndef QCOW2_INT_H
#define QCOW2_INT_H

#include <blktap/crypt.h>
#include <blktap/err.h>
#include <blktap/image.h>
#include <blktap/iov.h>
#include <blktap/keep.h>
#include <blktap/lock.h>
#include <blktap/opts.h>
#include <blktap/qcow2.h>

#include "qcow2-entry.h"

#define QCOW2_SECTOR                 512u
#define QCOW2_SLICE_MAX              4096u
#define QCOW2_CACHE_MIN_SLICES       8u
#define QCOW2_L2_CACHE_DEFAULT       (2ull << 20)
#define QCOW2_REFCOUNT_CACHE_DEFAULT (256ull << 10)
#define QCOW2_PARALLEL               8u /* child requests of one guest request, or of one step of a commit, at a time */
#define QCOW2_FREES_MAX              4096u /* pending runs that ask for a commit */

struct qcow2;

/* ---- qcow2-cache.c: slices of L2 tables and refcount blocks ---- */

struct qcow2_slice {
	uint64_t host_off;
	uint8_t *data;             /* as on disk, big-endian */
	struct td_keep_unit *kept; /* of data; NULL: it goes with the process */
	uint8_t changed;           /* a bit for each sector: since the last commit */
	unsigned pins;             /* whoever waits for it, or writes it back: it stays */
	int error;                 /* of the load */
	bool loading, dirty, used;
	bool dead; /* no longer in the table: goes with the last pin */
	struct td_waitq waiters;
	struct qcow2_slice *hash_next;
	TAILQ_ENTRY(qcow2_slice) link;       /* clock, or the free list */
	TAILQ_ENTRY(qcow2_slice) dirty_link; /* while dirty */
};

TAILQ_HEAD(qcow2_slice_list, qcow2_slice);

/* How dirty slices become clean: qcow2_commit. */
typedef int qcow2_clean_fn(struct qcow2 *q, unsigned flags);

struct qcow2_cache {
	struct qcow2 *q;
	qcow2_clean_fn *clean;
	unsigned clean_flags;
	size_t slice_size; /* 1 << slice_bits */
	unsigned slice_bits;
	unsigned limit, nr, nr_dirty;
	unsigned hash_bits;
	struct qcow2_slice **hash;
	struct qcow2_slice_list clock, dirty, unused;
	void *chunks; /* memory of the slices; grows with use, given back at close */
	struct td_keep_area kept;
	uint64_t hits, misses, evictions;
};

TD_CHECK int qcow2_cache_init(struct qcow2_cache *c, struct qcow2 *q, uint64_t bytes, qcow2_clean_fn *clean,
			      unsigned clean_flags);
void qcow2_cache_done(struct qcow2_cache *c);
void qcow2_cache_empty(struct qcow2_cache *c); /* clean, and nobody waits for a slice: as new */

/*
 * The slice at host_off (a multiple of the slice size).  May yield.  The pointer is good until the caller yields.
 * -EUCLEAN: past the end of the file.  Anything else: of the read, or of a commit that was to make room.
 */
TD_CO TD_CHECK int qcow2_cache_get(struct qcow2_cache *c, uint64_t host_off, struct qcow2_slice **ret);

/* The same without yielding; NULL: not here. */
struct qcow2_slice *qcow2_cache_peek(struct qcow2_cache *c, uint64_t host_off);

/* Bytes off to off + len of it are going to be changed, before any yield. */
void qcow2_cache_mark(struct qcow2_cache *c, struct qcow2_slice *s, size_t off, size_t len);
void qcow2_cache_remark(struct qcow2_cache *c, struct qcow2_slice *s); /* a commit failed: still changed */
void qcow2_cache_unmark(struct qcow2_cache *c, struct qcow2_slice *s);
void qcow2_cache_unpin(struct qcow2_cache *c, struct qcow2_slice *s);

/* The cluster at host_off changes its meaning: no slice of it may be found again. */
void qcow2_cache_forget(struct qcow2_cache *c, uint64_t host_off, uint64_t len);

/* ---- qcow2-table.c: the two tables that are wholly in memory ---- */

struct qcow2_table {
	uint64_t host_off;
	size_t nr;      /* entries */
	size_t bytes;   /* of raw: nr * 8, rounded up to sectors */
	uint8_t *raw;   /* as on disk */
	uint8_t *dirty; /* one a sector */
	size_t nr_dirty;
	struct td_keep_area kept; /* a unit each sector; raw is its memory then */
};

TD_CO TD_CHECK int qcow2_table_load(struct qcow2 *q, uint64_t host_off, uint64_t nr, struct qcow2_table *ret);

/* The same, with zeros where the file has ended (*ret_cut: it has). */
TD_CO TD_CHECK int qcow2_table_load_some(struct qcow2 *q, uint64_t host_off, uint64_t nr,
					 struct qcow2_table *ret, bool *ret_cut);
TD_CHECK int qcow2_table_new(uint64_t nr, struct qcow2_table *ret); /* all zero, nowhere on disk */
void qcow2_table_done(struct qcow2_table *t);
uint64_t qcow2_table_get(const struct qcow2_table *t, uint64_t idx);
void qcow2_table_set(struct qcow2_table *t, uint64_t idx, uint64_t raw);

/* From now on what is changed in t is kept; nothing is yet. */
TD_CHECK int qcow2_table_keep(struct qcow2_table *t, struct td_keep *keep, unsigned kind);

/* ---- qcow2-overlap.c: where metadata is ---- */

/* A set of cluster numbers. */
struct qcow2_set {
	uint64_t *slot; /* cluster + 1; 0: empty */
	size_t nr_slots, nr;
};

void qcow2_set_done(struct qcow2_set *s);
TD_CHECK int qcow2_set_add(struct qcow2_set *s, uint64_t cluster); /* 1: new, 0: was there; -ENOMEM */
void qcow2_set_del(struct qcow2_set *s, uint64_t cluster);
bool qcow2_set_has(const struct qcow2_set *s, uint64_t cluster);

TD_CO TD_CHECK int qcow2_overlap_open(struct qcow2 *q, struct td_err *ret_err);

/* All that is known of, but for the L2 tables and the snapshots' L1 tables.  *ret is the caller's. */
TD_CHECK int qcow2_overlap_fixed(struct qcow2 *q, struct qcow2_set *ret);
TD_CHECK int qcow2_overlap_add(struct qcow2 *q, uint64_t host_off, uint64_t len); /* 0, -ENOMEM */
void qcow2_overlap_del(struct qcow2 *q, uint64_t host_off, uint64_t len);

/* Does this cluster hold metadata? */
bool qcow2_overlap_has(const struct qcow2 *q, uint64_t cluster);

/* May guest data lie there?  It starts inside the file and touches no metadata. */
bool qcow2_overlap_data_ok(const struct qcow2 *q, uint64_t host_off, uint64_t len);

/* ---- qcow2-frees.c: clusters whose last pointer is dropped in memory, not yet on disk ---- */

struct qcow2_free_run {
	uint64_t cluster, nr; /* one reference less for each */
};

struct qcow2_free_chunk {
	STAILQ_ENTRY(qcow2_free_chunk) link;
	unsigned nr;
	struct qcow2_free_run run[62];
};

struct qcow2_frees {
	STAILQ_HEAD(qcow2_free_chunks, qcow2_free_chunk) chunks;
	size_t nr;    /* runs */
	size_t spare; /* runs that can be added without memory */
};

void qcow2_frees_init(struct qcow2_frees *f);
void qcow2_frees_done(struct qcow2_frees *f);
TD_CHECK int qcow2_frees_reserve(struct qcow2_frees *f, size_t nr);
void qcow2_frees_add(struct qcow2_frees *f, uint64_t cluster, uint64_t nr); /* within what was reserved */
void qcow2_frees_add_entry(struct qcow2_frees *f, const struct qcow2_geom *g,
			   const struct qcow2_l2e *e); /* DATA, ZERO_ALLOC or PACKED: what it points at */
void qcow2_frees_join(struct qcow2_frees *to, struct qcow2_frees *from); /* from is empty afterwards */

/* ---- the driver's state ---- */

struct qcow2_snap {
	uint64_t l1_off;
	uint32_t l1_size;
};

/* The coroutine of an image that may be written (qcow2-reap.c): commits and reaps when asked. */
struct qcow2_keeper {
	bool runs, asked, busy, ends;
	struct td_waitq asleep, idle; /* it; who waits for it */
};

/* Clusters first..last. */
struct qcow2_area {
	uint64_t first, last;
};

struct qcow2_bitmaps;
struct qcow2_committer;
struct qcow2_packed;
struct qcow2_packer;

struct qcow2 {
	struct td_image *im;
	struct td_image *child;
	struct qcow2_header h;
	struct qcow2_geom g;

	struct td_mutex header_lock;
	uint8_t sector0[QCOW2_SECTOR]; /* of the file, as last read or written */
	bool header_unsure; /* a write of it failed: the disk may hold either; settled before any other */
	bool autoclear_done, dirty_marked;
	bool lazy;   /* refcounts need not be on disk before what they count */
	bool l1_cut; /* for check: the file ends inside the L1 table */
	bool past;   /* the disk as a snapshot has it: read-only */
	bool sealed; /* for check: its data is in another file, and cannot be read */

	struct td_image *data; /* where guest clusters are: child, or (g.data_file) a part */
	char *data_name;       /* of that file, as the image has it */
	bool data_raw;         /* and it is the disk, byte for byte */

	struct td_crypt *crypt; /* NULL: not encrypted, or opened without a key, so that data is -ENOKEY */
	bool has_luks;
	struct luks_header luks;
	uint64_t key_rounds; /* that trying a pass phrase may cost; 0: by default */

	struct qcow2_table l1, reftable;
	struct qcow2_cache l2, refs;
	bool l2_depends; /* a dirty L2 entry points at a cluster whose data no barrier has covered yet */

	struct qcow2_set meta;
	uint32_t nr_snaps;
	struct qcow2_snap *snaps;
	struct qcow2_area *snap_areas; /* their L1 tables, in order */
	uint32_t nr_snap_areas;
	uint64_t snap_table_len;

	struct td_mutex shape_lock;
	struct td_ranges ranges;
	struct td_mutex alloc_lock;
	uint64_t scan;   /* cluster: no free one is known below */
	uint64_t end;    /* cluster: none at or above was ever handed out */
	bool fixed_size; /* the child cannot be made longer (a block device) */
	bool grown;      /* the child is longer than `end`: cut at close */

	struct qcow2_frees pending; /* go with the next commit */
	struct qcow2_frees ready;   /* dropped on disk: may be counted down */
	bool reaping;
	struct td_waitq reaped;

	bool committing;
	STAILQ_HEAD(qcow2_committers, qcow2_committer) committers; /* wait for the next one */
	struct qcow2_keeper keeper;

	struct qcow2_packed *packed; /* streams that were read */
	struct qcow2_packer *packer; /* ... that are written */
	uint64_t pack_at;            /* host byte: the next stream goes there; 0: into a cluster of its own */

	struct qcow2_bitmaps *bitmaps;

	struct td_keep *keep;    /* NULL: what is dirty goes with the process */
	struct td_keep_old *old; /* while opening: what a killed process left */
};

/* Let the keeper commit soon; errors stay for whoever commits next.  It runs when the caller yields, not before. */
static inline void qcow2_commit_soon(struct qcow2 *q)
{
	q->keeper.asked = true;
	td_waitq_wake_one(&q->keeper.asleep);
}

static inline uint64_t qcow2_cluster_size(const struct qcow2 *q)
{
	return q->g.cluster_size;
}

static inline uint64_t qcow2_cluster_start(const struct qcow2 *q, uint64_t off)
{
	return off & ~(q->g.cluster_size - 1);
}

/* What an L2 entry says something of; a cluster, but for extended ones. */
static inline uint64_t qcow2_sub_size(const struct qcow2 *q)
{
	return 1ull << q->g.sub_bits;
}

static inline uint64_t qcow2_in_cluster(const struct qcow2 *q, uint64_t off)
{
	return off & (q->g.cluster_size - 1);
}

/* No more streams into any of these clusters: they are about to be free. */
static inline void qcow2_pack_elsewhere(struct qcow2 *q, uint64_t cluster, uint64_t nr)
{
	if ((q->pack_at >> q->g.cluster_bits) - cluster < nr)
		q->pack_at = 0;
}

/* An entry of a table, in one store: a kill never leaves half of one. */
static inline void qcow2_put_entry(uint8_t *raw, uint64_t value)
{
	__atomic_store_n((uint64_t *)(void *)raw, htobe64(value), __ATOMIC_RELAXED);
}

/* ---- qcow2-header.c ---- */

TD_CO TD_CHECK int qcow2_header_load(struct qcow2 *q, struct td_err *ret_err);

/* The autoclear bits of an image that we write. */
static inline uint64_t qcow2_autoclear(const struct qcow2 *q, bool bitmaps)
{
	return (bitmaps ? QCOW2_AUTOCLEAR_BITMAPS : 0) | (q->data_raw ? QCOW2_AUTOCLEAR_RAW_EXT : 0);
}

/* Before the first write of any kind: clears other autoclear bits, marks dirty bitmaps.  May yield. */
TD_CO TD_CHECK int qcow2_begin_write_slow(struct qcow2 *q);

/* ---- qcow2-bitmap.c, qcow2-bitmap-store.c, qcow2-bitmap-op.c: dirty bitmaps ---- */

TD_CHECK int qcow2_bitmaps_init(struct qcow2 *q);
void qcow2_bitmaps_done(struct qcow2 *q);

/* While the header is read: this is their extension. */
void qcow2_bitmaps_found(struct qcow2 *q, const struct qcow2_ext *e);

/* Which there are.  A directory that is damaged has none. */
TD_CO TD_CHECK int qcow2_bitmaps_open(struct qcow2 *q, struct td_err *ret_err);

/* Before the first write: the disk says that they are in use.  header_lock is held; *ret_keep: their bit stays. */
TD_CO TD_CHECK int qcow2_bitmaps_begin_locked(struct qcow2 *q, bool *ret_keep);

/* These bytes of the disk are going to change. */
void qcow2_bitmaps_set(struct qcow2 *q, uint64_t guest_off, uint64_t len);

/* Before any change of the disk's size, which may fail; and the change, which may be back again. */
TD_CO TD_CHECK int qcow2_bitmaps_resize_begin(struct qcow2 *q);
void qcow2_bitmaps_resize(struct qcow2 *q, uint64_t old, uint64_t size);

/* Is there anything to be stored?  All that was written to the disk is committed first, and no write runs. */
bool qcow2_bitmaps_to_store(const struct qcow2 *q);
TD_CO TD_CHECK int qcow2_bitmaps_store(struct qcow2 *q);

TD_CO TD_CHECK int qcow2_bitmap_op(struct td_image *im, const struct td_bitmap_op *op,
				   struct td_err *ret_err);
TD_CHECK int qcow2_bitmap_list(const struct td_image *im, struct td_bitmap_list *ret);
TD_CO TD_CHECK int qcow2_bitmap_extent(struct td_image *im, const char *name, uint64_t guest_off,
				       uint64_t len, bool *ret_dirty, uint64_t *ret_len);

/*
 * Before every change of the disk: these bytes are going to be others (len 0: no byte changes, but something else of
 * the image does).  May yield the first time.
 */
static inline int qcow2_begin_write(struct qcow2 *q, uint64_t guest_off, uint64_t len)
{
	int r = q->autoclear_done ? 0 : qcow2_begin_write_slow(q);

	if (r == 0 && len > 0)
		qcow2_bitmaps_set(q, guest_off, len);
	return r;
}

/* Before the first change of metadata: sets the dirty bit where refcounts are lazy.  May yield. */
TD_CO TD_CHECK int qcow2_begin_alloc(struct qcow2 *q);

/*
 * Change the header, as it is then: other changes may be under way.  Barrier, one sector, barrier.  -errno: q->h stays,
 * and so it will be on disk.
 */
typedef void qcow2_header_fn(struct qcow2_header *h, const void *arg);
TD_CO TD_CHECK int qcow2_header_switch(struct qcow2 *q, qcow2_header_fn *change, const void *arg);

/* The same with header_lock held, and with another first sector to put the header into. */
TD_CO TD_CHECK int qcow2_header_replace_locked(struct qcow2 *q, const uint8_t sector[QCOW2_SECTOR],
					       const struct qcow2_header *h);
void qcow2_header_clean(struct qcow2_header *h, const void *arg);  /* a change: the dirty bit goes */
void qcow2_header_mended(struct qcow2_header *h, const void *arg); /* the corrupt bit too */

/* After a failed switch: the old header again.  Nothing else may be written before this succeeded. */
TD_CO TD_CHECK int qcow2_header_settle(struct qcow2 *q);

/* The image breaks its format: corrupt bit, freeze.  Always -EUCLEAN.  May yield. */
TD_CO TD_CHECK int qcow2_corrupt(struct qcow2 *q);

/* ---- qcow2-map.c ---- */

/*
 * Where are the bytes from guest_off on?  Stays inside one L2 slice.  May yield.  The caller holds the range.
 * 0; -EUCLEAN (the image is frozen then) if an entry breaks the format or points into metadata or past the file's
 * end; -errno of the read of a table.
 */
TD_CO TD_CHECK int qcow2_map(struct qcow2 *q, uint64_t guest_off, uint64_t len, struct qcow2_extent *ret);

/* The same, going on over slices while the answer continues. */
TD_CO TD_CHECK int qcow2_map_far(struct qcow2 *q, uint64_t guest_off, uint64_t len, struct qcow2_extent *ret);

/* Is all of it in clusters of ours, as far as is known without reading? */
bool qcow2_map_in_place_hint(struct qcow2 *q, uint64_t guest_off);

/* Is it a stream, as far as is known without reading?  The caller holds the range.  Nothing is said of a bad entry. */
bool qcow2_map_packed_hint(struct qcow2 *q, uint64_t guest_off, struct qcow2_extent *ret);

/* Make sure there is an L2 table for guest_off and that it is ours alone.  May yield. */
TD_CO TD_CHECK int qcow2_l2_own(struct qcow2 *q, uint64_t guest_off);

/* Is there one (shared or not)? */
TD_CHECK int qcow2_l2_present(struct qcow2 *q, uint64_t guest_off, bool *ret);

/* Guest bytes from guest_off to the end of its L2 slice, and of its L2 table. */
uint64_t qcow2_to_slice_end(const struct qcow2 *q, uint64_t guest_off);
uint64_t qcow2_to_table_end(const struct qcow2 *q, uint64_t guest_off);

/*
 * Point the clusters (subclusters, where entries are extended) that these bytes are in, all in one L2 slice of a table
 * that is ours, at something else, and put what nothing points at any more among the pending frees: all of it or
 * nothing.  May yield before, not within.
 *	DATA     host_off, where the first byte is, and what follows it; the data is written and the refcounts counted
 *	ZERO     nothing is kept
 *	HOLE     nothing is kept
 *	ZERO_ALLOC  what is there and ours is kept; the others become ZERO
 */
TD_CO TD_CHECK int qcow2_l2_link(struct qcow2 *q, uint64_t guest_off, uint64_t len, enum qcow2_kind kind,
				 uint64_t host_off);

/* The same for one cluster and a stream of len bytes, written and counted. */
TD_CO TD_CHECK int qcow2_l2_link_packed(struct qcow2 *q, uint64_t guest_off, uint64_t host_off, uint64_t len);

/* ---- qcow2-file.c ---- */

/*
 * All that was written to the child is durable.  If not, nobody knows what of it is, and no later barrier tells: then
 * nothing is written that counts on it, nor anything else, until the image is opened anew (README.md).
 */
TD_CO TD_CHECK int qcow2_barrier(struct qcow2 *q);

/* The rest with alloc_lock held. */

/*
 * Make the child long enough for clusters below `end`.  -ENOSPC: it cannot grow.  What is added at or above q->end
 * reads as zeros until it is written.
 */
TD_CO TD_CHECK int qcow2_grow_file(struct qcow2 *q, uint64_t end);

/* Clusters below `end` have been handed out: nothing there is fresh any more. */
void qcow2_end_at(struct qcow2 *q, uint64_t end);

/* ---- qcow2-refs.c: all with alloc_lock held ---- */

/* The slice with the refcount of cluster; *ret_idx is its number inside.  *ret NULL: no block, the count is 0. */
TD_CO TD_CHECK int qcow2_refs_slice(struct qcow2 *q, uint64_t cluster, struct qcow2_slice **ret,
				    uint64_t *ret_idx);
TD_CO TD_CHECK int qcow2_refs_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret);
TD_CO TD_CHECK int qcow2_refs_set(struct qcow2 *q, uint64_t cluster, uint64_t value);
TD_CO TD_CHECK int qcow2_refs_drop(struct qcow2 *q, uint64_t cluster);

bool qcow2_refs_has_block(const struct qcow2 *q, uint64_t cluster);
uint64_t qcow2_refs_per_slice(const struct qcow2 *q);

/* nr counts from number idx on of a slice are going to be changed. */
void qcow2_refs_mark(struct qcow2 *q, struct qcow2_slice *s, uint64_t idx, uint64_t nr);

/*
 * Make a refcount block for `region`, in the free cluster `at`, which lies in that region or in one that has a block.
 * Where the refcount table is too short for the region it is replaced first, and the block may lie elsewhere or still
 * be missing: ask again.
 */
TD_CO TD_CHECK int qcow2_refs_add_block(struct qcow2 *q, uint64_t region, uint64_t at);

/* ---- qcow2-alloc.c ---- */

struct qcow2_run {
	uint64_t host_off;
	uint64_t nr; /* clusters */
	bool fresh;  /* reads as zeros, now and after a crash, without being written */
};

/*
 * Between 1 and want adjacent clusters, counted once each.  May yield.  -ENOSPC, -EFBIG, -errno.
 * _locked: with alloc_lock held.
 */
TD_CO TD_CHECK int qcow2_alloc(struct qcow2 *q, uint64_t want, struct qcow2_run *ret);
TD_CO TD_CHECK int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, struct qcow2_run *ret);

/* Exactly nr adjacent ones, at the end of the file (a table). */
TD_CO TD_CHECK int qcow2_alloc_area_locked(struct qcow2 *q, uint64_t nr, struct qcow2_run *ret);

/* Nothing points at them, on disk or in memory, and nothing ever did: free at once.  May yield.  Failing: a leak. */
TD_CO void qcow2_alloc_undo(struct qcow2 *q, const struct qcow2_run *run);
TD_CO void qcow2_alloc_undo_locked(struct qcow2 *q, const struct qcow2_run *run);

/* ---- qcow2-commit.c ---- */

#define QCOW2_COMMIT_BARRIER 0x01u /* all that was done before is on stable storage afterwards */
#define QCOW2_COMMIT_REFS    0x02u /* refcounts too, even where they are lazy */

TD_CO TD_CHECK int qcow2_commit(struct qcow2 *q, unsigned flags);

/* Is there anything for such a commit to write? */
bool qcow2_commit_wanted(const struct qcow2 *q, unsigned flags);

/* ---- qcow2-reap.c ---- */

/* Give back what is ready: punch, then count down.  May yield. */
TD_CO TD_CHECK int qcow2_frees_reap(struct qcow2 *q);

/*
 * There is no space: bring what was dropped to the disk and give it back, now.  False: there was nothing, or it failed.
 * Without a range or alloc_lock held.
 */
TD_CO bool qcow2_reclaim(struct qcow2 *q);

TD_CHECK int qcow2_keeper_start(struct qcow2 *q);
TD_CO void qcow2_keeper_wait(struct qcow2 *q); /* until it has done what it was asked */
TD_CO void qcow2_keeper_end(struct qcow2 *q);  /* not started: nothing happens */

/* ---- qcow2-crypt.c ---- */

/* The header is read.  Without a key, where only facts and tables are wanted, the data stays closed. */
TD_CO TD_CHECK int qcow2_crypt_open(struct qcow2 *q, struct td_opts *opts, struct td_err *ret_err);
void qcow2_crypt_done(struct qcow2 *q);
TD_CHECK int qcow2_crypt_facts(const struct qcow2 *q, struct td_opts *ret);

TD_CO TD_CHECK int qcow2_data_read_crypt(struct qcow2 *q, uint64_t guest_off, uint64_t host_off,
					 const struct td_iov *iov);
TD_CO TD_CHECK int qcow2_data_write_crypt(struct qcow2 *q, uint64_t guest_off, uint64_t host_off,
					  const struct td_iov *iov);

/* The guest's bytes at host_off: all reads and writes of what is in clusters go through these two. */
static inline int qcow2_data_read(struct qcow2 *q, uint64_t guest_off, uint64_t host_off,
				  const struct td_iov *iov)
{
	return q->h.crypt ? qcow2_data_read_crypt(q, guest_off, host_off, iov)
			  : td_image_preadv(q->data, host_off, iov, 0);
}

/* Encrypted: sectors at its ends that it does not cover are the caller's alone. */
static inline int qcow2_data_write(struct qcow2 *q, uint64_t guest_off, uint64_t host_off,
				   const struct td_iov *iov)
{
	return q->h.crypt ? qcow2_data_write_crypt(q, guest_off, host_off, iov)
			  : td_image_pwritev(q->data, host_off, iov, 0);
}

/* ---- qcow2-read.c ---- */

TD_CO TD_CHECK int qcow2_preadv(struct td_image *im, uint64_t guest_off, const struct td_iov *iov,
				unsigned flags);
TD_CO TD_CHECK int qcow2_extent_at(struct td_image *im, uint64_t guest_off, uint64_t len,
				   struct td_extent *ret);

/* Read through a mapping that the caller made (for copy-on-write too).  The caller holds the range. */
TD_CO TD_CHECK int qcow2_read_extent(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e,
				     const struct td_iov *iov);

/* Does this mapping read as zeros?  May ask the chain.  *ret false if it is not known. */
TD_CO TD_CHECK int qcow2_reads_zero(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e,
				    bool *ret);

/* ---- qcow2-packed.c ---- */

TD_CO TD_CHECK int qcow2_packed_read(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e,
				     const struct td_iov *iov);

/* Until nothing is read ahead any more.  Nobody reads meanwhile. */
TD_CO void qcow2_packed_quiet(struct qcow2 *q);
void qcow2_packed_done(struct qcow2 *q);
void qcow2_packed_counters(const struct qcow2 *q, struct td_counters *ret);

/* Something else is going to be written there. */
void qcow2_packed_forget(struct qcow2 *q, uint64_t host_off, uint64_t len);

/* ---- qcow2-pack.c ---- */

/* For TD_COMPRESS (image.h). */
TD_CO TD_CHECK int qcow2_pack_pwritev(struct td_image *im, uint64_t guest_off, const struct td_iov *iov,
				      unsigned flags);
void qcow2_pack_done(struct qcow2 *q);

/* ---- qcow2-write.c ---- */

TD_CO TD_CHECK int qcow2_pwritev(struct td_image *im, uint64_t guest_off, const struct td_iov *iov,
				 unsigned flags);

/* ---- qcow2-discard.c ---- */

TD_CO TD_CHECK int qcow2_zero(struct td_image *im, uint64_t guest_off, uint64_t len, unsigned flags);
TD_CO TD_CHECK int qcow2_trim(struct td_image *im, uint64_t guest_off, uint64_t len);

/* ---- qcow2-extensions.c ---- */

/* What is to stand behind the header beside what is not ours. */
struct qcow2_extensions {
	uint32_t version;          /* of the header before them; 0: as it is */
	bool keep_backing;         /* the backing file stays; else: */
	const char *path, *format; /* NULL: none; it is not said */
	const struct qcow2_bitmaps_ext
		*bitmaps; /* NULL: as it is; nr 0: none.  With it, the bit that says it is right */
};

/* At any instant the disk has the old ones or the new ones.  -ENOSPC: they do not fit. */
TD_CO TD_CHECK int qcow2_extensions_change(struct qcow2 *q, const struct qcow2_extensions *want);

/* ---- qcow2-backing.c, qcow2-empty.c ---- */

TD_CO TD_CHECK int qcow2_set_backing(struct td_image *im, const char *path, const char *format,
				     struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_empty(struct td_image *im, struct td_err *ret_err);

/* The same for the L1 entries from `first` on; their part of the disk is held exclusively.  Durable afterwards. */
TD_CO TD_CHECK int qcow2_empty_from(struct qcow2 *q, uint64_t first);

/* ---- qcow2-keep.c ---- */

enum { QCOW2_KEEP_REFS, QCOW2_KEEP_REFTABLE, QCOW2_KEEP_L2, QCOW2_KEEP_L1 };

struct td_keep_tag qcow2_keep_tag(const struct qcow2 *q);

/* Once all is on disk that another process left: keep what is dirty from here on.  Where there is no place: nothing. */
void qcow2_keep_start(struct qcow2 *q);

/* The table has moved, and is on disk. */
void qcow2_keep_table(struct qcow2 *q, struct qcow2_table *t, unsigned kind);

/* ---- qcow2-adopt.c: while opening ---- */

/*
 * Look for what a killed process left, compare it with the image, and put its L1 and refcount table into ours; then,
 * when those were checked, write it all.  -ESTALE: the image was changed since; -EBUSY: it is there, and we only read.
 */
TD_CO TD_CHECK int qcow2_adopt_look(struct qcow2 *q, struct td_opts *opts, struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_adopt_write(struct qcow2 *q, struct td_err *ret_err);
void qcow2_adopt_done(struct qcow2 *q);

/* ---- qcow2-prealloc.c: while creating ---- */

enum qcow2_prealloc {
	QCOW2_PREALLOC_OFF,
	QCOW2_PREALLOC_METADATA,
	QCOW2_PREALLOC_FALLOC,
	QCOW2_PREALLOC_FULL,
};

/*
 * The part of a full layout from L1 on.  The first entries of L1 only: it was zeroed.  zero: L2 entries say that all
 * reads as zeros.  buf: a cluster.
 */
TD_CO TD_CHECK int qcow2_preallocate(const struct td_create *c, const struct qcow2_geom *g,
				     const struct qcow2_layout *at, enum qcow2_prealloc how, bool zero,
				     uint8_t *buf);

/* ---- qcow2-snaps.c, qcow2-snapshot.c ---- */

/* For who writes: where the snapshots' L1 tables are. */
TD_CO TD_CHECK int qcow2_snaps_load(struct qcow2 *q);

/* From here on the disk is as this snapshot has it; q is open for reading and its L1 table loaded. */
TD_CO TD_CHECK int qcow2_snapshot_open(struct qcow2 *q, const char *name, struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_snapshots(struct td_image *im, struct td_snaps *ret, struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_snapshot(struct td_image *im, enum td_snap_op op, const char *name,
				  const struct td_progress *progress, struct td_err *ret_err);

/* Each entry has what version 3 asks for; q->shape_lock is the caller's. */
TD_CO TD_CHECK int qcow2_snapshots_complete(struct qcow2 *q, struct td_err *ret_err);

/* None or more than one is called so. */
int qcow2_snapshot_missing(struct td_err *ret_err, const char *name, unsigned found);

static inline bool qcow2_snapshot_is(const struct qcow2_snapshot *s, bool by_id, const char *name, size_t len)
{
	return by_id ? s->id_len == len && memcmp(s->id, name, len) == 0
		     : s->name_len == len && memcmp(s->name, name, len) == 0;
}

/* ---- qcow2-resize.c, qcow2-repair.c, qcow2-check.c, qcow2-create.c, qcow2-measure.c ---- */

TD_CO TD_CHECK int qcow2_resize(struct td_image *im, uint64_t size, struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_amend(struct td_image *im, struct td_opts *opts, const struct td_progress *progress,
			       struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_repair(struct qcow2 *q, struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_check(struct td_image *im, unsigned fix, struct td_check *ret);
TD_CO TD_CHECK int qcow2_create(const struct td_create *c, struct td_err *ret_err);

/* What c asks for: a header that is not laid out yet, and what is in none. */
struct qcow2_wish {
	enum qcow2_prealloc prealloc;
	bool has_backing;
};

/* Options of create and amend: compat as a version, if it is there; a power of two as its exponent. */
TD_CHECK int qcow2_read_compat(struct td_opts *opts, uint32_t *ret, struct td_err *ret_err);
TD_CHECK int qcow2_read_pow2(struct td_opts *opts, const char *name, uint64_t dflt, uint32_t *ret,
			     struct td_err *ret_err);

TD_CHECK int qcow2_wished(const struct td_create *c, struct qcow2_header *ret_h, struct qcow2_wish *ret,
			  struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_measure(struct td_measure *m, struct td_err *ret_err);

#endif
