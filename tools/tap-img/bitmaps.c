// SPDX-License-Identifier: BSD-2-Clause
/*
 * convert --bitmaps: dirty bitmaps made anew in another image.  See bitmaps.h.
 *
 * What is enabled in the source is enabled in the copy, and records from then on.
 */
#include "bitmaps.h"

#include <stdio.h>

#include <blktap/err.h>

typedef int each_fn(const struct bitmaps *b, const struct td_bitmap_info *i);

static int each(const struct bitmaps *b, each_fn *fn)
{
	struct td_bitmap_list l;
	int r = td_image_bitmaps(b->from, &l);

	for (unsigned i = 0; r == 0 && i < l.nr; i++)
		r = fn(b, &l.at[i]);
	td_bitmap_list_done(&l);
	return r;
}

/* ---- before ---- */

static bool has(const struct td_bitmap_list *l, const char *name)
{
	for (unsigned i = 0; i < l->nr; i++)
		if (strcmp(l->at[i].name, name) == 0)
			return true;
	return false;
}

static int check_one(const struct bitmaps *b, const struct td_bitmap_info *i)
{
	struct td_bitmap_list there;
	int r;

	if (!i->valid)
		return b->skip_broken ? 0
				      : td_err_set(b->err, -EUCLEAN,
						   "%s: bitmap %s is inconsistent and cannot be copied: "
						   "--skip-broken-bitmaps leaves such out",
						   b->from->name, i->name);
	r = td_image_bitmaps(b->to, &there);
	if (r == 0 && has(&there, i->name))
		r = td_err_set(b->err, -EEXIST, "%s: there is a bitmap %s already", b->to->name, i->name);
	td_bitmap_list_done(&there);
	return r;
}

static int check_driver(const struct bitmaps *b, const struct td_image *im)
{
	const struct td_driver *drv = td_image_layer(im)->drv;

	return drv->bitmap ? 0
			   : td_err_set(b->err, -ENOTSUP, "--bitmaps: %s: %s has no dirty bitmaps", im->name,
					drv->flags & TD_LEAF ? "a raw disk" : drv->name);
}

int bitmaps_check(const struct bitmaps *b)
{
	int r = check_driver(b, b->from);

	if (r == 0)
		r = check_driver(b, b->to);
	if (r == 0 && b->from->size != b->to->size)
		r = td_err_set(b->err, -EINVAL,
			       "--bitmaps: %s has another size than %s, so bitmaps cannot be copied",
			       b->to->name, b->from->name);
	return r < 0 ? r : each(b, check_one);
}

/* ---- after ---- */

static void say_skipped(const struct bitmaps *b, const struct td_bitmap_info *i)
{
	struct td_err line;

	td_ignore(td_err_set(&line, -EUCLEAN, "%s: bitmap %s is inconsistent and is left out", b->from->name,
			     i->name));
	(void)fprintf(stderr, "tap-img: convert: %s\n", line.msg);
}

static int copy_one(const struct bitmaps *b, const struct td_bitmap_info *i)
{
	struct td_bitmap_op op = { .what = TD_BITMAP_ADD,
				   .name = i->name,
				   .granularity = i->granularity,
				   .from = b->from,
				   .from_name = i->name };
	int r;

	if (!i->valid) {
		say_skipped(b, i);
		return 0;
	}
	r = td_image_bitmap(b->to, &op, b->err);
	if (r < 0)
		return r;
	op.what = TD_BITMAP_MERGE;
	r = td_image_bitmap(b->to, &op, b->err);
	op.what = TD_BITMAP_DISABLE;
	if (r == 0 && !i->enabled)
		r = td_image_bitmap(b->to, &op, b->err);
	op.what = TD_BITMAP_REMOVE;
	if (r < 0) /* half of one would be a lie */
		td_ignore(td_image_bitmap(b->to, &op, NULL));
	return r;
}

int bitmaps_copy(const struct bitmaps *b)
{
	return each(b, copy_one);
}
