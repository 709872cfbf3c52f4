// SPDX-License-Identifier: BSD-2-Clause
/*
 * What was counted against what the disk says: refcounts, and the COPIED flags of the disk as it is now.
 *
 * Only clusters of the file are compared: a count for one that is not there does no harm.  The flags are compared with
 * the refcounts on disk, right or wrong, as QEMU does: that is what they were made from.
 */
#include "qcow2-check.h"

#define OUTSIDE_MAX 10000u /* refcounts that are read one by one */

/* ---- refcounts ---- */

/* Findings of the same kind beside each other are one line. */
struct compare {
	struct qcow2_walk *w;
	uint8_t *block;
	uint64_t nr;          /* clusters to compare */
	uint64_t end;         /* the first that nothing is known of, nor of any after it */
	uint64_t first, last; /* of the run */
	uint64_t disk, refs;
	bool run;
};

static void end_run(struct compare *c)
{
	if (!c->run)
		return;
	c->run = false;
	qcow2_found(c->w, 0, "%s %llu to %llu: the refcount is %llu, and there are %llu references",
		    c->disk > c->refs ? "leaked clusters" : "clusters", (unsigned long long)c->first,
		    (unsigned long long)c->last, (unsigned long long)c->disk, (unsigned long long)c->refs);
}

static void differ(struct compare *c, uint64_t cluster, uint64_t disk, uint64_t refs)
{
	if (disk > refs)
		c->w->res->leaks++;
	else
		c->w->res->corruptions++;
	if (c->run && (c->last + 1 != cluster || c->disk != disk || c->refs != refs))
		end_run(c);
	if (!c->run)
		c->first = cluster;
	c->run = true;
	c->last = cluster;
	c->disk = disk;
	c->refs = refs;
}

static void compare_one(struct compare *c, uint64_t cluster, uint64_t disk)
{
	uint32_t use = qcow2_uses_get(&c->w->uses, cluster);
	uint64_t refs = TD_MIN((uint64_t)(use & QCOW2_USE_COUNT), c->w->max_count);

	if (disk == 0 && use == 0)
		return;
	if (disk > 0 || refs > 0)
		c->end = TD_MAX(c->end, cluster + 1);
	if (disk != refs)
		differ(c, cluster, disk, refs);
	/* Counted rightly, and wrong all the same. */
	if ((use & QCOW2_USE_CLASH) && disk >= (use & QCOW2_USE_COUNT))
		qcow2_found(c->w, 1, "cluster %llu: has two uses that cannot both be right",
			    (unsigned long long)cluster);
	if (disk == 1 && use != 0)
		*qcow2_uses_at(&c->w->uses, cluster) |= QCOW2_USE_ONE; /* it is there: no memory is taken */
}

/* Clusters first..end-1, of which the disk counts none. */
static void compare_uncounted(struct compare *c, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; (i = qcow2_uses_next(&c->w->uses, i, end)) < end; i++)
		compare_one(c, i, 0);
}

/* A part of a block: from number `idx` on, which stands for cluster `first`. */
static void compare_part(struct compare *c, const uint8_t *part, uint64_t first, uint64_t nr)
{
	const struct qcow2_geom *g = &c->w->q->g;

	for (uint64_t i = 0; i < nr && first + i < c->nr; i++)
		compare_one(c, first + i, qcow2_refcount_get(g, part, i));
}

static int compare_block(struct compare *c, uint64_t host_off, uint64_t first)
{
	const struct qcow2_geom *g = &c->w->q->g;
	uint64_t len = TD_MIN(g->cluster_size, (uint64_t)QCOW2_WALK_BYTES);
	uint64_t per = len * 8 / g->refcount_bits;
	const uint8_t *part;
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < g->cluster_size && first < c->nr; at += len, first += per) {
		r = qcow2_walk_read(c->w, host_off + at, len, &part);
		if (r == 0 && part)
			compare_part(c, part, first, per);
		else if (r == 0)
			compare_uncounted(c, first, TD_MIN(first + per, c->nr));
	}
	return r;
}

/* Where the block of a region can be read; 0: nowhere, its counts are 0. */
static uint64_t block_at(const struct qcow2_walk *w, uint64_t region)
{
	uint64_t off = region < w->reftable.nr ? qcow2_table_get(&w->reftable, region) & ~511ull : 0;

	return off % w->q->g.cluster_size == 0 && off < w->q->child->size ? off : 0;
}

int qcow2_compare_refs(struct qcow2_walk *w)
{
	uint64_t per = w->q->g.refblock_entries;
	struct compare c = { .w = w, .nr = w->uses.nr - 1 };
	struct qcow2_set seen = { 0 };
	int r = 0;

	/* One past the file: only if something was counted there. */
	if (qcow2_uses_get(&w->uses, c.nr))
		c.nr++;
	w->total += td_div_up(c.nr, per) * TD_MIN(w->q->g.cluster_size, w->reftable.nr * sizeof(uint64_t));
	for (uint64_t first = 0; r >= 0 && first < c.nr; first += per) {
		uint64_t off = block_at(w, first / per);

		/* The same block for the second time counts nothing: it is wrong anyway, and there may be a million. */
		r = off ? qcow2_set_add(&seen, off >> w->q->g.cluster_bits) : 0;
		if (r > 0)
			r = compare_block(&c, off, first);
		else if (r == 0)
			compare_uncounted(&c, first, TD_MIN(first + per, c.nr));
	}
	end_run(&c);
	qcow2_set_done(&seen);
	w->res->image_end = c.end << w->q->g.cluster_bits;
	return TD_MIN(r, 0);
}

/* ---- COPIED ---- */

/*
 * The refcount of a cluster that the file does not have: a file that was cut short has counts for what is gone.  As
 * many of them as damage brings; whoever made more of them gets a 0.
 */
static int count_outside(struct qcow2_walk *w, uint64_t cluster, uint64_t *ret)
{
	const struct qcow2_geom *g = &w->q->g;
	uint64_t block = block_at(w, cluster / g->refblock_entries), idx = cluster % g->refblock_entries;
	uint64_t at = (idx << w->q->h.refcount_order >> 3) & ~511ull;
	uint8_t sector[QCOW2_SECTOR];
	int r;

	*ret = 0;
	if (block == 0 || block + at + sizeof(sector) > w->q->child->size || w->outside++ > OUTSIDE_MAX)
		return 0;
	r = td_image_pread(w->q->child, block + at, sector, sizeof(sector), 0);
	if (r == 0)
		*ret = qcow2_refcount_get(g, sector, idx % (sizeof(sector) * 8 / g->refcount_bits));
	return r;
}

static int one_on_disk(struct qcow2_walk *w, uint64_t off, bool *ret)
{
	uint64_t cluster = off >> w->q->g.cluster_bits, count = 0;
	int r = 0;

	*ret = qcow2_uses_get(&w->uses, cluster) & QCOW2_USE_ONE;
	if (cluster >= w->uses.nr - 1)
		r = count_outside(w, cluster, &count);
	*ret |= count == 1;
	return r;
}

static int compare_l1_flags(struct qcow2_walk *w)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->q->l1.nr; i++) {
		uint64_t raw = qcow2_table_get(&w->q->l1, i), off = raw & QCOW2_OFF_MASK;
		bool one;

		if (off == 0)
			continue;
		r = one_on_disk(w, off, &one);
		if (r == 0 && one != (raw >> 63))
			qcow2_found(w, 1, "L1 table, entry %zu: the COPIED flag is wrong: %#llx", i,
				    (unsigned long long)raw);
	}
	return r;
}

static int compare_l2_flag(struct qcow2_walk *w, const struct qcow2_named *t, uint64_t idx, uint64_t raw)
{
	int r = 0;
	uint64_t off = raw & QCOW2_OFF_MASK;
	bool outside = w->q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE;
	bool one = true;

	if ((raw & QCOW2_L2_COMPRESSED) || (off == 0 && !(outside && (raw & QCOW2_COPIED))))
		return 0;
	if (!outside)
		r = one_on_disk(w, off, &one);
	if (r == 0 && one != (raw >> 63))
		qcow2_found(w, t->active, "L2 table at %#llx, entry %llu: the COPIED flag is wrong: %#llx",
			    (unsigned long long)t->off, (unsigned long long)idx, (unsigned long long)raw);
	return r;
}

static int compare_l2_flags(struct qcow2_walk *w, const struct qcow2_named *t)
{
	uint64_t size = w->q->g.cluster_size;
	unsigned bits = w->q->g.l2_entry_bits;
	const uint8_t *buf;
	int r = 0;

	for (uint64_t at = 0, len; r == 0 && at < size; at += len) {
		len = TD_MIN(size, (uint64_t)QCOW2_WALK_BYTES);
		r = qcow2_walk_read(w, t->off + at, len, &buf);
		for (uint64_t i = 0; r == 0 && buf && i < len; i += 1u << bits)
			r = compare_l2_flag(w, t, (at + i) >> bits, td_get_be64(buf + i));
	}
	return r;
}

int qcow2_compare_flags(struct qcow2_walk *w)
{
	int r = compare_l1_flags(w);

	w->total += (uint64_t)w->l2.nr << w->q->g.cluster_bits;
	for (size_t i = 0; r == 0 && i < w->l2.nr; i++)
		if (w->l2.at[i].active > 0)
			r = compare_l2_flags(w, &w->l2.at[i]);
	return r;
}

/* ---- places in a data file ---- */

static void compare_place(struct qcow2_walk *w, uint64_t guest_off, uint64_t raw)
{
	uint64_t off = raw & QCOW2_OFF_MASK;

	if ((raw & QCOW2_L2_COMPRESSED) || !qcow2_names_cluster(w->q, raw) || off == guest_off)
		return;
	w->misplaced++;
	qcow2_found(w, 1, "guest offset %#llx: its data is said to be at %#llx of the data file",
		    (unsigned long long)guest_off, (unsigned long long)off);
}

static int compare_table_places(struct qcow2_walk *w, uint64_t table, uint64_t guest_off)
{
	const struct qcow2_geom *g = &w->q->g;
	const uint8_t *buf;
	int r = 0;

	for (uint64_t at = 0, len; r == 0 && at < g->cluster_size; at += len) {
		len = TD_MIN(g->cluster_size, (uint64_t)QCOW2_WALK_BYTES);
		r = qcow2_walk_read(w, table + at, len, &buf);
		for (uint64_t i = 0; r == 0 && buf && i < len; i += 1u << g->l2_entry_bits)
			compare_place(w, guest_off + ((at + i) >> g->l2_entry_bits << g->cluster_bits),
				      td_get_be64(buf + i));
	}
	return r;
}

int qcow2_compare_places(struct qcow2_walk *w)
{
	const struct qcow2 *q = w->q;
	struct qcow2_l1e e;
	int r = 0;

	for (size_t i = 0; r == 0 && i < q->l1.nr; i++)
		if (qcow2_l1e_decode(&q->g, qcow2_table_get(&q->l1, i), &e) == 0 && e.present &&
		    !qcow2_walk_exceeds(w, e.host_off, q->g.cluster_size))
			r = compare_table_places(w, e.host_off,
						 (uint64_t)i << (q->g.cluster_bits + q->g.l2_bits));
	return r;
}
