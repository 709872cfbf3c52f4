// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which host clusters hold metadata: header, L1, refcount table, refcount blocks, active L2 tables, snapshot table,
 * the snapshots' L1 tables.  Whatever an L2 entry or the allocator names for guest data is looked up here first: a
 * write through a broken table must not destroy the tables.
 *
 * A hash set of cluster numbers: its size follows the metadata (some hundred entries a terabyte), not the disk.
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

bool qcow2_overlap_data_ok(const struct qcow2 *q, uint64_t host_off, uint64_t len)
{
	uint64_t first = host_off >> q->g.cluster_bits;
	uint64_t last = (host_off + len - 1) >> q->g.cluster_bits;

	if (host_off >= q->child->size)
		return false;
	for (uint64_t c = first; c <= last; c++)
		if (qcow2_set_has(&q->meta, c))
			return false;
	return true;
}

static int claim(struct qcow2 *q, const char *what, uint64_t host_off, uint64_t len, struct td_err *ret_err)
{
	bool all_new = true;
	int r = len == 0 ? 0 : add_area(q, host_off, len, &all_new);

	if (r < 0)
		return td_err_set(ret_err, r, "%s: no memory for the map of its metadata", q->im->name);
	/* Reading does no harm, and check wants to see it. */
	if (!all_new && !q->im->read_only && !(q->im->flags & TD_OPEN_CHECK))
		return td_err_set(
			ret_err, -EUCLEAN,
			"%s: %s at offset %#llx overlaps other metadata; open it read-only, or check it",
			q->im->name, what, (unsigned long long)host_off);
	return 0;
}

/* A damaged entry is no reason to refuse the whole disk: it is met, and answered, when a request needs it. */
static int claim_l2_tables(struct qcow2 *q, struct td_err *ret_err)
{
	for (size_t i = 0; i < q->l1.nr; i++) {
		struct qcow2_l1e e;
		int r;

		if (qcow2_l1e_decode(&q->g, qcow2_table_get(&q->l1, i), &e) < 0 || !e.present)
			continue;
		/* Shared tables of snapshots made by others may well repeat; what is ours alone may not. */
		if (!e.copied)
			r = qcow2_overlap_add(q, e.host_off, q->g.cluster_size);
		else
			r = claim(q, "L2 table", e.host_off, q->g.cluster_size, ret_err);
		if (r < 0)
			return r;
	}
	return 0;
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

int qcow2_overlap_open(struct qcow2 *q, struct td_err *ret_err)
{
	int r = claim(q, "header", 0, q->g.cluster_size, ret_err);

	if (r == 0)
		r = claim(q, "L1 table", q->h.l1_off, q->l1.nr * sizeof(uint64_t), ret_err);
	if (r == 0)
		r = claim(q, "refcount table", q->h.reftable_off,
			  (uint64_t)q->h.reftable_clusters * q->g.cluster_size, ret_err);
	if (r == 0)
		r = claim(q, "snapshot table", q->h.snapshots_off, q->snap_table_len, ret_err);
	for (uint32_t i = 0; r == 0 && i < q->nr_snaps; i++)
		r = claim(q, "a snapshot's L1 table", q->snaps[i].l1_off,
			  (uint64_t)q->snaps[i].l1_size * sizeof(uint64_t), ret_err);
	if (r == 0)
		r = claim_refcount_blocks(q, ret_err);
	if (r == 0)
		r = claim_l2_tables(q, ret_err);
	return r;
}
