// SPDX-License-Identifier: BSD-2-Clause
/*
 * Changing what an image says of itself: a larger disk, another parent, nothing held any more.
 *
 * Header, BAT and names do not fit into one sector, so they are not changed where they are: a new set is written at the
 * end of the file (vhd-area.c), and the footer's copy at the start, one sector, says from then on that it counts.  What
 * was there before is not used any more.
 *
 * A fixed disk has only its footer at the end.  The new one is written behind the new end, and makes the file longer;
 * then the old one's sector, which is the guest's now, becomes zeros.  A power cut in between leaves its bytes in the
 * new part of the disk.
 */
#include "vhd-int.h"

#define DYNAMIC_MAX (2040ull << 30)

/* ---- another set of tables ---- */

struct move {
	struct vhd *v;
	struct vhd_plan *p;
	uint32_t blocks; /* of the old BAT */
	const char *parent;
};

/* The plan's BAT has only unused entries: put those that the old one has. */
static int copy_bat(struct move *m, uint8_t *buf)
{
	struct vhd *v = m->v;
	uint32_t nr = 0;
	int r = 0;

	for (uint32_t first = 0; r == 0 && first < m->blocks; first += nr) {
		r = vhd_read_bat(v, first, buf, &nr);
		if (r == 0)
			r = td_image_pwrite(v->child, m->p->h.bat_off + (uint64_t)first * 4, buf,
					    (size_t)nr * 4, 0);
	}
	return r;
}

static int write_set(struct move *m)
{
	uint8_t *buf = td_buf_alloc(VHD_BAT_CHUNK);
	int r = buf ? vhd_plan_write(m->p, m->v->child) : -ENOMEM;

	if (r == 0)
		r = copy_bat(m, buf);
	if (r == 0)
		r = vhd_barrier(m->v);
	if (buf)
		td_buf_free(buf, VHD_BAT_CHUNK);
	return r;
}

/* From here on memory says what the disk does.  What is known of blocks stays true. */
static int adopt(struct vhd *v)
{
	uint8_t *old = v->known;
	uint32_t old_nr = v->g.nr_blocks;
	int r;

	v->known = NULL;
	r = vhd_lay_out(v, NULL);
	if (r == 0 && old && v->known)
		memcpy(v->known, old, TD_MIN(old_nr, v->g.nr_blocks) / 4);
	free(old);
	v->moves++;
	if (r < 0) {
		td_image_freeze(v->im);
		return r;
	}
	r = vhd_load_batmap(v);
	v->batmap_stale = v->batmap != NULL;
	return r;
}

static int move_locked(struct move *m, struct td_err *ret_err)
{
	struct vhd *v = m->v;
	uint64_t at = 0;
	int r = td_meta_commit(v->meta);

	m->p->at = v->next;
	if (r == 0)
		r = vhd_plan_make(m->p, v->im->path, m->parent, ret_err);
	if (r == 0)
		r = vhd_alloc_area(v, m->p->len, &at);
	if (r == 0)
		r = write_set(m);
	if (r == 0)
		r = vhd_footer_switch(v, &m->p->f);
	if (r < 0)
		return r;
	v->h = m->p->h;
	return adopt(v);
}

/* The plan's footer and header say what is to be; parent: NULL, none. */
static int move(struct vhd *v, struct vhd_plan *p, const char *parent, struct td_err *ret_err)
{
	struct move m = { .v = v, .p = p, .blocks = v->g.nr_blocks, .parent = parent };
	td_co_guard(&v->alloc_lock);

	p->has_batmap = vhd_is_tapdisk(&p->f);
	return move_locked(&m, ret_err);
}

static int failed(struct vhd *v, int r, struct td_err *ret_err, const char *what)
{
	if (ret_err && ret_err->msg[0])
		return td_err_prefix(ret_err, r, "%s", v->im->name);
	return td_err_set(ret_err, r, "%s: %s: %s", v->im->name, what, strerror(-r));
}

/* ---- resize ---- */

static void set_size(struct vhd_footer *f, uint64_t size)
{
	f->size = size;
	vhd_geometry(size, f);
	/* Of Virtual PC's own the geometry is the size, which it cannot always say. */
	if (memcmp(f->creator, "vpc ", sizeof(f->creator)) == 0)
		memcpy(f->creator, "win ", sizeof(f->creator));
}

/* Some files have more than their disk (of Virtual PC's the geometry is the size): it was never the guest's. */
static int clear_slack(struct vhd *v, uint64_t size)
{
	uint64_t old = v->im->size, end = TD_MIN(size, v->end);
	int r = old < end ? td_image_zero(v->child, old, end - old, 0) : 0;

	return r == 0 && old < end ? vhd_barrier(v) : r;
}

static int resize_fixed(struct vhd *v, uint64_t size)
{
	struct vhd_footer f = v->f;
	uint64_t old_end = v->end;
	int r = clear_slack(v, size);

	if (r < 0)
		return r;
	set_size(&f, size);
	v->end = TD_MAX(size,
			old_end); /* a file does not become shorter: the footer is looked for at its end */
	r = vhd_footer_switch(v, &f);
	if (r < 0 || v->end == old_end)
		return r;
	r = td_image_zero(v->child, old_end, TD_MIN(v->end - old_end, (uint64_t)VHD_FOOTER), 0);
	return r == 0 ? vhd_barrier(v) : r;
}

/* Are the entries that the disk grows into as they should be? */
static int entries_unused(struct vhd *v, uint64_t blocks, bool *ret)
{
	uint64_t off = v->g.bat_off + (uint64_t)v->g.nr_blocks * 4, end = v->g.bat_off + blocks * 4;
	uint8_t *buf = td_buf_alloc(VHD_BAT_CHUNK);
	int r = buf ? 0 : -ENOMEM;

	*ret = true;
	for (size_t n; r == 0 && off < end && *ret; off += n) {
		n = TD_MIN(end - off, VHD_BAT_CHUNK);
		r = td_image_pread(v->child, off, buf, n, TD_EXACT);
		for (size_t i = 0; r == 0 && i < n; i += 4)
			*ret &= td_get_be32(buf + i) == VHD_UNUSED;
	}
	if (buf)
		td_buf_free(buf, VHD_BAT_CHUNK);
	return r;
}

/* What lies behind the old end in the last block, if it is there, was never the disk's. */
static int clear_tail(struct vhd *v, uint64_t old)
{
	uint64_t in = old & (v->g.block_size - 1);
	uint32_t entry = VHD_UNUSED;
	int r;

	if (in == 0)
		return 0;
	r = vhd_bat_entry(v, (uint32_t)(old >> v->g.block_bits), &entry);
	if (r < 0 || entry == VHD_UNUSED)
		return r;
	return td_image_zero(v->child, (uint64_t)entry * VHD_SECTOR + v->g.bitmap_len + in,
			     v->g.block_size - in, TD_MAY_UNMAP);
}

static int resize_in_place(struct vhd *v, const struct vhd_footer *f)
{
	td_co_guard(&v->alloc_lock);
	int r = vhd_footer_switch(v, f);

	return r == 0 ? adopt(v) : r;
}

/* Some programs make the table for more blocks than there are, and the batmap not. */
static bool tables_reach(const struct vhd *v, uint64_t blocks)
{
	return blocks <= v->g.max_entries && (!v->batmap || blocks <= v->batmap_len * 8);
}

static int resize_dynamic(struct vhd *v, uint64_t size, struct td_err *ret_err)
{
	uint64_t blocks = td_div_up(size, v->g.block_size);
	struct vhd_plan *p = calloc(1, sizeof(*p));
	bool room = tables_reach(v, blocks);
	int r = p ? clear_tail(v, v->im->size) : -ENOMEM;

	if (r == 0 && room)
		r = entries_unused(v, blocks, &room);
	if (r == 0) {
		p->f = v->f;
		p->h = v->h;
		set_size(&p->f, size);
		p->h.max_entries = (uint32_t)TD_MAX(blocks, v->g.max_entries);
		r = room ? resize_in_place(v, &p->f) : move(v, p, v->im->backing_path, ret_err);
	}
	free(p);
	return r;
}

int vhd_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	struct vhd *v = im->state;
	uint64_t old = im->size;
	int r;

	if (size < old)
		return td_err_set(ret_err, -ENOTSUP, "%s: a vhd cannot be made smaller", im->name);
	if (size % VHD_SECTOR != 0)
		return td_err_set(ret_err, -EINVAL, "%s: its size has to be a multiple of 512", im->name);
	if (!vhd_fixed(v) && size > DYNAMIC_MAX)
		return td_err_set(ret_err, -EFBIG, "%s: a dynamic vhd has at most 2040 GiB", im->name);
	if (size == old)
		return 0;
	if (ret_err)
		ret_err->msg[0] = '\0';
	r = vhd_fixed(v) ? resize_fixed(v, size) : resize_dynamic(v, size, ret_err);
	if (r < 0)
		return failed(v, r, ret_err, "cannot be resized");
	/* A parent that is longer must not show through. */
	if (im->backing && im->backing->size > old) {
		r = vhd_zero(im, old, TD_MIN(size, im->backing->size) - old, TD_OWN | TD_MAY_UNMAP | TD_FUA);
		if (r < 0)
			return failed(v, r, ret_err, "the new part cannot be zeroed");
	}
	return 0;
}

/* ---- another parent ---- */

static int plan_parent(struct vhd *v, struct vhd_plan *p, const char *path, const char *format,
		       struct td_err *ret_err)
{
	struct vhd_parent parent = { 0 };
	int r = path ? vhd_parent_look(v->im, path, format, &parent, ret_err) : 0;

	if (r < 0)
		return r;
	p->f = v->f;
	p->h = v->h;
	p->f.type = path ? VHD_DIFF : VHD_DYNAMIC;
	p->h.parent_time = parent.time;
	memcpy(p->h.parent_uuid, parent.uuid, VHD_UUID);
	return 0;
}

int vhd_set_backing(struct td_image *im, const char *path, const char *format, struct td_err *ret_err)
{
	struct vhd *v = im->state;
	struct vhd_plan *p;
	int r;

	if (vhd_fixed(v))
		return td_err_set(ret_err, -ENOTSUP, "%s: a fixed vhd has no parent", im->name);
	p = calloc(1, sizeof(*p));
	if (ret_err)
		ret_err->msg[0] = '\0';
	r = p ? plan_parent(v, p, path, format, ret_err) : -ENOMEM;
	if (r == 0)
		r = move(v, p, path, ret_err);
	free(p);
	return r < 0 ? failed(v, r, ret_err, "its parent cannot be changed") : 0;
}

/* ---- nothing held ---- */

static int drop_unit(struct vhd *v, uint64_t unit_off)
{
	uint64_t first = (unit_off < v->g.bat_off ? 0 : unit_off - v->g.bat_off) / 4;
	uint8_t *unit = NULL;
	int r = td_meta_room(v->meta, 1);

	if (r < 0)
		return r;
	r = td_meta_get(v->meta, VHD_BAT, unit_off, &unit);
	if (r < 0)
		return r;
	td_meta_mark(v->meta, VHD_BAT, unit_off);
	memset(unit, 0xff, VHD_SECTOR);
	for (uint64_t i = first; i < TD_MIN(first + VHD_SECTOR / 4, (uint64_t)v->g.nr_blocks); i++)
		vhd_set_known(v, (uint32_t)i, VHD_ABSENT);
	return 0;
}

/* No bit may speak of a block that is gone: those go first. */
static int clear_batmap(struct vhd *v)
{
	if (v->known)
		memset(v->known, 0, v->g.nr_blocks / 4 + 1);
	v->batmap_stale = true;
	return vhd_batmap_store(v);
}

static int cut_to(struct vhd *v, uint64_t end)
{
	int r = td_image_resize(v->child, end, TD_RESIZE_SHRINK, NULL);

	if (r == -ENOTSUP || r == -EINVAL) {
		v->fixed_size = true;
		v->next = end;
		return 0;
	}
	if (r == 0) {
		v->end = v->next = end;
		r = vhd_footer_put(v, end);
	}
	return r == 0 ? vhd_barrier(v) : r;
}

static int empty_locked(struct vhd *v)
{
	uint64_t end = 0, blocks;
	int r = clear_batmap(v);

	for (uint64_t i = 0; r == 0 && i < v->g.bat_len; i += VHD_SECTOR)
		r = drop_unit(v, v->g.bat_off + i);
	if (r == 0)
		r = td_meta_commit(v->meta);
	if (r == 0) {
		td_meta_forget(v->meta, VHD_BITMAPS);
		r = vhd_find_end(v, &end, &blocks, NULL);
	}
	return r == 0 ? cut_to(v, td_align_up(end, VHD_SECTOR)) : r;
}

int vhd_empty(struct td_image *im, struct td_err *ret_err)
{
	struct vhd *v = im->state;
	td_co_guard(&v->alloc_lock);
	int r = vhd_fixed(v) ? -ENOTSUP : empty_locked(v);

	return r < 0 ? td_err_set(ret_err, r, "%s: cannot be emptied: %s", im->name, strerror(-r)) : 0;
}
