// SPDX-License-Identifier: BSD-2-Clause
/*
 * From the file to struct vhd: header, geometry, what is where beside blocks; all of the BAT.
 */
#include "vhd-int.h"

/* ---- where things are ---- */

/* A locator that cannot be is passed over here and wherever it is read. */
static void add_areas(struct vhd *v)
{
	v->nr_areas = 0;
	vhd_add_area(v, 0, VHD_FOOTER);
	vhd_add_area(v, v->f.data_off, VHD_HEADER);
	vhd_add_area(v, v->g.bat_off, v->g.bat_len);
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator *l = &v->h.locator[i];
		uint64_t len = td_align_up((uint64_t)l->len, VHD_SECTOR);

		if (l->platform != VHD_LOC_NONE && len > 0 && td_in_range(l->off, l->len, v->child->size))
			vhd_add_area(v, l->off, len);
	}
}

int vhd_lay_out(struct vhd *v, struct td_err *ret_err)
{
	struct vhd_geom g;
	uint8_t *known;
	int r = vhd_geom_of(&v->f, &v->h, &g, ret_err);

	if (r < 0)
		return r;
	if (!td_in_range(g.bat_off, g.bat_len, v->child->size))
		return td_err_set(ret_err, -EUCLEAN, "its block table does not lie inside the file");
	known = calloc(g.nr_blocks / 4 + 1, 1);
	if (!known)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	free(v->known);
	v->known = known;
	v->g = g;
	v->bitmap_unit = TD_MIN(g.bitmap_len, TD_META_UNIT_MAX);
	add_areas(v);
	return 0;
}

/* ---- all of the BAT ---- */

int vhd_read_bat(struct vhd *v, uint32_t first, uint8_t *buf, uint32_t *ret_nr)
{
	uint32_t nr = TD_MIN(v->g.nr_blocks - first, VHD_BAT_CHUNK / 4);
	uint64_t off = v->g.bat_off + (uint64_t)first * 4, len = td_align_up((uint64_t)nr * 4, VHD_SECTOR);
	int r = td_image_pread(v->child, off, buf, len, TD_EXACT);

	/* What is in memory is newer. */
	for (uint64_t i = 0; r == 0 && v->meta && i < len; i += VHD_SECTOR) {
		const uint8_t *unit = td_meta_look(v->meta, VHD_BAT, off + i);

		if (unit)
			memcpy(buf + i, unit, VHD_SECTOR);
	}
	*ret_nr = nr;
	return r;
}

struct scan {
	uint64_t end, blocks;
};

static int scan_chunk(struct vhd *v, const uint8_t *buf, uint32_t first, uint32_t nr, struct scan *s,
		      struct td_err *ret_err)
{
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t entry = td_get_be32(buf + (size_t)i * 4), block = first + i;

		if (entry == VHD_UNUSED) {
			vhd_set_known(v, block, VHD_ABSENT);
			/* It would be believed of the block that comes there. */
			v->batmap_stale |= v->batmap && vhd_bit(v->batmap, block);
			continue;
		}
		if (vhd_check_entry(v, entry) < 0)
			return td_err_set(ret_err, -EUCLEAN,
					  "block %u lies at 0x%llx, outside the file or over its tables "
					  "(tap-img check)",
					  block, (unsigned long long)entry * VHD_SECTOR);
		vhd_set_known(v, block, v->batmap && vhd_bit(v->batmap, block) ? VHD_FULL : VHD_PARTLY);
		s->end = TD_MAX(s->end, (uint64_t)entry * VHD_SECTOR + vhd_block_len(&v->g));
		s->blocks++;
	}
	return 0;
}

int vhd_find_end(struct vhd *v, uint64_t *ret_end, uint64_t *ret_blocks, struct td_err *ret_err)
{
	struct scan s = { 0 };
	uint8_t *buf = td_buf_alloc(VHD_BAT_CHUNK);
	uint32_t nr = 0;
	int r = 0;

	if (!buf)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	for (unsigned i = 0; i < v->nr_areas; i++)
		s.end = TD_MAX(s.end, v->area[i].off + v->area[i].len);
	for (uint32_t first = 0; r == 0 && first < v->g.nr_blocks; first += nr) {
		r = vhd_read_bat(v, first, buf, &nr);
		if (r < 0)
			td_err_set(ret_err, r, "its block table cannot be read: %s", strerror(-r));
		else
			r = scan_chunk(v, buf, first, nr, &s, ret_err);
	}
	td_buf_free(buf, VHD_BAT_CHUNK);
	*ret_end = s.end;
	*ret_blocks = s.blocks;
	return r;
}

/* ---- all of it ---- */

static int load_header(struct vhd *v, struct td_err *ret_err)
{
	uint8_t raw[VHD_HEADER];
	int r = td_image_pread(v->child, v->f.data_off, raw, sizeof(raw), TD_EXACT);

	if (r < 0)
		return td_err_set(ret_err, r, "its header at 0x%llx cannot be read: %s",
				  (unsigned long long)v->f.data_off,
				  r == -EUCLEAN ? "it is not inside the file" : strerror(-r));
	return vhd_header_decode(raw, &v->h, ret_err);
}

int vhd_load(struct vhd *v, struct td_err *ret_err)
{
	int r = vhd_footer_load(v, ret_err);

	if (r < 0)
		return r;
	if (vhd_fixed(v)) {
		if (vhd_disk_size(&v->f) > v->end)
			return td_err_set(
				ret_err, -EUCLEAN, "the disk has %llu bytes, of which the file has %llu",
				(unsigned long long)vhd_disk_size(&v->f), (unsigned long long)v->end);
		return 0;
	}
	r = load_header(v, ret_err);
	if (r == 0)
		r = vhd_lay_out(v, ret_err);
	if (r < 0)
		return r;
	r = vhd_load_batmap(v);
	return r < 0 ? td_err_set(ret_err, r, "its batmap cannot be read: %s", strerror(-r)) : 0;
}

void vhd_unload(struct vhd *v)
{
	vhd_batmap_forget(v);
	free(v->known);
	v->known = NULL;
}
