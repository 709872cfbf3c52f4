// SPDX-License-Identifier: BSD-2-Clause
/*
 * A new refcount table and new blocks, where the old ones lie where they cannot.
 *
 *	| block of the first region that is used | ... of the last | refcount table |
 *
 * One area behind everything that anything refers to, which counts itself.  It is written and on stable storage before
 * the header names it; until then the image is what it was.  The old structure is not referred to any more, and so is
 * not counted in the new one.
 */
#include "qcow2-check.h"

struct area {
	uint64_t start, blocks, table; /* clusters */
	uint64_t regions;              /* entries that the table has to have */
};

static uint64_t area_end(const struct area *a)
{
	return a->start + a->blocks + a->table;
}

/* ---- the old structure ---- */

static void uncount(struct qcow2_walk *w, uint64_t cluster)
{
	if (qcow2_uses_count(&w->uses, cluster) > 0)
		--*qcow2_uses_at(&w->uses, cluster); /* it is there: no memory is taken */
}

/* As they were counted (qcow2-check-walk.c). */
static void forget_old(struct qcow2_walk *w)
{
	unsigned bits = w->q->g.cluster_bits;
	uint64_t first = w->reftable.host_off >> bits;
	uint64_t nr = td_div_up(w->reftable.nr * sizeof(uint64_t), w->q->g.cluster_size);

	for (uint64_t i = 0; i < nr; i++)
		uncount(w, first + i);
	for (size_t i = 0; i < w->reftable.nr; i++) {
		uint64_t raw = qcow2_table_get(&w->reftable, i);

		if (raw != 0 && raw % w->q->g.cluster_size == 0 && raw < w->size && raw < w->q->g.max_host)
			uncount(w, raw >> bits);
	}
	qcow2_table_done(&w->reftable);
}

static void name_nothing(struct qcow2_header *h, const void *arg)
{
	const struct qcow2 *q = arg;

	h->reftable_off = qcow2_far(q);
	h->reftable_clusters = 1;
}

/*
 * The file is going to be longer.  What lay behind its end must not come to lie inside after a crash, where the counts
 * would all be 0 and everything free.
 */
static int banish_old(struct qcow2_walk *w)
{
	struct qcow2 *q = w->q;
	uint8_t sector[QCOW2_SECTOR];
	int r = 0;

	if (w->reftable.nr == 0)
		return qcow2_header_switch(q, name_nothing, q);
	for (size_t i = 0; r == 0 && i < w->reftable.nr; i++) {
		size_t at = td_align_down(i * sizeof(uint64_t), QCOW2_SECTOR);

		if ((qcow2_table_get(&w->reftable, i) & ~511ull) < w->size)
			continue;
		td_put_be64(w->reftable.raw + i * sizeof(uint64_t), qcow2_far(q));
		memcpy(sector, w->reftable.raw + at, sizeof(sector));
		r = td_image_pwrite(q->child, w->reftable.host_off + at, sector, sizeof(sector), 0);
	}
	return r < 0 ? r : td_image_flush(q->child);
}

/* ---- where the new one goes ---- */

/* The next cluster with a reference. */
static uint64_t next_used(const struct qcow2_walk *w, uint64_t from)
{
	uint64_t c = qcow2_uses_next(&w->uses, from, w->uses.nr);

	while (c < w->uses.nr && qcow2_uses_count(&w->uses, c) == 0)
		c = qcow2_uses_next(&w->uses, c + 1, w->uses.nr);
	return c;
}

/* Does a region, which starts at `first`, hold a part of the area? */
static bool in_area(const struct qcow2_walk *w, const struct area *a, uint64_t first)
{
	return first < area_end(a) && a->start < first + w->q->g.refblock_entries;
}

static uint64_t count_regions(const struct qcow2_walk *w, const struct area *a, uint64_t *ret_end)
{
	uint64_t per = w->q->g.refblock_entries, nr = 0, region;

	*ret_end = 0;
	for (uint64_t c = next_used(w, 0); c < w->uses.nr; c = next_used(w, (region + 1) * per)) {
		region = c / per;
		nr++;
		*ret_end = region + 1;
	}
	/* What the area itself adds lies behind, but for the region in which it starts. */
	for (region = a->start / per; region <= (area_end(a) - 1) / per; region++) {
		if (region >= *ret_end ||
		    next_used(w, region * per) >= TD_MIN((region + 1) * per, w->uses.nr))
			nr++;
		*ret_end = TD_MAX(*ret_end, region + 1);
	}
	return nr;
}

static int plan(const struct qcow2_walk *w, uint64_t start, struct area *ret)
{
	const struct qcow2_geom *g = &w->q->g;
	struct area a = { .start = start, .blocks = 1, .table = 1 };

	/* It grows only, and what it adds is ever less than what it covers. */
	for (;;) {
		uint64_t blocks = count_regions(w, &a, &a.regions);
		uint64_t table = td_div_up(a.regions * sizeof(uint64_t), g->cluster_size);

		if (blocks <= a.blocks && table <= a.table)
			break;
		a.blocks = TD_MAX(a.blocks, blocks);
		a.table = TD_MAX(a.table, table);
	}
	if (a.table << g->cluster_bits > QCOW2_MAX_REFTABLE_BYTES ||
	    area_end(&a) > g->max_host >> g->cluster_bits)
		return -EFBIG;
	*ret = a;
	return 0;
}

static uint64_t end_of_used(const struct qcow2_walk *w)
{
	uint64_t end = 0;

	for (uint64_t c = next_used(w, 0); c < w->uses.nr; c = next_used(w, c + 1))
		end = c + 1;
	return end;
}

/* At the end of the file; on a device, behind what is used. */
static int place(struct qcow2_walk *w, struct area *ret)
{
	struct qcow2 *q = w->q;
	int r = plan(w, TD_MAX(q->end, w->uses.nr), ret);

	if (r == 0)
		r = qcow2_grow_file(q, area_end(ret));
	if (r != -ENOSPC || !q->fixed_size)
		return r;
	r = plan(w, end_of_used(w), ret);
	if (r == 0 && area_end(ret) > q->child->size >> q->g.cluster_bits)
		r = -ENOSPC;
	return r;
}

/* ---- writing it ---- */

static int write_block(struct qcow2_walk *w, const struct area *a, uint64_t region, uint64_t at, uint8_t *buf)
{
	const struct qcow2_geom *g = &w->q->g;
	uint64_t first = region * g->refblock_entries;
	int r = 0;

	memset(buf, 0, g->cluster_size);
	for (uint64_t i = 0; r == 0 && i < g->refblock_entries; i++) {
		uint64_t c = first + i;
		bool ours = c >= a->start && c < area_end(a);
		uint64_t count = ours ? 1 : TD_MIN(qcow2_uses_count(&w->uses, c), w->max_count);

		if (count > 0)
			r = qcow2_refcount_set(g, buf, i, count);
	}
	return r < 0 ? r : td_image_pwrite(w->q->child, at << g->cluster_bits, buf, g->cluster_size, 0);
}

static int write_area(struct qcow2_walk *w, const struct area *a, struct qcow2_table *t)
{
	unsigned bits = w->q->g.cluster_bits;
	uint8_t *buf = td_buf_alloc(w->q->g.cluster_size);
	uint64_t at = a->start, used = next_used(w, 0);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t region = 0; r == 0 && region < a->regions; region++) {
		uint64_t first = region * w->q->g.refblock_entries;

		if (used < first)
			used = next_used(w, first);
		if (!in_area(w, a, first) && used >= TD_MIN(first + w->q->g.refblock_entries, w->uses.nr))
			continue;
		td_put_be64(t->raw + region * sizeof(uint64_t), at << bits);
		r = write_block(w, a, region, at++, buf);
	}
	if (r == 0)
		r = td_image_pwrite(w->q->child, t->host_off, t->raw, t->bytes, 0);
	if (buf)
		td_buf_free(buf, w->q->g.cluster_size);
	return r;
}

static void name_table(struct qcow2_header *h, const void *arg)
{
	const struct qcow2_table *t = arg;

	h->reftable_off = t->host_off;
	h->reftable_clusters = (uint32_t)(t->bytes >> h->cluster_bits);
}

int qcow2_rebuild(struct qcow2_walk *w)
{
	struct qcow2 *q = w->q;
	struct qcow2_table t = { 0 };
	struct area a = { 0 };
	int r = banish_old(w);

	forget_old(w);
	if (r == 0)
		r = place(w, &a);
	if (r == 0)
		r = qcow2_table_new((a.table << q->g.cluster_bits) / sizeof(uint64_t), &t);
	if (r != 0)
		return r;
	t.host_off = (a.start + a.blocks) << q->g.cluster_bits;
	r = write_area(w, &a, &t);
	if (r == 0)
		r = qcow2_header_switch(q, name_table, &t);
	if (r < 0) {
		qcow2_table_done(&t);
		return r;
	}
	qcow2_end_at(q, area_end(&a));
	qcow2_table_done(&q->reftable);
	q->reftable = t;
	qcow2_cache_empty(&q->refs); /* nothing in it was changed */
	return 0;
}
