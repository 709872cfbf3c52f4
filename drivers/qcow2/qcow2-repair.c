// SPDX-License-Identifier: BSD-2-Clause
/*
 * Counting all refcounts anew, at open, where the dirty bit says that they may be behind (lazy refcounts and a crash).
 *
 * Everything that names a cluster is walked: header, both tables, refcount blocks, snapshots, and each L2 table from
 * each L1.  Then the blocks are made to say so.  The dirty bit is cleared last, so a crash here is repaired again.
 * Anything that breaks the format, or a cluster that says it is owned alone and is not, ends it with -EUCLEAN: that
 * is for check to repair, with a human looking.
 *
 * Memory: four bytes for each cluster of the file, touched only where the file is used.
 */
#include "qcow2-int.h"

#define READ_BYTES (64u << 10)
#define OWNED      0x80000000u /* an entry says that it is the only one to point here */

struct counts {
	struct qcow2 *q;
	uint64_t nr; /* clusters of the file */
	uint32_t *count;
};

static uint32_t count_of(const struct counts *n, uint64_t cluster)
{
	return cluster < n->nr ? n->count[cluster] & ~OWNED : 0;
}

static int count_cluster(struct counts *n, uint64_t cluster, bool owned)
{
	if (cluster >= n->nr || (n->count[cluster] & ~OWNED) == ~OWNED)
		return -EUCLEAN;
	n->count[cluster]++;
	if (owned)
		n->count[cluster] |= OWNED;
	/* Two pointers, one of which would be written through in place: the other's data would go. */
	return n->count[cluster] > (OWNED | 1) ? -EUCLEAN : 0;
}

static int count_area(struct counts *n, uint64_t host_off, uint64_t len)
{
	uint64_t first = host_off >> n->q->g.cluster_bits;
	int r = 0;

	if (len == 0)
		return 0;
	for (uint64_t c = first; r == 0 && c <= (host_off + len - 1) >> n->q->g.cluster_bits; c++)
		r = count_cluster(n, c, true);
	return r;
}

static int count_l2_entry(struct counts *n, uint64_t raw, bool active)
{
	const struct qcow2 *q = n->q;
	uint64_t c, last;
	struct qcow2_l2e e;
	int r = qcow2_l2e_decode(&q->g, q->h.version, raw, &e);

	if (r < 0 || e.kind == QCOW2_HOLE || e.kind == QCOW2_ZERO)
		return r;
	c = last = e.host_off >> q->g.cluster_bits;
	if (e.kind == QCOW2_PACKED)
		last = (e.host_off + e.packed_len - 1) >> q->g.cluster_bits;
	/* The last sector of a stream may lie behind the end of the file. */
	if (e.kind == QCOW2_PACKED && c < n->nr)
		last = TD_MIN(last, n->nr - 1);
	for (; r == 0 && c <= last; c++)
		r = count_cluster(n, c, active && e.kind != QCOW2_PACKED && e.copied);
	return r;
}

static int count_l2_table(struct counts *n, uint64_t host_off, bool active, uint8_t *buf, size_t len)
{
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < n->q->g.cluster_size; at += len) {
		r = td_image_pread(n->q->child, host_off + at, buf, len, TD_EXACT);
		for (size_t i = 0; r == 0 && i < len; i += sizeof(uint64_t))
			r = count_l2_entry(n, td_get_be64(buf + i), active);
	}
	return r;
}

static int count_l1(struct counts *n, const struct qcow2_table *l1, bool active)
{
	struct qcow2 *q = n->q;
	size_t len = TD_MIN(q->g.cluster_size, (uint64_t)READ_BYTES);
	uint8_t *buf = td_buf_alloc(len);
	int r = buf ? count_area(n, l1->host_off, l1->nr * sizeof(uint64_t)) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < l1->nr; i++) {
		struct qcow2_l1e e;

		r = qcow2_l1e_decode(&q->g, qcow2_table_get(l1, i), &e);
		if (r < 0 || !e.present)
			continue;
		r = count_cluster(n, e.host_off >> q->g.cluster_bits, active && e.copied);
		if (r == 0)
			r = count_l2_table(n, e.host_off, active, buf, len);
	}
	if (buf)
		td_buf_free(buf, len);
	return r;
}

static int count_snapshots(struct counts *n)
{
	struct qcow2 *q = n->q;
	int r = count_area(n, q->h.snapshots_off, q->snap_table_len);

	for (uint32_t i = 0; r == 0 && i < q->nr_snaps; i++) {
		struct qcow2_table l1;

		r = qcow2_table_load(q, q->snaps[i].l1_off, q->snaps[i].l1_size, &l1);
		if (r < 0)
			break;
		r = count_l1(n, &l1, false);
		qcow2_table_done(&l1);
	}
	return r;
}

static int count_blocks(struct counts *n)
{
	struct qcow2 *q = n->q;
	int r = count_area(n, q->reftable.host_off, q->reftable.nr * sizeof(uint64_t));

	for (size_t i = 0; r == 0 && i < q->reftable.nr; i++) {
		struct qcow2_reftable_entry e;

		r = qcow2_reftable_decode(&q->g, qcow2_table_get(&q->reftable, i), &e);
		if (r == 0 && e.present)
			r = count_cluster(n, e.host_off >> q->g.cluster_bits, true);
	}
	return r;
}

static int count_all(struct counts *n)
{
	int r = count_cluster(n, 0, true);

	if (r == 0)
		r = count_blocks(n);
	if (r == 0)
		r = count_l1(n, &n->q->l1, true);
	if (r == 0)
		r = count_snapshots(n);
	return r;
}

/* ---- making the blocks say so; alloc_lock is held ---- */

/* The counts of one slice, from cluster `first` on. */
static int store_slice(struct counts *n, uint64_t first)
{
	struct qcow2 *q = n->q;
	struct qcow2_slice *s;
	uint64_t idx;
	int r = qcow2_refs_slice(q, first, &s, &idx);

	if (r < 0 || !s)
		return r;
	for (uint64_t i = 0; r == 0 && i < qcow2_refs_per_slice(q); i++) {
		uint64_t want = count_of(n, first + i);

		if (qcow2_refcount_get(&q->g, s->data, i) == want)
			continue;
		r = qcow2_refcount_set(&q->g, s->data, i, want);
		if (r == 0)
			qcow2_cache_mark(&q->refs, s);
	}
	return r == -ERANGE ? -EUCLEAN : r;
}

static int store_region(struct counts *n, uint64_t region)
{
	uint64_t first = region * n->q->g.refblock_entries;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < n->q->g.refblock_entries; i += qcow2_refs_per_slice(n->q))
		r = store_slice(n, first + i);
	return r;
}

static int store_known_regions(struct counts *n)
{
	int r = 0;

	for (uint64_t region = 0; r == 0 && region < n->q->reftable.nr; region++)
		if (qcow2_refs_has_block(n->q, region * n->q->g.refblock_entries))
			r = store_region(n, region);
	return r;
}

/* Used clusters that no block counts: make one.  New blocks lie behind the file's end and count themselves. */
static int store_new_regions(struct counts *n)
{
	struct qcow2 *q = n->q;
	int r = 0;

	for (uint64_t c = 0; r == 0 && c < n->nr; c++) {
		if (count_of(n, c) == 0)
			continue;
		while (r == 0 && !qcow2_refs_has_block(q, c)) {
			bool end_counted = qcow2_refs_has_block(q, q->end);

			r = qcow2_refs_add_block(q, (end_counted ? c : q->end) / q->g.refblock_entries,
						 q->end);
		}
		/* Clusters of this file in a new block; in an old one they are stored already. */
		if (r == 0)
			r = qcow2_refs_set(q, c, count_of(n, c));
	}
	return r == -ERANGE ? -EUCLEAN : r;
}

static int store_all(struct counts *n)
{
	struct qcow2 *q = n->q;
	int r;

	td_mutex_lock(&q->alloc_lock);
	r = store_known_regions(n);
	if (r == 0)
		r = store_new_regions(n);
	td_mutex_unlock(&q->alloc_lock);
	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	return r;
}

int qcow2_repair(struct qcow2 *q, struct td_err *ret_err)
{
	struct counts n = { .q = q, .nr = td_div_up(q->child->size, q->g.cluster_size) };
	struct qcow2_header h;
	int r;

	if (n.nr > SIZE_MAX / sizeof(n.count[0]))
		return td_err_set(ret_err, -EFBIG, "%s: too large to count its clusters", q->im->name);
	n.count = calloc(n.nr, sizeof(n.count[0]));
	if (!n.count)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory to count its clusters", q->im->name);
	r = count_all(&n);
	if (r == 0)
		r = store_all(&n);
	free(n.count);
	h = q->h;
	h.incompatible &= ~QCOW2_INCOMPAT_DIRTY;
	if (r == 0)
		r = qcow2_header_switch(q, &h);
	if (r == -EUCLEAN)
		return td_err_set(
			ret_err, r,
			"%s: was not closed cleanly, and its tables are too damaged to repair it at open: "
			"open it read-only, or check it",
			q->im->name);
	if (r < 0)
		return td_err_set(ret_err, r, "%s: was not closed cleanly and cannot be repaired: %s",
				  q->im->name, strerror(-r));
	q->dirty_marked = false;
	return 0;
}
