// SPDX-License-Identifier: BSD-2-Clause
/* formats/vmdk-cowd.c: a header by hand. */
#include <blktap/vmdk.h>

#include "unit.h"

static void a_new_header_reads_as_it_was_meant(void **state)
{
	uint8_t buf[VMDK_COWD_HEADER];
	struct vmdk_cowd c, d;
	struct td_err err;

	(void)state;
	vmdk_cowd_init(1u << 21, &c, buf);
	assert_memory_equal(buf, "COWD\1\0\0\0\3\0\0\0\0\0\x20\0\1\0\0\0\4\0\0\0\0\2\0\0\x08\0\0\0", 32);
	assert_int_equal(vmdk_cowd_decode(buf, &d, &err), 0);
	assert_memory_equal(&c, &d, sizeof(c));
	assert_int_equal(d.gd_entries, 512);
	assert_int_equal(d.next_free, 4 + 4);
}

static void changing_a_field_leaves_the_others(void **state)
{
	uint8_t buf[VMDK_COWD_HEADER], was[VMDK_COWD_HEADER];
	struct vmdk_cowd c;

	(void)state;
	vmdk_cowd_init(1000, &c, buf);
	memset(buf + 32, 0x5a, sizeof(buf) - 32);
	memcpy(was, buf, sizeof(buf));
	c.next_free = 0x01020304;
	vmdk_cowd_encode(&c, buf);
	assert_memory_equal(buf + 28, "\4\3\2\1", 4);
	memcpy(was + 28, buf + 28, 4);
	assert_memory_equal(buf, was, sizeof(buf));
}

static void headers_that_make_no_sense_are_refused(void **state)
{
	uint8_t buf[VMDK_COWD_HEADER];
	struct vmdk_cowd c, d;
	struct td_err err;

	(void)state;
	vmdk_cowd_init(1u << 21, &c, buf);
	buf[3] = 'd';
	assert_refused(vmdk_cowd_decode(buf, &d, &err), -EUCLEAN, &err, "does not begin");
	vmdk_cowd_encode(&c, buf);
	buf[4] = 2;
	assert_refused(vmdk_cowd_decode(buf, &d, &err), -ENOTSUP, &err, "version 2");
	vmdk_cowd_encode(&c, buf);
	td_put_le32(buf + 16, 0);
	assert_refused(vmdk_cowd_decode(buf, &d, &err), -EUCLEAN, &err, "grains have 0");
	td_put_le32(buf + 16, 0x80000000);
	assert_refused(vmdk_cowd_decode(buf, &d, &err), -EUCLEAN, &err, "grains have");
	vmdk_cowd_encode(&c, buf);
	td_put_le32(buf + 20, 3);
	assert_refused(vmdk_cowd_decode(buf, &d, &err), -EUCLEAN, &err, "over its header");
	vmdk_cowd_encode(&c, buf);
	td_put_le32(buf + 24, 511);
	assert_refused(vmdk_cowd_decode(buf, &d, &err), -EUCLEAN, &err, "too few");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SAYS("a new header reads as it was meant", a_new_header_reads_as_it_was_meant),
		SAYS("changing a field leaves the others", changing_a_field_leaves_the_others),
		SAYS("headers that make no sense are refused", headers_that_make_no_sense_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
