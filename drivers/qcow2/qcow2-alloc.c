// SPDX-License-Identifier: BSD-2-Clause
/*
 * Finding free clusters.
 *
 * Two places: below q->end, where refcounts tell, from q->scan on; and at q->end, where nothing was ever handed out.
 * A request looks at two slices of refcounts below and then takes what it needs at the end, so that the first write
 * to a large full image does not read all its refcounts; the scan goes on where it stopped with the next request.
 */
#include "qcow2-int.h"

#define SCAN_SLICES 2u

/*
 * Take a run of free clusters out of one slice of refcounts, from `first` on, below `limit`.  ret->nr 0: none there.
 * No cluster that holds metadata may have a count of zero.
 */
static int take_run(struct qcow2 *q, uint64_t first, uint64_t limit, uint64_t want, struct qcow2_run *ret)
{
	struct qcow2_slice *s;
	uint64_t idx, c = first, nr = 0;
	int r = qcow2_refs_slice(q, first, &s, &idx);

	if (r < 0 || !s)
		return r < 0 ? r : -EIO;
	while (c < limit && qcow2_refcount_get(&q->g, s->data, idx + (c - first)) != 0)
		c++;
	while (nr < want && c + nr < limit &&
	       qcow2_refcount_get(&q->g, s->data, idx + (c + nr - first)) == 0) {
		if (qcow2_overlap_has(q, c + nr))
			return qcow2_corrupt(q);
		nr++;
	}
	if (nr > 0)
		qcow2_refs_mark(q, s, idx + (c - first), nr);
	for (uint64_t i = 0; r == 0 && i < nr; i++)
		r = qcow2_refcount_set(&q->g, s->data, idx + (c + i - first), 1);
	if (r == 0)
		*ret = (struct qcow2_run){ .host_off = c << q->g.cluster_bits, .nr = nr };
	return r;
}

/* The first cluster after the slice of refcounts that holds this one's. */
static uint64_t slice_end(const struct qcow2 *q, uint64_t cluster)
{
	uint64_t per = qcow2_refs_per_slice(q);

	return cluster / per * per + per;
}

/* all: there is no room elsewhere. */
static int alloc_below(struct qcow2 *q, uint64_t want, bool all, struct qcow2_run *ret)
{
	/* A device may end inside a cluster. */
	uint64_t end = TD_MIN(q->end, q->child->size >> q->g.cluster_bits);
	int r = 0;

	ret->nr = 0;
	for (unsigned i = 0; r == 0 && q->scan < end && (i < SCAN_SLICES || all); i++) {
		uint64_t first = q->scan, region = first / q->g.refblock_entries;
		uint64_t limit = TD_MIN(slice_end(q, first), end);

		if (!qcow2_refs_has_block(q, first) && !all) {
			/* Nobody counted anything there; a file has room elsewhere. */
			q->scan = TD_MIN((region + 1) * q->g.refblock_entries, end);
			continue;
		}
		if (!qcow2_refs_has_block(q, first)) {
			r = qcow2_refs_add_block(q, region, first);
			continue;
		}
		r = take_run(q, first, limit, want, ret);
		if (r < 0)
			break;
		/* Another coroutine cannot have moved it: alloc_lock is held. */
		q->scan = ret->nr > 0 ? (ret->host_off >> q->g.cluster_bits) + ret->nr : limit;
		if (ret->nr > 0)
			break;
	}
	return r;
}

static int alloc_at_end(struct qcow2 *q, uint64_t want, struct qcow2_run *ret)
{
	int r = 0;

	ret->nr = 0;
	while (r == 0 && ret->nr == 0) {
		uint64_t first = q->end, limit = TD_MIN(slice_end(q, first), first + want);

		if (!qcow2_refs_has_block(q, first)) {
			r = qcow2_refs_add_block(q, first / q->g.refblock_entries, first);
			continue;
		}
		r = qcow2_grow_file(q, limit);
		if (r == 0)
			r = take_run(q, first, limit, want, ret);
		if (r < 0)
			break;
		/* Counted though never written: somebody's leak.  Step over it. */
		qcow2_end_at(q, ret->nr > 0 ? (ret->host_off >> q->g.cluster_bits) + ret->nr : limit);
		ret->fresh = true;
	}
	return r;
}

int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, struct qcow2_run *ret)
{
	struct qcow2_run run;
	int r = qcow2_begin_alloc(q);

	if (r == 0)
		r = alloc_below(q, want, q->fixed_size, &run);
	if (r == 0 && run.nr == 0)
		r = alloc_at_end(q, want, &run);
	if (r == -ENOSPC) {
		/* Now every cluster below counts. */
		r = alloc_below(q, want, true, &run);
		if (r == 0 && run.nr == 0)
			r = -ENOSPC;
	}
	if (r == 0)
		*ret = run;
	return r;
}

int qcow2_alloc(struct qcow2 *q, uint64_t want, struct qcow2_run *ret)
{
	td_co_guard(&q->alloc_lock);
	return qcow2_alloc_locked(q, want, ret);
}

int qcow2_alloc_area_locked(struct qcow2 *q, uint64_t nr, struct qcow2_run *ret)
{
	uint64_t first, region;
	int r = qcow2_begin_alloc(q);

	/* All the blocks that will count it come before it. */
	while (r == 0) {
		region = q->end / q->g.refblock_entries;
		while (region <= (q->end + nr - 1) / q->g.refblock_entries &&
		       qcow2_refs_has_block(q, region * q->g.refblock_entries))
			region++;
		if (region > (q->end + nr - 1) / q->g.refblock_entries)
			break;
		r = qcow2_refs_add_block(q, region, q->end);
	}
	if (r < 0)
		return r;
	first = q->end;
	r = qcow2_grow_file(q, first + nr);
	if (r < 0)
		return r;
	qcow2_end_at(q, first + nr);
	*ret = (struct qcow2_run){ .host_off = first << q->g.cluster_bits };
	while (r == 0 && ret->nr < nr) {
		r = qcow2_refs_set(q, first + ret->nr, 1);
		ret->nr += r == 0; /* what was not counted is not undone */
	}
	if (r < 0)
		qcow2_alloc_undo_locked(q, ret);
	ret->fresh = true;
	return r;
}

void qcow2_alloc_undo_locked(struct qcow2 *q, const struct qcow2_run *run)
{
	for (uint64_t i = 0; i < run->nr; i++)
		if (qcow2_refs_drop(q, (run->host_off >> q->g.cluster_bits) + i) < 0)
			return; /* it stays counted: a leak, no harm */
}

void qcow2_alloc_undo(struct qcow2 *q, const struct qcow2_run *run)
{
	td_co_guard(&q->alloc_lock);
	qcow2_alloc_undo_locked(q, run);
}
