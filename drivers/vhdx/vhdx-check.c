// SPDX-License-Identifier: BSD-2-Clause
/*
 * Checking: every entry of the BAT, and bytes of the file that two of them name.  What is named is noted as runs of
 * bytes, which are sorted at the end.  Nothing is repaired.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include <blktap/co.h>

#include "vhdx-int.h"

#define RUNS_MAX (4u << 20)

struct run {
	uint64_t off, len;
};

struct check {
	struct vhdx *v;
	struct td_check *ret;
	struct run *runs;
	size_t nr, room;
	uint64_t last; /* host byte behind the last block */
};

static void say(const struct check *c, const char *fmt, ...) TD_PRINTF(2, 3);

static void say(const struct check *c, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (!c->ret->report)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->ret->report(c->ret->report_arg, line);
}

static int note(struct check *c, uint64_t off, uint64_t len)
{
	struct run *last = c->nr > 0 ? &c->runs[c->nr - 1] : NULL, *more;

	if (last && last->off + last->len == off) {
		last->len += len;
		return 0;
	}
	if (c->nr == c->room) {
		c->room = c->room ? 2 * c->room : 256;
		more = c->room > RUNS_MAX ? NULL : reallocarray(c->runs, c->room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		c->runs = more;
	}
	c->runs[c->nr++] = (struct run){ .off = off, .len = len };
	return 0;
}

/* ---- entries ---- */

static int bad(struct check *c, const char *what, uint64_t number)
{
	c->ret->corruptions++;
	say(c, "the %s %" PRIu64 " leads out of the file or over its tables, or means nothing", what, number);
	return 0;
}

static int see_bitmap(struct check *c, uint64_t chunk, uint64_t raw)
{
	uint64_t off = 0;

	if (!c->v->disk.parent || (raw & 7) == VHDX_NOT_PRESENT)
		return 0; /* nobody looks at it */
	if (vhdx_bitmap_decode(raw, &off) < 0 || vhdx_check_place(c->v, off, VHDX_MIB) < 0)
		return bad(c, "bitmap of chunk", chunk);
	return note(c, off, VHDX_MIB);
}

static int see_block(struct check *c, uint64_t block, uint64_t raw)
{
	const uint32_t len = c->v->g.block_size;
	struct vhdx_entry e;

	if (vhdx_entry_decode(raw, &e) < 0)
		return bad(c, "block", block);
	if (e.state != VHDX_PRESENT && e.state != VHDX_PARTLY)
		return 0;
	if (vhdx_check_place(c->v, e.off, len) < 0 || (e.state == VHDX_PARTLY && !c->v->disk.parent))
		return bad(c, "block", block);
	c->ret->allocated++;
	c->ret->fragmented += c->last && e.off != c->last;
	c->last = e.off + len;
	return note(c, e.off, len);
}

static int see_entries(struct check *c)
{
	const struct vhdx_geom *g = &c->v->g;
	const uint64_t chunk_len = (1ull << g->ratio_bits) + 1;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < g->nr_entries; i++) {
		const uint64_t chunk = i / chunk_len, in = i % chunk_len;
		uint64_t raw = 0;

		r = vhdx_bat_entry(c->v, i, &raw);
		if (r == 0 && in == chunk_len - 1)
			r = see_bitmap(c, chunk, raw);
		else if (r == 0 && i - chunk < g->nr_blocks)
			r = see_block(c, i - chunk, raw);
		if (i % 65536 == 65535)
			td_co_pause();
	}
	return r;
}

/* ---- what is named twice ---- */

static int by_off(const void *a, const void *b)
{
	const struct run *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

static void compare(struct check *c)
{
	uint64_t end = c->v->regions.bat.off + c->v->regions.bat.len;

	c->ret->image_end = TD_MAX(end, c->v->regions.metadata.off + c->v->regions.metadata.len);
	if (c->nr > 0)
		qsort(c->runs, c->nr, sizeof(c->runs[0]), by_off);
	end = 0;
	for (size_t i = 0; i < c->nr; i++) {
		if (c->runs[i].off < end) {
			c->ret->corruptions++;
			say(c, "more than one entry names the bytes at %#" PRIx64, c->runs[i].off);
		}
		end = TD_MAX(end, c->runs[i].off + c->runs[i].len);
	}
	c->ret->image_end = TD_MAX(c->ret->image_end, end);
}

int vhdx_check(struct td_image *im, unsigned fix, struct td_check *ret)
{
	struct check c = { .v = im->state, .ret = ret };
	int r;

	(void)fix; /* read-only: nobody comes here with one */
	ret->clusters = c.v->g.nr_blocks;
	r = see_entries(&c);
	if (r == 0)
		compare(&c);
	free(c.runs);
	return r;
}
