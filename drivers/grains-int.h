// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of the shared map (blktap/grains.h) share.  Called downward: grains.c, grains-check.c, grains-zero.c,
 * grains-write.c, grains-read.c, grains-file.c, grains-map.c.
 *
 * Locks, in the order in which they are taken:
 *	ranges  bytes of the guest, whole grains, exclusively: whatever changes an entry.  Reads, and writes into grains
 *	        that are there, take none (but sealed ones, where a write may read what is around it).
 *	alloc   the end of the file, and the making of tables.
 *	commit  one at a time (meta-commit.c); takes neither of those.
 */
#ifndef DRIVERS_GRAINS_INT_H
#define DRIVERS_GRAINS_INT_H

#include <blktap/err.h>
#include <blktap/grains.h>
#include <blktap/iov.h>
#include <blktap/lock.h>

#define GRAINS_PARALLEL 8u  /* child requests of one guest request at a time */
#define GRAINS_RECENT   64u /* tables whose place is known without looking into the directory */

struct grains_recent {
	uint64_t number; /* of the table, + 1; 0: free */
	uint64_t off;
};

struct td_grains {
	struct td_image *im;
	struct td_grains_config c;
	struct td_meta *meta;
	uint64_t grain_size;
	uint64_t table_bytes, dir_bytes;
	uint32_t unit;      /* bytes of a table that are read and written together */
	unsigned unit_bits; /* log2 of its entries */
	unsigned entry_bits;
	struct grains_recent recent[GRAINS_RECENT];
	struct td_packed *packed; /* NULL: none was read yet */

	struct td_ranges ranges;
	struct td_mutex alloc;
	uint64_t end;     /* of the file: all from here on is free */
	uint64_t touched; /* what is handed out from here on reads as zeros without being written */
	bool fixed_size;  /* the child cannot be made longer (a block device) */
	bool grown;       /* the child is longer than `end`: cut at close */
	uint64_t allocated, tables_made;
};

static inline uint64_t grains_start(const struct td_grains *g, uint64_t off)
{
	return off & ~(g->grain_size - 1);
}

static inline uint64_t grains_in(const struct td_grains *g, uint64_t off)
{
	return off & (g->grain_size - 1);
}

/* Nothing of ours lies before: the directory is written in whole sectors. */
static inline uint64_t grains_first(const struct td_grains *g)
{
	return TD_MAX(g->c.data_from, td_align_up(g->c.dir_off + g->dir_bytes, TD_KEEP_SECTOR));
}

/* What is in use though no entry says so ends here. */
static inline uint64_t grains_used_to(const struct td_grains *g)
{
	return TD_MAX(grains_first(g), g->c.ops->used_to ? g->c.ops->used_to(g->im) : 0);
}

/* ---- grains-map.c ---- */

struct grains_extent {
	enum td_grain_kind kind;
	uint64_t host_off; /* DATA: of the byte asked for; PACKED: of the stream */
	uint64_t packed_len;
	uint64_t len; /* guest bytes that this answer covers, 1..asked; PACKED: inside one grain */
};

/*
 * Where are the bytes from off on?  Stays inside one unit of a table; may yield if that is not in memory.  -EUCLEAN: an
 * entry breaks the format, or leads where no grain may lie.
 */
TD_CO TD_CHECK int grains_map(struct td_grains *g, uint64_t off, uint64_t len, struct grains_extent *ret);

/* The same, going on while the answer continues. */
TD_CO TD_CHECK int grains_map_far(struct td_grains *g, uint64_t off, uint64_t len, struct grains_extent *ret);

/* Guest bytes from off to the end of its unit. */
uint64_t grains_to_unit_end(const struct td_grains *g, uint64_t off);

/* Where the table is; 0: there is none. */
TD_CO TD_CHECK int grains_table(struct td_grains *g, uint64_t table, uint64_t *ret);

/* Name a new table in the directory, and forget where tables were. */
TD_CO TD_CHECK int grains_name_table(struct td_grains *g, uint64_t table, uint64_t off);
void grains_forget_tables(struct td_grains *g);

/* The unit that holds the entry of the grain at off, for reading; NULL: there is no table.  Good until a yield. */
TD_CO TD_CHECK int grains_unit(struct td_grains *g, uint64_t off, uint64_t *ret_off, uint8_t **ret_bytes);

/* An entry in such a unit. */
uint64_t grains_raw(const struct td_grains *g, const uint8_t *bytes, uint64_t i);
void grains_put_raw(const struct td_grains *g, uint8_t *bytes, uint64_t i, uint64_t raw);

/* Decoded, and found to lie where a grain may lie. */
TD_CHECK int grains_decode(const struct td_grains *g, uint64_t raw, struct td_grain *ret);

/* nr grains from off on, all in one unit of a table that is there: the first is this, DATA goes on behind it. */
TD_CO TD_CHECK int grains_link(struct td_grains *g, uint64_t off, uint64_t nr, const struct td_grain *grain);

/* ---- grains-file.c ---- */

struct grains_run {
	uint64_t off, len;
	bool fresh; /* reads as zeros, now and after a crash, without being written */
};

TD_CO TD_CHECK int grains_alloc(struct td_grains *g, uint64_t len, uint64_t align, struct grains_run *ret);

/* Nothing names it, and nothing ever did. */
void grains_alloc_undo(struct td_grains *g, const struct grains_run *run);

/* Make sure that there is a table for the grain at off. */
TD_CO TD_CHECK int grains_own_table(struct td_grains *g, uint64_t off);

/* Wait until a write may change what it has to: before it looks anything up. */
TD_CO TD_CHECK int grains_room(struct td_grains *g);

/* Cut off what was grown ahead. */
TD_CO void grains_cut(struct td_grains *g);

/* fn for each entry of each table that is there; what it returns ends the walk unless it is 0. */
struct grains_entry {
	uint64_t off;    /* of the guest */
	uint64_t unit;   /* place of its unit */
	uint64_t number; /* in the unit */
	uint64_t raw;
};

struct grains_walk {
	void *arg;
	int (*table)(void *arg, uint64_t table, uint64_t off, int error); /* may be NULL.  1: leave it out */
	int (*unit)(void *arg, uint64_t off, int error);                  /* may be NULL.  1: leave it out */
	int (*entry)(void *arg, const struct grains_entry *e);
};

TD_CO TD_CHECK int grains_walk(struct td_grains *g, const struct grains_walk *w);

/* ---- grains-read.c ---- */

TD_CO TD_CHECK int grains_read_extent(struct td_grains *g, uint64_t off, const struct grains_extent *e,
				      const struct td_iov *iov);

/* Does it read as zeros?  May ask the chain.  *ret false if it is not known. */
TD_CO TD_CHECK int grains_reads_zero(struct td_grains *g, uint64_t off, const struct grains_extent *e,
				     bool *ret);

/* ---- grains-write.c ---- */

/* Write into a grain that is there. */
TD_CO TD_CHECK int grains_write_data(struct td_grains *g, uint64_t host_off, uint64_t off,
				     const struct td_iov *iov);
TD_CO TD_CHECK int grains_write_zeros(struct td_grains *g, uint64_t off, uint64_t len);

#endif
