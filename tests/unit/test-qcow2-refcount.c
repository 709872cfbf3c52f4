// SPDX-License-Identifier: BSD-2-Clause
/* formats/qcow2-refcount.c: every width, against bytes by hand and against a plain array. */
#include "unit.h"

static const uint8_t block[16] = { 0xb4, 0x01, 0x80, 0xff, 0x12, 0x34, 0x56, 0x78, 1, 2, 3, 4, 5, 6, 7, 8 };

static void widths_are_read_by_hand(void **state)
{
	struct qcow2_geom g = geom(9, 0);
	static const uint8_t bits[8] = { 0, 0, 1, 0, 1, 1, 0, 1 }; /* 0xb4, low bit first */

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(qcow2_refcount_get(&g, block, i), bits[i]);
	assert_int_equal(qcow2_refcount_get(&g, block, 8), 1);
	assert_int_equal(qcow2_refcount_get(&g, block, 23), 1);
	g = geom(9, 1);
	assert_int_equal(qcow2_refcount_get(&g, block, 0), 0);
	assert_int_equal(qcow2_refcount_get(&g, block, 1), 1);
	assert_int_equal(qcow2_refcount_get(&g, block, 2), 3);
	assert_int_equal(qcow2_refcount_get(&g, block, 3), 2);
	g = geom(9, 2);
	assert_int_equal(qcow2_refcount_get(&g, block, 0), 4);
	assert_int_equal(qcow2_refcount_get(&g, block, 1), 11);
	g = geom(9, 3);
	assert_int_equal(qcow2_refcount_get(&g, block, 3), 0xff);
	g = geom(9, 4);
	assert_int_equal(qcow2_refcount_get(&g, block, 2), 0x1234);
	g = geom(9, 5);
	assert_int_equal(qcow2_refcount_get(&g, block, 1), 0x12345678);
	g = geom(9, 6);
	assert_int_equal(qcow2_refcount_get(&g, block, 1), 0x0102030405060708);
}

static void setting_one_changes_no_other(void **state)
{
	uint64_t model[4096], x = 88172645463325252ull; /* xorshift: the same numbers each time */

	(void)state;
	for (unsigned order = 0; order <= 6; order++) {
		struct qcow2_geom g = geom(9, order);
		uint8_t buf[512] = { 0 };
		uint64_t max = UINT64_MAX >> (64 - g.refcount_bits);

		assert_int_equal(g.refblock_entries, 4096 >> order);
		memset(model, 0, sizeof(model));
		for (unsigned n = 0; n < 8192; n++) {
			uint64_t idx;

			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			idx = x % g.refblock_entries;
			model[idx] = x >> 3 & max;
			assert_int_equal(qcow2_refcount_set(&g, buf, idx, model[idx]), 0);
		}
		for (uint64_t i = 0; i < g.refblock_entries; i++)
			assert_int_equal(qcow2_refcount_get(&g, buf, i), model[i]);
	}
}

static void a_value_too_large_changes_nothing(void **state)
{
	uint8_t buf[512], before[512];

	(void)state;
	memset(buf, 0x5a, sizeof(buf));
	memcpy(before, buf, sizeof(buf));
	for (unsigned order = 0; order < 6; order++) {
		struct qcow2_geom g = geom(9, order);

		assert_int_equal(qcow2_refcount_set(&g, buf, 3, 1ull << g.refcount_bits), -ERANGE);
		assert_int_equal(qcow2_refcount_set(&g, buf, 3, UINT64_MAX), -ERANGE);
	}
	assert_memory_equal(buf, before, sizeof(buf));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("every width is read as the specification draws it", widths_are_read_by_hand),
		SAYS("setting one refcount changes no other", setting_one_changes_no_other),
		SAYS("a value too large for the width changes nothing", a_value_too_large_changes_nothing),
	};

	return cmocka_run_group_tests_name("qcow2 refcounts", tests, NULL, NULL);
}
