// SPDX-License-Identifier: BSD-2-Clause
/*
 * Checking: every entry of the BAT, and bytes of the file that two of them name.  What is named is noted as runs of
 * bytes, which are sorted at the end.  Nothing is repaired.
 */
#include <inttypes.h>

#include <blktap/check.h>
#include <blktap/co.h>

#include "vhdx-int.h"

struct check {
	struct vhdx *v;
	struct td_check *ret;
	struct td_runs runs;
	uint64_t last; /* host byte behind the last block */
};

/* ---- entries ---- */

static int bad(struct check *c, const char *what, uint64_t number)
{
	c->ret->corruptions++;
	td_check_say(c->ret, "the %s %" PRIu64 " leads out of the file or over its tables, or means nothing",
		     what, number);
	return 0;
}

static int see_bitmap(struct check *c, uint64_t chunk, uint64_t raw)
{
	uint64_t off = 0;

	if (!c->v->disk.parent || (raw & 7) == VHDX_NOT_PRESENT)
		return 0; /* nobody looks at it */
	if (vhdx_bitmap_decode(raw, &off) < 0 || vhdx_check_bitmap(c->v, off) < 0)
		return bad(c, "bitmap of chunk", chunk);
	return td_runs_add(&c->runs, off, VHDX_MIB);
}

static int see_block(struct check *c, uint64_t block, uint64_t raw)
{
	const uint32_t len = c->v->g.block_size;
	struct vhdx_entry e;

	if (vhdx_entry_decode(raw, &e) < 0)
		return bad(c, "block", block);
	if (e.state != VHDX_PRESENT && e.state != VHDX_PARTLY)
		return 0;
	if (vhdx_check_block(c->v, e.off) < 0 || (e.state == VHDX_PARTLY && !c->v->disk.parent))
		return bad(c, "block", block);
	c->ret->allocated++;
	c->ret->fragmented += c->last && e.off != c->last;
	c->last = e.off + len;
	return td_runs_add(&c->runs, e.off, len);
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

static void compare(struct check *c)
{
	uint64_t end = c->v->regions.bat.off + c->v->regions.bat.len;

	c->ret->image_end = TD_MAX(end, c->v->regions.metadata.off + c->v->regions.metadata.len);
	td_runs_sort(&c->runs);
	end = 0;
	for (size_t i = 0; i < c->runs.nr; i++) {
		const struct td_run *run = &c->runs.at[i];

		if (run->off < end) {
			c->ret->corruptions++;
			td_check_say(c->ret, "more than one entry names the bytes at %#" PRIx64, run->off);
		}
		end = TD_MAX(end, run->off + run->len);
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
	td_runs_done(&c.runs);
	return r;
}
