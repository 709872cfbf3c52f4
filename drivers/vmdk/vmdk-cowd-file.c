// SPDX-License-Identifier: BSD-2-Clause
/*
 * A VMFS sparse extent.  Its header says where the next grain goes, and ESX believes it: before an entry names
 * anything, the header on the disk has to be past it, or ESX would put something else there after a power cut.  So it
 * is moved ahead in large steps, and to the file's end at the close.
 */
#include "vmdk-sparse.h"

#define AHEAD ((16u << 20) / VMDK_SECTOR)

int vmdk_cowd_load(struct vmdk_sparse *s, struct td_err *ret_err)
{
	struct td_image *child = s->im->child;
	uint8_t head[VMDK_COWD_HEADER];
	uint64_t dir_end;
	int r = td_image_pread(child, 0, head, sizeof(head), TD_EXACT);

	if (r < 0)
		return td_err_set(ret_err, r, "cannot read its header: %s",
				  r == -EUCLEAN ? "it ends inside it" : strerror(-r));
	r = vmdk_cowd_decode(head, &s->c, ret_err);
	if (r < 0)
		return r;
	dir_end = ((uint64_t)s->c.gd + td_div_up((uint64_t)s->c.gd_entries * 4, VMDK_SECTOR)) * VMDK_SECTOR;
	s->table_bytes = VMDK_COWD_PER_TABLE * 4;
	s->nr_tables = td_div_up(s->c.capacity, (uint64_t)s->c.grain * VMDK_COWD_PER_TABLE);
	s->im->size = (uint64_t)s->c.capacity * VMDK_SECTOR;
	s->config = (struct td_grains_config){
		.tag = { { VMDK_MAGIC_COWD | (uint64_t)s->c.grain << 32, s->c.capacity } },
		.grain_bits = (unsigned)__builtin_ctzll((uint64_t)s->c.grain * VMDK_SECTOR),
		.table_bits = (unsigned)__builtin_ctz(VMDK_COWD_PER_TABLE),
		.dir_off = (uint64_t)s->c.gd * VMDK_SECTOR,
		.nr_tables = s->nr_tables,
		.table_align = VMDK_SECTOR,
		.data_from = dir_end,
	};
	return 0;
}

static int write_next_free(struct vmdk_sparse *s, uint64_t sector)
{
	struct vmdk_cowd c = s->c;
	uint8_t head[VMDK_SECTOR];
	int r = td_image_pread(s->im->child, 0, head, sizeof(head), TD_EXACT);

	if (r < 0)
		return r;
	c.next_free = (uint32_t)TD_MIN(sector, (uint64_t)UINT32_MAX);
	vmdk_cowd_encode(&c, head);
	r = td_image_pwrite(s->im->child, 0, head, sizeof(head), 0);
	if (r == 0)
		s->c = c;
	return r;
}

int vmdk_cowd_grow(struct vmdk_sparse *s, uint64_t end)
{
	const uint64_t sector = td_div_up(end, VMDK_SECTOR);
	int r;

	td_co_guard(&s->grow_lock);
	if (sector <= s->c.next_free)
		return 0;
	r = write_next_free(s, sector + AHEAD);
	return r == 0 ? td_image_flush(s->im->child) : r;
}

int vmdk_cowd_settle(struct vmdk_sparse *s)
{
	const uint64_t end = td_div_up(s->im->child->size, VMDK_SECTOR);
	int r;

	if (s->c.next_free == end)
		return 0;
	r = write_next_free(s, end);
	return r == 0 ? td_image_flush(s->im->child) : r;
}
