// SPDX-License-Identifier: BSD-2-Clause
/* formats/vmdk-grain.c: what zlib deflates, and what was damaged since. */
#include <blktap/qcow2.h>
#include <blktap/vmdk.h>
#include <zlib.h>

#include "unit.h"

#define LEN 65536u

static struct qcow2_codec codec;
static uint8_t grain[LEN], packed[2 * LEN], out[LEN];

static size_t pack(void)
{
	uLongf len = sizeof(packed);

	for (unsigned i = 0; i < LEN; i++)
		grain[i] = (uint8_t)(i * i >> 7);
	assert_int_equal(compress(packed, &len, grain, LEN), Z_OK);
	return len;
}

static void a_grain_comes_out_as_it_went_in(void **state)
{
	size_t len = pack();

	(void)state;
	assert_int_equal(vmdk_grain_inflate(&codec, packed, len, out, LEN), 0);
	assert_memory_equal(out, grain, LEN);
}

static void damage_is_found(void **state)
{
	size_t len = pack();

	(void)state;
	assert_int_equal(vmdk_grain_inflate(&codec, packed, len, out, LEN / 2), -EUCLEAN);
	assert_int_equal(vmdk_grain_inflate(&codec, packed, len - 1, out, LEN), -EUCLEAN);
	for (size_t cut = 0; cut < 8; cut++)
		assert_int_equal(vmdk_grain_inflate(&codec, packed, cut, out, LEN), -EUCLEAN);
	for (size_t i = 0; i < len; i += len / 50) {
		packed[i] ^= 0x10;
		assert_int_equal(vmdk_grain_inflate(&codec, packed, len, out, LEN), -EUCLEAN);
		packed[i] ^= 0x10;
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SAYS("a grain comes out as it went in", a_grain_comes_out_as_it_went_in),
		SAYS("damage is found", damage_is_found),
	};

	int r = cmocka_run_group_tests(tests, NULL, NULL);

	qcow2_codec_done(&codec);
	return r;
}
