// SPDX-License-Identifier: BSD-2-Clause
/*
 * Counting all refcounts anew, at open, where the dirty bit says that they may be behind (lazy refcounts and a crash).
 *
 * Everything that names a cluster is walked: header, both tables, refcount blocks, snapshots, and each L2 table from
 * each L1.  Then the blocks are made to say so.  The dirty bit is cleared last, so a crash here is repaired again.
 * Anything that breaks the format, or a cluster that says it is owned alone and is not, ends it with -EUCLEAN: that
 * is for check to repair, with a human looking.
 *
 * Memory: four bytes for each cluster of the file, in pages that are made where something is counted: a file may be
 * terabytes long and hold nothing.
 */
#include "qcow2-int.h"

#define READ_BYTES (64u << 10)
#define OWNED      0x80000000u  /* an entry says that it is the only one to point here */
#define PAGE       64u          /* counts */
#define SNAP_BYTES (1ull << 30) /* of all snapshots' L1 tables, read one after the other */

struct counts {
	struct qcow2 *q;
	uint64_t nr; /* clusters of the file */
	uint32_t **page;
};

static uint64_t nr_pages(const struct counts *n)
{
	return td_div_up(n->nr, PAGE);
}

static uint32_t count_of(const struct counts *n, uint64_t cluster)
{
	if (cluster >= n->nr || !n->page[cluster / PAGE])
		return 0;
	return n->page[cluster / PAGE][cluster % PAGE] & ~OWNED;
}

static int count_cluster(struct counts *n, uint64_t cluster, bool owned)
{
	uint32_t **page, *count;

	if (cluster >= n->nr)
		return -EUCLEAN;
	page = &n->page[cluster / PAGE];
	if (!*page)
		*page = calloc(PAGE, sizeof(**page));
	if (!*page)
		return -ENOMEM;
	count = &(*page)[cluster % PAGE];
	if ((*count & ~OWNED) == ~OWNED)
		return -EUCLEAN;
	++*count;
	if (owned)
		*count |= OWNED;
	/* Two pointers, one of which would be written through in place: the other's data would go. */
	return *count > (OWNED | 1) ? -EUCLEAN : 0;
}

static int counts_init(struct counts *n, struct qcow2 *q)
{
	/* No refcount table could count what lies behind max_host. */
	*n = (struct counts){ .q = q };
	n->nr = td_div_up(TD_MIN(q->child->size, q->g.max_host), q->g.cluster_size);
	n->page = calloc(nr_pages(n) + 1, sizeof(*n->page));
	return n->page ? 0 : -ENOMEM;
}

static void counts_done(struct counts *n)
{
	for (uint64_t i = 0; n->page && i < nr_pages(n); i++)
		free(n->page[i]);
	free(n->page);
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

/* Each table once: one that a damaged L1 names a million times would be read a million times. */
static int count_l1_entry(struct counts *n, uint64_t raw, bool active, struct qcow2_set *seen, uint8_t *buf,
			  size_t len)
{
	const struct qcow2 *q = n->q;
	struct qcow2_l1e e;
	int r = qcow2_l1e_decode(&q->g, raw, &e);

	if (r < 0 || !e.present)
		return r;
	r = qcow2_set_add(seen, e.host_off >> q->g.cluster_bits);
	if (r <= 0)
		return r < 0 ? r : -EUCLEAN;
	r = count_cluster(n, e.host_off >> q->g.cluster_bits, active && e.copied);
	return r < 0 ? r : count_l2_table(n, e.host_off, active, buf, len);
}

static int count_l1(struct counts *n, const struct qcow2_table *l1, bool active)
{
	size_t len = TD_MIN(n->q->g.cluster_size, (uint64_t)READ_BYTES);
	uint8_t *buf = td_buf_alloc(len);
	struct qcow2_set seen = { 0 };
	int r = buf ? count_area(n, l1->host_off, l1->nr * sizeof(uint64_t)) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < l1->nr; i++)
		r = count_l1_entry(n, qcow2_table_get(l1, i), active, &seen, buf, len);
	qcow2_set_done(&seen);
	if (buf)
		td_buf_free(buf, len);
	return r;
}

static int count_snapshots(struct counts *n)
{
	struct qcow2 *q = n->q;
	int r = count_area(n, q->h.snapshots_off, q->snap_table_len);
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < q->nr_snaps; i++)
		bytes += q->snaps[i].l1_size * sizeof(uint64_t);
	if (bytes > SNAP_BYTES)
		return -EFBIG;
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
		qcow2_refs_mark(q, s, i, 1);
		r = qcow2_refcount_set(&q->g, s->data, i, want);
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
		if (!n->page[c / PAGE])
			c |= PAGE - 1; /* nothing in all of it */
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
	struct counts n;
	int r = counts_init(&n, q);

	if (r < 0)
		return td_err_set(ret_err, r, "%s: no memory to count its clusters", q->im->name);
	r = count_all(&n);
	if (r == 0)
		r = store_all(&n);
	counts_done(&n);
	if (r == 0)
		r = qcow2_header_switch(q, qcow2_header_clean, NULL);
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
