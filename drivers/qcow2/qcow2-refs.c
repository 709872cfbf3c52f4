// SPDX-License-Identifier: BSD-2-Clause
/*
 * Refcounts: one number for each host cluster, in blocks that the refcount table names.
 *
 *	cluster = | region (table index) | slice of the block | number in the slice |
 *
 * A region's block lies in the region itself where it can (it counts itself).  Changes are made in the cache; the
 * order in which blocks and table reach the disk is the commit's.  Only a longer table is written here, because it
 * moves: its place is named by the header.
 */
#include "qcow2-int.h"

static uint64_t region_of(const struct qcow2 *q, uint64_t cluster)
{
	return cluster / q->g.refblock_entries;
}

uint64_t qcow2_refs_per_slice(const struct qcow2 *q)
{
	return q->refs.slice_size * 8 / q->g.refcount_bits;
}

static int block_of(const struct qcow2 *q, uint64_t cluster, struct qcow2_reftable_entry *ret)
{
	uint64_t region = region_of(q, cluster);

	if (region >= q->reftable.nr) {
		*ret = (struct qcow2_reftable_entry){ 0 };
		return 0;
	}
	return qcow2_reftable_decode(&q->g, qcow2_table_get(&q->reftable, region), ret);
}

bool qcow2_refs_has_block(const struct qcow2 *q, uint64_t cluster)
{
	struct qcow2_reftable_entry e;

	/* A broken entry is not "none": whoever uses it gets the error. */
	return block_of(q, cluster, &e) < 0 || e.present;
}

int qcow2_refs_slice(struct qcow2 *q, uint64_t cluster, struct qcow2_slice **ret, uint64_t *ret_idx)
{
	uint64_t in_block = cluster % q->g.refblock_entries;
	uint64_t per_slice = qcow2_refs_per_slice(q);
	struct qcow2_reftable_entry e;
	struct qcow2_slice *s = NULL;
	int r = block_of(q, cluster, &e);

	if (r == 0 && e.present)
		r = qcow2_cache_get(&q->refs, e.host_off + in_block / per_slice * q->refs.slice_size, &s);
	if (r < 0)
		return r == -EUCLEAN ? qcow2_corrupt(q) : r;
	*ret = s;
	*ret_idx = in_block % per_slice;
	return 0;
}

int qcow2_refs_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret)
{
	struct qcow2_slice *s = NULL;
	uint64_t idx = 0;
	int r = qcow2_refs_slice(q, cluster, &s, &idx);

	if (r == 0)
		*ret = s ? qcow2_refcount_get(&q->g, s->data, idx) : 0;
	return r;
}

void qcow2_refs_mark(struct qcow2 *q, struct qcow2_slice *s, uint64_t idx, uint64_t nr)
{
	uint64_t first = idx * q->g.refcount_bits >> 3, last = (idx + nr) * q->g.refcount_bits - 1;

	qcow2_cache_mark(&q->refs, s, first, (last >> 3) - first + 1);
}

int qcow2_refs_set(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
	struct qcow2_slice *s = NULL;
	uint64_t idx = 0;
	int r = qcow2_refs_slice(q, cluster, &s, &idx);

	if (r < 0)
		return r;
	if (!s)
		return value == 0 ? 0 : -EIO; /* the caller makes the block first */
	qcow2_refs_mark(q, s, idx, 1);
	r = qcow2_refcount_set(&q->g, s->data, idx, value);
	if (r == 0 && value == 0) {
		q->scan = TD_MIN(q->scan, cluster);
		qcow2_pack_elsewhere(q, cluster, 1);
	}
	return r;
}

int qcow2_refs_drop(struct qcow2 *q, uint64_t cluster)
{
	uint64_t count = 0;
	int r = qcow2_refs_get(q, cluster, &count);

	if (r < 0)
		return r;
	/* Something pointed at it, and nobody had counted that: the counts cannot be trusted any more. */
	if (count == 0)
		return qcow2_corrupt(q);
	return qcow2_refs_set(q, cluster, count - 1);
}

/* ---- a longer refcount table ---- */

/*
 * The new table and the blocks that count it, as one area in regions that had no block before:
 *	| blocks | table |
 * so that everything the area needs to be true is inside it, and nothing outside of it changes before the header.
 */
struct area {
	uint64_t first_region, nr_blocks;
	uint64_t start, table_clusters; /* start: cluster of the first block */
};

static int plan_area(const struct qcow2 *q, uint64_t region, uint64_t at, struct area *ret)
{
	struct area a = { .start = TD_MAX(at, q->reftable.nr * q->g.refblock_entries), .nr_blocks = 1 };
	uint64_t entries, end;

	a.first_region = region_of(q, a.start);
	for (;;) {
		/* Half as much again, so that tables move seldom; at least what is asked for and itself. */
		entries = TD_MAX(q->reftable.nr + q->reftable.nr / 2, region + 1);
		entries = TD_MAX(entries, a.first_region + a.nr_blocks);
		a.table_clusters = td_div_up(entries * sizeof(uint64_t), q->g.cluster_size);
		end = a.start + a.nr_blocks + a.table_clusters;
		if (region_of(q, end - 1) < a.first_region + a.nr_blocks)
			break;
		a.nr_blocks++;
	}
	if (a.table_clusters > (QCOW2_MAX_REFTABLE_BYTES >> q->g.cluster_bits) ||
	    end > q->g.max_host >> q->g.cluster_bits)
		return -EFBIG;
	*ret = a;
	return 0;
}

static int write_block(struct qcow2 *q, const struct area *a, uint64_t i, uint8_t *buf)
{
	uint64_t first = (a->first_region + i) * q->g.refblock_entries;
	uint64_t end = a->start + a->nr_blocks + a->table_clusters;
	int r = 0;

	memset(buf, 0, q->g.cluster_size);
	for (uint64_t c = TD_MAX(first, a->start); r == 0 && c < TD_MIN(first + q->g.refblock_entries, end);
	     c++)
		r = qcow2_refcount_set(&q->g, buf, c - first, 1);
	if (r == 0)
		r = td_image_pwrite(q->child, (a->start + i) << q->g.cluster_bits, buf, q->g.cluster_size, 0);
	return r;
}

static int write_area(struct qcow2 *q, const struct area *a, struct qcow2_table *t)
{
	uint8_t *buf = td_buf_alloc(q->g.cluster_size);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; r == 0 && i < a->nr_blocks; i++) {
		td_put_be64(t->raw + (a->first_region + i) * sizeof(uint64_t), (a->start + i)
										       << q->g.cluster_bits);
		r = write_block(q, a, i, buf);
	}
	if (r == 0)
		r = td_image_pwrite(q->child, t->host_off, t->raw, t->bytes, 0);
	if (buf)
		td_buf_free(buf, q->g.cluster_size);
	return r;
}

/* The header names the new table on disk: from now on it is the table. */
static void use_table(struct qcow2 *q, const struct area *a, struct qcow2_table *t)
{
	uint64_t old_off = q->reftable.host_off, old_len = q->reftable.nr * sizeof(uint64_t);

	qcow2_overlap_del(q, old_off, old_len);
	if (qcow2_frees_reserve(&q->ready, 1) == 0) /* or it leaks */
		qcow2_frees_add(&q->ready, old_off >> q->g.cluster_bits, old_len >> q->g.cluster_bits);
	qcow2_table_done(&q->reftable);
	q->reftable = *t;
	qcow2_keep_table(q, &q->reftable, QCOW2_KEEP_REFTABLE);
	qcow2_cache_forget(&q->refs, a->start << q->g.cluster_bits, a->nr_blocks << q->g.cluster_bits);
	qcow2_cache_forget(&q->l2, a->start << q->g.cluster_bits, a->nr_blocks << q->g.cluster_bits);
	qcow2_commit_soon(q); /* also gives back the old one */
}

static void name_table(struct qcow2_header *h, const void *arg)
{
	const struct qcow2_table *t = arg;

	h->reftable_off = t->host_off;
	h->reftable_clusters = (uint32_t)(t->bytes >> h->cluster_bits);
}

static int move_table(struct qcow2 *q, const struct area *a, struct qcow2_table *t)
{
	int r;

	t->host_off = (a->start + a->nr_blocks) << q->g.cluster_bits;
	memcpy(t->raw, q->reftable.raw, q->reftable.bytes);
	r = qcow2_overlap_add(q, a->start << q->g.cluster_bits,
			      (a->nr_blocks + a->table_clusters) << q->g.cluster_bits);
	if (r == 0)
		r = write_area(q, a, t);
	if (r < 0)
		return r;
	return qcow2_header_switch(q, name_table, t);
}

static int grow_table(struct qcow2 *q, uint64_t region, uint64_t at)
{
	struct qcow2_table t = { 0 };
	struct area a = { 0 };
	int r = plan_area(q, region, at, &a);

	/*
	 * Every block that the old table names must be on disk before the new one names it.  We hold alloc_lock, so
	 * the table does not change while it is copied.
	 */
	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_REFS);
	if (r == 0)
		r = qcow2_grow_file(q, a.start + a.nr_blocks + a.table_clusters);
	if (r == 0)
		r = qcow2_table_new(a.table_clusters * (q->g.cluster_size / sizeof(uint64_t)), &t);
	if (r != 0)
		return r;
	/* Written or not, it is not fresh from here on. */
	qcow2_end_at(q, a.start + a.nr_blocks + a.table_clusters);
	r = move_table(q, &a, &t);
	if (r < 0) {
		qcow2_overlap_del(q, a.start << q->g.cluster_bits,
				  (a.nr_blocks + a.table_clusters) << q->g.cluster_bits);
		qcow2_table_done(&t);
		return r;
	}
	use_table(q, &a, &t);
	return 0;
}

/* ---- a new block ---- */

int qcow2_refs_add_block(struct qcow2 *q, uint64_t region, uint64_t at)
{
	uint64_t host_off = at << q->g.cluster_bits, in_block = at % q->g.refblock_entries;
	uint64_t own = host_off + in_block / qcow2_refs_per_slice(q) * q->refs.slice_size;
	struct qcow2_slice *s = NULL;
	uint64_t idx = in_block % qcow2_refs_per_slice(q);
	int r;

	if (region >= q->reftable.nr)
		return grow_table(q, region, at);
	/* A table where nothing is counted: it would be zeroed. */
	if (qcow2_overlap_has(q, at))
		return qcow2_corrupt(q);
	r = qcow2_grow_file(q, at + 1);
	if (r < 0)
		return r;
	qcow2_end_at(q, at + 1);
	qcow2_cache_forget(&q->refs, host_off, q->g.cluster_size);
	qcow2_cache_forget(&q->l2, host_off, q->g.cluster_size);
	/*
	 * The commit's barrier between blocks and table covers this write too.  A fresh one is zeros already, but then
	 * its space is not there: a commit must not be the first to find that out.
	 */
	r = td_image_zero(q->child, host_off, q->g.cluster_size, 0);
	if (r == 0)
		r = qcow2_overlap_add(q, host_off, q->g.cluster_size);
	if (r < 0)
		return r;
	if (region_of(q, at) == region)
		r = qcow2_cache_get(&q->refs, own, &s);
	else
		r = qcow2_refs_slice(q, at, &s, &idx);
	if (r == 0 && s)
		qcow2_refs_mark(q, s, idx, 1);
	if (r == 0)
		r = s ? qcow2_refcount_set(&q->g, s->data, idx, 1) : -EIO;
	if (r < 0) {
		qcow2_overlap_del(q, host_off, q->g.cluster_size);
		return r;
	}
	qcow2_table_set(&q->reftable, region, host_off);
	return 0;
}
