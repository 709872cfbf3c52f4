// SPDX-License-Identifier: BSD-2-Clause
/*
 * The frame around qcow2-shadow.h's changes: everything else waits; clusters to write to; the switch; and afterwards
 * the space of what is not counted any more.
 *
 * What is held here: every range of the guest, so that no request is inside; and alloc_lock, so that no count changes.
 * A commit may run (somebody flushes) and finds nothing to write.
 */
#include "qcow2-shadow.h"

/* ---- holding off everything ---- */

/* All is on the disk, and nothing is on its way back to the allocator. */
static int settle(struct qcow2 *q)
{
	int r;

	do {
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
		while (q->reaping)
			td_waitq_wait(&q->reaped);
		if (r == 0)
			r = qcow2_frees_reap(q);
	} while (r == 0 &&
		 (q->pending.nr > 0 || q->ready.nr > 0 || qcow2_commit_wanted(q, QCOW2_COMMIT_REFS)));
	return r;
}

int qcow2_shadow_begin(struct qcow2_shadow *s, struct qcow2 *q, const struct td_progress *progress)
{
	int r = qcow2_begin_write(q, 0, 0);

	*s = (struct qcow2_shadow){ .q = q, .g = q->g, .refcount_order = q->h.refcount_order };
	td_range_lock(&q->ranges, &s->range, 0, INT64_MAX, TD_RANGE_EXCLUSIVE);
	if (r == 0)
		r = settle(q);
	td_mutex_lock(&q->alloc_lock);
	/* The cluster that streams share may be a snapshot's from here on. */
	q->pack_at = 0;
	if (r == 0)
		r = qcow2_walker_init(&s->walker, q, progress);
	return r == 0 ? qcow2_counts_init(&s->old, q, &q->g, &q->reftable) : r;
}

static void unlock(struct qcow2_shadow *s)
{
	if (s->range.len == 0)
		return;
	td_range_unlock(&s->q->ranges, &s->range);
	s->range.len = 0;
}

void qcow2_shadow_end(struct qcow2_shadow *s)
{
	qcow2_walker_done(&s->walker);
	qcow2_counts_done(&s->old);
	qcow2_table_done(&s->reftable);
	free(s->adjust);
	s->adjust = NULL;
	td_mutex_unlock(&s->q->alloc_lock);
	unlock(s);
}

/* ---- clusters ---- */

int qcow2_shadow_adjust(struct qcow2_shadow *s, uint64_t cluster, uint64_t nr, int by)
{
	if (s->nr_adjusts == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		struct qcow2_adjust *more = reallocarray(s->adjust, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->adjust = more;
		s->room = room;
	}
	s->adjust[s->nr_adjusts++] = (struct qcow2_adjust){ .cluster = cluster, .nr = nr, .by = by };
	return 0;
}

/* nr clusters from s->cursor on that nobody counts. */
static int find_free(struct qcow2_shadow *s, uint64_t nr, uint64_t *ret_first)
{
	struct qcow2 *q = s->q;
	uint64_t c = s->cursor, run = 0, count,
		 end = TD_MIN(q->g.max_host, s->g.max_host) >> q->g.cluster_bits;

	for (; run < nr; c++) {
		int r = c < end ? qcow2_counts_get(&s->old, c, &count) : -EFBIG;

		if (r < 0)
			return r;
		if (count == 0 && qcow2_overlap_has(q, c))
			return -EUCLEAN;
		run = count == 0 ? run + 1 : 0;
	}
	s->cursor = c;
	*ret_first = c - nr;
	return 0;
}

int qcow2_shadow_take(struct qcow2_shadow *s, uint64_t nr, int by, uint64_t *ret_host_off)
{
	struct qcow2 *q = s->q;
	uint64_t first = 0, len = nr << q->g.cluster_bits;
	int r = nr > 0 ? find_free(s, nr, &first) : 0;

	if (r == 0 && nr > 0)
		r = qcow2_grow_file(q, first + nr);
	if (r == 0 && nr > 0)
		r = qcow2_shadow_adjust(s, first, nr, by);
	if (r < 0)
		return r;
	qcow2_end_at(q, first + nr);
	*ret_host_off = first << q->g.cluster_bits;
	qcow2_cache_forget(&q->l2, *ret_host_off, len);
	qcow2_cache_forget(&q->refs, *ret_host_off, len);
	return 0;
}

/* ---- the switch ---- */

struct naming {
	const struct qcow2_shadow *s;
	qcow2_header_fn *change;
	const void *arg;
};

static void name_all(struct qcow2_header *h, const void *arg)
{
	const struct naming *n = arg;

	if (n->change)
		n->change(h, n->arg);
	h->refcount_order = n->s->refcount_order;
	h->reftable_off = n->s->reftable.host_off;
	h->reftable_clusters = (uint32_t)(n->s->reftable.bytes >> h->cluster_bits);
}

int qcow2_shadow_switch(struct qcow2_shadow *s, qcow2_header_fn *change, const void *arg)
{
	const struct naming n = { .s = s, .change = change, .arg = arg };
	int r = qcow2_header_switch(s->q, name_all, &n);

	/* The disk may name the new tables, and in memory their clusters are free: nothing more is written. */
	if (r < 0 && s->q->header_unsure)
		td_image_freeze(s->q->im);
	return r;
}

/* ---- afterwards ---- */

static int old_structure(const struct qcow2 *q, const struct qcow2_table *t, struct qcow2_set *ret)
{
	uint64_t first = t->host_off >> q->g.cluster_bits, nr = t->bytes >> q->g.cluster_bits;
	int r = 0;

	for (uint64_t i = 0; r >= 0 && i < nr; i++)
		r = qcow2_set_add(ret, first + i);
	for (size_t i = 0; r >= 0 && i < t->nr; i++) {
		struct qcow2_reftable_entry e;

		if (qcow2_reftable_decode(&q->g, qcow2_table_get(t, i), &e) == 0 && e.present)
			r = qcow2_set_add(ret, e.host_off >> q->g.cluster_bits);
	}
	return TD_MIN(r, 0);
}

/* If it cannot be punched, the file only stays larger. */
static void punch(struct qcow2 *q, uint64_t first, uint64_t nr)
{
	uint64_t off = first << q->g.cluster_bits, size = q->child->size;

	if (nr > 0 && off < size)
		td_ignore(td_image_trim(q->child, off, TD_MIN(nr << q->g.cluster_bits, size - off)));
}

/* Clusters of one old region that were counted and are not any more; but for those in `later`. */
static int punch_region(struct qcow2_shadow *s, uint64_t region, struct qcow2_counts *now,
			const struct qcow2_set *later)
{
	uint64_t first = region * s->old.g.refblock_entries, end = first + s->old.g.refblock_entries,
		 from = end;
	uint64_t before = 0, after = 0;
	int r = 0;

	for (uint64_t c = first; r == 0 && c <= end; c++) {
		bool goes = false;

		if (c < end)
			r = qcow2_counts_get(&s->old, c, &before);
		if (r == 0 && c < end && before > 0)
			r = qcow2_counts_get(now, c, &after);
		if (r == 0 && c < end)
			goes = before > 0 && after == 0 && !qcow2_set_has(later, c);
		if (goes && from == end)
			from = c;
		if (!goes && from < end) {
			punch(s->q, from, c - from);
			from = end;
		}
	}
	return r;
}

/* The old blocks go last: they say what was counted. */
static int give_back(struct qcow2_shadow *s)
{
	struct qcow2 *q = s->q;
	struct qcow2_set structure = { 0 };
	struct qcow2_counts now = { 0 };
	int r = old_structure(q, &s->reftable, &structure);

	if (r == 0)
		r = qcow2_counts_init(&now, q, &q->g, &q->reftable);
	for (size_t i = 0; r == 0 && i < s->reftable.nr; i++)
		if (qcow2_table_get(&s->reftable, i) != 0)
			r = punch_region(s, i, &now, &structure);
	for (size_t i = 0; r == 0 && i < structure.nr_slots; i++)
		if (structure.slot[i] != 0)
			punch(q, structure.slot[i] - 1, 1);
	qcow2_counts_done(&now);
	qcow2_set_done(&structure);
	return r;
}

/* Slices of the old blocks: their clusters are free. */
static void forget_blocks(struct qcow2 *q)
{
	for (size_t i = 0; i < q->reftable.nr; i++) {
		struct qcow2_reftable_entry e;

		if (qcow2_reftable_decode(&q->g, qcow2_table_get(&q->reftable, i), &e) == 0 && e.present)
			qcow2_cache_forget(&q->refs, e.host_off, q->g.cluster_size);
	}
}

int qcow2_shadow_use(struct qcow2_shadow *s)
{
	struct qcow2 *q = s->q;
	struct qcow2_table old = q->reftable;
	int r;

	forget_blocks(q);
	q->reftable = s->reftable;
	s->reftable = old;
	s->old.table = &s->reftable;
	s->old.loaded = false;
	q->g = s->g;
	q->scan = 0;
	qcow2_keep_table(q, &q->reftable, QCOW2_KEEP_REFTABLE);
	qcow2_set_done(&q->meta);
	r = qcow2_overlap_open(q, NULL);
	if (r < 0) {
		td_image_freeze(q->im); /* it is all on the disk; who opens it anew finds it */
		return r;
	}
	unlock(s);
	td_ignore(give_back(s)); /* or the file stays larger */
	return 0;
}
