// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where the dirty metadata of an image that is written lies: in memory that outlives the process (blktap/keep.h).
 *
 * All four kinds or none: an L2 entry without the refcount of what it names would be worse than no entry.  So where one
 * of them finds no place everything is given up, and a kill costs what was not flushed, as it does without a place.
 */
#include "qcow2-int.h"

/* Slices that a cache may come to hold: twice its bound (qcow2-cache.c), in chunks. */
#define SPARE_SLICES 64u

struct td_keep_tag qcow2_keep_tag(const struct qcow2 *q)
{
	return (struct td_keep_tag){ { q->g.cluster_bits, q->h.refcount_order << 8 | q->h.version } };
}

static int keep_cache(struct qcow2 *q, struct qcow2_cache *c, unsigned kind)
{
	return td_keep_area_new(q->keep, kind, c->slice_size, 2ull * c->limit + SPARE_SLICES, &c->kept);
}

void qcow2_keep_start(struct qcow2 *q)
{
	struct td_keep_tag tag = qcow2_keep_tag(q);
	int r = td_keep_new(q->im, &tag, &q->keep);

	if (r < 0 || !q->keep)
		return; /* no room for it, or no place */
	r = keep_cache(q, &q->refs, QCOW2_KEEP_REFS);
	if (r == 0)
		r = keep_cache(q, &q->l2, QCOW2_KEEP_L2);
	if (r == 0)
		r = qcow2_table_keep(&q->reftable, q->keep, QCOW2_KEEP_REFTABLE);
	if (r == 0)
		r = qcow2_table_keep(&q->l1, q->keep, QCOW2_KEEP_L1);
	if (r < 0)
		td_keep_give_up(q->keep, r);
}

void qcow2_keep_table(struct qcow2 *q, struct qcow2_table *t, unsigned kind)
{
	int r = q->keep ? qcow2_table_keep(t, q->keep, kind) : 0;

	if (r < 0)
		td_keep_give_up(q->keep, r);
}
