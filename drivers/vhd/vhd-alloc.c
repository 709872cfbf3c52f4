// SPDX-License-Identifier: BSD-2-Clause
/*
 * New blocks, at the end of the file.
 *
 *	... | block | footer |				before
 *	... | block | bitmap | sectors ....... | footer |	after: the bitmap starts where the footer was, or
 *							a little later, so that sectors start at a page
 *
 * Of a disk with a parent the bitmap is empty at first.  Without one it is full, as others make it: the sectors are
 * zeros, and many programs (QEMU, Hyper-V) do not ask it, so that what a kill leaves between data and bit would be one
 * thing to us and another to them.
 *
 * Order: the file is made longer and the footer written at its new end; zeros over the old footer, which takes the
 * bitmap's space; then, in memory, the bitmap and the entry that names the block.  A commit brings those to the
 * disk behind all of it.  So a power cut leaves at the end the old footer, the new one, or none, and what is at the
 * start counts (vhd-footer.c).
 *
 * A file's new bytes are zeros.  On a device, which cannot be made longer, the footer stays where it is, blocks are
 * placed behind the last one, and are zeroed first: other programs read an allocated block without its bitmap.
 */
#include "vhd-int.h"

/* The first place for a block at or behind `from`. */
static uint64_t place_for_block(const struct vhd *v, uint64_t from)
{
	return td_align_up(from + v->g.bitmap_len, VHD_PAGE) - v->g.bitmap_len;
}

/* The file's bytes from v->end to new_end are zeros, or the old footer; the footer is at new_end too. */
static int grow(struct vhd *v, uint64_t new_end)
{
	uint64_t old_size = v->child->size;
	int r = td_image_resize(v->child, TD_MAX(new_end + VHD_FOOTER, old_size), 0, NULL);

	if (r == -ENOTSUP || r == -EINVAL) {
		v->fixed_size = true;
		return -ENOSPC;
	}
	if (r == 0)
		r = vhd_footer_put(v, new_end);
	if (r < 0 && v->child->size > old_size)
		td_ignore(td_image_resize(v->child, old_size, TD_RESIZE_SHRINK, NULL));
	return r;
}

/* Back to where the footer was; if that fails the copy at the start is still right. */
static void ungrow(struct vhd *v)
{
	if (td_image_resize(v->child, v->end + VHD_FOOTER, TD_RESIZE_SHRINK, NULL) == 0)
		td_ignore(vhd_footer_put(v, v->end));
}

static int zero_bitmap(struct vhd *v, uint64_t host_off)
{
	return td_image_zero(v->child, host_off, v->g.bitmap_len, 0);
}

static int take_at_end(struct vhd *v, uint64_t *ret)
{
	uint64_t at = place_for_block(v, v->next), new_end = at + vhd_block_len(&v->g);
	int r;

	if (new_end / VHD_SECTOR >= VHD_UNUSED)
		return -EFBIG;
	r = grow(v, new_end);
	if (r < 0)
		return r;
	r = zero_bitmap(v, at);
	if (r < 0) {
		ungrow(v);
		return r;
	}
	v->end = v->next = new_end;
	*ret = at;
	return 0;
}

static int take_on_device(struct vhd *v, uint64_t *ret)
{
	uint64_t at = place_for_block(v, v->next), len = vhd_block_len(&v->g);
	int r;

	if (!td_in_range(at, len, v->end))
		return -ENOSPC;
	r = td_image_zero(v->child, at, len, TD_MAY_UNMAP);
	if (r < 0)
		return r;
	v->next = at + len;
	*ret = at;
	return 0;
}

int vhd_take_place(struct vhd *v, uint64_t *ret)
{
	int r = v->fixed_size ? -ENOSPC : take_at_end(v, ret);

	return v->fixed_size ? take_on_device(v, ret) : r;
}

/* ---- its metadata ---- */

static int new_bitmap(struct vhd *v, uint64_t host_off)
{
	uint8_t *unit;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < v->g.bitmap_len; i += v->bitmap_unit) {
		r = td_meta_new(v->meta, VHD_BITMAPS, host_off + i, &unit);
		if (r == 0 && v->f.type == VHD_DYNAMIC)
			memset(unit, 0xff, v->bitmap_unit);
	}
	return r;
}

static int name_block(struct vhd *v, uint32_t block, uint64_t host_off)
{
	uint64_t at = v->g.bat_off + (uint64_t)block * 4, unit_off = td_align_down(at, VHD_SECTOR);
	uint32_t entry = htobe32((uint32_t)(host_off / VHD_SECTOR));
	uint8_t *unit = NULL;
	int r = td_meta_get(v->meta, VHD_BAT, unit_off, &unit);

	if (r < 0)
		return r;
	td_meta_mark(v->meta, VHD_BAT, unit_off);
	/* In one store: a kill never leaves half of one. */
	__atomic_store_n((uint32_t *)(void *)(unit + at % VHD_SECTOR), entry, __ATOMIC_RELAXED);
	vhd_set_known(v, block, VHD_PARTLY);
	v->batmap_stale |= v->f.type == VHD_DYNAMIC;
	return 0;
}

static int alloc_locked(struct vhd *v, uint32_t block)
{
	uint64_t host_off = 0;
	uint32_t entry = VHD_UNUSED;
	int r = td_meta_room(v->meta, v->g.bitmap_len / v->bitmap_unit + 1);

	/* While it waited for the lock: it may not be known any more where the BAT is. */
	if (r == 0 && v->im->frozen)
		r = -EIO;
	if (r == 0)
		r = vhd_bat_entry(v, block, &entry);
	if (r < 0 || entry != VHD_UNUSED)
		return r;
	r = vhd_take_place(v, &host_off);
	if (r == 0)
		r = new_bitmap(v, host_off);
	/* If this fails a block's space is lost until the image is opened again. */
	return r == 0 ? name_block(v, block, host_off) : r;
}

int vhd_alloc(struct vhd *v, uint32_t block)
{
	td_co_guard(&v->alloc_lock);

	return alloc_locked(v, block);
}

int vhd_alloc_area(struct vhd *v, uint64_t len, uint64_t *ret)
{
	uint64_t at = v->next;
	int r;

	if (v->fixed_size)
		return -ENOSPC;
	r = grow(v, at + len);
	if (r < 0)
		return r;
	v->end = v->next = at + len;
	*ret = at;
	return 0;
}

/* ---- at open ---- */

/*
 * A whole block's space or more behind the last one is what a crash left: it goes.  Less than that may be anything, and
 * stays.
 */
static int cut_tail(struct vhd *v, uint64_t found)
{
	int r;

	if (v->end < found + vhd_block_len(&v->g))
		return 0;
	r = td_image_resize(v->child, found, TD_RESIZE_SHRINK, NULL);
	if (r == -ENOTSUP || r == -EINVAL) {
		v->fixed_size = true;
		v->next = found;
		return 0;
	}
	if (r < 0)
		return r;
	v->end = v->next = found;
	v->end_good = false;
	return 0;
}

int vhd_alloc_open(struct vhd *v, struct td_err *ret_err)
{
	uint64_t found = 0, blocks;
	int r = vhd_find_end(v, &found, &blocks, ret_err);

	if (r < 0)
		return r;
	found = td_align_up(found, VHD_SECTOR);
	if (v->end < found) {
		v->end = found;
		v->end_good = false;
	}
	v->next = v->end;
	r = vhd_footer_mend_start(v);
	if (r == 0)
		r = cut_tail(v, found);
	if (r == 0)
		r = vhd_footer_mend(v);
	if (r == 0)
		r = vhd_batmap_store(v);
	return r < 0 ? td_err_set(ret_err, r, "it cannot be made ready for writing: %s", strerror(-r)) : 0;
}
