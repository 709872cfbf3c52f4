// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: the vdi codec.  Input: the first sector of a file, then entries of the map.  What decodes has a map and
 * blocks that arithmetic cannot trip over.
 */
#include "fuzz.h"

#include <blktap/vdi.h>

static void one_entry(const struct vdi_header *h, uint32_t raw)
{
	enum vdi_kind kind = VDI_FREE;
	uint64_t off = 0;

	if (vdi_entry_decode(h, raw, &kind, &off) < 0)
		return;
	FUZZ_CHECK((kind == VDI_DATA) == (off > 0));
	FUZZ_CHECK(kind != VDI_DATA || (off >= h->data_off && (off - h->data_off) % h->block_size == 0));
	FUZZ_CHECK(off + h->block_size < INT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vdi_header h;
	struct td_err err;
	int r;

	if (size < VDI_HEADER)
		return 0;
	err.msg[0] = '\0';
	r = vdi_header_decode(data, &h, &err);
	FUZZ_CHECK(r == 0 || ((r == -EUCLEAN || r == -ENOTSUP) && err.msg[0]));
	if (r < 0)
		return 0;
	FUZZ_CHECK(h.size > 0 && h.size % VDI_SECTOR == 0);
	FUZZ_CHECK(h.size <= (uint64_t)h.nr_blocks * h.block_size);
	FUZZ_CHECK(h.map_off > VDI_AT_MAGIC && h.map_off + (uint64_t)h.nr_blocks * 4 <= h.data_off);
	for (size_t at = VDI_HEADER; at + 4 <= size; at += 4)
		one_entry(&h, td_get_le32(data + at));
	return 0;
}
