// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making the refcounts on disk those that were counted (qcow2-check-walk.c): for check, and at open where the dirty bit
 * says that they may be behind (lazy refcounts and a crash).
 *
 * At open the dirty bit is cleared last, so a crash here is repaired again.  Anything that breaks the format, or a
 * cluster that says it is owned alone and is not, ends it with -EUCLEAN: that is for check to repair, with a human
 * looking.
 */
#include "qcow2-check.h"

/* ---- what is lowered ---- */

/* Clusters first..last of one slice, which nothing refers to: their space is given back. */
static void punch(struct qcow2 *q, uint64_t first, uint64_t last)
{
	uint64_t from = first << q->g.cluster_bits, to = (last + 1) << q->g.cluster_bits;

	if (from < q->child->size)
		/* If it cannot be punched, the file only stays larger. */
		td_ignore(td_image_trim(q->child, from, TD_MIN(to, q->child->size) - from));
}

/* Before they are counted down: afterwards they may be somebody else's. */
static void punch_slice(struct qcow2_walk *w, const uint8_t *counts, uint64_t first)
{
	uint64_t per = qcow2_refs_per_slice(w->q), from = per;

	for (uint64_t i = 0; i <= per; i++) {
		bool goes = i < per && qcow2_refcount_get(&w->q->g, counts, i) > 0 &&
			    qcow2_uses_count(&w->uses, first + i) == 0;

		if (goes && from == per)
			from = i;
		if (!goes && from < per) {
			punch(w->q, first + from, first + i - 1);
			from = per;
		}
	}
}

/* ---- making the blocks say so; alloc_lock is held ---- */

static bool to_change(uint64_t disk, uint64_t want, unsigned how)
{
	return (disk < want && (how & QCOW2_STORE_RAISE)) || (disk > want && (how & QCOW2_STORE_LOWER));
}

/* A slice's own bytes may go while we yield. */
static int punch_first(struct qcow2_walk *w, const struct qcow2_slice *s, uint64_t first)
{
	uint8_t *counts = td_buf_alloc(w->q->refs.slice_size);

	if (!counts)
		return -ENOMEM;
	memcpy(counts, s->data, w->q->refs.slice_size);
	punch_slice(w, counts, first);
	td_buf_free(counts, w->q->refs.slice_size);
	return 0;
}

/* The counts of one slice, from cluster `first` on. */
static int store_slice(struct qcow2_walk *w, uint64_t first, unsigned how)
{
	struct qcow2 *q = w->q;
	struct qcow2_slice *s;
	uint64_t idx;
	int r = qcow2_refs_slice(q, first, &s, &idx);

	if (r == 0 && s && (how & QCOW2_STORE_PUNCH)) {
		r = punch_first(w, s, first);
		if (r == 0)
			r = qcow2_refs_slice(q, first, &s, &idx);
	}
	if (r < 0 || !s)
		return r;
	for (uint64_t i = 0; r == 0 && i < qcow2_refs_per_slice(q); i++) {
		uint64_t want = TD_MIN(qcow2_uses_count(&w->uses, first + i), w->max_count);

		if (!to_change(qcow2_refcount_get(&q->g, s->data, i), want, how))
			continue;
		qcow2_refs_mark(q, s, i, 1);
		r = qcow2_refcount_set(&q->g, s->data, i, want);
	}
	return r == -ERANGE ? -EUCLEAN : r;
}

static int store_region(struct qcow2_walk *w, uint64_t region, unsigned how)
{
	uint64_t first = region * w->q->g.refblock_entries;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < w->q->g.refblock_entries; i += qcow2_refs_per_slice(w->q))
		r = store_slice(w, first + i, how);
	return r;
}

static int store_known_regions(struct qcow2_walk *w, unsigned how)
{
	int r = 0;

	for (uint64_t region = 0; r == 0 && region < w->q->reftable.nr; region++)
		if (qcow2_refs_has_block(w->q, region * w->q->g.refblock_entries))
			r = store_region(w, region, how);
	return r;
}

/* A free cluster of a device, which has no room behind its end: one that nothing refers to. */
static uint64_t place_for_block(const struct qcow2_walk *w, uint64_t region)
{
	const struct qcow2 *q = w->q;
	uint64_t per = q->g.refblock_entries, c = region * per;

	if (!q->fixed_size)
		return q->end;
	while (c < TD_MIN((region + 1) * per, q->child->size >> q->g.cluster_bits) &&
	       qcow2_uses_get(&w->uses, c) != 0)
		c++;
	return c;
}

/* Used clusters that no block counts: make one.  New blocks count themselves. */
static int add_blocks(struct qcow2_walk *w, uint64_t cluster)
{
	struct qcow2 *q = w->q;
	uint64_t region = cluster / q->g.refblock_entries, at;
	int r = 0;

	while (r == 0 && !qcow2_refs_has_block(q, cluster)) {
		at = place_for_block(w, region);
		r = qcow2_refs_add_block(q, qcow2_refs_has_block(q, at) ? region : at / q->g.refblock_entries,
					 at);
		if (r == -ENOSPC && !q->fixed_size)
			break;
	}
	return r;
}

static int store_new_regions(struct qcow2_walk *w)
{
	struct qcow2 *q = w->q;
	int r = 0;

	for (uint64_t c = 0; r == 0 && (c = qcow2_uses_next(&w->uses, c, w->uses.nr)) < w->uses.nr; c++) {
		uint64_t want = TD_MIN(qcow2_uses_count(&w->uses, c), w->max_count), disk = 0;

		if (want == 0)
			continue;
		if (!qcow2_refs_has_block(q, c))
			r = add_blocks(w, c);
		if (r == 0)
			r = qcow2_refs_get(q, c, &disk);
		/* In an old block it is stored already. */
		if (r == 0 && disk < want)
			r = qcow2_refs_set(q, c, want);
	}
	return r == -ERANGE ? -EUCLEAN : r;
}

int qcow2_store(struct qcow2_walk *w, unsigned how)
{
	struct qcow2 *q = w->q;
	int r;

	td_mutex_lock(&q->alloc_lock);
	r = store_known_regions(w, how);
	if (r == 0 && (how & QCOW2_STORE_RAISE))
		r = store_new_regions(w);
	q->scan = 0; /* what was lowered is free */
	td_mutex_unlock(&q->alloc_lock);
	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	return r;
}

/* ---- at open ---- */

/* Two pointers, one of which would be written through in place: the other's data would go. */
static bool shared_though_owned(const struct qcow2_walk *w)
{
	for (uint64_t c = 0; (c = qcow2_uses_next(&w->uses, c, w->uses.nr)) < w->uses.nr; c++) {
		uint32_t use = qcow2_uses_get(&w->uses, c);

		if ((use & QCOW2_USE_CLASH) || ((use & QCOW2_USE_OWNED) && (use & QCOW2_USE_COUNT) > 1))
			return true;
	}
	return false;
}

static int recount(struct qcow2 *q)
{
	struct td_check res = { 0 };
	struct qcow2_walk w;
	int r = qcow2_walk(&w, q, &res);

	if (r == 0 && (w.bad || w.missing || w.crowded || w.refs_bad || shared_though_owned(&w)))
		r = -EUCLEAN;
	if (r == 0)
		r = qcow2_store(&w, QCOW2_STORE_RAISE | QCOW2_STORE_LOWER);
	qcow2_walk_done(&w);
	return r;
}

int qcow2_repair(struct qcow2 *q, struct td_err *ret_err)
{
	int r = recount(q);

	if (r == 0)
		r = qcow2_header_switch(q, qcow2_header_clean, NULL);
	if (r == -EUCLEAN)
		return td_err_set(
			ret_err, r,
			"%s: was not closed cleanly, and its tables are too damaged to repair it at open: "
			"open it read-only, or repair it (tap-img check --repair=all)",
			q->im->name);
	if (r < 0)
		return td_err_set(ret_err, r, "%s: was not closed cleanly and cannot be repaired: %s",
				  q->im->name, strerror(-r));
	q->dirty_marked = false;
	return 0;
}
