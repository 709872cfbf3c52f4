// SPDX-License-Identifier: BSD-2-Clause
/*
 * Checking a map: every entry, and every byte of the file that two of them name, or none.
 *
 * What is named is noted as runs of bytes, which are sorted at the end: two that overlap would change each other's
 * data, a gap is space that nobody can reach.  Gaps that are holes of the file cost nothing and are not counted.
 */
#include "grains-int.h"

#include <inttypes.h>

#include <blktap/check.h>

#define PAGE 4096u /* what file systems give back at the least */

struct check {
	struct td_grains *g;
	struct td_check *ret;
	unsigned fix;
	struct td_runs runs;
	uint64_t last; /* host byte behind the last grain */
	uint64_t last_table;
	/* There are streams whose entries do not say where they end, or the format keeps count: gaps tell nothing. */
	bool endless;
};

/* ---- entries ---- */

/* What it led to is lost already.  What is below shows there again. */
static int drop_entry(struct check *c, const struct grains_entry *e)
{
	struct td_grain hole = { .kind = TD_GRAIN_HOLE };
	int r;

	if ((c->fix & TD_FIX_ALL) != TD_FIX_ALL)
		return 0;
	r = grains_room(c->g);
	if (r == 0)
		r = grains_link(c->g, e->off, 1, &hole);
	if (r == 0) {
		c->ret->corruptions--;
		c->ret->corruptions_fixed++;
	}
	return r;
}

static int bad_entry(struct check *c, const struct grains_entry *e, const char *what)
{
	c->ret->corruptions++;
	td_check_say(c->ret, "the entry of guest offset %#" PRIx64 " (%#" PRIx64 ") %s", e->off, e->raw,
		     what);
	return drop_entry(c, e);
}

static int see_entry(void *arg, const struct grains_entry *e)
{
	struct check *c = arg;
	struct td_grains *g = c->g;
	struct td_grain at = { 0 };
	uint64_t size = g->im->child->size, len;

	if (grains_decode(g, e->raw, &at) < 0)
		return bad_entry(c, e, "leads out of the file, or means nothing");
	if (at.kind == TD_GRAIN_HOLE || at.kind == TD_GRAIN_ZERO)
		return 0;
	len = TD_MIN(g->grain_size, size - at.host_off);
	if (at.kind == TD_GRAIN_PACKED) {
		if (at.len > size - at.host_off)
			return bad_entry(c, e, "is of a stream that the file cuts short");
		c->ret->compressed++;
		len = at.len;
		c->endless |= len == 0;
	}
	c->ret->allocated++;
	c->ret->fragmented += c->last && !c->endless && at.host_off != c->last;
	c->last = at.host_off + len;
	return len > 0 ? td_runs_add(&c->runs, at.host_off, len) : 0;
}

/* 1: what it says is not looked at. */
static int see_table(void *arg, uint64_t table, uint64_t off, int error)
{
	struct check *c = arg;
	struct td_grains *g = c->g;
	int r = error;

	if (r == 0 && !td_in_range(off, g->table_bytes, td_align_up(g->im->child->size, TD_KEEP_SECTOR)))
		r = -EUCLEAN;
	if (r == 0) {
		bool again = off == c->last_table; /* a directory of junk may say so a million times */

		c->last_table = off;
		r = td_runs_add(&c->runs, off, g->table_bytes);
		return r == 0 && again ? 1 : r;
	}
	if (r != -EUCLEAN) {
		c->ret->errors++;
		td_check_say(c->ret, "table %" PRIu64 " cannot be found: %s", table, strerror(-r));
		return 1;
	}
	c->ret->corruptions++;
	td_check_say(c->ret, "table %" PRIu64 " does not lie inside the file, or lies on the directory",
		     table);
	if ((c->fix & TD_FIX_ALL) != TD_FIX_ALL || !g->c.table_align)
		return 1;
	r = grains_room(g);
	if (r == 0)
		r = grains_name_table(g, table, 0);
	grains_forget_tables(g);
	if (r < 0)
		return r;
	c->ret->corruptions--;
	c->ret->corruptions_fixed++;
	return 1;
}

static int see_unit(void *arg, uint64_t off, int error)
{
	struct check *c = arg;

	c->ret->errors++;
	td_check_say(c->ret, "the table at %#" PRIx64 " cannot be read: %s", off, strerror(-error));
	return 1;
}

/* ---- what is named twice, or not at all ---- */

/* Bytes of the gap that are kept, counted in grains; not of pages that it shares, which no trim gives back. */
static int count_gap(const struct td_grains *g, uint64_t off, uint64_t end, uint64_t *ret)
{
	uint64_t from = td_align_up(off, PAGE), n = 0;

	if (end < g->im->child->size)
		end = td_align_down(end, PAGE);
	for (uint64_t at = from; at < end;) {
		struct td_extent e;
		int r = td_image_extent(g->im->child, at, end - at, &e);

		if (r < 0)
			return r;
		if (e.kind == TD_EXTENT_DATA)
			n += td_div_up(e.len, g->grain_size);
		at += e.len;
	}
	*ret = n;
	return 0;
}

static int see_gap(struct check *c, uint64_t off, uint64_t end)
{
	struct td_grains *g = c->g;
	uint64_t found = 0, left = 0;
	int r;

	off = td_align_up(off, TD_MAX((uint64_t)TD_KEEP_SECTOR, g->c.table_align));
	if (off >= end || end - off < g->grain_size)
		return 0;
	r = count_gap(g, off, end, &found);
	if (r < 0 || found == 0)
		return r;
	td_check_say(c->ret, "nothing names %" PRIu64 " bytes at %#" PRIx64, end - off, off);
	if (!(c->fix & TD_FIX_LEAKS)) {
		c->ret->leaks += found;
		return 0;
	}
	if (end == g->im->child->size)
		td_ignore(td_image_resize(g->im->child, off, TD_RESIZE_SHRINK, NULL));
	else
		td_ignore(td_image_trim(g->im->child, off, end - off)); /* we look what became of it */
	if (off < g->im->child->size)
		r = count_gap(g, off, end, &left);
	c->ret->leaks += left;
	c->ret->leaks_fixed += found - TD_MIN(found, left);
	return r;
}

static int compare(struct check *c)
{
	uint64_t end = 0;
	int r = 0;

	td_runs_sort(&c->runs);
	for (size_t i = 0; r == 0 && i < c->runs.nr; i++) {
		const struct td_run *run = &c->runs.at[i];

		if (run->off < end) {
			c->ret->corruptions++;
			td_check_say(c->ret, "more than one entry names the bytes at %#" PRIx64, run->off);
		}
		/* Where it is not clear what is whose nothing is given back. */
		if (run->off > end && !c->endless && c->ret->corruptions == 0 && c->ret->errors == 0)
			r = see_gap(c, end, run->off);
		end = TD_MAX(end, run->off + run->len);
	}
	if (c->endless)
		end = c->g->im->child->size;
	c->ret->image_end = end;
	if (r == 0 && end < c->g->im->child->size && !c->g->im->child->limits.device &&
	    c->ret->corruptions == 0 && c->ret->errors == 0)
		r = see_gap(c, end, c->g->im->child->size);
	return r;
}

static int check_all(struct check *c, const struct td_grains_used *used, unsigned nr_used)
{
	struct td_grains *g = c->g;
	struct grains_walk w = { .arg = c, .table = see_table, .unit = see_unit, .entry = see_entry };
	int r = g->c.dir_off ? td_runs_add(&c->runs, g->c.dir_off, g->dir_bytes) : 0;

	for (unsigned i = 0; r == 0 && i < nr_used; i++)
		if (used[i].len > 0)
			r = td_runs_add(&c->runs, used[i].off, used[i].len);
	if (r == 0)
		r = grains_walk(g, &w);
	if (r == 0)
		r = compare(c);
	if (r == 0 && c->fix)
		r = td_meta_commit(g->meta);
	return r;
}

int td_grains_check(struct td_grains *g, unsigned fix, const struct td_grains_used *used, unsigned nr_used,
		    struct td_check *ret)
{
	struct check c = { .g = g, .ret = ret, .fix = fix, .endless = g->c.keeps_free };
	int r;

	ret->clusters = td_div_up(g->im->size, g->grain_size);
	r = check_all(&c, used, nr_used);

	td_runs_done(&c.runs);
	return r;
}
