// SPDX-License-Identifier: BSD-2-Clause
/* formats/vhdx-metadata.c: a table of items by hand; what items say; entries of the BAT. */
#include <blktap/vhdx.h>

#include "unit.h"

static uint8_t table[VHDX_TABLE];

static const char *const guids[] = {
	"caa16737-fa36-4d43-b3b6-33f0aa44e76b", "2fa54224-cd1b-4876-b211-5dbed83bf4b8",
	"beca12ab-b2e6-4523-93ef-c309e000c746", "8141bf1d-a96f-4709-ba47-f233a8faab5f",
	"cda348c7-445d-4471-9cc9-e9885251c556", "a8d35f2d-b30b-454d-abf7-d3d84834ab0c",
	"00000000-1111-2222-3333-444455556666",
};

static void put_item(unsigned i, const char *guid, uint32_t off, uint32_t len, uint32_t flags)
{
	uint8_t *p = table + 32 + (size_t)i * 32;

	assert_int_equal(td_guid_parse(guid, p), 0);
	td_put_le32(p + 16, off);
	td_put_le32(p + 20, len);
	td_put_le32(p + 24, flags);
}

static int make(void **state)
{
	static const uint32_t lens[] = { 8, 8, 16, 4, 4, 200 };

	(void)state;
	memset(table, 0, sizeof(table));
	memcpy(table, "metadata", 8);
	td_put_le16(table + 10, 6);
	for (unsigned i = 0; i < 6; i++)
		put_item(i, guids[i], VHDX_TABLE + i * 256, lens[i], 4);
	return 0;
}

static void items_are_where_the_table_says(void **state)
{
	struct vhdx_item_at at[VHDX_ITEMS];

	(void)state;
	assert_int_equal(vhdx_items_decode(table, VHDX_MIB, at, NULL), 0);
	for (unsigned i = 0; i < VHDX_ITEMS; i++)
		assert_int_equal(at[i].off, VHDX_TABLE + i * 256);
	assert_int_equal(at[VHDX_ITEM_LOCATOR].len, 200);
	td_put_le16(table + 10, 5); /* no parent */
	assert_int_equal(vhdx_items_decode(table, VHDX_MIB, at, NULL), 0);
	assert_int_equal(at[VHDX_ITEM_LOCATOR].len, 0);
	td_put_le16(table + 10, 8);
	put_item(6, guids[6], 0, 0, 0);
	put_item(7, guids[0], 0, 0, 1); /* a user's, whatever its name is */
	assert_int_equal(vhdx_items_decode(table, VHDX_MIB, at, NULL), 0);
}

static void items_refused(int code, const char *part)
{
	struct vhdx_item_at at[VHDX_ITEMS];
	struct td_err err;

	assert_refused(vhdx_items_decode(table, VHDX_MIB, at, &err), code, &err, part);
	make(NULL);
}

static void tables_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	table[0] = 'M';
	items_refused(-EUCLEAN, "no metadata");
	td_put_le16(table + 10, 2048);
	items_refused(-EUCLEAN, "2048 items");
	td_put_le16(table + 10, 4);
	items_refused(-EUCLEAN, "physical sector size");
	td_put_le16(table + 10, 7);
	put_item(6, guids[6], VHDX_TABLE, 8, 4);
	items_refused(-ENOTSUP, guids[6]);
	td_put_le16(table + 10, 7);
	put_item(6, guids[1], VHDX_TABLE, 8, 4);
	items_refused(-EUCLEAN, "two items of metadata that say its disk size");
	put_item(1, guids[1], VHDX_TABLE - 1, 8, 4);
	items_refused(-EUCLEAN, "its disk size cannot be");
	put_item(1, guids[1], VHDX_MIB - 7, 8, 4);
	items_refused(-EUCLEAN, "its disk size cannot be");
	put_item(1, guids[1], 0xfffffffc, 8, 4);
	items_refused(-EUCLEAN, "its disk size cannot be");
	put_item(1, guids[1], VHDX_TABLE, 16, 4);
	items_refused(-EUCLEAN, "its disk size cannot be 16 bytes");
}

static void file_parameters(uint32_t block_size, uint32_t flags, struct vhdx_disk *d)
{
	uint8_t raw[8];

	td_put_le32(raw, block_size);
	td_put_le32(raw + 4, flags);
	assert_int_equal(vhdx_item_decode(VHDX_ITEM_FILE, raw, 8, d, NULL), 0);
}

static void an_item_says_one_thing(void **state)
{
	struct vhdx_disk d = { 0 };
	uint8_t raw[16] = { 0 };

	(void)state;
	file_parameters(32 << 20, 1, &d);
	assert_true(d.fixed && !d.parent && d.block_size == 32 << 20);
	file_parameters(1 << 20, 2, &d);
	assert_true(!d.fixed && d.parent);
	td_put_le64(raw, VHDX_SIZE_MAX);
	assert_int_equal(vhdx_item_decode(VHDX_ITEM_SIZE, raw, 8, &d, NULL), 0);
	assert_int_equal(d.size, VHDX_SIZE_MAX);
	assert_int_equal(vhdx_item_decode(VHDX_ITEM_ID, raw, 16, &d, NULL), 0);
	td_put_le32(raw, 4096);
	assert_int_equal(vhdx_item_decode(VHDX_ITEM_LOGICAL, raw, 4, &d, NULL), 0);
	assert_int_equal(d.logical, 4096);
	td_put_le32(raw, 512);
	assert_int_equal(vhdx_item_decode(VHDX_ITEM_PHYSICAL, raw, 4, &d, NULL), 0);
	assert_int_equal(d.physical, 512);
}

static void item_refused(enum vhdx_item item, uint64_t value, uint32_t len, const char *part)
{
	struct vhdx_disk d = { 0 };
	struct td_err err;
	uint8_t raw[8];

	td_put_le64(raw, value);
	assert_refused(vhdx_item_decode(item, raw, len, &d, &err), -EUCLEAN, &err, part);
}

static void items_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	item_refused(VHDX_ITEM_FILE, 0, 8, "a block cannot have 0");
	item_refused(VHDX_ITEM_FILE, 1 << 19, 8, "a block cannot have");
	item_refused(VHDX_ITEM_FILE, 3 << 20, 8, "a block cannot have");
	item_refused(VHDX_ITEM_FILE, 1 << 29, 8, "a block cannot have");
	item_refused(VHDX_ITEM_FILE, 1 << 20, 7, "too short");
	item_refused(VHDX_ITEM_SIZE, 0, 8, "a disk of 0 bytes");
	item_refused(VHDX_ITEM_SIZE, 511, 8, "a disk of 511 bytes");
	item_refused(VHDX_ITEM_SIZE, VHDX_SIZE_MAX + 512, 8, "a disk of");
	item_refused(VHDX_ITEM_SIZE, UINT64_MAX, 8, "a disk of");
	item_refused(VHDX_ITEM_LOGICAL, 1024, 4, "logical sector size");
	item_refused(VHDX_ITEM_PHYSICAL, 0, 4, "physical sector size");
	item_refused(VHDX_ITEM_LOCATOR, 0, 8, "too short");
}

static void a_chunk_has_2_to_the_23_sectors(void **state)
{
	struct vhdx_disk d = { .block_size = 1 << 20, .size = 9ull << 30, .logical = 512 };
	struct vhdx_geom g;
	struct td_err err;

	(void)state;
	assert_int_equal(vhdx_geom_of(&d, VHDX_MIB, &g, NULL), 0);
	assert_int_equal(g.nr_blocks, 9216);
	assert_int_equal(g.ratio_bits, 12);
	assert_int_equal(g.nr_entries, 9218);
	assert_int_equal(vhdx_block_entry(&g, 4095), 4095);
	assert_int_equal(vhdx_bitmap_entry(&g, 4095), 4096);
	assert_int_equal(vhdx_block_entry(&g, 4096), 4097);
	assert_int_equal(vhdx_bitmap_entry(&g, 4096), 8193);
	d.parent = true;
	assert_int_equal(vhdx_geom_of(&d, VHDX_MIB, &g, NULL), 0);
	assert_int_equal(g.nr_entries, 3 * 4097);
	d.logical = 4096;
	d.block_size = 256 << 20;
	assert_int_equal(vhdx_geom_of(&d, VHDX_MIB, &g, NULL), 0);
	assert_int_equal(g.ratio_bits, 7);
	d.size = VHDX_SIZE_MAX;
	d.block_size = 1 << 20;
	assert_refused(vhdx_geom_of(&d, 512 << 20, &g, &err), -EUCLEAN, &err, "too short");
	assert_int_equal(vhdx_geom_of(&d, 513 << 20, &g, NULL), 0);
	d.size -= 512;
	assert_refused(vhdx_geom_of(&d, 513 << 20, &g, &err), -EUCLEAN, &err, "sectors of 4096");
}

static void an_entry_is_a_state_and_a_place(void **state)
{
	static const unsigned good[] = { 0, 1, 2, 3, 6, 7 };
	struct vhdx_entry e;
	uint64_t off;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(good); i++) {
		assert_int_equal(vhdx_entry_decode(0x500000 | good[i], &e), 0);
		assert_int_equal(e.state, good[i]);
		assert_int_equal(e.off, 5 << 20);
	}
	assert_int_equal(vhdx_entry_decode(4, &e), -EUCLEAN);
	assert_int_equal(vhdx_entry_decode(0x500005, &e), -EUCLEAN);
	assert_int_equal(vhdx_entry_decode(2, &e), 0);
	assert_int_equal(vhdx_entry_decode(6, &e), -EUCLEAN);
	assert_int_equal(vhdx_entry_decode(UINT64_MAX, &e), -EUCLEAN);
	assert_int_equal(vhdx_bitmap_decode(0x700006, &off), 0);
	assert_int_equal(off, 7 << 20);
	assert_int_equal(vhdx_bitmap_decode(0x700007, &off), -EUCLEAN);
	assert_int_equal(vhdx_bitmap_decode(0, &off), -EUCLEAN);
}

static void runs_of_bits_are_what_counting_finds(void **state)
{
	const uint8_t bits[8] = { 0xf0, 0xff, 0xff, 0x01, 0, 0, 0x80, 0xff };

	(void)state;
	for (uint32_t first = 0; first < 64; first++) {
		for (uint32_t max = 1; first + max <= 64; max++) {
			uint32_t n = 1;

			while (n < max && vhdx_bit(bits, first + n) == vhdx_bit(bits, first))
				n++;
			assert_int_equal(vhdx_bits_run(bits, first, max), n);
		}
	}
	assert_true(!vhdx_bit(bits, 3) && vhdx_bit(bits, 4) && vhdx_bit(bits, 24) && vhdx_bit(bits, 55));
}

#define FROM_NEW(sentence, fn)                                                                               \
	{                                                                                                    \
		sentence, fn, make, NULL, NULL                                                               \
	}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		FROM_NEW("items are where the table says", items_are_where_the_table_says),
		FROM_NEW("tables that make no sense are refused", tables_that_make_no_sense_are_refused),
		SAYS("an item says one thing", an_item_says_one_thing),
		SAYS("items that make no sense are refused", items_that_make_no_sense_are_refused),
		SAYS("a chunk has 2^23 sectors", a_chunk_has_2_to_the_23_sectors),
		SAYS("an entry is a state and a place", an_entry_is_a_state_and_a_place),
		SAYS("runs of bits are what counting finds", runs_of_bits_are_what_counting_finds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
