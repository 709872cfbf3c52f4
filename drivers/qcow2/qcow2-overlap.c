// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which host clusters hold metadata: header, L1, refcount table, refcount blocks, active L2 tables, snapshot table,
 * the snapshots' L1 tables.  Whatever an L2 entry or the allocator names for guest data is looked up here first: a
 * write through a broken table must not destroy the tables.
 *
 * A hash set of cluster numbers: its size follows the metadata (some hundred entries a terabyte), not the disk.
 *
 * The snapshots' L1 tables are kept as areas beside it: 65536 of 32 MiB each are a few bytes in an image that lies.
 */
#include "qcow2-int.h"

void qcow2_set_done(struct qcow2_set *s)
{
	free(s->slot);
	*s = (struct qcow2_set){ 0 };
}

static size_t home_of(const struct qcow2_set *s, uint64_t key)
{
	return (key * 0x9e3779b97f4a7c15ull >> 20) & (s->nr_slots - 1);
}

/* Where key is, or the empty slot where it would be. */
static size_t slot_of(const struct qcow2_set *s, uint64_t key)
{
	size_t i = home_of(s, key);

	while (s->slot[i] != 0 && s->slot[i] != key)
		i = (i + 1) & (s->nr_slots - 1);
	return i;
}

static int grow(struct qcow2_set *s)
{
	struct qcow2_set bigger = { .nr_slots = s->nr_slots ? s->nr_slots * 2 : 64, .nr = s->nr };

	bigger.slot = calloc(bigger.nr_slots, sizeof(bigger.slot[0]));
	if (!bigger.slot)
		return -ENOMEM;
	for (size_t i = 0; i < s->nr_slots; i++)
		if (s->slot[i] != 0)
			bigger.slot[slot_of(&bigger, s->slot[i])] = s->slot[i];
	free(s->slot);
	*s = bigger;
	return 0;
}

int qcow2_set_add(struct qcow2_set *s, uint64_t cluster)
{
	size_t i;

	if ((s->nr + 1) * 2 > s->nr_slots && grow(s) < 0)
		return -ENOMEM;
	i = slot_of(s, cluster + 1);
	if (s->slot[i] != 0)
		return 0;
	s->slot[i] = cluster + 1;
	s->nr++;
	return 1;
}

bool qcow2_set_has(const struct qcow2_set *s, uint64_t cluster)
{
	return s->nr > 0 && s->slot[slot_of(s, cluster + 1)] != 0;
}

/* Linear probing: what follows in the same chain moves up, so that nothing becomes unreachable. */
void qcow2_set_del(struct qcow2_set *s, uint64_t cluster)
{
	size_t hole, i;

	if (!qcow2_set_has(s, cluster))
		return;
	hole = slot_of(s, cluster + 1);
	for (i = (hole + 1) & (s->nr_slots - 1); s->slot[i] != 0; i = (i + 1) & (s->nr_slots - 1)) {
		size_t from_home = (i - home_of(s, s->slot[i])) & (s->nr_slots - 1);
		size_t from_hole = (i - hole) & (s->nr_slots - 1);

		if (from_home < from_hole)
			continue;
		s->slot[hole] = s->slot[i];
		hole = i;
	}
	s->slot[hole] = 0;
	s->nr--;
}

static int add_area(struct qcow2 *q, uint64_t host_off, uint64_t len, bool *ret_new)
{
	uint64_t first = host_off >> q->g.cluster_bits;
	uint64_t nr = td_div_up(qcow2_in_cluster(q, host_off) + len, q->g.cluster_size);
	bool all_new = true;

	for (uint64_t i = 0; i < nr; i++) {
		int r = qcow2_set_add(&q->meta, first + i);

		if (r < 0)
			return r;
		all_new &= r > 0;
	}
	*ret_new = all_new;
	return 0;
}

int qcow2_overlap_add(struct qcow2 *q, uint64_t host_off, uint64_t len)
{
	bool all_new;

	return add_area(q, host_off, len, &all_new);
}

void qcow2_overlap_del(struct qcow2 *q, uint64_t host_off, uint64_t len)
{
	for (uint64_t at = host_off; at < host_off + len; at += q->g.cluster_size)
		qcow2_set_del(&q->meta, at >> q->g.cluster_bits);
}

/* Does a snapshot's L1 table touch [first, last]?  They are in order and do not overlap. */
static bool snap_touches(const struct qcow2 *q, uint64_t first, uint64_t last)
{
	uint32_t lo = 0, hi = q->nr_snap_areas;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (q->snap_areas[mid].last < first)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < q->nr_snap_areas && q->snap_areas[lo].first <= last;
}

bool qcow2_overlap_has(const struct qcow2 *q, uint64_t cluster)
{
	return qcow2_set_has(&q->meta, cluster) || snap_touches(q, cluster, cluster);
}

bool qcow2_overlap_data_ok(const struct qcow2 *q, uint64_t host_off, uint64_t len)
{
	uint64_t first = host_off >> q->g.cluster_bits;
	uint64_t last = (host_off + len - 1) >> q->g.cluster_bits;

	if (q->g.data_file)
		return true; /* no metadata is there */
	if (host_off >= q->child->size)
		return false;
	for (uint64_t c = first; c <= last; c++)
		if (qcow2_set_has(&q->meta, c))
			return false;
	return !snap_touches(q, first, last);
}

/* Reading does no harm, and check wants to see it. */
static bool bears_overlaps(const struct qcow2 *q)
{
	return q->im->read_only || (q->im->flags & TD_OPEN_CHECK);
}

static int refuse(const struct qcow2 *q, const char *what, uint64_t host_off, struct td_err *ret_err)
{
	return td_err_set(ret_err, -EUCLEAN,
			  "%s: %s at offset %#llx overlaps other metadata; open it read-only, or repair it "
			  "(tap-img check --repair)",
			  q->im->name, what, (unsigned long long)host_off);
}

static int claim(struct qcow2 *q, const char *what, uint64_t host_off, uint64_t len, struct td_err *ret_err)
{
	bool all_new = true;
	int r = len == 0 ? 0 : add_area(q, host_off, len, &all_new);

	if (r < 0)
		return td_err_set(ret_err, r, "%s: no memory for the map of its metadata", q->im->name);
	return !all_new && !bears_overlaps(q) ? refuse(q, what, host_off, ret_err) : 0;
}

/* A damaged entry is no reason to refuse the whole disk: it is met, and answered, when a request needs it. */
static bool l2_table_at(const struct qcow2 *q, size_t i, struct qcow2_l1e *ret)
{
	return qcow2_l1e_decode(&q->g, qcow2_table_get(&q->l1, i), ret) == 0 && ret->present;
}

static int claim_l2_tables(struct qcow2 *q, struct td_err *ret_err)
{
	struct qcow2_l1e e;
	int r = 0;

	/*
	 * First against everything else, those that are shared too: a write replaces a shared table and gives the old
	 * one back, and that must not be the refcounts.
	 */
	for (size_t i = 0; !bears_overlaps(q) && i < q->l1.nr; i++)
		if (l2_table_at(q, i, &e) && qcow2_overlap_has(q, e.host_off >> q->g.cluster_bits))
			return refuse(q, "L2 table", e.host_off, ret_err);
	for (size_t i = 0; r == 0 && i < q->l1.nr; i++) {
		if (!l2_table_at(q, i, &e))
			continue;
		/* Shared tables of snapshots made by others may well repeat; what is ours alone may not. */
		if (!e.copied)
			r = qcow2_overlap_add(q, e.host_off, q->g.cluster_size);
		else
			r = claim(q, "L2 table", e.host_off, q->g.cluster_size, ret_err);
	}
	return r;
}

static int claim_refcount_blocks(struct qcow2 *q, struct td_err *ret_err)
{
	for (size_t i = 0; i < q->reftable.nr; i++) {
		struct qcow2_reftable_entry e;
		int r;

		if (qcow2_reftable_decode(&q->g, qcow2_table_get(&q->reftable, i), &e) < 0 || !e.present)
			continue;
		r = claim(q, "refcount block", e.host_off, q->g.cluster_size, ret_err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int by_first(const void *a, const void *b)
{
	const struct qcow2_area *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* The snapshots' L1 tables, in order; against each other and against the clusters known so far. */
static int claim_snapshots(struct qcow2 *q, struct td_err *ret_err)
{
	static const char what[] = "a snapshot's L1 table";
	struct qcow2_area *a = q->snap_areas;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < q->nr_snaps; i++) {
		uint64_t off = q->snaps[i].l1_off, len = (uint64_t)q->snaps[i].l1_size * sizeof(uint64_t);

		if (len > 0)
			a[nr++] = (struct qcow2_area){ off >> q->g.cluster_bits,
						       (off + len - 1) >> q->g.cluster_bits };
	}
	if (nr > 0)
		qsort(a, nr, sizeof(*a), by_first);
	for (uint32_t i = 1; i < nr && !bears_overlaps(q); i++)
		if (a[i].first <= a[i - 1].last)
			return refuse(q, what, a[i].first << q->g.cluster_bits, ret_err);
	q->nr_snap_areas = nr;
	for (size_t i = 0; i < q->meta.nr_slots && !bears_overlaps(q); i++) {
		uint64_t cluster = q->meta.slot[i] - 1;

		if (q->meta.slot[i] != 0 && snap_touches(q, cluster, cluster))
			return refuse(q, what, cluster << q->g.cluster_bits, ret_err);
	}
	return 0;
}

static int claim_tables(struct qcow2 *q, struct td_err *ret_err)
{
	int r = claim(q, "header", 0, q->g.cluster_size, ret_err);

	if (r == 0)
		r = claim(q, "L1 table", q->h.l1_off, q->h.l1_size * sizeof(uint64_t), ret_err);
	if (r == 0)
		r = claim(q, "refcount table", q->h.reftable_off,
			  (uint64_t)q->h.reftable_clusters * q->g.cluster_size, ret_err);
	if (r == 0)
		r = claim(q, "encryption header", q->h.crypt_off, q->h.crypt_len, ret_err);
	if (r == 0)
		r = claim(q, "snapshot table", q->h.snapshots_off, q->snap_table_len, ret_err);
	return r == 0 ? claim_refcount_blocks(q, ret_err) : r;
}

int qcow2_overlap_open(struct qcow2 *q, struct td_err *ret_err)
{
	int r = claim_tables(q, ret_err);

	if (r == 0)
		r = claim_snapshots(q, ret_err);
	if (r == 0)
		r = claim_l2_tables(q, ret_err);
	return r;
}

int qcow2_overlap_fixed(struct qcow2 *q, struct qcow2_set *ret)
{
	struct qcow2_set all = q->meta;
	int r;

	q->meta = (struct qcow2_set){ 0 };
	r = claim_tables(q, NULL);
	*ret = q->meta;
	q->meta = all;
	return r;
}
