// SPDX-License-Identifier: BSD-2-Clause
/*
 * New sparse extents: directories that name empty tables, and the header when all else is on the disk.
 */
#include "vmdk-create.h"

#define PIECE 65536u

/* A directory, and the tables behind it: zeros, which a file that has just grown holds already. */
static int write_directory(struct td_image *file, const struct vmdk_header *h, uint64_t at, uint8_t *buf)
{
	uint64_t nr = vmdk_tables(h), len = vmdk_table_len(h), first = at + vmdk_directory_len(h), i = 0;
	int r = td_image_zero(file, first * VMDK_SECTOR, nr * len * VMDK_SECTOR, 0);

	while (r == 0 && i < nr) {
		uint64_t from = i, bytes;

		memset(buf, 0, PIECE);
		for (; i < nr && i - from < PIECE / 4; i++)
			td_put_le32(buf + (i - from) * 4, (uint32_t)(first + i * len));
		bytes = td_align_up((i - from) * 4, VMDK_SECTOR);
		r = td_image_pwrite(file, at * VMDK_SECTOR + from * 4, buf, bytes, 0);
	}
	return r;
}

static int write_hosted(struct td_image *file, const struct vmdk_header *h, const char *text, size_t text_len,
			uint8_t *buf)
{
	int r = td_image_zero(file, 0, (h->desc + h->desc_len + 1) * VMDK_SECTOR, 0);

	/* Whatever a device held before is no image from here on. */
	if (r == 0)
		r = td_image_flush(file);
	if (r == 0 && h->rgd)
		r = write_directory(file, h, h->rgd, buf);
	if (r == 0)
		r = write_directory(file, h, h->gd, buf);
	if (r == 0 && file->size < h->overhead * VMDK_SECTOR)
		r = td_image_resize(file, h->overhead * VMDK_SECTOR, 0, NULL);
	if (r == 0 && text)
		r = td_image_pwrite(file, h->desc * VMDK_SECTOR, text, text_len, 0);
	if (r == 0)
		r = td_image_flush(file);
	if (r < 0)
		return r;
	vmdk_header_encode(h, buf);
	r = td_image_pwrite(file, 0, buf, VMDK_SECTOR, 0);
	return r == 0 ? td_image_flush(file) : r;
}

int vmdk_hosted_create(struct td_image *file, uint64_t sectors, bool zeroed, const char *text,
		       size_t text_len, struct td_err *ret_err)
{
	struct vmdk_header h = {
		.version = zeroed ? 2 : 1,
		.flags = VMDK_NEWLINE_TEST | (zeroed ? VMDK_ZEROED : 0),
		.capacity = sectors,
		.grain = VMDK_NEW_GRAIN,
		.per_table = VMDK_NEW_TABLE,
	};
	int r = vmdk_header_lay_out(&h, text != NULL, true, ret_err);
	uint8_t *buf;

	if (r < 0)
		return r;
	if (text_len > h.desc_len * VMDK_SECTOR)
		return td_err_set(ret_err, -ENAMETOOLONG,
				  "its descriptor does not fit into %u bytes: shorter names would",
				  (unsigned)(h.desc_len * VMDK_SECTOR));
	buf = td_buf_alloc(PIECE);
	if (!buf)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = write_hosted(file, &h, text, text_len, buf);
	td_buf_free(buf, PIECE);
	return r < 0 ? td_err_set(ret_err, r, "cannot be written: %s", strerror(-r)) : 0;
}

int vmdk_cowd_create(struct td_image *file, uint64_t sectors, struct td_err *ret_err)
{
	uint8_t header[VMDK_COWD_HEADER];
	struct vmdk_cowd c;
	uint64_t at;
	int r;

	/* Every grain and every table has to begin where an entry can say. */
	if (sectors > UINT32_MAX - UINT32_MAX / 64)
		return td_err_set(ret_err, -EFBIG, "a VMFS sparse extent ends at 2 TiB");
	vmdk_cowd_init(sectors, &c, header);
	at = (uint64_t)c.gd * VMDK_SECTOR;
	r = td_image_zero(file, 0, (uint64_t)c.next_free * VMDK_SECTOR, 0);
	if (r == 0 && file->size < (uint64_t)c.next_free * VMDK_SECTOR)
		r = td_image_resize(file, (uint64_t)c.next_free * VMDK_SECTOR, 0, NULL);
	if (r == 0)
		r = td_image_flush(file);
	if (r == 0)
		r = td_image_pwrite(file, 0, header, TD_MIN(sizeof(header), at), 0);
	if (r == 0)
		r = td_image_flush(file);
	return r < 0 ? td_err_set(ret_err, r, "cannot be written: %s", strerror(-r)) : 0;
}
