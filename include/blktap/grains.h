// SPDX-License-Identifier: BSD-2-Clause
/*
 * The map that sparse formats share: the disk is cut into grains of one size, a table of 4 or 8 bytes a grain says
 * where each lies in the file, and a directory says where the tables lie.
 *
 *	guest offset = | number of the table | number of the entry | in the grain |
 *	directory ──► place of the table ──► place of the grain, "zeros", "packed", or nothing
 *
 * A format brings the numbers (struct td_grains_config) and what an entry means (struct td_grains_ops); its data slots
 * are one call of these functions each.  Tables and directory are metadata of blktap/meta.h: table units are level 0,
 * directory units level 1.  New grains and tables are handed out at the end of the file, which is grown ahead.
 *
 * What is mapped is read and written in place, without a lock: a table never moves, and what an entry stops naming is
 * not handed out again while the image is open, nor later: it leaks, and check() finds it.  To lose little so, zeros go
 * into a grain that is there by punching it out of the file; the entry stays.
 *
 * Order on disk: data, then (by the commit) the entry that names them, then the directory.  The entry is marked after
 * the data was written, without a yield between lookup and mark.
 */
#ifndef BLKTAP_GRAINS_H
#define BLKTAP_GRAINS_H

#include <blktap/meta.h>
#include <blktap/packed.h>

enum { TD_GRAINS_TABLES, TD_GRAINS_DIRECTORY }; /* levels of td_meta */

enum td_grain_kind {
	TD_GRAIN_HOLE,   /* the backing chain decides */
	TD_GRAIN_ZERO,   /* zeros by this layer's word */
	TD_GRAIN_DATA,   /* at host_off */
	TD_GRAIN_PACKED, /* compressed: a stream at host_off */
};

/* What an entry says. */
struct td_grain {
	enum td_grain_kind kind;
	uint64_t host_off; /* byte in the file */
	uint64_t len;      /* PACKED: bytes that the stream takes there, at most; 0: not known */
};

struct td_grains;

/* All are called in a coroutine of im; only those marked TD_CO may yield. */
struct td_grains_ops {
	/* An entry of a table.  -EUCLEAN: it breaks the format.  Where the grain lies is checked by the caller. */
	int (*decode)(const struct td_image *im, uint64_t raw, struct td_grain *ret);

	/* The entry for this; ZERO only where the format has it, PACKED only if asked by td_grains_link. */
	uint64_t (*encode)(const struct td_image *im, const struct td_grain *g);

	/* An entry of the directory to the place of its table, 0: there is none; and the reverse. */
	uint64_t (*table_at)(const struct td_image *im, uint64_t raw);
	uint64_t (*table_raw)(const struct td_image *im, uint64_t host_off);

	/*
	 * Inflate a packed grain; at->guest is where it starts on the disk.  The last few are kept.  NULL: there are no
	 * such grains.  TD_CO
	 */
	td_packed_fn *inflate;

	/*
	 * Of which somebody reads the bytes at from to to: how many, from its start on, are to be inflated?  NULL:
	 * always all.
	 */
	size_t (*enough)(const struct td_image *im, size_t from, size_t to);

	/* Data of a grain, for a format that encrypts it; NULL: the child's bytes.  TD_CO */
	int (*read)(struct td_image *im, uint64_t host_off, uint64_t guest_off, const struct td_iov *iov);
	int (*write)(struct td_image *im, uint64_t host_off, uint64_t guest_off, const struct td_iov *iov);

	/* What else of the file is in use ends here, at the latest; NULL, 0: nothing is behind the directory. */
	uint64_t (*used_to)(const struct td_image *im);

	/* All before `end` is going to be handed out: on disk before anything names it.  May be NULL.  TD_CO */
	int (*grow)(struct td_image *im, uint64_t end);
};

struct td_grains_config {
	const struct td_grains_ops *ops;
	struct td_keep_tag tag;
	unsigned grain_bits; /* log2 of a grain's bytes: 9 .. 27 */
	unsigned table_bits; /* log2 of a table's entries; a table is 512 bytes or more */
	unsigned entry_size; /* 4 or 8, of table and directory */
	bool big_endian;
	bool has_zero; /* entries can say ZERO */
	bool sealed; /* encrypted by ops->write: a hole of the file is not zeros, a sector is written whole */
	bool keeps_free; /* check: the format has its own word for what is free; what no entry names is no leak */
	uint64_t dir_off;   /* of the directory; a multiple of entry_size.  0: one table, at table_off */
	uint64_t nr_tables; /* entries of the directory */
	uint64_t table_off;
	uint64_t table_align; /* of a new table: a power of two, 512 or more; 0: a missing one is -EUCLEAN */
	uint64_t data_from;   /* no grain lies before this byte */
	uint64_t max_host;    /* no byte of the file at or behind this can be named */

	/* As in td_meta_config, for the tables; NULL: there is no second copy. */
	uint64_t (*copy_at)(struct td_image *im, unsigned level, uint64_t off);
};

/*
 * In open(), with im->size and im->read_only set.  Everything in the config may come from an image: -EUCLEAN with a
 * sentence if it makes no sense.  opts: "l2-cache" (bytes of tables in memory) and "adopt".  Sets those of im->limits
 * that follow: cluster_size, zero_efficient, trim_granularity.
 */
TD_CO TD_CHECK int td_grains_open(struct td_image *im, const struct td_grains_config *config,
				  struct td_opts *opts, struct td_grains **ret_grains,
				  struct td_err *ret_err);

/* Commits, and cuts off what was grown ahead.  NULL is fine. */
TD_CO TD_CHECK int td_grains_close(struct td_grains *g);

/* ---- the slots of a format ---- */

/*
 * What the slot of this name in the driver table wants, in bytes of the disk: -EUCLEAN if an entry on the way makes no
 * sense, else the child's errors.  Reading takes no lock; what an entry named when it was looked up is not handed out
 * to anybody else meanwhile.
 */
TD_CO TD_CHECK int td_grains_preadv(struct td_grains *g, uint64_t off, const struct td_iov *iov);

/* flags: TD_FUA. */
TD_CO TD_CHECK int td_grains_pwritev(struct td_grains *g, uint64_t off, const struct td_iov *iov,
				     unsigned flags);
TD_CO TD_CHECK int td_grains_zero(struct td_grains *g, uint64_t off, uint64_t len, unsigned flags);
TD_CO TD_CHECK int td_grains_trim(struct td_grains *g, uint64_t off, uint64_t len);
TD_CO TD_CHECK int td_grains_flush(struct td_grains *g);
TD_CO TD_CHECK int td_grains_extent(struct td_grains *g, uint64_t off, uint64_t len, struct td_extent *ret);

/*
 * Walk all tables: entries that break the format or lead out of the file, two that name the same bytes, space that
 * nothing names.  used: what else of the file is in use (headers, descriptors, second copies).  With TD_FIX_ALL a bad
 * entry becomes a hole; leaks are punched out of the file, and cut off at its end.
 */
struct td_grains_used {
	uint64_t off, len;
};

TD_CO TD_CHECK int td_grains_check(struct td_grains *g, unsigned fix, const struct td_grains_used *used,
				   unsigned nr_used, struct td_check *ret);

/*
 * Write the first len bytes of the file (512 at most), which may share their sector with the directory.  All that was
 * written before is on disk before, and they are when it returns 0; never a part of them.  On failure the image is
 * frozen, for nobody knows which are there.
 */
TD_CO TD_CHECK int td_grains_put_head(struct td_grains *g, const void *head, size_t len);

/* Every entry becomes a hole; durable afterwards.  Nothing else is in flight. */
TD_CO TD_CHECK int td_grains_empty(struct td_grains *g);

/* Those of blktap/meta.h, bytes handed out, tables made, compressed clusters: for the format's counters(). */
void td_grains_counters(const struct td_grains *g, struct td_counters *ret);

/* ---- for a format that places grains itself: compressed ones ---- */

/* len bytes at the end of the file, that nothing names yet. */
TD_CO TD_CHECK int td_grains_alloc(struct td_grains *g, uint64_t len, uint64_t align, uint64_t *ret_off);

/* Hold these guest bytes exclusively (widened to whole grains) while grains are placed. */
struct td_range;
TD_CO void td_grains_lock(struct td_grains *g, struct td_range *range, uint64_t off, uint64_t len);
void td_grains_unlock(struct td_grains *g, struct td_range *range);

/* The grain at off becomes this; its data is written. */
TD_CO TD_CHECK int td_grains_link(struct td_grains *g, uint64_t off, const struct td_grain *grain);

/* What the grain at off is. */
TD_CO TD_CHECK int td_grains_get(struct td_grains *g, uint64_t off, struct td_grain *ret);

#endif
