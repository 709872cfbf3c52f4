// SPDX-License-Identifier: BSD-2-Clause
/*
 * The header of a dynamic or differencing disk, and the geometry that it and the footer give.
 *
 * Source: the specification, "Dynamic Disk Header Format"; what stands behind the BAT is xapi-project/blktap's.
 */
#include <blktap/vhd.h>

#define VERSION 0x00010000u

enum {
	AT_NEXT = 8,
	AT_BAT = 16,
	AT_VERSION = 24,
	AT_MAX_ENTRIES = 28,
	AT_BLOCK_SIZE = 32,
	AT_CHECKSUM = 36,
	AT_PARENT_UUID = 40,
	AT_PARENT_TIME = 56,
	AT_PARENT_NAME = 64,
	AT_LOCATORS = 576,
	LOCATOR_LEN = 24,
};

static const char cookie[8] = "cxsparse";

static uint32_t header_sum(const uint8_t raw[VHD_HEADER])
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < VHD_HEADER; i++)
		if (i < AT_CHECKSUM || i >= AT_CHECKSUM + 4)
			sum += raw[i];
	return ~sum;
}

static int check_fields(const struct vhd_header *h, uint32_t version, struct td_err *ret_err)
{
	if (version >> 16 != VERSION >> 16)
		return td_err_set(ret_err, -ENOTSUP, "version %u.%u of its header is not supported",
				  version >> 16, version & 0xffff);
	if (!td_is_pow2(h->block_size) || h->block_size < VHD_SECTOR)
		return td_err_set(ret_err, -EUCLEAN, "a block cannot have %u bytes", h->block_size);
	if (h->block_size > VHD_BLOCK_MAX)
		return td_err_set(ret_err, -ENOTSUP, "blocks of %u bytes are not supported: at most %u",
				  h->block_size, VHD_BLOCK_MAX);
	if (h->bat_off < VHD_FOOTER || h->bat_off % VHD_SECTOR != 0 || h->bat_off > INT64_MAX / 2)
		return td_err_set(ret_err, -EUCLEAN, "its block table cannot be at 0x%llx",
				  (unsigned long long)h->bat_off);
	return 0;
}

int vhd_header_decode(const uint8_t raw[VHD_HEADER], struct vhd_header *ret, struct td_err *ret_err)
{
	struct vhd_header h = {
		.bat_off = td_get_be64(raw + AT_BAT),
		.max_entries = td_get_be32(raw + AT_MAX_ENTRIES),
		.block_size = td_get_be32(raw + AT_BLOCK_SIZE),
		.parent_time = td_get_be32(raw + AT_PARENT_TIME),
	};
	int r;

	if (memcmp(raw, cookie, sizeof(cookie)) != 0)
		return td_err_set(ret_err, -EUCLEAN, "there is no header where its footer says");
	if (td_get_be32(raw + AT_CHECKSUM) != header_sum(raw))
		return td_err_set(ret_err, -EUCLEAN, "the checksum of its header is wrong");
	memcpy(h.parent_uuid, raw + AT_PARENT_UUID, sizeof(h.parent_uuid));
	memcpy(h.parent_name, raw + AT_PARENT_NAME, sizeof(h.parent_name));
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const uint8_t *p = raw + AT_LOCATORS + (size_t)i * LOCATOR_LEN;

		h.locator[i] = (struct vhd_locator){ td_get_be32(p), td_get_be32(p + 4), td_get_be32(p + 8),
						     td_get_be64(p + 16) };
	}
	r = check_fields(&h, td_get_be32(raw + AT_VERSION), ret_err);
	if (r == 0)
		*ret = h;
	return r;
}

void vhd_header_encode(const struct vhd_header *h, uint8_t raw[VHD_HEADER])
{
	memset(raw, 0, VHD_HEADER);
	memcpy(raw, cookie, sizeof(cookie));
	td_put_be64(raw + AT_NEXT, UINT64_MAX);
	td_put_be64(raw + AT_BAT, h->bat_off);
	td_put_be32(raw + AT_VERSION, VERSION);
	td_put_be32(raw + AT_MAX_ENTRIES, h->max_entries);
	td_put_be32(raw + AT_BLOCK_SIZE, h->block_size);
	memcpy(raw + AT_PARENT_UUID, h->parent_uuid, sizeof(h->parent_uuid));
	td_put_be32(raw + AT_PARENT_TIME, h->parent_time);
	memcpy(raw + AT_PARENT_NAME, h->parent_name, sizeof(h->parent_name));
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		uint8_t *p = raw + AT_LOCATORS + (size_t)i * LOCATOR_LEN;

		td_put_be32(p, h->locator[i].platform);
		td_put_be32(p + 4, h->locator[i].space);
		td_put_be32(p + 8, h->locator[i].len);
		td_put_be64(p + 16, h->locator[i].off);
	}
	td_put_be32(raw + AT_CHECKSUM, header_sum(raw));
}

int vhd_geom_of(const struct vhd_footer *f, const struct vhd_header *h, struct vhd_geom *ret,
		struct td_err *ret_err)
{
	uint64_t size = vhd_disk_size(f), blocks = td_div_up(size, h->block_size);
	struct vhd_geom g = {
		.block_size = h->block_size,
		.block_bits = (uint32_t)__builtin_ctz(h->block_size),
		.max_entries = h->max_entries,
		.bat_off = h->bat_off,
		.bat_len = td_align_up((uint64_t)h->max_entries * 4, VHD_SECTOR),
	};

	if (blocks > h->max_entries)
		return td_err_set(ret_err, -EUCLEAN,
				  "its block table has %u entries, too few for a disk of %llu bytes",
				  h->max_entries, (unsigned long long)size);
	if (blocks > VHD_BLOCKS_MAX)
		return td_err_set(ret_err, -ENOTSUP, "a disk of %llu blocks is not supported: %u at most",
				  (unsigned long long)blocks, VHD_BLOCKS_MAX);
	g.nr_blocks = (uint32_t)blocks;
	g.bitmap_len = (uint32_t)td_align_up(td_div_up(h->block_size / VHD_SECTOR, 8), VHD_SECTOR);
	g.batmap_off = g.bat_off + g.bat_len;
	if (td_overlap(g.bat_off, g.bat_len, f->data_off, VHD_HEADER))
		return td_err_set(ret_err, -EUCLEAN, "its block table lies over its header");
	*ret = g;
	return 0;
}
