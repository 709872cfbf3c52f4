// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: the vhd codec.  Input: a footer (512 bytes), a header (1024), a batmap's header (512), then a locator's
 * data.  Checksums are put right, so that what is behind them is reached; every fourth input keeps its own.  What
 * decodes survives encoding, and says nothing that arithmetic could trip over.
 */
#include "fuzz.h"

#include <blktap/vhd.h>

static void put_sum(uint8_t *raw, size_t len, size_t at)
{
	uint32_t sum = 0;

	td_put_be32(raw + at, 0);
	for (size_t i = 0; i < len; i++)
		sum += raw[i];
	td_put_be32(raw + at, ~sum);
}

static void one_footer(uint8_t raw[VHD_FOOTER], struct vhd_footer *ret, bool *ret_good)
{
	struct vhd_footer again;

	*ret_good = vhd_footer_decode(raw, ret, NULL) == 0;
	if (!*ret_good)
		return;
	FUZZ_CHECK(vhd_disk_size(ret) % VHD_SECTOR == 0 && vhd_disk_size(ret) <= ret->size);
	FUZZ_CHECK(ret->type == VHD_FIXED || ret->data_off % VHD_SECTOR == 0);
	vhd_footer_encode(ret, raw);
	FUZZ_CHECK(vhd_footer_decode(raw, &again, NULL) == 0);
	FUZZ_CHECK(again.size == ret->size && again.type == ret->type && again.data_off == ret->data_off);
	FUZZ_CHECK(again.hidden == ret->hidden && again.saved == ret->saved);
	vhd_geometry(ret->size, &again);
	FUZZ_CHECK(vhd_geometry_size(&again) <= TD_MAX(ret->size, VHD_SECTOR));
}

static void one_geometry(const struct vhd_footer *f, const struct vhd_header *h, const uint8_t *batmap)
{
	struct vhd_geom g;
	struct vhd_batmap m;

	if (vhd_geom_of(f, h, &g, NULL) < 0)
		return;
	FUZZ_CHECK((uint64_t)g.nr_blocks << g.block_bits >= vhd_disk_size(f));
	FUZZ_CHECK((uint64_t)g.bitmap_len * 8 >= g.block_size / VHD_SECTOR);
	FUZZ_CHECK(g.bat_len >= (uint64_t)g.max_entries * 4 && g.bat_off + g.bat_len > g.bat_off - 1);
	if (vhd_batmap_decode(batmap, &g, &m) == 0)
		FUZZ_CHECK(m.off > g.batmap_off && (uint64_t)m.sectors * VHD_SECTOR * 8 >= g.nr_blocks);
}

static void one_name(uint32_t platform, const uint8_t *data, size_t size)
{
	char name[VHD_NAME_MAX + 1], again[VHD_NAME_MAX + 1];
	uint8_t buf[VHD_LOCATOR_MAX];
	size_t len;

	if (vhd_name_of_locator(platform, data, size, name) < 0)
		return;
	len = strnlen(name, sizeof(name));
	FUZZ_CHECK(len > 0 && len < sizeof(name));
	for (size_t i = 0; i < len; i++)
		FUZZ_CHECK((unsigned char)name[i] >= 0x20);
	if (vhd_name_to_locator(VHD_LOC_W2RU, name, buf, &len) == 0)
		td_ignore(vhd_name_of_locator(VHD_LOC_W2RU, buf, len, again));
	if (vhd_name_to_locator(VHD_LOC_MACX, name, buf, &len) == 0)
		td_ignore(vhd_name_of_locator(VHD_LOC_MACX, buf, len, again));
	td_ignore(vhd_name_to_header(name, buf));
}

static void names(const struct vhd_header *h, const uint8_t *data, size_t size)
{
	static const uint32_t platforms[] = { VHD_LOC_W2RU, VHD_LOC_W2KU, VHD_LOC_MACX,
					      VHD_LOC_WI2R, VHD_LOC_WI2K, VHD_LOC_MAC };
	char name[VHD_NAME_MAX + 1];
	uint8_t *exact = malloc(size + 1); /* so that a byte too far is seen */

	if (!exact)
		return;
	memcpy(exact, data, size);
	for (unsigned i = 0; i < TD_NELEMS(platforms); i++)
		one_name(platforms[i], exact, size);
	td_ignore(vhd_name_of_header(h->parent_name, name));
	free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t raw[VHD_FOOTER + VHD_HEADER + VHD_SECTOR], encoded[VHD_HEADER];
	struct vhd_footer f = { .creator = "" };
	struct vhd_header h = { .bat_off = 0 }, again;
	bool footer;

	if (size < sizeof(raw))
		return 0;
	memcpy(raw, data, sizeof(raw));
	if (raw[500] % 4) {
		put_sum(raw, VHD_FOOTER, 64);
		put_sum(raw + VHD_FOOTER, VHD_HEADER, 36);
	}
	one_footer(raw, &f, &footer);
	if (vhd_header_decode(raw + VHD_FOOTER, &h, NULL) == 0) {
		vhd_header_encode(&h, encoded);
		FUZZ_CHECK(vhd_header_decode(encoded, &again, NULL) == 0);
		FUZZ_CHECK(again.bat_off == h.bat_off && again.max_entries == h.max_entries);
		if (footer && f.type != VHD_FIXED)
			one_geometry(&f, &h, raw + VHD_FOOTER + VHD_HEADER);
	}
	names(&h, data + sizeof(raw), size - sizeof(raw));
	return 0;
}
