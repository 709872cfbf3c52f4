// SPDX-License-Identifier: BSD-2-Clause
/*
 * Changing what counts in an image all at once: for snapshots, and for refcounts of another width.
 *
 * The new metadata is written beside the old, into clusters that nothing on the disk counts or names: a new L1 table,
 * those L2 tables whose flags change, a snapshot table, and at last refcount blocks and a refcount table that count all
 * of it.  One write of the header's sector makes them the image's.  A power cut or a kill before it leaves the image as
 * it was, one after it as it is to be; neither leaks a cluster.
 *
 *	old:  header -> L1, snapshots, refcount table -> blocks        the same until the switch
 *	new:            L1, snapshots, refcount table -> blocks        written where the old count is 0
 *
 * Refcounts are worked out for a window of clusters at a time, by walking the trees whose references come or go: memory
 * is bounded whatever the size of the image, and blocks are read and written once, in order.
 */
#ifndef QCOW2_SHADOW_H
#define QCOW2_SHADOW_H

#include "qcow2-int.h"

/* ---- qcow2-tree.c: all that an L1 table names ---- */

/* Its first nr entries; raw as on disk.  by: what each reference of it is worth. */
struct qcow2_tree {
	const uint8_t *raw;
	uint64_t nr;
	int by;
};

struct qcow2_walker {
	struct qcow2 *q;
	struct qcow2_set fixed; /* tables that no L2 table can be */
	uint8_t *buf;           /* a cluster */
	uint64_t hole, hole_end;
	const struct td_progress *progress;
	uint64_t done, total; /* bytes of tables */
};

/* qcow2_walker_done in any case. */
TD_CHECK int qcow2_walker_init(struct qcow2_walker *w, struct qcow2 *q, const struct td_progress *progress);
void qcow2_walker_done(struct qcow2_walker *w);

/* No L2 table may be named twice: not by an honest image, and others would keep us busy for hours.  -EUCLEAN */
TD_CHECK int qcow2_tree_check(const struct qcow2_tree *t);
uint64_t qcow2_tree_tables(const struct qcow2_tree *t);

/* An L2 table, in w->buf; *ret NULL: it is all zero.  Changed bytes of it are the caller's to write. */
TD_CO TD_CHECK int qcow2_walker_table(struct qcow2_walker *w, uint64_t host_off, uint8_t **ret);

/*
 * Each reference: nr clusters from `first` on.  -EUCLEAN: an entry that cannot be right, which the image is not marked
 * for.
 */
typedef void qcow2_ref_fn(void *arg, uint64_t first, uint64_t nr, int by);
TD_CO TD_CHECK int qcow2_tree_walk(struct qcow2_walker *w, const struct qcow2_tree *t, qcow2_ref_fn *fn,
				   void *arg);

/* ---- qcow2-counts.c: a refcount structure on disk, read in order ---- */

struct qcow2_counts {
	struct qcow2 *q;
	struct qcow2_geom g;
	const struct qcow2_table *table;
	uint8_t *block;
	uint64_t region;      /* of block */
	bool loaded, present; /* is there a block? */
};

TD_CHECK int qcow2_counts_init(struct qcow2_counts *c, struct qcow2 *q, const struct qcow2_geom *g,
			       const struct qcow2_table *t);
void qcow2_counts_done(struct qcow2_counts *c);
TD_CO TD_CHECK int qcow2_counts_get(struct qcow2_counts *c, uint64_t cluster, uint64_t *ret);

/* ---- qcow2-shadow.c ---- */

#define QCOW2_SHADOW_TREES 2u

/* References that no tree has: to what is written anew, and to what it replaces. */
struct qcow2_adjust {
	uint64_t cluster, nr;
	int by;
};

/* Clusters whose counts are worked out at a time; tests make it small.  At least what a block counts. */
extern uint64_t qcow2_shadow_window;

struct qcow2_shadow {
	struct qcow2 *q;
	struct td_range range;
	struct qcow2_walker walker;
	struct qcow2_counts old; /* as on disk */
	uint64_t cursor;         /* cluster: those below were looked at */

	struct qcow2_geom g; /* as it is to be: refcounts may have another width */
	uint32_t refcount_order;
	struct qcow2_tree tree[QCOW2_SHADOW_TREES];
	unsigned nr_trees;
	struct qcow2_adjust *adjust;
	size_t nr_adjusts, room;
	struct qcow2_table reftable; /* new; after the switch: the old one */
};

/*
 * Wait until nothing is in flight, hold off everything, and bring all that is in memory to the disk.  q->shape_lock is
 * the caller's.  qcow2_shadow_end in any case.
 */
TD_CO TD_CHECK int qcow2_shadow_begin(struct qcow2_shadow *s, struct qcow2 *q,
				      const struct td_progress *progress);

/* nr adjacent clusters to write to, counted `by` times; 0 clusters: at 0. */
TD_CO TD_CHECK int qcow2_shadow_take(struct qcow2_shadow *s, uint64_t nr, int by, uint64_t *ret_host_off);
TD_CHECK int qcow2_shadow_adjust(struct qcow2_shadow *s, uint64_t cluster, uint64_t nr, int by);

/*
 * For each cluster that a tree's references change: is its count exactly one afterwards?  Memory: a bit for each
 * cluster of the file, which is what *ret_nr says; *ret_bits is the caller's to free.
 */
TD_CO TD_CHECK int qcow2_shadow_ones(struct qcow2_shadow *s, uint8_t **ret_bits, uint64_t *ret_nr);

/* Write refcount table and blocks. */
TD_CO TD_CHECK int qcow2_shadow_count(struct qcow2_shadow *s);

/* Write the header, as `change` makes it but for the refcount table. */
TD_CO TD_CHECK int qcow2_shadow_switch(struct qcow2_shadow *s, qcow2_header_fn *change, const void *arg);

/*
 * After the switch: the new refcounts are ours, and the old ones' clusters are given back, with all else that is not
 * counted any more.  q's L1 and snapshots are as they are to be.
 */
TD_CO TD_CHECK int qcow2_shadow_use(struct qcow2_shadow *s);

TD_CO void qcow2_shadow_end(struct qcow2_shadow *s);

#endif
