// SPDX-License-Identifier: BSD-2-Clause
/* formats/vmdk-sesparse.c: headers, and entries that name by number. */
#include <blktap/vmdk.h>

#include "unit.h"

static const struct vmdk_se se = { .capacity = 1u << 20,
				   .vol = 1,
				   .gd = 128,
				   .gd_len = 1,
				   .tables = 132,
				   .tables_len = 2048,
				   .grains = 4096 };

static void put_header(uint8_t *buf)
{
	static const struct {
		unsigned at;
		uint64_t value;
	} fields[] = {
		{ 0, 0xcafebabe }, { 8, 0x200000001 }, { 16, 1u << 20 }, { 24, 8 },
		{ 32, 64 },        { 80, 1 },          { 128, 128 },     { 136, 1 },
		{ 144, 132 },      { 152, 2048 },      { 192, 4096 },
	};

	memset(buf, 0, VMDK_SECTOR);
	for (unsigned i = 0; i < TD_NELEMS(fields); i++)
		td_put_le64(buf + fields[i].at, fields[i].value);
}

static void a_header_reads_as_it_was_meant(void **state)
{
	uint8_t buf[VMDK_SECTOR];
	struct vmdk_se got;

	(void)state;
	put_header(buf);
	assert_int_equal(vmdk_se_decode(buf, &got, NULL), 0);
	assert_memory_equal(&got, &se, sizeof(se));
}

static void entries_name_by_number(void **state)
{
	const struct vmdk_se at_the_end = { .grains = VMDK_MAX_SECTORS };
	enum vmdk_se_grain kind;
	uint64_t off;

	(void)state;
	assert_int_equal(vmdk_se_table_at(&se, 0), 0);
	assert_int_equal(vmdk_se_table_at(&se, 0x1000000000000000), 132 * VMDK_SECTOR);
	assert_int_equal(vmdk_se_table_at(&se, 0x100000000000001f), (132 + 31 * 64) * VMDK_SECTOR);
	assert_int_equal(vmdk_se_table_at(&se, 0x1000000000000020), VMDK_SE_NOWHERE);
	assert_int_equal(vmdk_se_table_at(&se, 0x1000000100000000), VMDK_SE_NOWHERE);
	assert_int_equal(vmdk_se_table_at(&se, 1), VMDK_SE_NOWHERE);
	assert_int_equal(vmdk_se_grain_at(&se, 0, &kind, &off), 0);
	assert_int_equal(kind, VMDK_SE_ABSENT);
	for (uint64_t n = 1; n < 3; n++) {
		assert_int_equal(vmdk_se_grain_at(&se, n << 60, &kind, &off), 0);
		assert_int_equal(kind, VMDK_SE_ZERO);
	}
	/* Grain 0x345012: the lowest 12 bits of the number come first. */
	assert_int_equal(vmdk_se_grain_at(&se, 0x3012000000000345, &kind, &off), 0);
	assert_int_equal(kind, VMDK_SE_DATA);
	assert_int_equal(off, 4096ull * VMDK_SECTOR + 0x345012ull * VMDK_SE_GRAIN);
	assert_int_equal(vmdk_se_grain_at(&se, 0x3fffffffffffffff, &kind, &off), -EUCLEAN);
	assert_int_equal(vmdk_se_grain_at(&at_the_end, 3ull << 60, &kind, &off), -EUCLEAN);
	assert_int_equal(vmdk_se_grain_at(&se, 5, &kind, &off), -EUCLEAN);
	for (uint64_t n = 4; n < 16; n++)
		assert_int_equal(vmdk_se_grain_at(&se, n << 60, &kind, &off), -EUCLEAN);
}

static void what_is_not_known_is_refused(void **state)
{
	static const struct {
		unsigned at;
		uint64_t value;
		int code;
		const char *says;
	} bad[] = {
		{ 0, 0xcafebabf, -EUCLEAN, "does not begin" },
		{ 8, 0x200000002, -ENOTSUP, "version" },
		{ 24, 16, -ENOTSUP, "grain size" },
		{ 32, 128, -ENOTSUP, "table size" },
		{ 40, 1, -ENOTSUP, "flags" },
		{ 72, 1, -ENOTSUP, "not known" },
		{ 504, 1ull << 63, -ENOTSUP, "not known" },
		{ 16, 0, -EUCLEAN, "capacity" },
		{ 16, UINT64_MAX, -EUCLEAN, "capacity" },
		{ 136, 0, -EUCLEAN, "too few" },
		{ 136, UINT64_MAX, -EUCLEAN, "no file has" },
		{ 144, UINT64_MAX, -EUCLEAN, "no file has" },
		{ 152, UINT64_MAX, -EUCLEAN, "no file has" },
		{ 192, UINT64_MAX, -EUCLEAN, "no file has" },
		{ 80, UINT64_MAX, -EUCLEAN, "no file has" },
		{ 80, 128, -EUCLEAN, "over each other" },
		{ 80, 0, -EUCLEAN, "over each other" },
		{ 144, 128, -EUCLEAN, "over each other" },
		{ 192, 2000, -EUCLEAN, "over each other" },
	};
	uint8_t buf[VMDK_SECTOR];
	struct vmdk_se got;
	struct td_err err;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(bad); i++) {
		put_header(buf);
		td_put_le64(buf + bad[i].at, bad[i].value);
		assert_refused(vmdk_se_decode(buf, &got, &err), bad[i].code, &err, bad[i].says);
	}
}

static void a_journal_that_was_not_carried_out_is_refused(void **state)
{
	uint8_t buf[VMDK_SECTOR] = { 0 };
	struct td_err err;

	(void)state;
	assert_refused(vmdk_se_check_volatile(buf, &err), -EUCLEAN, &err, "damaged");
	td_put_le64(buf, 0xcafecafe);
	td_put_le64(buf + 16, 12); /* a transaction's number */
	assert_int_equal(vmdk_se_check_volatile(buf, NULL), 0);
	buf[511] = 1;
	assert_refused(vmdk_se_check_volatile(buf, &err), -ENOTSUP, &err, "not known");
	buf[24] = 1;
	assert_refused(vmdk_se_check_volatile(buf, &err), -ENOTSUP, &err, "journal");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SAYS("a header reads as it was meant", a_header_reads_as_it_was_meant),
		SAYS("entries name by number", entries_name_by_number),
		SAYS("what is not known is refused", what_is_not_known_is_refused),
		SAYS("a journal that was not carried out is refused",
		     a_journal_that_was_not_carried_out_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
