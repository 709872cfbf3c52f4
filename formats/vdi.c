// SPDX-License-Identifier: BSD-2-Clause
/*
 * VirtualBox's format: the header and the entries of the map.
 *
 * Differencing and undo images name their parent by its UUID alone; which file that is stands in VirtualBox's own
 * registry, not in the image.
 */
#include <blktap/vdi.h>

/* Where the fields are. */
enum {
	AT_VERSION = 68,
	AT_LENGTH = 72,
	AT_TYPE = 76,
	AT_MAP = 340,
	AT_DATA = 344,
	AT_SECTOR_SIZE = 360,
	AT_SIZE = 368,
	AT_BLOCK_SIZE = 376,
	AT_EXTRA = 380, /* bytes before each block, of which nobody ever had any */
	AT_BLOCKS = 384,
	AT_ALLOCATED = 388,
	AT_UUID = 392,
	AT_PARENT = 424,
};

#define VERSION    0x00010001u
#define LENGTH_MIN 384u /* without the second geometry */

#define ENTRY_FREE 0xffffffffu
#define ENTRY_ZERO 0xfffffffeu

static int check_kind(const uint8_t *raw, struct td_err *ret_err)
{
	const uint32_t version = td_get_le32(raw + AT_VERSION), type = td_get_le32(raw + AT_TYPE);

	if (td_get_le32(raw + VDI_AT_MAGIC) != VDI_SIGNATURE)
		return td_err_set(ret_err, -EUCLEAN,
				  "not a vdi image: it does not begin with VirtualBox's header");
	if (version != VERSION)
		return td_err_set(ret_err, -ENOTSUP, "version %u.%u of the format is not supported (1.1 is)",
				  version >> 16, version & 0xffff);
	if (type == 3 || type == 4)
		return td_err_set(ret_err, -ENOTSUP,
				  "%s are not supported: they name their parent by its UUID alone; "
				  "VBoxManage clonemedium makes a whole disk of it",
				  type == 3 ? "undo images" : "differencing images (snapshots)");
	if (type != VDI_DYNAMIC && type != VDI_STATIC)
		return td_err_set(ret_err, -ENOTSUP, "images of type %u are not supported", type);
	if (!td_guid_is_zero(raw + AT_PARENT))
		return td_err_set(ret_err, -ENOTSUP, "it has a parent, which its type does not allow");
	if (td_get_le32(raw + AT_EXTRA) != 0)
		return td_err_set(ret_err, -ENOTSUP, "blocks with %u bytes of extra data are not supported",
				  td_get_le32(raw + AT_EXTRA));
	return 0;
}

static int check_blocks(const struct vdi_header *h, struct td_err *ret_err)
{
	if (!td_is_pow2(h->block_size))
		return td_err_set(ret_err, -EUCLEAN, "a block cannot have %u bytes", h->block_size);
	if (h->block_size < VDI_BLOCK_MIN || h->block_size > VDI_BLOCK_MAX)
		return td_err_set(ret_err, -ENOTSUP, "blocks of %u bytes are not supported: %u to %u are",
				  h->block_size, VDI_BLOCK_MIN, VDI_BLOCK_MAX);
	if (h->size == 0 || h->size > (uint64_t)h->nr_blocks * h->block_size)
		return td_err_set(ret_err, -EUCLEAN, "%u blocks of %u bytes are no disk of %llu bytes",
				  h->nr_blocks, h->block_size, (unsigned long long)h->size);
	if (h->nr_allocated > h->nr_blocks)
		return td_err_set(ret_err, -EUCLEAN, "%u of its %u blocks cannot be allocated",
				  h->nr_allocated, h->nr_blocks);
	return 0;
}

static int check_places(const struct vdi_header *h, uint32_t length, struct td_err *ret_err)
{
	if (length < LENGTH_MIN || h->map_off < AT_LENGTH + (uint64_t)length || h->map_off % VDI_SECTOR)
		return td_err_set(ret_err, -EUCLEAN, "its map cannot be at byte %u, behind a header of %u",
				  h->map_off, length);
	if (h->data_off < h->map_off + (uint64_t)h->nr_blocks * 4 || h->data_off % VDI_SECTOR)
		return td_err_set(ret_err, -EUCLEAN,
				  "its blocks cannot begin at byte %u: that is not behind its map",
				  h->data_off);
	return 0;
}

int vdi_header_decode(const uint8_t raw[VDI_HEADER], struct vdi_header *ret, struct td_err *ret_err)
{
	const uint64_t size = td_get_le64(raw + AT_SIZE);
	struct vdi_header h = {
		.type = td_get_le32(raw + AT_TYPE) == VDI_STATIC ? VDI_STATIC : VDI_DYNAMIC,
		.map_off = td_get_le32(raw + AT_MAP),
		.data_off = td_get_le32(raw + AT_DATA),
		.block_size = td_get_le32(raw + AT_BLOCK_SIZE),
		.nr_blocks = td_get_le32(raw + AT_BLOCKS),
		.nr_allocated = td_get_le32(raw + AT_ALLOCATED),
	};
	int r = check_kind(raw, ret_err);

	if (r < 0)
		return r;
	if (td_get_le32(raw + AT_SECTOR_SIZE) != VDI_SECTOR)
		return td_err_set(ret_err, -ENOTSUP, "sectors of %u bytes are not supported",
				  td_get_le32(raw + AT_SECTOR_SIZE));
	/* VBoxManage made such disks of files of any length: the last sector is whole, as a block is. */
	h.size = size > INT64_MAX ? UINT64_MAX : td_align_up(size, VDI_SECTOR);
	memcpy(h.uuid, raw + AT_UUID, sizeof(h.uuid));
	r = check_blocks(&h, ret_err);
	if (r == 0)
		r = check_places(&h, td_get_le32(raw + AT_LENGTH), ret_err);
	if (r == 0)
		*ret = h;
	return r;
}

int vdi_entry_decode(const struct vdi_header *h, uint32_t raw, enum vdi_kind *ret_kind,
		     uint64_t *ret_host_off)
{
	*ret_host_off = 0;
	*ret_kind = raw == ENTRY_FREE ? VDI_FREE : VDI_ZERO;
	if (raw == ENTRY_FREE || raw == ENTRY_ZERO)
		return 0;
	*ret_kind = VDI_DATA;
	*ret_host_off = h->data_off + (uint64_t)raw * h->block_size;
	return raw < h->nr_blocks ? 0 : -EUCLEAN;
}
