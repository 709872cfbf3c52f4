// SPDX-License-Identifier: BSD-2-Clause
/*
 * What is known of each block, and where none may be.
 */
#include <assert.h>

#include "vhd-int.h"

/* ---- what is known of blocks: two bits each ---- */

enum vhd_known vhd_known(const struct vhd *v, uint32_t block)
{
	return v->known ? (enum vhd_known)(v->known[block / 4] >> block % 4 * 2 & 3) : VHD_UNKNOWN;
}

void vhd_set_known(struct vhd *v, uint32_t block, enum vhd_known known)
{
	unsigned shift = block % 4 * 2;

	if (v->known)
		v->known[block / 4] =
			(uint8_t)((v->known[block / 4] & ~(3u << shift)) | (unsigned)known << shift);
}

/* ---- what of the file is not for blocks ---- */

void vhd_add_area(struct vhd *v, uint64_t off, uint64_t len)
{
	assert(v->nr_areas < VHD_AREAS);
	v->area[v->nr_areas++] = (struct vhd_area){ off, len };
}

int vhd_check_entry(const struct vhd *v, uint32_t entry)
{
	uint64_t at = (uint64_t)entry * VHD_SECTOR, len = vhd_block_len(&v->g);

	/* The file may end inside its last block. */
	if (!td_in_range(at, v->g.bitmap_len, v->child->size))
		return -EUCLEAN;
	for (unsigned i = 0; i < v->nr_areas; i++)
		if (td_overlap(at, len, v->area[i].off, v->area[i].len))
			return -EUCLEAN;
	return 0;
}
