// SPDX-License-Identifier: BSD-2-Clause
/*
 * The file under a map: its length, and what of it was handed out; new tables; walking those that are there.
 *
 * It is grown ahead, in steps, by truncation: what is new then reads as zeros without being written, and writes that
 * would each extend the file (which file systems serialise) become plain ones.  A kill leaves it longer than it needs
 * to be, by one step.
 */
#include "grains-int.h"

#define GROW_MIN (1ull << 20)
#define GROW_MAX (16ull << 20)

/* ---- walking ---- */

struct walk_at {
	struct td_grains *g;
	const struct grains_walk *w;
	uint8_t *copy; /* of a unit: what is called may yield */
};

static int walk_unit(const struct walk_at *a, uint64_t first, uint64_t at)
{
	const struct td_grains *g = a->g;
	uint8_t *bytes = NULL;
	int r = td_meta_get(g->meta, TD_GRAINS_TABLES, at, &bytes);

	if (r < 0 && a->w->unit)
		return TD_MIN(a->w->unit(a->w->arg, at, r), 0);
	if (r < 0)
		return r;
	memcpy(a->copy, bytes, g->unit);
	for (uint64_t i = 0; r == 0 && i < 1ull << g->unit_bits; i++) {
		struct grains_entry e = {
			.off = first + (i << g->c.grain_bits),
			.unit = at,
			.number = i,
			.raw = grains_raw(g, a->copy, i),
		};

		if (e.off < g->im->size)
			r = a->w->entry(a->w->arg, &e);
	}
	return r;
}

static int walk_table(const struct walk_at *a, uint64_t table)
{
	const struct td_grains *g = a->g;
	uint64_t off = 0, first = table << (g->c.table_bits + g->c.grain_bits);
	int r = grains_table(a->g, table, &off);

	if (r == 0 && off == 0 && !g->c.table_align)
		r = -EUCLEAN;
	if (r == 0 && off == 0)
		return 0;
	if (a->w->table)
		r = a->w->table(a->w->arg, table, off, r);
	for (uint64_t at = 0; r == 0 && at < g->table_bytes; at += g->unit) {
		uint64_t guest = first + (at >> g->entry_bits << g->c.grain_bits);

		if (guest < g->im->size)
			r = walk_unit(a, guest, off + at);
	}
	return TD_MIN(r, 0);
}

int grains_walk(struct td_grains *g, const struct grains_walk *w)
{
	uint64_t nr = td_div_up(g->im->size, 1ull << (g->c.table_bits + g->c.grain_bits));
	struct walk_at a = { .g = g, .w = w, .copy = td_buf_alloc(TD_META_UNIT_MAX) };
	int r = a.copy ? 0 : -ENOMEM;

	for (uint64_t i = 0; r == 0 && i < nr; i++) {
		r = walk_table(&a, i);
		if (i % 64 == 63)
			td_co_pause();
	}
	if (a.copy)
		td_buf_free(a.copy, TD_META_UNIT_MAX);
	return r;
}

/* ---- the end of what is used: asked of a block device alone, whose end says nothing ---- */

struct last {
	struct td_grains *g;
	uint64_t end;
};

static int last_table(void *arg, uint64_t table, uint64_t off, int error)
{
	struct last *l = arg;

	(void)table;
	l->end = TD_MAX(l->end, off + l->g->table_bytes);
	return error;
}

static int last_entry(void *arg, const struct grains_entry *e)
{
	struct last *l = arg;
	struct td_grain one = { 0 };
	int r = grains_decode(l->g, e->raw, &one);

	if (r == 0 && (one.kind == TD_GRAIN_DATA || one.kind == TD_GRAIN_PACKED))
		l->end = TD_MAX(l->end, one.host_off + TD_MAX(l->g->grain_size, one.len));
	return r;
}

static int become_fixed(struct td_grains *g)
{
	struct last l = { .g = g, .end = grains_used_to(g) };
	struct grains_walk w = { .arg = &l, .table = last_table, .entry = last_entry };
	int r = grains_walk(g, &w);

	if (r < 0)
		return r;
	g->fixed_size = true;
	g->end = l.end;
	return 0;
}

/* ---- handing out ---- */

static int grow_file(struct td_grains *g, uint64_t need)
{
	struct td_image *child = g->im->child;
	uint64_t ahead = TD_MAX(GROW_MIN, TD_MIN(child->size / 4, GROW_MAX));
	int r;

	if (need <= child->size)
		return 0;
	if (g->fixed_size)
		return -ENOSPC;
	r = td_image_resize(child, td_align_up(need + ahead, TD_META_UNIT_MAX), 0, NULL);
	if (r < 0 && r != -ENOTSUP)
		r = td_image_resize(child, need, 0, NULL);
	g->grown |= r == 0;
	return r;
}

static int take_end(struct td_grains *g, uint64_t len, uint64_t align, uint64_t *ret)
{
	uint64_t at = td_align_up(g->end, align);

	*ret = at;
	return td_in_range(at, len, g->c.max_host) ? grow_file(g, at + len) : -EFBIG;
}

/* With alloc held. */
static int alloc_locked(struct td_grains *g, uint64_t len, uint64_t align, struct grains_run *ret)
{
	uint64_t at = 0;
	int r = take_end(g, len, align, &at);

	if ((r == -ENOTSUP || r == -EINVAL) && !g->fixed_size) {
		r = become_fixed(g);
		if (r == 0)
			r = take_end(g, len, align, &at);
	}
	if (r == 0 && g->c.ops->grow)
		r = g->c.ops->grow(g->im, at + len);
	if (r < 0)
		return r;
	*ret = (struct grains_run){ .off = at,
				    .len = len,
				    .fresh = at >= g->touched && !g->fixed_size && !g->c.sealed };
	g->end = at + len;
	g->touched = TD_MAX(g->touched, g->end);
	return 0;
}

int grains_alloc(struct td_grains *g, uint64_t len, uint64_t align, struct grains_run *ret)
{
	int r;

	td_mutex_lock(&g->alloc);
	r = alloc_locked(g, len, align, ret);
	td_mutex_unlock(&g->alloc);
	g->allocated += r == 0 ? len : 0;
	return r;
}

/* What was handed out behind it stays where it is, and this leaks. */
void grains_alloc_undo(struct td_grains *g, const struct grains_run *run)
{
	if (g->end == run->off + run->len)
		g->end = run->off;
}

void grains_cut(struct td_grains *g)
{
	/* Longer than needed is no harm. */
	if (g->grown && g->im->child->size > g->end)
		td_ignore(td_image_resize(g->im->child, g->end, TD_RESIZE_SHRINK, NULL));
}

/* ---- the start of the file ---- */

/* What the sector holds of the directory is the disk's own after a commit, and nobody changes it without `alloc`. */
static int put_head(struct td_grains *g, const void *head, size_t len)
{
	uint8_t sector[TD_KEEP_SECTOR];
	int r = td_meta_commit(g->meta);

	if (r == 0)
		r = td_image_pread(g->im->child, 0, sector, sizeof(sector), 0);
	if (r < 0)
		return r;
	memcpy(sector, head, len);
	r = td_image_pwrite(g->im->child, 0, sector, sizeof(sector), 0);
	if (r == 0)
		r = td_image_flush(g->im->child);
	if (r < 0)
		td_image_freeze(g->im);
	td_meta_forget(g->meta, TD_GRAINS_DIRECTORY);
	return r;
}

int td_grains_put_head(struct td_grains *g, const void *head, size_t len)
{
	int r;

	td_mutex_lock(&g->alloc);
	r = put_head(g, head, len);
	td_mutex_unlock(&g->alloc);
	return r;
}

/* ---- tables ---- */

int grains_room(struct td_grains *g)
{
	return td_meta_room(g->meta, (unsigned)(g->table_bytes / g->unit) + 1);
}

static int make_table(struct td_grains *g, uint64_t table)
{
	struct grains_run run;
	uint8_t *bytes;
	int r = alloc_locked(g, g->table_bytes, g->c.table_align, &run);

	if (r < 0)
		return r;
	for (uint64_t at = 0; r == 0 && at < g->table_bytes; at += g->unit)
		r = td_meta_new(g->meta, TD_GRAINS_TABLES, run.off + at, &bytes);
	if (r == 0)
		r = grains_name_table(g, table, run.off);
	g->tables_made += r == 0;
	return r;
}

int grains_own_table(struct td_grains *g, uint64_t off)
{
	uint64_t table = off >> (g->c.table_bits + g->c.grain_bits), there = 0;
	int r = grains_table(g, table, &there);

	if (r < 0 || there)
		return r;
	if (!g->c.table_align)
		return -EUCLEAN;
	td_mutex_lock(&g->alloc);
	r = grains_table(g, table, &there);
	if (r == 0 && there == 0)
		r = make_table(g, table);
	td_mutex_unlock(&g->alloc);
	return r;
}
