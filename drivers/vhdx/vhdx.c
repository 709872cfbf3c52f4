// SPDX-License-Identifier: BSD-2-Clause
/*
 * The vhdx driver: Hyper-V's disks, read-only: opening, closing, facts, and the table.  README.md beside this file says
 * how the other files work together.
 */
#include <inttypes.h>
#include <stdio.h>

#include "vhdx-int.h"

#define CACHE_DEFAULT (2ull << 20)
#define KEEP_TAG      0x76686478u /* the cache wants one; nothing is ever kept, because nothing is written */

static int vhdx_probe(const void *head, size_t len)
{
	return len >= 8 && memcmp(head, VHDX_MAGIC, 8) == 0 ? 100 : 0;
}

/* ---- open ---- */

static int open_meta(struct vhdx *v, struct td_opts *opts, struct td_err *ret_err)
{
	uint64_t cache = CACHE_DEFAULT;
	struct td_meta_config c = { .tag = { { KEEP_TAG, v->g.block_size } }, .nr_levels = 2 };
	int r = td_opts_size(opts, "l2-cache", &cache, ret_err);

	if (r < 0)
		return r;
	/* Where the log makes the file longer zeros are to be read. */
	c.level[VHDX_BITMAPS] =
		(struct td_meta_level){ .unit = VHDX_UNIT, .cache = cache / 2, .may_end = true };
	c.level[VHDX_BAT] =
		(struct td_meta_level){ .unit = VHDX_UNIT, .cache = cache - cache / 2, .may_end = true };
	return td_meta_open(v->im, &c, opts, &v->meta, ret_err);
}

static int check_read_only(const struct td_image *im, struct td_err *ret_err)
{
	return im->read_only ? 0
			     : td_err_set(ret_err, -ENOTSUP,
					  "it can only be read (open it read-only): vhdx images are not "
					  "written; tap-img convert makes a qcow2 of it");
}

static void set_limits(struct vhdx *v)
{
	struct td_image *im = v->im;

	im->size = v->disk.size;
	im->limits = v->child->limits;
	im->limits.max_transfer = 0;
	im->limits.trim_granularity = 0;
	im->limits.cluster_size = v->g.block_size;
}

/* A damaged file says so even if it is opened for writing: that is refused only after it was looked at. */
static int vhdx_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct vhdx *v = im->state;
	int r;

	v->im = im;
	v->child = im->child;
	im->read_only |= (im->flags & TD_OPEN_BACKING) != 0;
	r = vhdx_load(v, ret_err);
	if (r == 0)
		r = check_read_only(im, ret_err);
	if (r == 0)
		r = open_meta(v, opts, ret_err);
	if (r == 0) {
		set_limits(v);
		return 0;
	}
	vhdx_log_close(v);
	free(im->backing_path);
	free(im->backing_format);
	im->backing_path = im->backing_format = NULL;
	return td_err_prefix(ret_err, r, "%s", im->name);
}

static int vhdx_close(struct td_image *im)
{
	struct vhdx *v = im->state;
	int r = td_meta_close(v->meta);

	vhdx_log_close(v);
	return r;
}

/* ---- facts ---- */

static int add_number(struct td_opts *ret, const char *name, uint64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	return td_opts_add(ret, name, text, NULL);
}

static int add_guid(struct td_opts *ret, const char *name, const uint8_t guid[TD_GUID])
{
	char text[TD_GUID_TEXT];

	td_guid_text(guid, text);
	return td_opts_add(ret, name, text, NULL);
}

static const char *subformat_of(const struct vhdx *v)
{
	if (v->disk.parent)
		return "differencing";
	return v->disk.fixed ? "fixed" : "dynamic";
}

static int vhdx_info(struct td_image *im, struct td_opts *ret)
{
	const struct vhdx *v = im->state;
	int r = td_opts_add(ret, "subformat", subformat_of(v), NULL);

	if (r == 0)
		r = add_guid(ret, "uuid", v->disk.id);
	if (r == 0)
		r = add_number(ret, "block-size", v->g.block_size);
	if (r == 0)
		r = add_number(ret, "logical-sector-size", v->disk.logical);
	if (r == 0)
		r = add_number(ret, "physical-sector-size", v->disk.physical);
	if (r == 0)
		r = add_number(ret, "log-entries-replayed", v->replayed.entries);
	if (r == 0)
		r = add_guid(ret, "data-guid", v->h.data_guid);
	return r == 0 && v->disk.parent ? add_guid(ret, "parent-data-guid", v->locator.linkage[0]) : r;
}

static void vhdx_counters(const struct td_image *im, struct td_counters *ret)
{
	const struct vhdx *v = im->state;

	td_meta_counters(v->meta, ret);
}

const struct td_driver td_vhdx = {
	.name = "vhdx",
	.flags = TD_FORMAT,
	.state_size = sizeof(struct vhdx),
	.probe = vhdx_probe,
	.open = vhdx_open,
	.check_backing = vhdx_check_backing,
	.close = vhdx_close,
	.preadv = vhdx_preadv,
	.extent = vhdx_extent_at,
	.check = vhdx_check,
	.info = vhdx_info,
	.counters = vhdx_counters,
};
