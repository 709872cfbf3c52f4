// SPDX-License-Identifier: BSD-2-Clause
/* formats/vhd-tables.c: bitmaps against a bit-by-bit model, batmaps by hand. */
#include <blktap/vhd.h>

#include "unit.h"

#define BITS 512u

static uint32_t slow_run(const uint8_t *bits, uint32_t first, uint32_t max)
{
	uint32_t n = 1;

	while (n < max && vhd_bit(bits, first + n) == vhd_bit(bits, first))
		n++;
	return n;
}

static void runs_are_what_counting_finds(void **state)
{
	uint8_t bits[BITS / 8] = { 0 };

	(void)state;
	for (uint32_t from = 0; from < BITS; from += 7) {
		for (uint32_t nr = 1; from + nr <= BITS; nr += 29) {
			memset(bits, 0, sizeof(bits));
			vhd_bits_set(bits, from, nr);
			for (uint32_t i = 0; i < BITS; i++)
				assert_int_equal(vhd_bit(bits, i), i >= from && i < from + nr);
			for (uint32_t i = 0; i < BITS; i += 5)
				assert_int_equal(vhd_bits_run(bits, i, BITS - i),
						 slow_run(bits, i, BITS - i));
			assert_int_equal(vhd_bits_full(bits, sizeof(bits)), nr == BITS);
		}
	}
	assert_int_equal(vhd_bits_run(bits, 3, 1), 1);
}

static void the_first_sector_is_the_highest_bit(void **state)
{
	uint8_t bits[8] = { 0 };

	(void)state;
	vhd_bits_set(bits, 0, 1);
	assert_int_equal(bits[0], 0x80);
	vhd_bits_set(bits, 15, 1);
	assert_int_equal(bits[1], 0x01);
}

static void a_batmap_is_decoded_and_checked(void **state)
{
	struct vhd_geom g = { .nr_blocks = 4097, .batmap_off = 18432 };
	struct vhd_batmap m = { .off = 18944, .sectors = 2, .version = VHD_BATMAP_VERSION, .checksum = 7 };
	uint8_t raw[VHD_SECTOR] = { 0 };
	struct vhd_batmap got;

	(void)state;
	assert_int_equal(vhd_batmap_decode(raw, &g, &got), -EINVAL);
	vhd_batmap_encode(&m, raw);
	assert_memory_equal(raw, "tdbatmap", 8);
	assert_int_equal(vhd_batmap_decode(raw, &g, &got), 0);
	assert_true(got.off == m.off && got.sectors == 2 && got.version == m.version && got.checksum == 7);
	raw[100] = 0x77; /* the key's hash, say */
	m.version++;
	vhd_batmap_encode(&m, raw);
	assert_int_equal(raw[100], 0x77);
	assert_int_equal(vhd_batmap_decode(raw, &g, &got), -ENOTSUP);
	m.version--;
	m.sectors = 1; /* 4096 bits */
	vhd_batmap_encode(&m, raw);
	assert_int_equal(vhd_batmap_decode(raw, &g, &got), -EUCLEAN);
	m.sectors = 2;
	static const uint64_t bad[] = { 0, 18432, 18945, UINT64_MAX - 511, 1ull << 63 };
	for (unsigned i = 0; i < TD_NELEMS(bad); i++) {
		m.off = bad[i];
		vhd_batmap_encode(&m, raw);
		assert_int_equal(vhd_batmap_decode(raw, &g, &got), -EUCLEAN);
	}
}

static void a_batmap_s_sum_is_xenserver_s(void **state)
{
	uint8_t bits[1024] = { 0x80, 1 };

	(void)state;
	assert_int_equal(vhd_batmap_sum(bits, 512, VHD_BATMAP_VERSION), ~0x81u);
	assert_int_equal(vhd_batmap_sum(bits, 512, 0x00010001), ~(0x80u - 0x100u + 1));
	assert_int_equal(vhd_batmap_sum(bits, 0, VHD_BATMAP_VERSION), UINT32_MAX);
	/* 4096 blocks fill one sector; the 4097th's bit is not covered before there are 4104. */
	assert_int_equal(vhd_batmap_summed(4096ull * VHD_BLOCK, 1), 512);
	assert_int_equal(vhd_batmap_summed(4097ull * VHD_BLOCK, 2), 512);
	assert_int_equal(vhd_batmap_summed(4104ull * VHD_BLOCK, 2), 1024);
	assert_int_equal(vhd_batmap_summed(0, 1), 512);
	assert_int_equal(vhd_batmap_summed(1ull << 62, 3), 1536);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_are_what_counting_finds),
		cmocka_unit_test(the_first_sector_is_the_highest_bit),
		cmocka_unit_test(a_batmap_is_decoded_and_checked),
		cmocka_unit_test(a_batmap_s_sum_is_xenserver_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
