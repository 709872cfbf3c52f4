// SPDX-License-Identifier: BSD-2-Clause
/* formats/vhd-header.c: headers by hand, and geometry. */
#include "vhd-make.h"

#define MIB (1ull << 20)

static void a_header_is_decoded_and_encoded(void **state)
{
	uint8_t raw[VHD_HEADER], again[VHD_HEADER];
	struct vhd_header h;

	(void)state;
	make_header(raw, 50, VHD_BLOCK);
	memset(raw + 40, 0x11, 16);
	td_put_be32(raw + 56, 99);
	raw[65] = 'a';
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		td_put_be32(raw + 576 + (size_t)i * 24, VHD_LOC_W2RU);
		td_put_be32(raw + 576 + (size_t)i * 24 + 4, 1);
		td_put_be32(raw + 576 + (size_t)i * 24 + 8, 20 + i);
		td_put_be64(raw + 576 + (size_t)i * 24 + 16, 4096 + 512ull * i);
	}
	make_sum(raw, VHD_HEADER, 36);
	assert_int_equal(vhd_header_decode(raw, &h, NULL), 0);
	assert_int_equal(h.bat_off, 1536);
	assert_int_equal(h.max_entries, 50);
	assert_int_equal(h.block_size, VHD_BLOCK);
	assert_int_equal(h.parent_uuid[15], 0x11);
	assert_int_equal(h.parent_time, 99);
	assert_int_equal(h.parent_name[1], 'a');
	assert_int_equal(h.locator[7].len, 27);
	assert_int_equal(h.locator[7].off, 4096 + 512 * 7);
	vhd_header_encode(&h, again);
	assert_memory_equal(raw, again, sizeof(raw));
}

static void each_broken_bit_is_found(void **state)
{
	uint8_t raw[VHD_HEADER];
	struct vhd_header h;

	(void)state;
	for (unsigned bit = 0; bit < VHD_HEADER * 8; bit += 3) {
		make_header(raw, 50, VHD_BLOCK);
		raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1u << bit % 8);
		assert_int_equal(vhd_header_decode(raw, &h, NULL), -EUCLEAN);
	}
}

static void what_cannot_be_is_refused(void **state)
{
	static const struct {
		unsigned at;
		uint32_t value;
		int result;
	} bad[] = {
		{ 24, 0x00020000, -ENOTSUP }, { 32, 0, -EUCLEAN },          { 32, 511, -EUCLEAN },
		{ 32, 3 << 20, -EUCLEAN },    { 32, 1u << 31, -ENOTSUP },   { 32, 512u << 20, -ENOTSUP },
		{ 32, 256, -EUCLEAN },        { 20, 0, -EUCLEAN },          { 20, 1537, -EUCLEAN },
		{ 16, 0x80000000, -EUCLEAN }, { 16, UINT32_MAX, -EUCLEAN },
	};
	uint8_t raw[VHD_HEADER];
	struct vhd_header h;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(bad); i++) {
		struct td_err err = { "" };

		make_header(raw, 50, VHD_BLOCK);
		td_put_be32(raw + bad[i].at, bad[i].value);
		make_sum(raw, VHD_HEADER, 36);
		assert_int_equal(vhd_header_decode(raw, &h, &err), bad[i].result);
		assert_true(err.msg[0]);
	}
}

static void geometry_follows_from_both(void **state)
{
	struct vhd_footer f = { .size = 100 * MIB + 512, .data_off = 512, .type = VHD_DYNAMIC };
	struct vhd_header h = { .bat_off = 1536, .max_entries = 51, .block_size = VHD_BLOCK };
	struct vhd_geom g;

	(void)state;
	assert_int_equal(vhd_geom_of(&f, &h, &g, NULL), 0);
	assert_int_equal(g.nr_blocks, 51);
	assert_int_equal(g.bitmap_len, 512);
	assert_int_equal(vhd_block_len(&g), VHD_BLOCK + 512);
	assert_int_equal(g.bat_len, 512);
	assert_int_equal(g.batmap_off, 2048);
	h.block_size = 16 << 20;
	assert_int_equal(vhd_geom_of(&f, &h, &g, NULL), 0);
	assert_int_equal(g.nr_blocks, 7);
	assert_int_equal(g.bitmap_len, 4096);
	h.block_size = 512;
	assert_int_equal(vhd_geom_of(&f, &h, &g, NULL), -EUCLEAN);
	h.max_entries = UINT32_MAX;
	assert_int_equal(vhd_geom_of(&f, &h, &g, NULL), 0);
	assert_int_equal(g.bitmap_len, 512);
	assert_int_equal(g.bat_len, 1ull << 34);
	h.bat_off = 1024; /* over the header's second half */
	assert_int_equal(vhd_geom_of(&f, &h, &g, NULL), -EUCLEAN);
	h.max_entries = 50;
	h.block_size = VHD_BLOCK;
	assert_int_equal(vhd_geom_of(&f, &h, &g, NULL), -EUCLEAN);
	f.size = INT64_MAX - 1024;
	assert_int_equal(vhd_geom_of(&f, &h, &g, NULL), -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_is_decoded_and_encoded),
		cmocka_unit_test(each_broken_bit_is_found),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(geometry_follows_from_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
