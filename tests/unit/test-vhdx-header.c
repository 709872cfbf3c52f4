// SPDX-License-Identifier: BSD-2-Clause
/* formats/vhdx-header.c: headers and tables by hand, right in every field, for one to be broken. */
#include <blktap/vhdx.h>

#include "unit.h"

static uint8_t first[VHDX_HEADER], second[VHDX_HEADER], table[VHDX_TABLE];

static void sum(uint8_t *raw, size_t len)
{
	td_put_le32(raw + 4, vhdx_crc(0, raw, len, 4));
}

static void make_header(uint8_t *raw, uint64_t sequence)
{
	memset(raw, 0, VHDX_HEADER);
	memcpy(raw, "head", 4);
	td_put_le64(raw + 8, sequence);
	memset(raw + 32, 0x22, 16);
	memset(raw + 48, 0x33, 16);
	td_put_le16(raw + 66, 1);
	td_put_le32(raw + 68, 1 << 20);
	td_put_le64(raw + 72, 1 << 20);
	sum(raw, VHDX_HEADER);
}

static void put_region(unsigned i, const char *guid, uint64_t off, uint32_t len, uint32_t required)
{
	uint8_t *p = table + 16 + (size_t)i * 32;

	assert_int_equal(td_guid_parse(guid, p), 0);
	td_put_le64(p + 16, off);
	td_put_le32(p + 24, len);
	td_put_le32(p + 28, required);
}

#define BAT   "2dc27766-f623-4200-9d64-115e9bfd4a08"
#define META  "8b7ca206-4790-4b9a-b8fe-575f050f886e"
#define OTHER "00000000-1111-2222-3333-444455556666"

static int make(void **state)
{
	(void)state;
	make_header(first, 7);
	make_header(second, 8);
	second[32] = 0x88;
	sum(second, VHDX_HEADER);
	memset(table, 0, sizeof(table));
	memcpy(table, "regi", 4);
	td_put_le32(table + 8, 2);
	put_region(0, BAT, 3 << 20, 1 << 20, 1);
	put_region(1, META, 2 << 20, 1 << 20, 1);
	sum(table, VHDX_TABLE);
	return 0;
}

static void the_checksum_is_crc32c(void **state)
{
	const uint8_t digits[] = "123456789", holed[] = "1234\0\0\0\0009";

	(void)state;
	assert_int_equal(vhdx_crc(0, digits, 9, VHDX_NO_HOLE), 0xe3069283);
	assert_int_equal(vhdx_crc(vhdx_crc(0, digits, 4, VHDX_NO_HOLE), digits + 4, 5, VHDX_NO_HOLE),
			 0xe3069283);
	assert_int_equal(vhdx_crc(0, digits, 9, 4), vhdx_crc(0, holed, 9, VHDX_NO_HOLE));
}

static void the_newer_whole_header_counts(void **state)
{
	struct vhdx_header h;
	struct td_err err;

	(void)state;
	assert_int_equal(vhdx_header_decode(first, second, &h, NULL), 0);
	assert_int_equal(h.sequence, 8);
	assert_int_equal(h.data_guid[0], 0x88);
	assert_int_equal(h.log_guid[15], 0x33);
	assert_int_equal(h.log_off, 1 << 20);
	assert_int_equal(h.log_len, 1 << 20);
	second[4000] ^= 1;
	assert_int_equal(vhdx_header_decode(first, second, &h, NULL), 0);
	assert_int_equal(h.sequence, 7);
	assert_int_equal(vhdx_header_decode(second, first, &h, NULL), 0);
	assert_int_equal(h.sequence, 7);
	first[8] = 9;
	assert_refused(vhdx_header_decode(first, second, &h, &err), -EUCLEAN, &err, "neither");
}

static void two_that_are_as_new_must_be_the_same(void **state)
{
	struct vhdx_header h;
	struct td_err err;

	(void)state;
	make_header(second, 7);
	assert_int_equal(vhdx_header_decode(first, second, &h, NULL), 0);
	second[40] ^= 1;
	sum(second, VHDX_HEADER);
	assert_refused(vhdx_header_decode(first, second, &h, &err), -EUCLEAN, &err, "neither is newer");
}

static void header_refused(unsigned at, unsigned len, uint64_t value, int code, const char *part)
{
	struct vhdx_header h;
	struct td_err err;
	uint8_t bytes[8];

	make(NULL);
	td_put_le64(bytes, value);
	memcpy(second + at, bytes, len);
	sum(second, VHDX_HEADER);
	assert_refused(vhdx_header_decode(first, second, &h, &err), code, &err, part);
}

static void headers_that_are_not_ours_are_refused(void **state)
{
	struct vhdx_header h;

	(void)state;
	header_refused(66, 2, 2, -ENOTSUP, "version 2");
	header_refused(64, 2, 1, -ENOTSUP, "version 1 of its log");
	header_refused(68, 4, 0, -EUCLEAN, "its log cannot be 0 bytes");
	header_refused(68, 4, 4096, -EUCLEAN, "its log cannot be 4096 bytes");
	header_refused(68, 4, 65 << 20, -ENOTSUP, "a log of");
	header_refused(72, 8, 0, -EUCLEAN, "at 0x0");
	header_refused(72, 8, 3 << 19, -EUCLEAN, "its log cannot be");
	header_refused(72, 8, 0xfffffffffff00000, -EUCLEAN, "its log cannot be");
	/* A log that is empty may be anything. */
	memset(second + 48, 0, 16);
	sum(second, VHDX_HEADER);
	assert_int_equal(vhdx_header_decode(first, second, &h, NULL), 0);
}

static void regions_are_where_the_table_says(void **state)
{
	struct vhdx_regions r;

	(void)state;
	assert_int_equal(vhdx_regions_decode(table, &r, NULL), 0);
	assert_int_equal(r.bat.off, 3 << 20);
	assert_int_equal(r.bat.len, 1 << 20);
	assert_int_equal(r.metadata.off, 2 << 20);
	td_put_le32(table + 8, 3);
	put_region(2, OTHER, 0, 0, 0); /* not known, and need not be */
	sum(table, VHDX_TABLE);
	assert_int_equal(vhdx_regions_decode(table, &r, NULL), 0);
	table[5000] = 1;
	assert_int_equal(vhdx_regions_decode(table, &r, NULL), -EINVAL);
}

static void regions_refused(unsigned nr, int code, const char *part)
{
	struct vhdx_regions r;
	struct td_err err;

	td_put_le32(table + 8, nr);
	sum(table, VHDX_TABLE);
	assert_refused(vhdx_regions_decode(table, &r, &err), code, &err, part);
	make(NULL);
}

static void tables_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	regions_refused(0, -EUCLEAN, "no BAT");
	regions_refused(1, -EUCLEAN, "no metadata region");
	regions_refused(2048, -EUCLEAN, "2048 regions");
	regions_refused(0xffffffff, -EUCLEAN, "regions");
	put_region(2, OTHER, 5 << 20, 1 << 20, 1);
	regions_refused(3, -ENOTSUP, OTHER);
	put_region(2, META, 5 << 20, 1 << 20, 1);
	regions_refused(3, -EUCLEAN, "two metadata regions");
	put_region(1, META, 3 << 20, 1 << 20, 1);
	regions_refused(2, -EUCLEAN, "overlap");
	put_region(1, META, 0, 1 << 20, 1);
	regions_refused(2, -EUCLEAN, "at 0x0");
	put_region(1, META, 1 << 20, 0, 1);
	regions_refused(2, -EUCLEAN, "cannot be 0 bytes");
	put_region(1, META, 0xfffffffffff00000, 1 << 20, 1);
	regions_refused(2, -EUCLEAN, "cannot be");
}

#define FROM_NEW(sentence, fn)                                                                               \
	{                                                                                                    \
		sentence, fn, make, NULL, NULL                                                               \
	}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SAYS("the checksum is CRC-32C", the_checksum_is_crc32c),
		FROM_NEW("the newer whole header counts", the_newer_whole_header_counts),
		FROM_NEW("two that are as new must be the same", two_that_are_as_new_must_be_the_same),
		FROM_NEW("headers that are not ours are refused", headers_that_are_not_ours_are_refused),
		FROM_NEW("regions are where the table says", regions_are_where_the_table_says),
		FROM_NEW("tables that make no sense are refused", tables_that_make_no_sense_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
