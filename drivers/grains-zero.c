// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making ranges read as zeros, giving space back, and dropping all there is.
 *
 * A grain that is there stays where it is: zeros are punched into the file, which gives its space back as well, and the
 * next write finds it again.  Entries become ZERO only where nothing is there that could be zeroed, and what is below
 * does not read as zeros; where the format has no such entry zeros are written.
 */
#include "grains-int.h"

/* The part of [off, off + len) that is whole grains.  The disk's end ends its grain. */
static bool whole_grains(const struct td_grains *g, uint64_t off, uint64_t len, uint64_t *ret_off,
			 uint64_t *ret_len)
{
	uint64_t start = td_align_up(off, g->grain_size), end = off + len;

	end = end == g->im->size ? td_align_up(end, g->grain_size) : grains_start(g, end);
	*ret_off = start;
	*ret_len = start < end ? end - start : 0;
	return start < end;
}

/* How much of the hole at off reads as zeros, or does not. */
static int look_below(struct td_grains *g, uint64_t off, struct grains_extent *e, unsigned flags, bool *ret)
{
	struct td_extent below = { .kind = TD_EXTENT_ZERO, .len = e->len };
	int r = 0;

	if (flags & TD_OWN)
		below.kind = TD_EXTENT_DATA;
	else if (g->im->backing)
		r = td_chain_extent(g->im, off, e->len, &below);
	if (r < 0)
		return r;
	e->len = TD_MIN(e->len, below.len);
	*ret = below.kind == TD_EXTENT_ZERO;
	return 0;
}

/* The file may end inside its last grain: so much of this is in it. */
static uint64_t inside_file(const struct td_grains *g, const struct grains_extent *e)
{
	uint64_t size = g->im->child->size;

	return e->host_off < size ? TD_MIN(e->len, size - e->host_off) : 0;
}

static int zero_data(struct td_grains *g, uint64_t off, const struct grains_extent *e, unsigned flags)
{
	uint64_t inside = inside_file(g, e);

	if (!g->c.sealed) /* behind the end of the file are zeros */
		return td_image_zero(g->im->child, e->host_off, inside, flags & (TD_MAY_UNMAP | TD_FAST));
	return flags & TD_FAST ? -ENOTSUP : grains_write_zeros(g, off, e->len);
}

/* Entries of whole grains in one unit; whoever has written there meanwhile did so at the same time. */
static int link_zero(struct td_grains *g, uint64_t off, uint64_t len)
{
	struct td_grain zero = { .kind = TD_GRAIN_ZERO };
	struct td_range range;
	int r;

	td_grains_lock(g, &range, off, len);
	r = grains_room(g);
	if (r == 0)
		r = grains_own_table(g, off);
	for (uint64_t done = 0; r == 0 && done < len;) {
		struct grains_extent e;

		r = grains_map(g, off + done, len - done, &e);
		if (r == 0 && e.kind != TD_GRAIN_DATA && e.kind != TD_GRAIN_ZERO)
			r = grains_link(g, off + done, td_div_up(e.len, g->grain_size), &zero);
		done += r == 0 ? e.len : 0;
	}
	td_grains_unlock(g, &range);
	return r;
}

/* Nothing is there that could be zeroed, and it does not read as zeros. */
static int zero_else(struct td_grains *g, uint64_t off, uint64_t len, unsigned flags)
{
	uint64_t start = 0, whole = 0;
	int r = 0;

	if (!g->c.has_zero || !whole_grains(g, off, len, &start, &whole))
		return flags & TD_FAST ? -ENOTSUP : grains_write_zeros(g, off, len);
	if (start > off)
		r = grains_write_zeros(g, off, start - off);
	if (r == 0)
		r = link_zero(g, start, whole);
	if (r == 0 && start + whole < off + len)
		r = grains_write_zeros(g, start + whole, off + len - start - whole);
	return r;
}

/* What is at off and does not read as zeros: would some have to be written? */
static bool is_slow(const struct td_grains *g, uint64_t off, const struct grains_extent *e)
{
	uint64_t start, whole;

	if (e->kind == TD_GRAIN_DATA)
		return g->c.sealed;
	return !g->c.has_zero || !whole_grains(g, off, e->len, &start, &whole);
}

/* From off on, inside one unit; *ret_len: so much was done.  look: nothing is, -ENOTSUP if it would not be fast. */
static int zero_some(struct td_grains *g, uint64_t off, uint64_t len, unsigned flags, bool look,
		     uint64_t *ret_len)
{
	struct grains_extent e;
	bool zero = false;
	int r = grains_map(g, off, len, &e);

	if (r < 0)
		return r;
	if (e.kind == TD_GRAIN_HOLE)
		r = look_below(g, off, &e, flags, &zero);
	if (e.kind != TD_GRAIN_DATA && !zero)
		e.len = TD_MIN(e.len, grains_to_unit_end(g, off));
	*ret_len = e.len;
	if (r < 0 || zero || e.kind == TD_GRAIN_ZERO)
		return r;
	if (look)
		return is_slow(g, off, &e) ? -ENOTSUP : 0;
	return e.kind == TD_GRAIN_DATA ? zero_data(g, off, &e, flags) : zero_else(g, off, e.len, flags);
}

static int zero_all(struct td_grains *g, uint64_t off, uint64_t len, unsigned flags, bool look)
{
	unsigned steps = 0;
	int r = 0;

	for (uint64_t done = 0, n = 0; r == 0 && done < len; done += n) {
		r = zero_some(g, off + done, len - done, flags, look, &n);
		if (++steps % 256 == 0)
			td_co_pause(); /* holes take no I/O, and a disk can be millions of them */
	}
	return r;
}

int td_grains_zero(struct td_grains *g, uint64_t off, uint64_t len, unsigned flags)
{
	int r = flags & TD_FAST ? zero_all(g, off, len, flags, true) : 0;

	if (r == 0)
		r = zero_all(g, off, len, flags, false);
	return r == 0 && (flags & TD_FUA) ? td_meta_commit(g->meta) : r;
}

int td_grains_trim(struct td_grains *g, uint64_t off, uint64_t len)
{
	unsigned steps = 0;
	int r = 0;

	if (g->c.sealed) /* a hole would not read as zeros */
		return 0;
	for (uint64_t done = 0; r == 0 && done < len;) {
		struct grains_extent e;

		r = grains_map_far(g, off + done, len - done, &e);
		if (r == 0 && e.kind == TD_GRAIN_DATA && inside_file(g, &e) > 0)
			r = td_image_trim(g->im->child, e.host_off, inside_file(g, &e));
		done += r == 0 ? e.len : 0;
		if (++steps % 256 == 0)
			td_co_pause();
	}
	return r;
}

/* ---- dropping all ---- */

static int empty_unit(struct td_grains *g, uint64_t at)
{
	struct td_grain hole = { .kind = TD_GRAIN_HOLE };
	uint8_t *bytes = NULL;
	int r = td_meta_room(g->meta, 1);

	if (r < 0)
		return r;
	r = td_meta_get(g->meta, TD_GRAINS_TABLES, at, &bytes);
	if (r < 0)
		return r;
	td_meta_mark(g->meta, TD_GRAINS_TABLES, at);
	for (uint64_t i = 0; i < 1ull << g->unit_bits; i++)
		grains_put_raw(g, bytes, i, g->c.ops->encode(g->im, &hole));
	return 0;
}

/* A table that was made goes as a whole; one that was there from the start stays, empty. */
static int empty_table(struct td_grains *g, uint64_t table)
{
	uint64_t off = 0;
	int r = grains_table(g, table, &off);

	if (r < 0 || off == 0)
		return r;
	if (!g->c.table_align) {
		for (uint64_t at = 0; r == 0 && at < g->table_bytes; at += g->unit)
			r = empty_unit(g, off + at);
		return r;
	}
	r = grains_room(g);
	return r < 0 ? r : grains_name_table(g, table, 0);
}

/* Nothing names a grain any more; what else is in use may lie behind where they were. */
static int cut_all(struct td_grains *g)
{
	uint64_t end = grains_used_to(g);
	int r = 0;

	if (!g->fixed_size)
		r = td_image_resize(g->im->child, end, TD_RESIZE_SHRINK, NULL);
	/* A block device stays as long as it is, and what it holds there is not zeros. */
	if (r == 0 || r == -ENOTSUP || r == -EINVAL)
		g->end = end;
	if (r == 0)
		g->touched = g->end;
	return r == -ENOTSUP || r == -EINVAL ? 0 : r;
}

int td_grains_empty(struct td_grains *g)
{
	uint64_t nr = td_div_up(g->im->size, 1ull << (g->c.table_bits + g->c.grain_bits));
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < nr; i++)
		r = empty_table(g, i);
	if (r == 0)
		r = td_meta_commit(g->meta);
	if (r < 0)
		return r;
	grains_forget_tables(g);
	td_meta_forget(g->meta, TD_GRAINS_TABLES);
	td_packed_forget(g->packed, 0, INT64_MAX);
	return cut_all(g);
}
