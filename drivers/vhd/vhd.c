// SPDX-License-Identifier: BSD-2-Clause
/*
 * The vhd driver: opening, closing, facts, and the table.  README.md beside this file says how the other files work
 * together.
 */
#include <inttypes.h>
#include <stdio.h>

#include "vhd-int.h"

static int vhd_probe(const void *head, size_t len)
{
	return len >= 8 && memcmp(head, "conectix", 8) == 0 ? 100 : 0;
}

/* ---- open ---- */

/*
 * What a killed process left of a table names only places in the file, and of a bitmap stands only where no table is.
 */
static bool may_lie(void *arg, unsigned level, uint64_t off, const uint8_t *bytes)
{
	const struct vhd *v = arg;

	if (level == VHD_BITMAPS) {
		for (unsigned i = 0; i < v->nr_areas; i++)
			if (td_overlap(off, v->bitmap_unit, v->area[i].off, v->area[i].len))
				return false;
		return true;
	}
	if (!td_in_range(off, VHD_SECTOR, v->g.bat_off + v->g.bat_len) || off < v->g.bat_off)
		return false;
	for (unsigned i = 0; i < VHD_SECTOR; i += 4) {
		uint32_t entry = td_get_be32(bytes + i);

		if ((off - v->g.bat_off + i) / 4 < v->g.nr_blocks && entry != VHD_UNUSED &&
		    vhd_check_entry(v, entry) < 0)
			return false;
	}
	return true;
}

static int open_meta(struct vhd *v, struct td_opts *opts, struct td_err *ret_err)
{
	uint64_t cache = VHD_CACHE_DEFAULT;
	struct td_meta_config c = {
		.tag = { { 0x76686431, v->g.block_size } },
		.nr_levels = 2,
		.may_lie = may_lie,
		.arg = v,
	};
	int r = td_opts_size(opts, "l2-cache", &cache, ret_err);

	if (r < 0)
		return r;
	c.level[VHD_BITMAPS] = (struct td_meta_level){ .unit = v->bitmap_unit, .cache = cache - cache / 4 };
	c.level[VHD_BAT] = (struct td_meta_level){ .unit = VHD_SECTOR, .cache = cache / 4 };
	return td_meta_open(v->im, &c, opts, &v->meta, ret_err);
}

/* A fixed disk is its file; the others have blocks, and what no block holds is zeros (or the parent's) for nothing. */
static void set_limits(struct vhd *v)
{
	struct td_image *im = v->im;

	im->size = vhd_disk_size(&v->f);
	im->limits = v->child->limits;
	im->limits.max_transfer = 0;
	if (vhd_fixed(v))
		return;
	im->limits.cluster_size = v->g.block_size;
	im->limits.zero_efficient = true;
}

static int open_state(struct vhd *v, struct td_opts *opts, struct td_err *ret_err)
{
	bool writes = !v->im->read_only && !(v->im->flags & TD_OPEN_CHECK);
	int r = vhd_load(v, ret_err);

	if (r == 0 && vhd_fixed(v)) {
		uint64_t unused = 0;

		/* It says how metadata are cached, which a fixed disk has none of. */
		r = td_opts_size(opts, "l2-cache", &unused, ret_err);
		(void)td_opts_get(opts, "adopt");
	} else if (r == 0) {
		r = open_meta(v, opts, ret_err);
		if (r == 0 && v->f.type == VHD_DIFF)
			r = vhd_parent_load(v, ret_err);
		if (r == 0 && writes)
			r = vhd_alloc_open(v, ret_err);
	}
	if (r == 0)
		set_limits(v);
	return r;
}

static int vhd_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct vhd *v = im->state;
	int r;

	v->im = im;
	v->child = im->child;
	td_ranges_init(&v->ranges);
	im->read_only = im->child->read_only || (im->flags & (TD_OPEN_RDONLY | TD_OPEN_BACKING));
	r = open_state(v, opts, ret_err);
	if (r == 0)
		return 0;
	td_ignore(td_meta_close(v->meta)); /* the first error is the one to tell */
	vhd_unload(v);
	free(im->backing_path);
	free(im->backing_format);
	im->backing_path = im->backing_format = NULL;
	return td_err_prefix(ret_err, r, "%s", im->name);
}

/* The batmap last: it says of blocks that they are full, which has to be on the disk by then. */
static int vhd_close(struct td_image *im)
{
	struct vhd *v = im->state;
	bool writes = !vhd_fixed(v) && !im->read_only && !im->frozen && !(im->flags & TD_OPEN_CHECK);
	int r = 0, r2;

	if (writes) {
		r = td_meta_commit(v->meta);
		if (r == 0)
			r = vhd_batmap_store(v);
	}
	r2 = td_meta_close(v->meta);
	vhd_unload(v);
	return r < 0 ? r : r2;
}

static int vhd_flush(struct td_image *im)
{
	struct vhd *v = im->state;

	return vhd_fixed(v) ? td_image_flush(v->child) : td_meta_commit(v->meta);
}

/* ---- facts ---- */

static int add_uuid(struct td_opts *ret, const char *name, const uint8_t uuid[VHD_UUID])
{
	char text[VHD_UUID_TEXT];

	vhd_uuid_text(uuid, text);
	return td_opts_add(ret, name, text, NULL);
}

static int add_number(struct td_opts *ret, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return td_opts_add(ret, name, text, NULL);
}

/* Four bytes that somebody else wrote. */
static int add_creator(struct td_opts *ret, const struct vhd_footer *f)
{
	char text[sizeof(f->creator) + 1] = { 0 };

	for (unsigned i = 0; i < sizeof(f->creator) && f->creator[i]; i++)
		text[i] = f->creator[i] > ' ' && f->creator[i] < 0x7f ? f->creator[i] : '_';
	return *text ? td_opts_add(ret, "creator", text, NULL) : 0;
}

static int add_dynamic(struct td_opts *ret, const struct vhd *v)
{
	int r = add_number(ret, "block-size", v->g.block_size);

	if (r == 0)
		r = td_opts_add(ret, "batmap", v->batmap ? "true" : "false", NULL);
	if (r == 0 && v->f.type == VHD_DIFF)
		r = add_uuid(ret, "parent-uuid", v->h.parent_uuid);
	return r;
}

static int vhd_info(struct td_image *im, struct td_opts *ret)
{
	static const char *const types[] = {
		[VHD_FIXED] = "fixed", [VHD_DYNAMIC] = "dynamic", [VHD_DIFF] = "differencing"
	};
	const struct vhd *v = im->state;
	int r = td_opts_add(ret, "subformat", types[v->f.type], NULL);

	if (r == 0)
		r = add_uuid(ret, "uuid", v->f.uuid);
	if (r == 0)
		r = add_creator(ret, &v->f);
	if (r == 0)
		r = td_opts_add(ret, "hidden", v->f.hidden ? "true" : "false", NULL);
	if (r == 0)
		r = td_opts_add(ret, "saved-state", v->f.saved ? "true" : "false", NULL);
	return r == 0 && !vhd_fixed(v) ? add_dynamic(ret, v) : r;
}

static void vhd_counters(const struct td_image *im, struct td_counters *ret)
{
	const struct vhd *v = im->state;

	if (v->meta)
		td_meta_counters(v->meta, ret);
}

const struct td_driver td_vhd = {
	.name = "vhd",
	.flags = TD_FORMAT | TD_KNOWS_FUA,
	.state_size = sizeof(struct vhd),
	.probe = vhd_probe,
	.create = vhd_create,
	.measure = vhd_measure,
	.open = vhd_open,
	.check_backing = vhd_check_backing,
	.close = vhd_close,
	.preadv = vhd_preadv,
	.pwritev = vhd_pwritev,
	.zero = vhd_zero,
	.trim = vhd_trim,
	.flush = vhd_flush,
	.extent = vhd_extent_at,
	.resize = vhd_resize,
	.check = vhd_check,
	.set_backing = vhd_set_backing,
	.empty = vhd_empty,
	.info = vhd_info,
	.counters = vhd_counters,
};
