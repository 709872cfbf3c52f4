// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading: map, then one child request for each run of grains that lie together.  No lock: what was found at lookup may
 * be replaced meanwhile, but it is not handed out to anybody else.
 */
#include "grains-int.h"

/* One of several runs that are read at the same time. */
struct part {
	struct td_grains *g;
	uint64_t off;
	struct grains_extent e;
	struct td_iov iov;
};

/* What this image does not hold; nothing below reaches past our own end. */
static int read_below(struct td_grains *g, uint64_t off, const struct td_iov *iov)
{
	uint64_t here = off < g->im->size ? TD_MIN(iov->len, g->im->size - off) : 0;
	struct td_iov rest = td_iov_slice(iov, here, iov->len - here);
	struct td_iov part = td_iov_slice(iov, 0, here);

	td_iov_zero(&rest);
	if (here == 0)
		return 0;
	if (g->im->backing)
		return td_chain_read(g->im, off, &part);
	td_iov_zero(&part);
	return 0;
}

static int read_data(struct td_grains *g, uint64_t host_off, uint64_t off, const struct td_iov *iov)
{
	if (g->c.ops->read)
		return g->c.ops->read(g->im, host_off, off, iov);
	return td_image_preadv(g->im->child, host_off, iov, 0);
}

/* A stream that does not say where it ends is inflated as far as this read needs it. */
static int read_packed(struct td_grains *g, uint64_t off, const struct grains_extent *e,
		       const struct td_iov *iov)
{
	const struct td_packed_at at = { .off = e->host_off,
					 .len = e->packed_len,
					 .guest = grains_start(g, off) };
	const size_t from = grains_in(g, off);
	size_t enough = g->grain_size;

	if (!g->c.ops->inflate)
		return -EUCLEAN;
	if (!g->packed)
		g->packed = td_packed_new(g->im, g->grain_size, g->c.ops->inflate);
	if (!g->packed)
		return -ENOMEM;
	if (g->c.ops->enough)
		enough = g->c.ops->enough(g->im, from, from + iov->len);
	return td_packed_read(g->packed, &at, from, enough, iov);
}

int grains_read_extent(struct td_grains *g, uint64_t off, const struct grains_extent *e,
		       const struct td_iov *iov)
{
	switch (e->kind) {
	case TD_GRAIN_HOLE:
		return read_below(g, off, iov);
	case TD_GRAIN_ZERO:
		td_iov_zero(iov);
		return 0;
	case TD_GRAIN_DATA:
		return read_data(g, e->host_off, off, iov);
	case TD_GRAIN_PACKED:
		return read_packed(g, off, e, iov);
	}
	return -EIO;
}

int grains_reads_zero(struct td_grains *g, uint64_t off, const struct grains_extent *e, bool *ret)
{
	struct td_extent below;
	uint64_t len;
	int r;

	*ret = e->kind == TD_GRAIN_ZERO;
	if (e->kind != TD_GRAIN_HOLE)
		return 0;
	/* Nothing below reaches past our own end. */
	if (!g->im->backing || off >= g->im->size) {
		*ret = true;
		return 0;
	}
	/* All of it, or the answer is no: a wrong yes would drop what is below. */
	len = TD_MIN(e->len, g->im->size - off);
	r = td_chain_extent(g->im, off, len, &below);
	if (r == 0)
		*ret = below.kind == TD_EXTENT_ZERO && below.len >= len;
	return r;
}

static int read_part(void *arg)
{
	const struct part *p = arg;

	return grains_read_extent(p->g, p->off, &p->e, &p->iov);
}

/* Several runs: up to GRAINS_PARALLEL of them at a time. */
static int read_parts(struct td_grains *g, uint64_t off, const struct td_iov *iov)
{
	struct part part[GRAINS_PARALLEL];
	uint64_t done = 0;
	int r = 0, r2;

	while (r == 0 && done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < GRAINS_PARALLEL && done < iov->len; n++) {
			struct part *p = &part[n];

			*p = (struct part){ .g = g, .off = off + done };
			r = grains_map_far(g, p->off, iov->len - done, &p->e);
			if (r < 0)
				break;
			p->iov = td_iov_slice(iov, done, p->e.len);
			done += p->e.len;
			td_join_start(&j, read_part, p);
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
	}
	return r;
}

int td_grains_preadv(struct td_grains *g, uint64_t off, const struct td_iov *iov)
{
	struct grains_extent e;
	int r = grains_map(g, off, iov->len, &e);

	if (r < 0)
		return r;
	if (e.len < iov->len)
		return read_parts(g, off, iov);
	if (e.kind == TD_GRAIN_DATA) /* straight on: this is most of what a disk does */
		return read_data(g, e.host_off, off, iov);
	return grains_read_extent(g, off, &e, iov);
}

/* ---- what is where ---- */

int td_grains_extent(struct td_grains *g, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct grains_extent e;
	int r = grains_map_far(g, off, len, &e);

	if (r < 0)
		return r;
	*ret = (struct td_extent){
		.kind = TD_EXTENT_DATA,
		.allocated = e.kind == TD_GRAIN_DATA || e.kind == TD_GRAIN_PACKED,
		.packed = e.kind == TD_GRAIN_PACKED,
		.has_host = e.kind == TD_GRAIN_DATA && !g->c.sealed,
		.host_off = e.kind == TD_GRAIN_DATA ? e.host_off : 0,
		.len = e.len,
	};
	if (e.kind == TD_GRAIN_HOLE)
		ret->kind = TD_EXTENT_BACKING;
	else if (e.kind == TD_GRAIN_ZERO)
		ret->kind = TD_EXTENT_ZERO;
	return 0;
}

int td_grains_get(struct td_grains *g, uint64_t off, struct td_grain *ret)
{
	struct grains_extent e;
	int r = grains_map(g, grains_start(g, off), g->grain_size, &e);

	if (r == 0)
		*ret = (struct td_grain){ .kind = e.kind, .host_off = e.host_off, .len = e.packed_len };
	return r;
}
