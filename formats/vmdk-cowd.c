// SPDX-License-Identifier: BSD-2-Clause
/*
 * The header of a VMFS sparse extent: four sectors.  Grain tables have 4096 entries, and are made when they are needed.
 *
 * Source: libyal, libvmdk's documentation, "COWD sparse extent data file"; QEMU, block/vmdk.c.
 */
#include <blktap/vmdk.h>

/* Where the fields are. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_FLAGS = 8,
	AT_CAPACITY = 12,
	AT_GRAIN = 16,
	AT_GD = 20,
	AT_GD_ENTRIES = 24,
	AT_NEXT_FREE = 28,
	AT_CYLINDERS = 32,
	AT_HEADS = 36,
	AT_SECTORS = 40,
};

#define FLAGS_ROOT   3u /* as ESX writes it */
#define HEADER_LEN   (VMDK_COWD_HEADER / VMDK_SECTOR)
#define HEADS        255u
#define TRACK        63u
#define PER_CYLINDER (HEADS * TRACK)

static uint64_t tables_of(uint64_t capacity, uint64_t grain)
{
	return td_div_up(capacity, grain * VMDK_COWD_PER_TABLE);
}

int vmdk_cowd_decode(const uint8_t *buf, struct vmdk_cowd *ret, struct td_err *ret_err)
{
	struct vmdk_cowd c = {
		.version = td_get_le32(buf + AT_VERSION),
		.flags = td_get_le32(buf + AT_FLAGS),
		.capacity = td_get_le32(buf + AT_CAPACITY),
		.grain = td_get_le32(buf + AT_GRAIN),
		.gd = td_get_le32(buf + AT_GD),
		.gd_entries = td_get_le32(buf + AT_GD_ENTRIES),
		.next_free = td_get_le32(buf + AT_NEXT_FREE),
	};

	if (td_get_le32(buf) != VMDK_MAGIC_COWD)
		return td_err_set(ret_err, -EUCLEAN,
				  "it does not begin with the header of a VMFS sparse extent");
	if (c.version != 1)
		return td_err_set(ret_err, -ENOTSUP,
				  "VMFS sparse extents of version %u are not supported (1 is)", c.version);
	if (!td_is_pow2(c.grain) || c.grain > VMDK_MAX_GRAIN)
		return td_err_set(ret_err, -EUCLEAN,
				  "its grains have %u sectors; a power of two up to %u is valid", c.grain,
				  VMDK_MAX_GRAIN);
	if (c.gd_entries < tables_of(c.capacity, c.grain))
		return td_err_set(ret_err, -EUCLEAN,
				  "its grain directory has %u entries, too few for a capacity of %u sectors",
				  c.gd_entries, c.capacity);
	if (c.gd < HEADER_LEN)
		return td_err_set(ret_err, -EUCLEAN, "its grain directory lies over its header");
	*ret = c;
	return 0;
}

void vmdk_cowd_encode(const struct vmdk_cowd *c, uint8_t *buf)
{
	td_put_le32(buf + AT_MAGIC, VMDK_MAGIC_COWD);
	td_put_le32(buf + AT_VERSION, c->version);
	td_put_le32(buf + AT_FLAGS, c->flags);
	td_put_le32(buf + AT_CAPACITY, c->capacity);
	td_put_le32(buf + AT_GRAIN, c->grain);
	td_put_le32(buf + AT_GD, c->gd);
	td_put_le32(buf + AT_GD_ENTRIES, c->gd_entries);
	td_put_le32(buf + AT_NEXT_FREE, c->next_free);
}

void vmdk_cowd_init(uint64_t capacity, struct vmdk_cowd *ret, uint8_t *buf)
{
	uint64_t entries = tables_of(capacity, 1);

	*ret = (struct vmdk_cowd){
		.version = 1,
		.flags = FLAGS_ROOT,
		.capacity = (uint32_t)capacity,
		.grain = 1,
		.gd = HEADER_LEN,
		.gd_entries = (uint32_t)entries,
		.next_free = (uint32_t)(HEADER_LEN + td_div_up(entries * 4, VMDK_SECTOR)),
	};
	memset(buf, 0, VMDK_COWD_HEADER);
	td_put_le32(buf + AT_CYLINDERS, (uint32_t)(capacity / PER_CYLINDER));
	td_put_le32(buf + AT_HEADS, HEADS);
	td_put_le32(buf + AT_SECTORS, TRACK);
	vmdk_cowd_encode(ret, buf);
}
