// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where a byte of the disk is: a block's entry in the BAT, then the bits of its sectors.
 *
 * What was found once is remembered in two bits a block, so that a block that is not there, or is wholly written, is
 * answered without its bitmap: that is what makes a long chain cheap.
 */
#include "vhd-int.h"

static uint64_t entry_unit(const struct vhd *v, uint32_t block)
{
	return td_align_down(v->g.bat_off + (uint64_t)block * 4, VHD_SECTOR);
}

static uint32_t entry_in(const struct vhd *v, const uint8_t *unit, uint32_t block)
{
	return td_get_be32(unit + (v->g.bat_off + (uint64_t)block * 4) % VHD_SECTOR);
}

int vhd_bat_entry(struct vhd *v, uint32_t block, uint32_t *ret)
{
	uint8_t *unit = td_meta_look(v->meta, VHD_BAT, entry_unit(v, block));
	unsigned moves;
	int r = 0;

	if (!unit) {
		do { /* the table may move while it is read */
			moves = v->moves;
			r = td_meta_get(v->meta, VHD_BAT, entry_unit(v, block), &unit);
		} while (r == 0 && moves != v->moves);
	}
	if (r == 0)
		*ret = entry_in(v, unit, block);
	return r;
}

/* ---- from block to sectors ---- */

/* The first sight of a block. */
static int learn(struct vhd *v, uint32_t block, uint32_t entry, enum vhd_known *ret)
{
	if (entry == VHD_UNUSED) {
		*ret = VHD_ABSENT;
	} else if (vhd_check_entry(v, entry) < 0) {
		td_image_freeze(v->im);
		return -EUCLEAN;
	} else {
		*ret = v->batmap && vhd_bit(v->batmap, block) ? VHD_FULL : VHD_PARTLY;
	}
	vhd_set_known(v, block, *ret);
	return 0;
}

/* Blocks that are known not to be there, from off on. */
static uint64_t absent_run(const struct vhd *v, uint64_t off, uint64_t len)
{
	uint64_t block = (off >> v->g.block_bits) + 1, end = off + len;

	while (block << v->g.block_bits < end && vhd_known(v, (uint32_t)block) == VHD_ABSENT)
		block++;
	return TD_MIN(len, (block << v->g.block_bits) - off);
}

/* Sectors per unit of bitmaps. */
static uint64_t unit_sectors(const struct vhd *v)
{
	return (uint64_t)v->bitmap_unit * 8;
}

static void note_full(struct vhd *v, uint32_t block, const uint8_t *unit)
{
	uint64_t bytes = v->g.block_size / VHD_SECTOR / 8;

	if (bytes >= 8 && v->bitmap_unit == v->g.bitmap_len && vhd_bits_full(unit, bytes))
		vhd_set_known(v, block, VHD_FULL);
}

/* Of a block at host_off that is partly written. */
static int map_sectors(struct vhd *v, uint64_t off, uint64_t len, uint64_t host_off, struct vhd_extent *ret)
{
	uint64_t in = off & (v->g.block_size - 1), sector = in / VHD_SECTOR;
	uint64_t unit_off = host_off + sector / unit_sectors(v) * v->bitmap_unit;
	uint32_t bit = (uint32_t)(sector % unit_sectors(v)), nr;
	uint64_t sectors = (off + len - 1) / VHD_SECTOR - off / VHD_SECTOR + 1;
	uint8_t *unit = NULL;
	int r = td_meta_get(v->meta, VHD_BITMAPS, unit_off, &unit);

	if (r < 0)
		return r;
	nr = (uint32_t)TD_MIN(sectors, unit_sectors(v) - bit);
	nr = vhd_bits_run(unit, bit, nr);
	ret->kind = vhd_bit(unit, bit) ? VHD_HERE : VHD_HOLE;
	ret->host_off = host_off + v->g.bitmap_len + in;
	ret->len = TD_MIN(len, (uint64_t)nr * VHD_SECTOR - off % VHD_SECTOR);
	if (ret->kind == VHD_HERE)
		note_full(v, (uint32_t)(off >> v->g.block_bits), unit);
	return 0;
}

int vhd_map(struct vhd *v, uint64_t off, uint64_t len, struct vhd_extent *ret)
{
	uint32_t block = (uint32_t)(off >> v->g.block_bits), entry = VHD_UNUSED;
	uint64_t in = off & (v->g.block_size - 1), here = TD_MIN(len, v->g.block_size - in);
	enum vhd_known known = vhd_known(v, block);
	uint64_t host_off;
	int r = 0;

	if (known != VHD_ABSENT) {
		r = vhd_bat_entry(v, block, &entry);
		known = vhd_known(v, block); /* it may have come meanwhile */
	}
	if (r == 0 && known == VHD_UNKNOWN)
		r = learn(v, block, entry, &known);
	if (r < 0)
		return r;
	if (known == VHD_ABSENT) {
		*ret = (struct vhd_extent){ VHD_NOWHERE, 0, absent_run(v, off, len) };
		return 0;
	}
	host_off = (uint64_t)entry * VHD_SECTOR;
	if (known == VHD_PARTLY)
		return map_sectors(v, off, here, host_off, ret);
	*ret = (struct vhd_extent){ VHD_HERE, host_off + v->g.bitmap_len + in, here };
	return 0;
}

/* ---- sectors become ours ---- */

/* Sectors first to first + nr of the block at host_off, all in one unit. */
static int hold_in_unit(struct vhd *v, uint32_t block, uint64_t host_off, uint64_t first, uint64_t nr)
{
	uint64_t unit_off = host_off + first / unit_sectors(v) * v->bitmap_unit;
	uint32_t bit = (uint32_t)(first % unit_sectors(v));
	uint8_t *unit = NULL;
	int r = td_meta_room(v->meta, 1);

	if (r < 0)
		return r;
	r = td_meta_get(v->meta, VHD_BITMAPS, unit_off, &unit);
	if (r < 0)
		return r;
	if (!vhd_bit(unit, bit) || vhd_bits_run(unit, bit, (uint32_t)nr) < nr) {
		td_meta_mark(v->meta, VHD_BITMAPS, unit_off);
		vhd_bits_set(unit, bit, (uint32_t)nr);
	}
	note_full(v, block, unit);
	v->batmap_stale |= vhd_known(v, block) == VHD_FULL;
	return 0;
}

int vhd_hold(struct vhd *v, uint64_t off, uint64_t len)
{
	uint32_t block = (uint32_t)(off >> v->g.block_bits), entry = VHD_UNUSED;
	uint64_t first = (off & (v->g.block_size - 1)) / VHD_SECTOR, nr = td_div_up(len, VHD_SECTOR), n;
	int r;

	if (vhd_known(v, block) == VHD_FULL)
		return 0;
	r = vhd_bat_entry(v, block, &entry);
	for (; r == 0 && nr > 0; first += n, nr -= n) {
		n = TD_MIN(nr, unit_sectors(v) - first % unit_sectors(v));
		r = hold_in_unit(v, block, (uint64_t)entry * VHD_SECTOR, first, n);
	}
	return r;
}
