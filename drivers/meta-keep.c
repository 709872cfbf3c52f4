// SPDX-License-Identifier: BSD-2-Clause
/*
 * What is dirty lies in memory that outlives the process; and adopting what a killed process left in it
 * (blktap/keep.h): metadata of writes that it had answered, not yet in the image.
 *
 * Everything dirty is compared with the image before anything is written: a sector that is neither what the other
 * process knew to be there nor what it is to become was written by somebody else since, whose tables and ours cannot
 * both be right.  Then the image is refused: to go on without the file would lose what a guest was told is written, and
 * that is for a person to decide (adopt=off).
 *
 * Then it is written in the order of a commit, so that a crash meanwhile is one in a commit, and a kill finds the file
 * still there.
 */
#include "meta-int.h"

#include <blktap/opts.h>

/* Units that a cache may come to hold: twice its bound, in chunks. */
#define SPARE_UNITS 64u

struct adopt {
	struct td_meta *m;
	const struct td_keep_old *old;
	uint8_t *want, *have; /* a unit each */
};

int meta_read(const struct td_meta *m, unsigned level, uint64_t off, uint8_t *ret_bytes)
{
	struct td_image *child = m->im->child;
	size_t unit = m->cache[level].unit;
	uint64_t inside = off < child->size ? TD_MIN(child->size - off, (uint64_t)unit) : 0;

	if (off % TD_KEEP_SECTOR || inside == 0 || (inside < unit && !m->config.level[level].may_end))
		return -EUCLEAN;
	memset(ret_bytes + inside, 0, unit - inside);
	return td_image_pread(child, off, ret_bytes, inside, TD_EXACT);
}

/* ---- what is dirty in it ---- */

typedef int unit_fn(struct adopt *a, unsigned level, uint64_t i, const struct td_keep_unit *u);

static int each_dirty(struct adopt *a, unsigned level, unit_fn *fn)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < td_keep_old_nr(a->old, level); i++) {
		const struct td_keep_unit *u = td_keep_old_unit(a->old, level, i);

		if (u->state & TD_KEEP_DIRTY)
			r = fn(a, level, i, u);
	}
	return r;
}

static int is_one(struct adopt *a, unsigned level, uint64_t i, const struct td_keep_unit *u)
{
	(void)a;
	(void)level;
	(void)i;
	(void)u;
	return 1;
}

static bool anything_dirty(struct adopt *a)
{
	for (unsigned i = 0; i < TD_META_LEVELS; i++)
		if (each_dirty(a, i, is_one) > 0)
			return true;
	return false;
}

static int verify(struct adopt *a, unsigned level, uint64_t i, const struct td_keep_unit *u)
{
	const struct td_meta_config *config = &a->m->config;
	int r = td_keep_old_bytes(a->old, level, i, a->want);

	if (r < 0)
		return r;
	r = meta_read(a->m, level, u->off, a->have);
	if (r < 0)
		return r == -EUCLEAN ? -ESTALE : r;
	if (!td_keep_old_fits(u, a->m->cache[level].sectors, a->have, a->want))
		return -ESTALE;
	return !config->may_lie || config->may_lie(config->arg, level, u->off, a->want) ? 0 : -ESTALE;
}

static int verify_all(struct adopt *a)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < TD_META_LEVELS; i++) {
		if (td_keep_old_nr(a->old, i) == 0)
			continue;
		if (i >= a->m->config.nr_levels || td_keep_old_unit_size(a->old, i) != a->m->cache[i].unit)
			return -EUCLEAN;
		r = each_dirty(a, i, verify);
	}
	return r;
}

/* ---- writing it ---- */

static int write_unit(struct adopt *a, unsigned level, uint64_t i, const struct td_keep_unit *u)
{
	const struct td_meta *m = a->m;
	uint64_t copy = m->config.copy_at ? m->config.copy_at(m->config.arg, level, u->off) : 0;
	size_t unit = m->cache[level].unit;
	int r = td_keep_old_bytes(a->old, level, i, a->want);

	if (r == 0)
		r = td_image_pwrite(m->im->child, u->off, a->want, unit, 0);
	if (r == 0 && copy)
		r = td_image_pwrite(m->im->child, copy, a->want, unit, 0);
	return r;
}

static int write_all(struct adopt *a)
{
	int r = 0;

	/* The first barrier is for the data, which nobody may have flushed. */
	for (unsigned i = 0; r == 0 && i < a->m->config.nr_levels; i++) {
		r = meta_barrier(a->m);
		if (r == 0)
			r = each_dirty(a, i, write_unit);
	}
	return r < 0 ? r : meta_barrier(a->m);
}

static int write_error(const struct adopt *a, int r, struct td_err *ret_err)
{
	if (a->m->im->frozen) /* a barrier failed: the next would succeed and prove nothing */
		td_keep_old_spoil(a->old);
	return td_err_set(ret_err, r, "cannot put what a killed tapdisk left in %s into the image: %s",
			  td_keep_old_path(a->old), strerror(-r));
}

static int adopt_all(struct adopt *a, struct td_err *ret_err)
{
	int r;

	if (!anything_dirty(a))
		return 0;
	r = a->m->im->read_only ? -EBUSY : verify_all(a);
	if (r < 0)
		return td_keep_old_error(a->old, r, ret_err);
	r = write_all(a);
	return r < 0 ? write_error(a, r, ret_err) : 0;
}

static int with_buffers(struct td_meta *m, struct td_keep_old *old, struct td_err *ret_err)
{
	struct adopt a = { .m = m, .old = old };
	int r;

	a.want = td_buf_alloc(TD_META_UNIT_MAX);
	a.have = td_buf_alloc(TD_META_UNIT_MAX);
	r = a.want && a.have ? adopt_all(&a, ret_err) : td_err_set(ret_err, -ENOMEM, "no memory");
	if (a.want)
		td_buf_free(a.want, TD_META_UNIT_MAX);
	if (a.have)
		td_buf_free(a.have, TD_META_UNIT_MAX);
	return r;
}

int meta_adopt(struct td_meta *m, struct td_opts *opts, struct td_err *ret_err)
{
	struct td_keep_old *old = NULL;
	bool adopt = true;
	int r = td_opts_bool(opts, "adopt", &adopt, ret_err);

	/* Whoever looks at a disk in use sees what is in the image. */
	if (r < 0 || (m->im->flags & TD_OPEN_NO_LOCK))
		return r;
	if (!adopt)
		return m->im->read_only ? 0 : td_keep_forget(m->im, ret_err);
	r = td_keep_find(m->im, &m->config.tag, &old, ret_err);
	if (r < 0 || !old)
		return r;
	r = with_buffers(m, old, ret_err);
	td_keep_old_free(old, r == 0 && !m->im->read_only);
	return r;
}

/*
 * All levels or none: an upper unit without the lower one that it names would be worse than neither.  Without a place
 * a kill costs what was not flushed.
 */
void meta_keep_start(struct td_meta *m)
{
	int r = td_keep_new(m->im, &m->config.tag, &m->keep);

	if (r < 0 || !m->keep)
		return;
	for (unsigned i = 0; r == 0 && i < m->config.nr_levels; i++) {
		struct meta_cache *c = &m->cache[i];

		r = td_keep_area_new(m->keep, i, c->unit, 2ull * c->limit + SPARE_UNITS, &c->kept);
	}
	if (r < 0)
		td_keep_give_up(m->keep, r);
}
