// SPDX-License-Identifier: BSD-2-Clause
/*
 * Walking an L1 table and all L2 tables below it, on the disk: nothing of the image is changed in memory meanwhile.
 *
 * What is found is checked as far as who counts it needs: no table lies on other metadata, no data on any.
 */
#include "qcow2-shadow.h"

int qcow2_walker_init(struct qcow2_walker *w, struct qcow2 *q, const struct td_progress *progress)
{
	*w = (struct qcow2_walker){ .q = q, .progress = progress, .buf = td_buf_alloc(q->g.cluster_size) };
	return w->buf ? qcow2_overlap_fixed(q, &w->fixed) : -ENOMEM;
}

void qcow2_walker_done(struct qcow2_walker *w)
{
	qcow2_set_done(&w->fixed);
	if (w->buf)
		td_buf_free(w->buf, w->q->g.cluster_size);
	w->buf = NULL;
}

static uint64_t entry(const struct qcow2_tree *t, uint64_t i)
{
	return td_get_be64(t->raw + i * sizeof(uint64_t));
}

/* ---- the L1 table ---- */

uint64_t qcow2_tree_tables(const struct qcow2_tree *t)
{
	uint64_t nr = 0;

	for (uint64_t i = 0; i < t->nr; i++)
		nr += (entry(t, i) & QCOW2_OFF_MASK) != 0;
	return nr;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Two entries for one L2 table: each of them would be changed by writes through the other. */
int qcow2_tree_check(const struct qcow2_tree *t)
{
	td_cleanup(free) uint64_t *off = malloc(qcow2_tree_tables(t) * sizeof(*off) + 1);
	uint64_t nr = 0;
	bool sorted = true;

	if (!off)
		return -ENOMEM;
	for (uint64_t i = 0; i < t->nr; i++) {
		uint64_t at = entry(t, i) & QCOW2_OFF_MASK;

		if (at == 0)
			continue;
		sorted = sorted && (nr == 0 || off[nr - 1] < at);
		off[nr++] = at;
	}
	if (!sorted)
		qsort(off, nr, sizeof(*off), by_value);
	for (uint64_t i = 1; i < nr; i++)
		if (off[i] == off[i - 1])
			return -EUCLEAN;
	return 0;
}

/* ---- L2 tables ---- */

/* Large holes are skipped: ask where one ends once a table was found to lie in one. */
static int find_hole(struct qcow2_walker *w, uint64_t off)
{
	struct td_extent e;
	int r = td_image_extent(w->q->child, off, w->q->child->size - off, &e);

	if (r < 0)
		return r;
	w->hole = off;
	w->hole_end = e.kind == TD_EXTENT_ZERO ? off + e.len : off;
	return 0;
}

int qcow2_walker_table(struct qcow2_walker *w, uint64_t host_off, uint8_t **ret)
{
	size_t len = w->q->g.cluster_size;
	int r;

	w->done += len;
	if (w->progress)
		w->progress->fn(w->progress, w->done, TD_MAX(w->done, w->total));
	*ret = NULL;
	if (host_off >= w->hole && host_off + len <= w->hole_end)
		return 0;
	r = td_image_pread(w->q->child, host_off, w->buf, len, TD_EXACT);
	if (r < 0)
		return r == -EINVAL ? -EUCLEAN : r;
	if (td_is_zero(w->buf, len))
		return find_hole(w, host_off);
	*ret = w->buf;
	return 0;
}

/* Runs of entries for neighbours on the disk are one call. */
struct run {
	qcow2_ref_fn *fn;
	void *arg;
	uint64_t first, nr;
	int by;
};

static void flush_run(struct run *run)
{
	if (run->nr > 0)
		run->fn(run->arg, run->first, run->nr, run->by);
	run->nr = 0;
}

static void add_to_run(struct run *run, uint64_t first, uint64_t nr)
{
	if (run->nr == 0 || run->first + run->nr != first) {
		flush_run(run);
		run->first = first;
	}
	run->nr += nr;
}

static int walk_entries(struct qcow2_walker *w, const uint8_t *table, struct run *run)
{
	const struct qcow2 *q = w->q;

	for (uint64_t i = 0; i < q->g.cluster_size; i += 1u << q->g.l2_entry_bits) {
		uint64_t first, last, len = q->g.cluster_size;
		struct qcow2_l2e e;

		if (td_get_be64(table + i) == 0 && !qcow2_is_extended(&q->g))
			continue;
		if (qcow2_l2e_read(&q->g, q->h.version, table + i, &e) < 0)
			return -EUCLEAN;
		if (e.kind == QCOW2_HOLE || e.kind == QCOW2_ZERO || q->g.data_file)
			continue;
		if (e.kind == QCOW2_PACKED)
			len = e.packed_len;
		if (!qcow2_overlap_data_ok(q, e.host_off, len))
			return -EUCLEAN;
		first = e.host_off >> q->g.cluster_bits;
		last = (e.host_off + len - 1) >> q->g.cluster_bits;
		add_to_run(run, first, last - first + 1);
	}
	return 0;
}

/* A table in a hole of the file is counted like any other, and has no entries. */
static int walk_table(struct qcow2_walker *w, uint64_t raw, struct run *run)
{
	const struct qcow2 *q = w->q;
	struct qcow2_l1e e;
	uint64_t cluster;
	uint8_t *table;
	int r = qcow2_l1e_decode(&q->g, raw, &e);

	if (r < 0 || !e.present)
		return r;
	cluster = e.host_off >> q->g.cluster_bits;
	if (qcow2_set_has(&w->fixed, cluster) || e.host_off >= q->child->size)
		return -EUCLEAN;
	add_to_run(run, cluster, 1);
	r = qcow2_walker_table(w, e.host_off, &table);
	return r == 0 && table ? walk_entries(w, table, run) : r;
}

int qcow2_tree_walk(struct qcow2_walker *w, const struct qcow2_tree *t, qcow2_ref_fn *fn, void *arg)
{
	struct run run = { .fn = fn, .arg = arg, .by = t->by };
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < t->nr; i++)
		if (entry(t, i) != 0)
			r = walk_table(w, entry(t, i), &run);
	flush_run(&run);
	return r;
}
