// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writing.
 *
 * What lies in grains that are there is written in place.  From the first byte on that does not, the rest takes whole
 * grains exclusively and goes run by run:
 *
 *	1. a table					(grains_own_table)
 *	2. adjacent grains at the end of the file	(grains_alloc)
 *	3. data, in one write with what has to be copied around it
 *	4. the entries, in memory			(grains_link)
 *
 * The commit brings 1 and 4 to the disk, in its order.  If 3 fails the space goes back: nothing ever pointed at it.
 *
 *	     |<--- first grain --->|  ...  |<--- last grain --->|
 *	     | head |     guest data, any length     |   tail   |
 */
#include <blktap/edge.h>

#include "grains-int.h"

struct part {
	struct td_grains *g;
	bool in_place;
	uint64_t off;
	uint64_t host_off;     /* of the byte at off */
	struct grains_run run; /* new */
	struct td_iov iov;
};

int grains_write_data(struct td_grains *g, uint64_t host_off, uint64_t off, const struct td_iov *iov)
{
	if (g->c.ops->write)
		return g->c.ops->write(g->im, host_off, off, iov);
	return td_image_pwritev(g->im->child, host_off, iov, 0);
}

/* ---- the grains' bytes that the guest does not write ---- */

static int edge_load(struct td_grains *g, struct td_edge *e)
{
	struct grains_extent old;
	struct iovec v;
	struct td_iov iov;
	int r;

	if (e->len == 0)
		return 0;
	r = grains_map(g, e->off, e->len, &old);
	if (r == 0)
		r = grains_reads_zero(g, e->off, &old, &e->zero);
	if (r < 0 || e->zero)
		return r;
	e->buf = td_buf_alloc(e->len);
	if (!e->buf)
		return -ENOMEM;
	iov = td_iov_buf(&v, e->buf, e->len);
	return grains_read_extent(g, e->off, &old, &iov);
}

/* [head | guest | tail] in one write. */
static int write_with_edges(const struct part *p, const struct td_edge *head, const struct td_edge *tail)
{
	td_cleanup(free) struct iovec *v = NULL;
	struct td_iov all;
	int r = td_edges_join(head, &p->iov, tail, &v, &all);

	if (r < 0)
		return r;
	return grains_write_data(p->g, p->host_off - head->len, p->off - head->len, &all);
}

static int write_around(const struct part *p)
{
	struct td_grains *g = p->g;
	uint64_t end = p->off + p->iov.len;
	struct td_edge head = { .off = grains_start(g, p->off) };
	struct td_edge tail = { .off = end, .len = -end & (g->grain_size - 1) };
	int r;

	head.len = p->off - head.off;
	r = edge_load(g, &head);
	if (r == 0)
		r = edge_load(g, &tail);
	/* What is fresh is zeros already. */
	if (p->run.fresh && head.zero)
		head.len = 0;
	if (p->run.fresh && tail.zero)
		tail.len = 0;
	if (r == 0 && head.len + tail.len == 0)
		r = grains_write_data(g, p->host_off, p->off, &p->iov);
	else if (r == 0)
		r = write_with_edges(p, &head, &tail);
	td_edge_done(&head);
	td_edge_done(&tail);
	return r;
}

static int write_part(void *arg)
{
	const struct part *p = arg;
	struct td_grain now = { .kind = TD_GRAIN_DATA, .host_off = p->run.off };
	int r;

	if (p->in_place)
		return grains_write_data(p->g, p->host_off, p->off, &p->iov);
	r = write_around(p);
	if (r == 0)
		r = grains_link(p->g, p->off, p->run.len >> p->g->c.grain_bits, &now);
	if (r < 0)
		grains_alloc_undo(p->g, &p->run);
	return r;
}

/* ---- into new grains: the range is held exclusively ---- */

/* How many bytes from off on, inside one unit, need new grains?  The first is known to. */
static int length_of_new(struct td_grains *g, uint64_t off, uint64_t len, uint64_t first, uint64_t *ret)
{
	uint64_t n = first, most = TD_MIN(len, grains_to_unit_end(g, off));

	while (n < most) {
		struct grains_extent e;
		int r = grains_map(g, off + n, most - n, &e);

		if (r < 0)
			return r;
		if (e.kind == TD_GRAIN_DATA)
			break;
		n += e.len;
	}
	*ret = TD_MIN(n, most);
	return 0;
}

static int plan_new(struct td_grains *g, uint64_t off, uint64_t len, const struct grains_extent *e,
		    struct part *p, uint64_t *ret_len)
{
	uint64_t in = grains_in(g, off), n = 0;
	int r = length_of_new(g, off, len, TD_MIN(e->len, len), &n);

	if (r == 0)
		r = grains_own_table(g, off);
	if (r == 0)
		r = grains_alloc(g, td_align_up(in + n, g->grain_size), g->grain_size, &p->run);
	if (r < 0)
		return r;
	p->host_off = p->run.off + in;
	*ret_len = n;
	return 0;
}

/* The next run. */
static int plan(struct td_grains *g, uint64_t off, const struct td_iov *iov, uint64_t done, struct part *ret)
{
	uint64_t at = off + done, n;
	struct part p = { .g = g, .off = at };
	struct grains_extent e = { 0 };
	int r = grains_room(g);

	if (r == 0)
		r = grains_map(g, at, iov->len - done, &e);
	if (r < 0)
		return r;
	n = e.len;
	p.in_place = e.kind == TD_GRAIN_DATA;
	p.host_off = e.host_off;
	if (!p.in_place)
		r = plan_new(g, at, iov->len - done, &e, &p, &n);
	if (r < 0)
		return r;
	p.iov = td_iov_slice(iov, done, n);
	*ret = p;
	return 0;
}

static int write_runs(struct td_grains *g, uint64_t off, const struct td_iov *iov, uint64_t done)
{
	struct part part[GRAINS_PARALLEL];
	int r = 0, r2;

	while (r == 0 && done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < GRAINS_PARALLEL && done < iov->len; n++) {
			r = plan(g, off, iov, done, &part[n]);
			if (r < 0)
				break;
			done += part[n].iov.len;
			if (n == 0 && done == iov->len)
				return write_part(&part[0]);
			td_join_start(&j, write_part, &part[n]);
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
	}
	return r;
}

void td_grains_lock(struct td_grains *g, struct td_range *range, uint64_t off, uint64_t len)
{
	uint64_t start = grains_start(g, off), end = td_align_up(off + len, g->grain_size);

	td_range_lock(&g->ranges, range, start, end - start, TD_RANGE_EXCLUSIVE);
}

void td_grains_unlock(struct td_grains *g, struct td_range *range)
{
	td_range_unlock(&g->ranges, range);
}

static int write_exclusive(struct td_grains *g, uint64_t off, const struct td_iov *iov, uint64_t done)
{
	struct td_range range;
	int r;

	td_grains_lock(g, &range, off + done, iov->len - done);
	r = write_runs(g, off, iov, done);
	td_grains_unlock(g, &range);
	return r;
}

/* ---- in place ---- */

/* As much as is there from the start on; *done moves past it. */
static int write_there(struct td_grains *g, uint64_t off, const struct td_iov *iov, uint64_t *done)
{
	struct part part[GRAINS_PARALLEL];
	bool there = true;
	int r = 0, r2;

	while (r == 0 && there && *done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < GRAINS_PARALLEL && *done < iov->len; n++) {
			struct grains_extent e;

			r = grains_map_far(g, off + *done, iov->len - *done, &e);
			there = r == 0 && e.kind == TD_GRAIN_DATA;
			if (!there)
				break;
			part[n] = (struct part){
				.g = g, .in_place = true, .off = off + *done, .host_off = e.host_off
			};
			part[n].iov = td_iov_slice(iov, *done, e.len);
			*done += e.len;
			td_join_start(&j, write_part, &part[n]);
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
	}
	return r;
}

/*
 * Where a write of less than a sector reads what is around it, nobody else may write there meanwhile: then it holds its
 * grains, and whoever writes in place says where.
 */
static int write_sealed(struct td_grains *g, uint64_t off, const struct td_iov *iov)
{
	struct td_range range;
	uint64_t done = 0;
	int r = 0;

	if ((off | iov->len) % TD_KEEP_SECTOR)
		return write_exclusive(g, off, iov, 0);
	td_range_lock(&g->ranges, &range, off, iov->len, TD_RANGE_SHARED);
	r = write_there(g, off, iov, &done);
	td_range_unlock(&g->ranges, &range);
	return r == 0 && done < iov->len ? write_exclusive(g, off, iov, done) : r;
}

static int write_plain(struct td_grains *g, uint64_t off, const struct td_iov *iov)
{
	struct grains_extent e;
	uint64_t done = 0;
	int r = grains_map(g, off, iov->len, &e);

	if (r < 0)
		return r;
	if (e.kind == TD_GRAIN_DATA && e.len == iov->len) /* most of what a disk does */
		return grains_write_data(g, e.host_off, off, iov);
	if (e.kind == TD_GRAIN_DATA)
		r = write_there(g, off, iov, &done);
	return r == 0 && done < iov->len ? write_exclusive(g, off, iov, done) : r;
}

int td_grains_pwritev(struct td_grains *g, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	int r = g->c.sealed ? write_sealed(g, off, iov) : write_plain(g, off, iov);

	return r == 0 && (flags & TD_FUA) ? td_meta_commit(g->meta) : r;
}

int grains_write_zeros(struct td_grains *g, uint64_t off, uint64_t len)
{
	td_cleanup(free) struct iovec *v = NULL;
	struct td_iov iov;
	int r = td_zero_iov(len, &v, &iov);

	return r < 0 ? r : td_grains_pwritev(g, off, &iov, 0);
}

/* ---- for who places grains himself ---- */

int td_grains_alloc(struct td_grains *g, uint64_t len, uint64_t align, uint64_t *ret_off)
{
	struct grains_run run;
	int r = grains_alloc(g, len, align, &run);

	if (r == 0)
		*ret_off = run.off;
	return r;
}

int td_grains_link(struct td_grains *g, uint64_t off, const struct td_grain *grain)
{
	int r = grains_room(g);

	if (r == 0)
		r = grains_own_table(g, off);
	return r < 0 ? r : grains_link(g, off, 1, grain);
}
