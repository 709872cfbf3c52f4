// SPDX-License-Identifier: BSD-2-Clause
/*
 * Working out refcounts, a window of clusters at a time, and writing them into new blocks.
 *
 *	count = the old one + references that trees gain or lose + adjustments
 *
 * For each window the trees are walked again, on the disk: that costs reading their tables, and no memory.  Most images
 * fit one window.
 */
#include "qcow2-shadow.h"

uint64_t qcow2_shadow_window = 4u << 20;

struct window {
	struct qcow2_shadow *s;
	uint64_t first, nr;
	int *by;        /* for each cluster */
	bool uncounted; /* something was named that no block counts */
};

static uint64_t window_size(const struct qcow2_shadow *s)
{
	uint64_t nr = TD_MAX(s->q->g.refblock_entries, s->g.refblock_entries);

	return TD_MAX(nr, qcow2_shadow_window);
}

static int window_init(struct window *w, struct qcow2_shadow *s)
{
	*w = (struct window){ .s = s, .nr = window_size(s) };
	w->by = calloc(w->nr, sizeof(w->by[0]));
	return w->by ? 0 : -ENOMEM;
}

/* ---- what becomes of the counts ---- */

static void add(struct window *w, uint64_t first, uint64_t nr, int by)
{
	uint64_t from = TD_MAX(first, w->first), end = TD_MIN(first + nr, w->first + w->nr);

	for (uint64_t c = from; c < end; c++)
		w->by[c - w->first] += by;
}

static void add_refs(void *arg, uint64_t first, uint64_t nr, int by)
{
	struct window *w = arg;

	w->uncounted |=
		!qcow2_refs_has_block(w->s->q, first) || !qcow2_refs_has_block(w->s->q, first + nr - 1);
	add(w, first, nr, by);
}

/* What a tree names was counted before. */
static int check_counted(struct window *w)
{
	uint64_t count = 0;
	int r = w->uncounted ? -EUCLEAN : 0;

	for (uint64_t i = 0; r == 0 && i < w->nr; i++) {
		if (w->by[i] == 0)
			continue;
		r = qcow2_counts_get(&w->s->old, w->first + i, &count);
		if (r == 0 && count == 0)
			r = -EUCLEAN;
	}
	return r;
}

static int load_trees(struct window *w, uint64_t first)
{
	struct qcow2_shadow *s = w->s;
	int r = 0;

	memset(w->by, 0, w->nr * sizeof(w->by[0]));
	w->first = first;
	for (unsigned i = 0; r == 0 && i < s->nr_trees; i++)
		r = qcow2_tree_walk(&s->walker, &s->tree[i], add_refs, w);
	return r == 0 && s->nr_trees > 0 ? check_counted(w) : r;
}

static int new_count(struct window *w, uint64_t cluster, uint64_t *ret)
{
	int by = w->by[cluster - w->first];
	uint64_t count = 0;
	int r = qcow2_counts_get(&w->s->old, cluster, &count);

	if (r < 0)
		return r;
	if (by < 0 && count < (uint64_t)-by)
		return -EUCLEAN;
	if (by > 0 && count + (uint64_t)by < count)
		return -ERANGE;
	*ret = count + (uint64_t)by;
	return 0;
}

/* ---- which are one ---- */

static int mark_ones(struct window *w, uint8_t *bits, uint64_t nr)
{
	uint64_t count = 0;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < w->nr && w->first + i < nr; i++) {
		if (w->by[i] == 0)
			continue;
		r = new_count(w, w->first + i, &count);
		if (r == 0 && count == 1)
			bits[(w->first + i) / 8] |= (uint8_t)(1u << (w->first + i) % 8);
	}
	return r;
}

/* Is there a block for any cluster of the window? */
static bool counted_at_all(const struct window *w, uint64_t first)
{
	const struct qcow2 *q = w->s->q;

	for (uint64_t i = 0; i < w->nr; i += q->g.refblock_entries)
		if (qcow2_refs_has_block(q, first + i))
			return true;
	return false;
}

int qcow2_shadow_ones(struct qcow2_shadow *s, uint8_t **ret_bits, uint64_t *ret_nr)
{
	uint64_t nr = td_div_up(s->q->child->size, s->q->g.cluster_size) + 1;
	uint8_t *bits = calloc(nr / 8 + 1, 1);
	struct window w;
	int r = window_init(&w, s);

	if (r == 0 && !bits)
		r = -ENOMEM;
	for (uint64_t first = 0; r == 0 && first < nr; first += w.nr) {
		if (!counted_at_all(&w, first))
			continue;
		r = load_trees(&w, first);
		if (r == 0)
			r = mark_ones(&w, bits, nr);
	}
	free(w.by);
	if (r < 0) {
		free(bits);
		return r;
	}
	*ret_bits = bits;
	*ret_nr = nr;
	return 0;
}

/* ---- where the new structure lies ---- */

/* Which new regions have anything to count? */
struct needs {
	uint8_t *region;
	uint64_t nr;
	size_t seen; /* adjustments */
};

static void need_range(struct needs *n, const struct qcow2_geom *g, uint64_t first, uint64_t nr)
{
	for (uint64_t i = first / g->refblock_entries;
	     i <= (first + nr - 1) / g->refblock_entries && i < n->nr; i++)
		n->region[i] = 1;
}

static void need_adjusted(struct needs *n, const struct qcow2_shadow *s)
{
	for (; n->seen < s->nr_adjusts; n->seen++)
		if (s->adjust[n->seen].by > 0)
			need_range(n, &s->g, s->adjust[n->seen].cluster, s->adjust[n->seen].nr);
}

/* How long the new table has to be, in clusters: for the old regions, and for what is still going to be taken. */
static int table_length(const struct qcow2_shadow *s, uint64_t *ret)
{
	const struct qcow2_geom *g = &s->q->g;
	uint64_t top = TD_MAX(s->q->end, s->cursor), blocks = 0, more = 0, table;

	for (size_t i = 0; i < s->q->reftable.nr; i++) {
		if (qcow2_table_get(&s->q->reftable, i) == 0)
			continue;
		top = TD_MAX(top, (i + 1) * g->refblock_entries);
		blocks += td_div_up(g->refblock_entries, s->g.refblock_entries);
	}
	for (size_t i = 0; i < s->nr_adjusts; i++)
		blocks += 1 + s->adjust[i].nr / s->g.refblock_entries;
	for (;;) {
		uint64_t need;

		table = td_div_up((top + more) / s->g.refblock_entries * sizeof(uint64_t) +
					  2 * sizeof(uint64_t),
				  g->cluster_size);
		need = blocks + table + more / s->g.refblock_entries + 2;
		if (need <= more)
			break;
		more = need;
	}
	*ret = table;
	return table << g->cluster_bits > QCOW2_MAX_REFTABLE_BYTES ? -EFBIG : 0;
}

/* The old table and blocks are counted no more. */
static int drop_old(struct qcow2_shadow *s)
{
	const struct qcow2 *q = s->q;
	int r = qcow2_shadow_adjust(s, q->reftable.host_off >> q->g.cluster_bits,
				    q->reftable.bytes >> q->g.cluster_bits, -1);

	for (size_t i = 0; r == 0 && i < q->reftable.nr; i++) {
		struct qcow2_reftable_entry e;

		r = qcow2_reftable_decode(&q->g, qcow2_table_get(&q->reftable, i), &e);
		if (r == 0 && e.present)
			r = qcow2_shadow_adjust(s, e.host_off >> q->g.cluster_bits, 1, -1);
	}
	return r;
}

/* A cluster for each block that is needed; which may need another block. */
static int place_blocks(struct qcow2_shadow *s, struct needs *n)
{
	uint64_t off;
	bool more = true;
	int r = 0;

	while (r == 0 && more) {
		more = false;
		need_adjusted(n, s);
		for (uint64_t i = 0; r == 0 && i < n->nr; i++) {
			if (!n->region[i] || qcow2_table_get(&s->reftable, i) != 0)
				continue;
			more = true;
			r = qcow2_shadow_take(s, 1, 1, &off);
			if (r == 0)
				td_put_be64(s->reftable.raw + i * sizeof(uint64_t), off);
		}
	}
	return r;
}

static int place(struct qcow2_shadow *s, struct needs *n)
{
	const struct qcow2_geom *g = &s->q->g;
	uint64_t table, host_off = 0;
	int r = table_length(s, &table);

	if (r == 0)
		r = qcow2_shadow_take(s, table, 1, &host_off);
	if (r == 0)
		r = qcow2_table_new((table << g->cluster_bits) / sizeof(uint64_t), &s->reftable);
	if (r < 0)
		return r;
	s->reftable.host_off = host_off;
	n->nr = s->reftable.nr;
	n->region = calloc(n->nr, 1);
	if (!n->region)
		return -ENOMEM;
	for (size_t i = 0; i < s->q->reftable.nr; i++)
		if (qcow2_table_get(&s->q->reftable, i) != 0)
			need_range(n, &s->g, i * g->refblock_entries, g->refblock_entries);
	r = place_blocks(s, n);
	return r == 0 ? drop_old(s) : r;
}

/* ---- writing it ---- */

static int write_block(struct window *w, uint64_t region, uint8_t *buf)
{
	struct qcow2_shadow *s = w->s;
	uint64_t first = region * s->g.refblock_entries, count = 0;
	int r = 0;

	memset(buf, 0, s->g.cluster_size);
	for (uint64_t i = 0; r == 0 && i < s->g.refblock_entries; i++) {
		r = new_count(w, first + i, &count);
		if (r == 0 && count > 0)
			r = qcow2_refcount_set(&s->g, buf, i, count);
	}
	return r < 0 ? r
		     : td_image_pwrite(s->q->child, qcow2_table_get(&s->reftable, region), buf,
				       s->g.cluster_size, 0);
}

static int write_window(struct window *w, const struct needs *n, uint64_t first, uint8_t *buf)
{
	struct qcow2_shadow *s = w->s;
	uint64_t region = first / s->g.refblock_entries;
	uint64_t end = TD_MIN((first + w->nr) / s->g.refblock_entries, n->nr);
	int r;

	if (region >= end || !memchr(n->region + region, 1, end - region))
		return 0;
	r = load_trees(w, first);
	for (size_t i = 0; r == 0 && i < s->nr_adjusts; i++)
		add(w, s->adjust[i].cluster, s->adjust[i].nr, s->adjust[i].by);
	for (; r == 0 && region < end; region++)
		if (n->region[region])
			r = write_block(w, region, buf);
	return r;
}

static int write_all(struct qcow2_shadow *s, const struct needs *n)
{
	uint8_t *buf = td_buf_alloc(s->g.cluster_size);
	struct window w;
	int r = window_init(&w, s);

	if (r == 0 && !buf)
		r = -ENOMEM;
	for (uint64_t first = 0; r == 0 && first / s->g.refblock_entries < n->nr; first += w.nr)
		r = write_window(&w, n, first, buf);
	if (r == 0)
		r = td_image_pwrite(s->q->child, s->reftable.host_off, s->reftable.raw, s->reftable.bytes, 0);
	if (buf)
		td_buf_free(buf, s->g.cluster_size);
	free(w.by);
	return r;
}

int qcow2_shadow_count(struct qcow2_shadow *s)
{
	struct needs n = { 0 };
	int r = place(s, &n);

	if (r == 0)
		r = write_all(s, &n);
	free(n.region);
	return r;
}
