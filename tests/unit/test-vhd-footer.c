// SPDX-License-Identifier: BSD-2-Clause
/* formats/vhd-footer.c: footers by hand, from the specification's table. */
#include "vhd-make.h"

#define MIB (1ull << 20)

static void a_footer_is_decoded_field_by_field(void **state)
{
	uint8_t raw[VHD_FOOTER];
	struct vhd_footer f;
	char text[VHD_UUID_TEXT];

	(void)state;
	make_footer(raw, VHD_DYNAMIC, 100 * MIB);
	assert_int_equal(vhd_footer_decode(raw, &f, NULL), 0);
	assert_int_equal(f.features, 2);
	assert_int_equal(f.data_off, 512);
	assert_int_equal(f.timestamp, 77);
	assert_memory_equal(f.creator, "win ", 4);
	assert_int_equal(f.creator_version, 0x60001);
	assert_int_equal(f.size, 100 * MIB);
	assert_int_equal(f.cylinders, 10);
	assert_int_equal(f.heads, 4);
	assert_int_equal(f.sectors, 17);
	assert_int_equal(f.type, VHD_DYNAMIC);
	assert_false(f.saved || f.hidden);
	vhd_uuid_text(f.uuid, text);
	assert_string_equal(text, "30313233-3435-3637-3839-616263646566");
	assert_false(vhd_uuid_is_zero(f.uuid));
}

static void each_broken_bit_is_found(void **state)
{
	uint8_t raw[VHD_FOOTER];
	struct vhd_footer f;

	(void)state;
	for (unsigned bit = 0; bit < VHD_FOOTER * 8; bit++) {
		make_footer(raw, VHD_FIXED, MIB);
		raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1u << bit % 8);
		assert_int_equal(vhd_footer_decode(raw, &f, NULL), bit < 64 ? -EINVAL : -EUCLEAN);
	}
}

/* Values that lie, under a right checksum. */
static void what_cannot_be_is_refused(void **state)
{
	static const struct {
		unsigned at, len;
		uint64_t value;
		int result;
	} bad[] = {
		{ 12, 4, 0x00020000, -ENOTSUP }, { 60, 4, 0, -ENOTSUP },
		{ 60, 4, 5, -ENOTSUP },          { 60, 4, 0x80000003, -ENOTSUP },
		{ 48, 8, UINT64_MAX, -EUCLEAN }, { 48, 8, 1ull << 63, -EUCLEAN },
		{ 16, 8, 0, -EUCLEAN },          { 16, 8, 513, -EUCLEAN },
		{ 16, 8, UINT64_MAX, -EUCLEAN }, { 16, 8, 1ull << 63, -EUCLEAN },
	};
	uint8_t raw[VHD_FOOTER];
	struct vhd_footer f = { .timestamp = 1 };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(bad); i++) {
		struct td_err err = { "" };

		make_footer(raw, VHD_DIFF, MIB);
		if (bad[i].len == 4)
			td_put_be32(raw + bad[i].at, (uint32_t)bad[i].value);
		else
			td_put_be64(raw + bad[i].at, bad[i].value);
		make_sum(raw, VHD_FOOTER, 64);
		assert_int_equal(vhd_footer_decode(raw, &f, &err), bad[i].result);
		assert_true(err.msg[0]);
	}
}

static void what_a_resize_left_is_refused_by_name(void **state)
{
	uint8_t raw[VHD_FOOTER];
	struct vhd_footer f;
	struct td_err err = { "" };

	(void)state;
	make_footer(raw, VHD_DYNAMIC, MIB);
	memcpy(raw, "v_poison", 8);
	make_sum(raw, VHD_FOOTER, 64);
	assert_int_equal(vhd_footer_decode(raw, &f, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "journal"));
	raw[100] = 1;
	assert_int_equal(vhd_footer_decode(raw, &f, &err), -EUCLEAN);
}

static void the_first_hidden_flags_have_no_checksum(void **state)
{
	uint8_t raw[VHD_FOOTER];
	struct vhd_footer f;

	(void)state;
	make_footer(raw, VHD_DYNAMIC, MIB);
	memcpy(raw + 28, "tap\0", 4);
	td_put_be32(raw + 32, 0x00010001);
	make_sum(raw, VHD_FOOTER, 64);
	raw[85] = 1;
	assert_int_equal(vhd_footer_decode(raw, &f, NULL), 0);
	assert_true(f.hidden);
	raw[86] = 1;
	assert_int_equal(vhd_footer_decode(raw, &f, NULL), -EUCLEAN);
	/* Nobody else's, and not later. */
	raw[86] = 0;
	td_put_be32(raw + 32, 0x00010003);
	assert_int_equal(vhd_footer_decode(raw, &f, NULL), -EUCLEAN);
	/* Its bitmaps would be read the wrong way round. */
	td_put_be32(raw + 32, 1);
	make_sum(raw, VHD_FOOTER, 64);
	assert_int_equal(vhd_footer_decode(raw, &f, NULL), -ENOTSUP);
}

static void what_is_not_ours_stays_as_it_is(void **state)
{
	uint8_t raw[VHD_FOOTER], before[VHD_FOOTER];
	struct vhd_footer f, again;

	(void)state;
	make_footer(raw, VHD_DYNAMIC, MIB);
	raw[84] = 7; /* saved, in somebody's way */
	raw[85] = 1;
	memset(raw + 86, 0x5a, 426);
	make_sum(raw, VHD_FOOTER, 64);
	memcpy(before, raw, sizeof(raw));
	assert_int_equal(vhd_footer_decode(raw, &f, NULL), 0);
	assert_true(f.saved && f.hidden);
	vhd_footer_encode(&f, raw);
	assert_memory_equal(raw, before, sizeof(raw));
	f.size = 2 * MIB;
	f.hidden = f.saved = false;
	vhd_footer_encode(&f, raw);
	assert_int_equal(vhd_footer_decode(raw, &again, NULL), 0);
	assert_int_equal(again.size, 2 * MIB);
	assert_false(again.hidden || again.saved);
	assert_memory_equal(raw + 86, before + 86, 426);
}

static void the_size_depends_on_who_made_it(void **state)
{
	static const char *const by_size[] = {
		"win ", "qem2", "qemu", "d2v ", "tap", "vbox", "wa\0", "CTXS"
	};
	struct vhd_footer f = { .size = 41943040, .cylinders = 1204, .heads = 4, .sectors = 17 };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(by_size); i++) {
		memcpy(f.creator, by_size[i], 4);
		assert_int_equal(vhd_disk_size(&f), 41943040);
	}
	memcpy(f.creator, "vpc ", 4);
	assert_int_equal(vhd_disk_size(&f), 1204ull * 4 * 17 * 512);
	/* A geometry that says nothing. */
	f.cylinders = 0;
	assert_int_equal(vhd_disk_size(&f), 41943040);
	f.cylinders = 2000;
	assert_int_equal(vhd_disk_size(&f), 41943040);
	f = (struct vhd_footer){ .creator = "vpc", .cylinders = 65535, .heads = 16, .sectors = 255 };
	f.creator[3] = ' ';
	f.size = 1ull << 40;
	assert_int_equal(vhd_disk_size(&f), 1ull << 40);
	f.size = 1000;
	assert_int_equal(vhd_disk_size(&f), 512);
}

/* By hand, from the specification's algorithm. */
static void geometries_are_the_specification_s(void **state)
{
	static const struct {
		uint64_t size;
		unsigned c, h, s;
	} want[] = {
		{ 0, 0, 4, 17 },
		{ 20 * MIB, 602, 4, 17 },
		{ 40 * MIB, 963, 5, 17 },
		{ 1024 * MIB, 2080, 16, 63 },
		{ 136365211648, 65278, 16, 255 },
		{ 1ull << 42, 65535, 16, 255 },
	};
	struct vhd_footer f;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(want); i++) {
		vhd_geometry(want[i].size, &f);
		assert_int_equal(f.cylinders, want[i].c);
		assert_int_equal(f.heads, want[i].h);
		assert_int_equal(f.sectors, want[i].s);
		assert_true(vhd_geometry_size(&f) <= TD_MAX(want[i].size, 1u));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_footer_is_decoded_field_by_field),
		cmocka_unit_test(each_broken_bit_is_found),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(what_a_resize_left_is_refused_by_name),
		cmocka_unit_test(the_first_hidden_flags_have_no_checksum),
		cmocka_unit_test(what_is_not_ours_stays_as_it_is),
		cmocka_unit_test(the_size_depends_on_who_made_it),
		cmocka_unit_test(geometries_are_the_specification_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
