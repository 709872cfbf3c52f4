// SPDX-License-Identifier: BSD-2-Clause
/* formats/qcow2-bitmap.c: extension, directory entry and table entry by hand, then one field wrong at a time. */
#include "unit.h"

/* A directory of 64 bytes with one bitmap, at 0x50000. */
static const uint8_t ext_bytes[24] = {
	0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, /* bitmaps, reserved */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, /* size */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, /* place */
};

/* Enabled; 3 entries at 0x60000; 32 KiB a bit; 4 bytes of extra data; "day". */
static const uint8_t golden[32] = {
	0x00, 0x00, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, /* table */
	0x00, 0x00, 0x00, 0x03,                         /* its entries */
	0x00, 0x00, 0x00, 0x06,                         /* flags: auto, extra data may be ignored */
	0x01, 0x0f,                                     /* type, granularity */
	0x00, 0x03, 0x00, 0x00, 0x00, 0x04,             /* name, extra data: lengths */
	0xde, 0xad, 0xbe, 0xef, 'd',  'a',  'y',  0x00, /* extra data, name, padding */
};

static void an_extension_by_hand(void **state)
{
	struct qcow2_ext e = { .type = QCOW2_EXT_BITMAPS, .len = 24, .data = ext_bytes };
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_bitmaps_ext x;
	uint8_t again[24];

	(void)state;
	assert_int_equal(qcow2_bitmaps_ext_decode(&g, &e, &x), 0);
	assert_int_equal(x.nr, 1);
	assert_int_equal(x.dir_size, 64);
	assert_int_equal(x.dir_off, 0x50000);
	qcow2_bitmaps_ext_encode(&x, again);
	assert_memory_equal(again, ext_bytes, 24);
	e.len = 16;
	assert_int_equal(qcow2_bitmaps_ext_decode(&g, &e, &x), -EUCLEAN);
}

static void extensions_that_cannot_be(void **state)
{
	static const struct {
		unsigned at;
		uint64_t value;
	} wrong[] = {
		{ 0, 0 },                      /* no bitmap */
		{ 0, 65536ull << 32 },         /* too many */
		{ 0, 3ull << 32 },             /* more than its bytes can hold */
		{ 8, 0 },                      /* nothing there */
		{ 8, (64u << 20) + 8 },        /* too large */
		{ 8, 1ull << 63 },             /* far too large */
		{ 16, 0 },                     /* nowhere */
		{ 16, 0x50200 },               /* inside a cluster */
		{ 16, 0xffffffffffff0000ull }, /* would wrap */
	};
	struct qcow2_geom g = geom(16, 4);

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(wrong); i++) {
		uint8_t buf[24];
		struct qcow2_ext e = { .len = 24, .data = buf };
		struct qcow2_bitmaps_ext x;

		memcpy(buf, ext_bytes, 24);
		td_put_be64(buf + wrong[i].at, wrong[i].value);
		assert_int_equal(qcow2_bitmaps_ext_decode(&g, &e, &x), -EUCLEAN);
	}
}

static void an_entry_by_hand(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_bitmap_entry e;
	uint8_t again[32];

	(void)state;
	assert_int_equal(qcow2_bitmap_entry_decode(&g, golden, sizeof(golden), &e), 0);
	assert_int_equal(e.table_off, 0x60000);
	assert_int_equal(e.table_size, 3);
	assert_int_equal(e.flags, QCOW2_BITMAP_AUTO | QCOW2_BITMAP_EXTRA_OK);
	assert_int_equal(e.granularity_bits, 15);
	assert_int_equal(e.name_len, 3);
	assert_memory_equal(e.name, "day", 3);
	assert_int_equal(e.extra_len, 4);
	assert_ptr_equal(e.extra, golden + 24);
	assert_int_equal(e.entry_len, 32);
	assert_true(e.usable);
	assert_int_equal(qcow2_bitmap_entry_encode(&e, again, sizeof(again)), 32);
	assert_memory_equal(again, golden, sizeof(golden));
	assert_int_equal(qcow2_bitmap_entry_encode(&e, again, 31), 0);
	for (size_t len = 0; len < sizeof(golden); len++)
		assert_int_equal(qcow2_bitmap_entry_decode(&g, golden, len, &e), -EUCLEAN);
}

static int decode_with(unsigned at, const void *bytes, size_t len, struct qcow2_bitmap_entry *ret)
{
	static uint8_t buf[32];
	struct qcow2_geom g = geom(16, 4);

	memcpy(buf, golden, sizeof(buf));
	memcpy(buf + at, bytes, len);
	return qcow2_bitmap_entry_decode(&g, buf, sizeof(buf), ret);
}

static void entries_that_cannot_be(void **state)
{
	struct qcow2_bitmap_entry e;

	(void)state;
	assert_int_equal(decode_with(0, "\0\0\0\0\0\0\0\0", 8, &e), -EUCLEAN);             /* no table */
	assert_int_equal(decode_with(6, "\2", 1, &e), -EUCLEAN);                           /* not aligned */
	assert_int_equal(decode_with(0, "\xff\xff\xff\xff\xff\xff\0\0", 8, &e), -EUCLEAN); /* would wrap */
	assert_int_equal(decode_with(8, "\0\0\0\0", 4, &e), -EUCLEAN);                     /* no entries */
	assert_int_equal(decode_with(8, "\0\0\x20\1", 4, &e), -EUCLEAN);        /* 512 MiB and a bit */
	assert_int_equal(decode_with(18, "\0\0", 2, &e), -EUCLEAN);             /* no name */
	assert_int_equal(decode_with(18, "\0\5", 2, &e), -EUCLEAN);             /* too long a name */
	assert_int_equal(decode_with(20, "\xff\xff\xff\xff", 4, &e), -EUCLEAN); /* extra data */
}

/* They are right, and not for us. */
static void entries_of_a_strange_kind(void **state)
{
	struct qcow2_bitmap_entry e;

	(void)state;
	assert_int_equal(decode_with(16, "\2", 1, &e), 0); /* another type */
	assert_false(e.usable);
	assert_int_equal(decode_with(17, "\10", 1, &e), 0); /* 256 bytes a bit */
	assert_false(e.usable);
	assert_int_equal(decode_with(17, "\40", 1, &e), 0); /* 4 GiB a bit */
	assert_false(e.usable);
	assert_int_equal(decode_with(15, "\2", 1, &e), 0); /* extra data that counts */
	assert_false(e.usable);
	assert_int_equal(decode_with(15, "\16", 1, &e), 0); /* a flag */
	assert_false(e.usable);
	assert_int_equal(decode_with(29, "\0", 1, &e), 0); /* a name that ends in its middle */
	assert_false(e.usable);
}

static void parts_of_a_table(void **state)
{
	static const uint64_t wrong[] = { 2, 0x100, 0x10001, 0x10200, 1ull << 56, 1ull << 63 };
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_bitmap_part p;

	(void)state;
	assert_int_equal(qcow2_bitmap_part_decode(&g, 0, &p), 0);
	assert_true(p.host_off == 0 && !p.ones && qcow2_bitmap_part_encode(&p) == 0);
	assert_int_equal(qcow2_bitmap_part_decode(&g, 1, &p), 0);
	assert_true(p.host_off == 0 && p.ones && qcow2_bitmap_part_encode(&p) == 1);
	assert_int_equal(qcow2_bitmap_part_decode(&g, 0x70000, &p), 0);
	assert_true(p.host_off == 0x70000 && qcow2_bitmap_part_encode(&p) == 0x70000);
	for (unsigned i = 0; i < TD_NELEMS(wrong); i++)
		assert_int_equal(qcow2_bitmap_part_decode(&g, wrong[i], &p), -EUCLEAN);
}

static void sizes(void **state)
{
	struct qcow2_geom g = geom(16, 4);

	(void)state;
	assert_int_equal(qcow2_bitmap_bytes(0, 16), 0);
	assert_int_equal(qcow2_bitmap_bytes(1, 16), 1);
	assert_int_equal(qcow2_bitmap_bytes(8 << 16, 16), 1);
	assert_int_equal(qcow2_bitmap_bytes((8 << 16) + 1, 16), 2);
	assert_int_equal(qcow2_bitmap_bytes(INT64_MAX, 63), 1);
	assert_int_equal(qcow2_bitmap_bytes(INT64_MAX, 255), 1);
	assert_int_equal(qcow2_bitmap_parts(&g, 1ull << 40, 16), 32);
	assert_int_equal(qcow2_bitmap_parts(&g, (1ull << 40) + 1, 16), 33);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_extension_by_hand),
		cmocka_unit_test(extensions_that_cannot_be),
		cmocka_unit_test(an_entry_by_hand),
		cmocka_unit_test(entries_that_cannot_be),
		cmocka_unit_test(entries_of_a_strange_kind),
		cmocka_unit_test(parts_of_a_table),
		cmocka_unit_test(sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
