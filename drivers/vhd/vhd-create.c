// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making an empty image.
 *
 * Order on disk: the file's start is zeroed; barrier; tables, or a fixed disk's length; barrier; the footer at the
 * start, then at the end; barrier.  So a crash leaves either no vhd at all or a whole one.
 *
 * What we make says "tap" of its creator, with a batmap, which is what XenServer makes: of such an image every program
 * takes the size, not the geometry.
 */
#include <sys/random.h>
#include <time.h>

#include "vhd-int.h"

struct wish {
	const struct td_create *c;
	struct vhd_plan *plan;
	bool fixed;
	uint64_t block_size;
	const char *backing_file, *backing_fmt;
	struct vhd_parent parent;
};

/* ---- options ---- */

/* As much as a geometry can say, and no less than was asked for: the next cylinder. */
static uint64_t round_to_geometry(uint64_t size)
{
	struct vhd_footer f = { 0 };
	uint64_t more = size;

	if (size >= VHD_GEOMETRY_MAX * VHD_SECTOR)
		return size;
	for (vhd_geometry(more, &f); vhd_geometry_size(&f) < size; vhd_geometry(more, &f))
		more += VHD_SECTOR;
	return vhd_geometry_size(&f);
}

static int read_options(struct wish *w, uint64_t *size, struct td_err *ret_err)
{
	const char *sub = td_opts_get(w->c->opts, "subformat");
	bool exact = true;
	int r = td_opts_bool(w->c->opts, "force_size", &exact, ret_err);

	if (r < 0)
		return r;
	if (sub && strcmp(sub, "dynamic") != 0 && strcmp(sub, "fixed") != 0)
		return td_err_set(ret_err, -EINVAL, "subformat=%s: it is dynamic or fixed", sub);
	w->fixed = sub && strcmp(sub, "fixed") == 0;
	w->block_size = VHD_BLOCK;
	r = td_opts_size(w->c->opts, "block_size", &w->block_size, ret_err);
	if (r < 0)
		return r;
	if (!td_is_pow2(w->block_size) || w->block_size < VHD_PAGE || w->block_size > VHD_BLOCK_MAX)
		return td_err_set(ret_err, -EINVAL, "block_size: it is a power of two from 4K to 256M");
	w->backing_file = td_opts_get(w->c->opts, "backing_file");
	w->backing_fmt = td_opts_get(w->c->opts, "backing_fmt");
	if (w->backing_fmt && !w->backing_file)
		return td_err_set(ret_err, -EINVAL, "backing_fmt is given, but no backing_file");
	if (w->backing_file && w->fixed)
		return td_err_set(ret_err, -EINVAL, "subformat=fixed and a backing file exclude each other");
	*size = td_align_up(*size, VHD_SECTOR);
	if (!exact)
		*size = round_to_geometry(*size);
	return 0;
}

static int new_footer(struct wish *w, uint64_t size, struct td_err *ret_err)
{
	struct vhd_footer *f = &w->plan->f;

	*f = (struct vhd_footer){
		.data_off = UINT64_MAX,
		.timestamp = (uint32_t)(time(NULL) - VHD_EPOCH),
		.creator = VHD_CREATOR_TAP,
		.creator_version = VHD_VERSION_CURRENT,
		.original_size = size,
		.size = size,
		.type = w->fixed          ? VHD_FIXED
			: w->backing_file ? VHD_DIFF
					  : VHD_DYNAMIC,
	};
	vhd_geometry(size, f);
	if (getrandom(f->uuid, sizeof(f->uuid), 0) != (ssize_t)sizeof(f->uuid))
		return td_err_set(ret_err, -EIO, "no random number for its UUID");
	/* RFC 4122, a random one */
	f->uuid[6] = (f->uuid[6] & 0x0f) | 0x40;
	f->uuid[8] = (f->uuid[8] & 0x3f) | 0x80;
	return 0;
}

/* A BAT's entry counts sectors in 32 bits: no vhd is larger than 2 TiB, with all that is in its file. */
static int check_size(const struct wish *w, uint64_t size, struct td_err *ret_err)
{
	uint64_t most = 2040ull << 30;

	if (!w->fixed && size > most)
		return td_err_set(ret_err, -EFBIG,
				  "%llu bytes are too large for a dynamic vhd: at most 2040 GiB",
				  (unsigned long long)size);
	return 0;
}

static int make_plan(struct wish *w, struct td_err *ret_err)
{
	uint64_t size = w->c->size;
	int r;

	if (size > INT64_MAX - VHD_SECTOR * 2)
		return td_err_set(ret_err, -EFBIG, "%llu bytes are too large", (unsigned long long)size);
	r = read_options(w, &size, ret_err);
	if (r == 0)
		r = check_size(w, size, ret_err);
	if (r == 0)
		r = new_footer(w, size, ret_err);
	if (r < 0 || w->fixed)
		return r;
	if (w->backing_file && w->c->child)
		r = vhd_parent_look(w->c->child, w->backing_file, w->backing_fmt, &w->parent, ret_err);
	if (r < 0)
		return r;
	w->plan->at = VHD_FOOTER;
	w->plan->has_batmap = true;
	w->plan->h.block_size = (uint32_t)w->block_size;
	w->plan->h.max_entries = (uint32_t)td_div_up(size, w->block_size);
	w->plan->h.parent_time = w->parent.time;
	memcpy(w->plan->h.parent_uuid, w->parent.uuid, VHD_UUID);
	return vhd_plan_make(w->plan, w->c->child ? w->c->child->path : "", w->backing_file, ret_err);
}

/* ---- what is written ---- */

/* A hole where that can be had. */
static int fill_fixed(struct td_image *child, uint64_t len)
{
	int r = td_image_resize(child, len, 0, NULL);

	return r == -ENOTSUP || r == -EINVAL ? td_image_zero(child, 0, len, TD_MAY_UNMAP) : r;
}

static int write_image(struct wish *w, uint8_t *buf)
{
	const struct vhd_plan *p = w->plan;
	struct td_image *child = w->c->child;
	uint64_t end = w->fixed ? p->f.size : p->at + p->len;
	int r;

	/* Whatever a device held before is no image from here on. */
	memset(buf, 0, VHD_FOOTER);
	r = td_image_pwrite(child, 0, buf, VHD_FOOTER, 0);
	if (r == 0)
		r = td_image_flush(child);
	if (r == 0)
		r = w->fixed ? fill_fixed(child, TD_MAX(end, VHD_FOOTER)) : vhd_plan_write(p, child);
	if (r == 0)
		r = td_image_flush(child);
	vhd_footer_encode(&p->f, buf);
	if (r == 0 && !w->fixed)
		r = td_image_pwrite(child, 0, buf, VHD_FOOTER, 0);
	/* On a device it is the last sector; blocks come in between. */
	if (r == 0)
		r = td_image_pwrite(child, TD_MAX(end, td_align_down(child->size, VHD_SECTOR) - VHD_FOOTER),
				    buf, VHD_FOOTER, 0);
	return r == 0 ? td_image_flush(child) : r;
}

int vhd_create(const struct td_create *c, struct td_err *ret_err)
{
	struct wish w = { .c = c, .plan = calloc(1, sizeof(*w.plan)) };
	uint8_t *buf = td_buf_alloc(VHD_FOOTER);
	int r = -ENOMEM;

	if (!w.plan || !buf) {
		td_err_set(ret_err, r, "no memory");
	} else {
		r = make_plan(&w, ret_err);
		if (r == 0) {
			r = write_image(&w, buf);
			if (r < 0)
				td_err_set(ret_err, r, "cannot be written: %s", strerror(-r));
		}
	}
	free(w.plan);
	if (buf)
		td_buf_free(buf, VHD_FOOTER);
	return r < 0 ? td_err_prefix(ret_err, r, "%s", c->path) : 0;
}

/* ---- how large will it be? ---- */

static int count_blocks(struct td_image *source, uint64_t block, uint64_t *ret)
{
	uint64_t next = 0;
	int r = 0;

	*ret = 0;
	for (uint64_t off = 0; r == 0 && off < source->size;) {
		struct td_extent e;

		r = td_image_extent(source, off, source->size - off, &e);
		if (r == 0 && e.kind == TD_EXTENT_DATA) {
			uint64_t first = TD_MAX(off / block, next);

			next = td_div_up(off + e.len, block);
			*ret += next > first ? next - first : 0;
		}
		off += r == 0 ? e.len : 0;
	}
	return r;
}

int vhd_measure(struct td_measure *m, struct td_err *ret_err)
{
	struct td_create c = { .path = "measure", .size = m->size, .opts = m->opts };
	struct wish w = { .c = &c, .plan = calloc(1, sizeof(*w.plan)) };
	uint64_t blocks = 0, per_block, all;
	int r;

	if (!w.plan)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = make_plan(&w, ret_err);
	if (r == 0 && m->source && !w.fixed)
		r = count_blocks(m->source, w.block_size, &blocks);
	if (r == 0 && w.fixed) {
		m->required = m->fully_allocated = w.plan->f.size + VHD_FOOTER;
	} else if (r == 0) {
		per_block = w.block_size + TD_MAX(w.block_size / VHD_PAGE, VHD_PAGE);
		all = w.plan->at + w.plan->len + VHD_FOOTER + VHD_PAGE;
		m->fully_allocated = all + w.plan->h.max_entries * per_block;
		m->required = w.backing_file && m->source ? m->fully_allocated : all + blocks * per_block;
	}
	free(w.plan);
	return r;
}
