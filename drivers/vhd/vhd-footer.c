// SPDX-License-Identifier: BSD-2-Clause
/*
 * Footers on disk.  A fixed disk has one, at its end; any other has a copy at its start too.
 *
 * Which decides?  The bytes that stand where a footer is looked for may be a guest's: a fixed disk starts with its
 * guest's first sector, and a file that was cut off by a crash may end with some guest's last.  So
 *
 *	1. a fixed disk's footer at the end decides, whatever is at the start;
 *	2. else the copy at the start does, which no guest can reach;
 *	3. if that is damaged, the one at the end.
 *
 * The copy at the start is always right: it changes in one sector, before the one at the end does.
 */
#include "vhd-int.h"

int vhd_barrier(struct vhd *v)
{
	int r = td_image_flush(v->child);

	/* What it covered may be lost, and no later one would tell. */
	if (r < 0)
		td_image_freeze(v->im);
	return r;
}

/* ---- reading ---- */

struct found {
	uint8_t raw[VHD_FOOTER];
	struct vhd_footer f;
	uint64_t off;
	int r;
	struct td_err err;
};

static int look(struct vhd *v, uint64_t off, size_t len, struct found *ret)
{
	int r;

	memset(ret->raw, 0, sizeof(ret->raw));
	r = td_image_pread(v->child, off, ret->raw, len, TD_EXACT);
	if (r < 0)
		return r;
	ret->off = off;
	ret->r = vhd_footer_decode(ret->raw, &ret->f, &ret->err);
	return 0;
}

static int look_at_end(struct vhd *v, struct found *ret)
{
	int r = look(v, v->child->size - VHD_FOOTER, VHD_FOOTER, ret);

	if (r == 0 && ret->r == -EINVAL)
		r = look(v, v->child->size - VHD_FOOTER_SHORT, VHD_FOOTER_SHORT, ret);
	return r;
}

static bool usable(const struct found *f, bool fixed)
{
	return f->r == 0 && (f->f.type == VHD_FIXED) == fixed;
}

/* The sentence of whichever looks most like one. */
static int no_footer(const struct found *start, const struct found *end, struct td_err *ret_err)
{
	const struct found *worst = end->r == -EINVAL && start->r != 0 ? start : end;

	if (worst->r == 0 || worst->r == -EINVAL)
		return td_err_set(ret_err, -EUCLEAN, "it is no vhd image, or has lost its footer");
	return td_err_set(ret_err, worst->r, "%s", worst->err.msg);
}

static void use(struct vhd *v, const struct found *from)
{
	v->f = from->f;
	memcpy(v->raw_footer, from->raw, sizeof(v->raw_footer));
}

static int decide(struct vhd *v, const struct found *start, const struct found *end, struct td_err *ret_err)
{
	v->end = td_align_up(v->child->size, VHD_SECTOR);
	if (usable(end, true)) {
		use(v, end);
		v->end = end->off;
		v->end_good = true;
		return 0;
	}
	/* It is whole, and says that it must not be used. */
	if (start->r == -ENOTSUP || end->r == -ENOTSUP)
		return td_err_set(ret_err, -ENOTSUP, "%s",
				  start->r == -ENOTSUP ? start->err.msg : end->err.msg);
	v->start_good = usable(start, false);
	if (!v->start_good && !usable(end, false))
		return no_footer(start, end, ret_err);
	use(v, v->start_good ? start : end);
	v->end_good = usable(end, false) && memcmp(end->raw, v->raw_footer, VHD_FOOTER_SHORT) == 0;
	if (v->end_good)
		v->end = end->off;
	return 0;
}

static int look_at_both(struct vhd *v, struct found *start, struct found *end, struct td_err *ret_err)
{
	int r;

	if (v->child->size < VHD_FOOTER)
		return td_err_set(ret_err, -EUCLEAN, "%llu bytes are too few for a vhd image",
				  (unsigned long long)v->child->size);
	r = look(v, 0, VHD_FOOTER, start);
	if (r == 0)
		r = look_at_end(v, end);
	if (r < 0)
		return td_err_set(ret_err, r, "its footer cannot be read: %s", strerror(-r));
	return 0;
}

int vhd_footer_load(struct vhd *v, struct td_err *ret_err)
{
	struct found *both = calloc(2, sizeof(*both)); /* too large for a coroutine's stack */
	int r;

	if (!both)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = look_at_both(v, &both[0], &both[1], ret_err);
	if (r == 0)
		r = decide(v, &both[0], &both[1], ret_err);
	free(both);
	return r;
}

/* ---- writing ---- */

int vhd_footer_put(struct vhd *v, uint64_t host_off)
{
	return td_image_pwrite(v->child, host_off, v->raw_footer, VHD_FOOTER, 0);
}

int vhd_footer_mend_start(struct vhd *v)
{
	int r = 0;

	if (!v->start_good) {
		r = vhd_footer_put(v, 0);
		if (r == 0)
			r = vhd_barrier(v);
		v->start_good = r == 0;
	}
	return r;
}

int vhd_footer_mend(struct vhd *v)
{
	int r = vhd_footer_mend_start(v);

	if (r == 0 && !v->end_good) {
		r = vhd_footer_put(v, v->end);
		v->end_good = r == 0;
	}
	return r;
}

int vhd_footer_switch(struct vhd *v, const struct vhd_footer *f)
{
	int r = 0;

	vhd_footer_encode(f, v->raw_footer);
	if (!vhd_fixed(v)) {
		r = vhd_footer_put(v, 0);
		if (r == 0)
			r = vhd_barrier(v);
	}
	if (r == 0)
		r = vhd_footer_put(v, v->end);
	if (r == 0)
		r = vhd_barrier(v);
	if (r == 0)
		v->f = *f;
	else /* the disk may say either now */
		td_image_freeze(v->im);
	return r;
}
