// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: the vhdx codec.  The first byte says which structure follows.  The structures are large and mostly
 * zeros, so that an input is what stands at their start; checksums are put right, but where the second byte is odd.
 */
#include "fuzz.h"

#include <blktap/vhdx.h>

#define RING_SECTORS 8u
#define RING_PART    256u /* input bytes of each sector: its start, and its last 4 bytes */

static void put_sum(uint8_t *raw, size_t len)
{
	td_put_le32(raw + 4, vhdx_crc(0, raw, len, 4));
}

static void headers(const uint8_t *data, size_t size, bool sums)
{
	static uint8_t raw[2][VHDX_HEADER];
	struct vhdx_header h;
	int r;

	memset(raw, 0, sizeof(raw));
	memcpy(raw[0], data, TD_MIN(size, 128u));
	if (size > 128)
		memcpy(raw[1], data + 128, TD_MIN(size - 128, 128u));
	if (sums) {
		put_sum(raw[0], VHDX_HEADER);
		put_sum(raw[1], VHDX_HEADER);
	}
	r = vhdx_header_decode(raw[0], raw[1], &h, NULL);
	FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP);
	if (r == 0 && !td_guid_is_zero(h.log_guid))
		FUZZ_CHECK(h.log_len > 0 && h.log_len <= VHDX_LOG_MAX && h.log_off <= VHDX_OFF_MAX);
}

static void regions(const uint8_t *data, size_t size, bool sums)
{
	static uint8_t raw[VHDX_TABLE];
	struct vhdx_regions at;
	int r;

	memset(raw, 0, sizeof(raw));
	memcpy(raw, data, TD_MIN(size, sizeof(raw)));
	if (sums)
		put_sum(raw, VHDX_TABLE);
	r = vhdx_regions_decode(raw, &at, NULL);
	FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP || r == -EINVAL);
	if (r == 0)
		FUZZ_CHECK(!td_overlap(at.bat.off, at.bat.len, at.metadata.off, at.metadata.len));
}

/* A table of 7 entries, then the items' bytes, 16 each, then the BAT's length and entries. */
static void entries(const struct vhdx_disk *disk, const uint8_t *data, size_t size)
{
	struct vhdx_geom g;
	struct vhdx_entry e;
	uint64_t off;

	if (size < 4 || vhdx_geom_of(disk, td_get_le32(data), &g, NULL) < 0)
		return;
	FUZZ_CHECK(g.nr_blocks << g.block_bits >= disk->size && g.nr_entries <= td_get_le32(data) / 8);
	FUZZ_CHECK(vhdx_block_entry(&g, g.nr_blocks - 1) < g.nr_entries);
	FUZZ_CHECK(!disk->parent || vhdx_bitmap_entry(&g, g.nr_blocks - 1) < g.nr_entries);
	for (size_t at = 4; at + 8 <= size; at += 8) {
		if (vhdx_entry_decode(td_get_le64(data + at), &e) == 0 && e.state >= VHDX_PRESENT)
			FUZZ_CHECK(e.off >= VHDX_START && e.off + g.block_size < INT64_MAX);
		td_ignore(vhdx_bitmap_decode(td_get_le64(data + at), &off));
		FUZZ_CHECK(vhdx_bits_run(data + at, 3, 61) <= 61);
	}
}

static void metadata(const uint8_t *data, size_t size)
{
	static uint8_t raw[VHDX_TABLE];
	const size_t table = 32 + 7 * 32, items = (size_t)VHDX_ITEM_LOCATOR * VHDX_ITEM_BYTES;
	struct vhdx_item_at at[VHDX_ITEMS];
	struct vhdx_disk disk = { 0 };
	int r;

	if (size < table + items)
		return;
	memset(raw, 0, sizeof(raw));
	memcpy(raw, data, table);
	r = vhdx_items_decode(raw, VHDX_MIB, at, NULL);
	FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP);
	for (unsigned i = 0; r == 0 && i < VHDX_ITEMS; i++)
		FUZZ_CHECK(td_in_range(at[i].off, at[i].len, VHDX_MIB));
	for (unsigned i = 0; r == 0 && i < VHDX_ITEM_LOCATOR; i++)
		r = vhdx_item_decode((enum vhdx_item)i, data + table + (size_t)i * VHDX_ITEM_BYTES,
				     TD_MIN(at[i].len, VHDX_ITEM_BYTES), &disk, NULL);
	if (r == 0)
		entries(&disk, data + table + items, size - table - items);
}

static void locator(const uint8_t *data, size_t size)
{
	uint8_t *exact = malloc(size + 1); /* so that a byte too far is seen */
	struct vhdx_locator l;
	int r;

	if (!exact)
		return;
	memcpy(exact, data, size);
	r = vhdx_locator_decode(exact, (uint32_t)size, &l, NULL);
	FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP);
	if (r == 0) {
		FUZZ_CHECK(l.nr_linkage > 0 && td_in_range(l.relative.off, l.relative.len, size));
		FUZZ_CHECK(td_in_range(l.absolute.off, l.absolute.len, size));
	}
	free(exact);
}

/* ---- the log ---- */

static int see(void *arg, uint64_t off, uint64_t len, const uint8_t *bytes)
{
	const uint8_t *ring = arg;

	FUZZ_CHECK(off % VHDX_SECTOR == 0 && len % VHDX_SECTOR == 0 && td_in_range(off, len, INT64_MAX));
	FUZZ_CHECK(!bytes || (len == VHDX_SECTOR && bytes >= ring &&
			      bytes + len <= ring + (size_t)RING_SECTORS * VHDX_SECTOR));
	return 0;
}

static void sum_entry(uint8_t *ring, unsigned at)
{
	uint8_t *head = ring + (size_t)at * VHDX_SECTOR;
	const uint32_t nr = td_get_le32(head + 8) / VHDX_SECTOR;
	uint32_t crc;

	if (memcmp(head, "loge", 4) != 0 || nr == 0 || nr > RING_SECTORS)
		return;
	crc = vhdx_crc(0, head, VHDX_SECTOR, 4);
	for (unsigned i = 1; i < nr; i++)
		crc = vhdx_crc(crc, ring + (size_t)((at + i) % RING_SECTORS) * VHDX_SECTOR, VHDX_SECTOR,
			       VHDX_NO_HOLE);
	td_put_le32(head + 4, crc);
}

static void log_ring(const uint8_t *data, size_t size, bool sums)
{
	static uint8_t ring[RING_SECTORS * VHDX_SECTOR];
	static const uint8_t guid[TD_GUID];
	struct vhdx_log l;

	memset(ring, 0, sizeof(ring));
	for (unsigned i = 0; i < RING_SECTORS && size >= RING_PART; i++) {
		uint8_t *sector = ring + (size_t)i * VHDX_SECTOR;

		memcpy(sector, data, RING_PART - 4);
		memcpy(sector + VHDX_SECTOR - 4, data + RING_PART - 4, 4);
		data += RING_PART;
		size -= RING_PART;
	}
	for (unsigned i = 0; sums && i < RING_SECTORS; i++)
		sum_entry(ring, i);
	vhdx_log_find(ring, sizeof(ring), guid, &l);
	FUZZ_CHECK(l.first < RING_SECTORS && l.entries <= RING_SECTORS);
	FUZZ_CHECK(vhdx_log_replay(ring, sizeof(ring), &l, see, ring) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const bool sums = size > 1 && data[1] % 2 == 0;

	if (size < 2)
		return 0;
	data += 2;
	size -= 2;
	switch (data[-2] % 5) {
	case 0:
		headers(data, size, sums);
		break;
	case 1:
		regions(data, size, sums);
		break;
	case 2:
		metadata(data, size);
		break;
	case 3:
		locator(data, size);
		break;
	default:
		log_ring(data, size, sums);
	}
	return 0;
}
