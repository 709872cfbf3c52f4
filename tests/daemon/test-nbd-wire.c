// SPDX-License-Identifier: BSD-2-Clause
/*
 * The NBD protocol's bytes: golden messages written by hand from proto.md, and lengths that lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nbd-wire.h"

static const struct nbd_rules rules = {
	.size = 1 << 20, .max_payload = 32 << 20, .structured = true, .block_status = true
};

static void a_request_is_decoded(void **state)
{
	static const uint8_t bytes[NBD_REQUEST_SIZE] = {
		0x25, 0x60, 0x95, 0x13, 0x00, 0x01, 0x00, 0x06, 1, 2,    3,    4,    5,    6,
		7,    8,    0x80, 0,    0,    0,    0,    0,    0, 0x10, 0xff, 0xff, 0xff, 0xff,
	};
	struct nbd_request q;

	(void)state;
	assert_int_equal(nbd_get_request(bytes, &q), 0);
	assert_int_equal(q.flags, NBD_CMD_FLAG_FUA);
	assert_int_equal(q.cmd, NBD_CMD_WRITE_ZEROES);
	assert_true(q.cookie == 0x0102030405060708ull);
	assert_true(q.off == 0x8000000000000010ull);
	assert_int_equal(q.len, 0xffffffff);
}

static void a_wrong_magic_is_not_followed(void **state)
{
	uint8_t bytes[NBD_REQUEST_SIZE] = { 0x25, 0x60, 0x95, 0x12 };
	struct nbd_request q;

	(void)state;
	assert_int_equal(nbd_get_request(bytes, &q), -EBADMSG);
}

static int check(enum nbd_cmd cmd, uint64_t off, uint32_t len, uint16_t flags, const struct nbd_rules *r)
{
	struct nbd_request q = { .cmd = cmd, .off = off, .len = len, .flags = flags };

	return nbd_check_request(&q, r);
}

static void ranges_that_wrap_are_refused(void **state)
{
	static const uint64_t bad[] = { (1 << 20) - 511, 1 << 20, UINT64_MAX - 511, UINT64_MAX, 1ull << 63 };

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(bad); i++) {
		assert_int_equal(check(NBD_CMD_READ, bad[i], 512, 0, &rules), NBD_EINVAL);
		assert_int_equal(check(NBD_CMD_WRITE, bad[i], 512, 0, &rules), NBD_ENOSPC);
		assert_int_equal(check(NBD_CMD_WRITE_ZEROES, bad[i], 512, 0, &rules), NBD_ENOSPC);
		assert_int_equal(check(NBD_CMD_TRIM, bad[i], 512, 0, &rules), NBD_EINVAL);
		assert_int_equal(check(NBD_CMD_CACHE, bad[i], 512, 0, &rules), NBD_EINVAL);
		assert_int_equal(check(NBD_CMD_BLOCK_STATUS, bad[i], 512, 0, &rules), NBD_EINVAL);
	}
	assert_int_equal(check(NBD_CMD_READ, (1 << 20) - 512, 512, 0, &rules), 0);
	assert_int_equal(check(NBD_CMD_TRIM, 0, UINT32_MAX, 0, &rules), NBD_EINVAL);
}

static void a_read_only_disk_is_not_written(void **state)
{
	struct nbd_rules ro = rules;

	(void)state;
	ro.read_only = true;
	assert_int_equal(check(NBD_CMD_WRITE, 0, 512, 0, &ro), NBD_EPERM);
	assert_int_equal(check(NBD_CMD_WRITE_ZEROES, 0, 512, 0, &ro), NBD_EPERM);
	assert_int_equal(check(NBD_CMD_TRIM, 0, 512, 0, &ro), NBD_EPERM);
	assert_int_equal(check(NBD_CMD_READ, 0, 512, 0, &ro), 0);
	assert_int_equal(check(NBD_CMD_FLUSH, 0, 0, 0, &ro), 0);
}

static void flags_belong_to_their_commands(void **state)
{
	struct nbd_rules simple = rules;

	(void)state;
	simple.structured = simple.block_status = false;
	for (unsigned cmd = NBD_CMD_READ; cmd <= NBD_CMD_BLOCK_STATUS; cmd++) {
		uint32_t len = cmd == NBD_CMD_FLUSH ? 0 : 512;
		bool known = cmd != NBD_CMD_DISC;

		assert_int_equal(check(cmd, 0, len, NBD_CMD_FLAG_FUA, &rules), known ? 0 : NBD_EINVAL);
		assert_int_equal(check(cmd, 0, len, 0x20, &rules), NBD_EINVAL);
		assert_int_equal(check(cmd, 0, len, NBD_CMD_FLAG_DF, &rules),
				 cmd == NBD_CMD_READ ? 0 : NBD_EINVAL);
		assert_int_equal(check(cmd, 0, len, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_NO_HOLE, &rules),
				 cmd == NBD_CMD_WRITE_ZEROES ? 0 : NBD_EINVAL);
		assert_int_equal(check(cmd, 0, len, NBD_CMD_FLAG_REQ_ONE, &rules),
				 cmd == NBD_CMD_BLOCK_STATUS ? 0 : NBD_EINVAL);
	}
	assert_int_equal(check(NBD_CMD_READ, 0, 512, NBD_CMD_FLAG_DF, &simple), NBD_EINVAL);
	assert_int_equal(check(NBD_CMD_BLOCK_STATUS, 0, 512, 0, &simple), NBD_EINVAL);
	assert_int_equal(check(8, 0, 0, 0, &rules), NBD_EINVAL);
}

static void payload_is_bounded_and_effects_are_not(void **state)
{
	struct nbd_rules large = rules;

	(void)state;
	large.size = 1ull << 40;
	assert_int_equal(check(NBD_CMD_READ, 0, 32 << 20, 0, &large), 0);
	assert_int_equal(check(NBD_CMD_READ, 0, (32 << 20) + 1, 0, &large), NBD_EINVAL);
	assert_int_equal(check(NBD_CMD_WRITE, 0, (32 << 20) + 1, 0, &large), NBD_EINVAL);
	assert_int_equal(check(NBD_CMD_WRITE_ZEROES, 0, UINT32_MAX, 0, &large), 0);
	assert_int_equal(check(NBD_CMD_TRIM, 0, UINT32_MAX, 0, &large), 0);
	assert_int_equal(check(NBD_CMD_BLOCK_STATUS, 0, UINT32_MAX, 0, &large), 0);
}

static void errnos_map_to_what_the_wire_knows(void **state)
{
	static const struct {
		int result;
		enum nbd_error error;
	} map[] = {
		{ -EROFS, NBD_EPERM },  { -ENOSPC, NBD_ENOSPC },  { -EDQUOT, NBD_ENOSPC },
		{ -EFBIG, NBD_ENOSPC }, { -EINVAL, NBD_EINVAL },  { -ESHUTDOWN, NBD_ESHUTDOWN },
		{ -EUCLEAN, NBD_EIO },  { -EIO, NBD_EIO },        { -ENOMEM, NBD_ENOMEM },
		{ -ENODEV, NBD_EIO },   { -ENOTSUP, NBD_EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(map); i++)
		assert_int_equal(nbd_error_of(map[i].result, false), map[i].error);
	assert_int_equal(nbd_error_of(-ENOTSUP, true), NBD_ENOTSUP);
}

static void replies_are_encoded(void **state)
{
	static const uint8_t simple[] = { 0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 7 };
	static const uint8_t data[] = {
		0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0,
		0,    7,    0,    0,    2, 8, 0, 0, 0, 1, 0, 0, 0, 0,
	};
	static const uint8_t error[] = {
		0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, 0, 0, 0, 0, 0,   0,
		0,    7,    0,    0,    0, 8, 0,    0, 0, 5, 0, 2, 'n', 'o',
	};
	uint8_t p[NBD_HEAD_MAX];
	char long_text[200];

	(void)state;
	assert_int_equal(nbd_put_simple(p, 7, NBD_ENOSPC), sizeof(simple));
	assert_memory_equal(p, simple, sizeof(simple));
	assert_int_equal(nbd_put_data_head(p, 7, 1ull << 32, 512), sizeof(data));
	assert_memory_equal(p, data, sizeof(data));
	assert_int_equal(nbd_put_error_chunk(p, 7, NBD_EIO, "no"), sizeof(error));
	assert_memory_equal(p, error, sizeof(error));
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	assert_int_equal(nbd_put_error_chunk(p, 7, NBD_EIO, long_text), NBD_HEAD_MAX);
}

/* Each shorter piece of a good option is refused, and read no further than it goes (ASan watches the heap). */
static void cut_options_are_refused(void **state)
{
	static const uint8_t info[] = { 0, 0, 0, 2, 'a', 'b', 0, 2, 0, 1, 0, 3 };
	static const uint8_t meta[] = {
		0, 0, 0, 1, 'a', 0, 0, 0, 2, 0, 0, 0, 5, 'b', 'a', 's', 'e', ':', 0, 0, 0, 3, 'x', ':', 'y',
	};
	struct nbd_info_query iq;
	struct nbd_meta_query mq;

	(void)state;
	for (size_t len = 0; len <= sizeof(info); len++) {
		uint8_t *p = malloc(len ? len : 1);

		assert_non_null(p);
		memcpy(p, info, len);
		assert_int_equal(nbd_get_info_query(p, len, &iq), len == sizeof(info) ? 0 : -EINVAL);
		free(p);
	}
	assert_true(iq.want_name && iq.want_block_size && iq.name_len == 2);
	for (size_t len = 0; len <= sizeof(meta); len++) {
		uint8_t *p = malloc(len ? len : 1);

		assert_non_null(p);
		memcpy(p, meta, len);
		assert_int_equal(nbd_get_meta_query(p, len, &mq), len == sizeof(meta) ? 0 : -EINVAL);
		free(p);
	}
	assert_int_equal(nbd_get_meta_query(meta, sizeof(meta), &mq), 0);
	assert_true(mq.nr == 2 && mq.name_len == 1);
	assert_true(nbd_meta_matches(&mq, "base:allocation", true));
	assert_false(nbd_meta_matches(&mq, "base:allocation", false));
	assert_false(nbd_meta_matches(&mq, "qemu:dirty-bitmap:y", true));
	assert_true(nbd_meta_matches(&mq, "x:y", false));
	assert_false(nbd_meta_matches(&mq, "x:yz", true));
}

static void lengths_that_lie_are_refused(void **state)
{
	static const uint8_t huge_name[] = { 0xff, 0xff, 0xff, 0xff, 'a', 0, 0 };
	static const uint8_t long_name[] = { 0, 0, 0x10, 1, 0, 0 };
	static const uint8_t many_infos[] = { 0, 0, 0, 0, 0xff, 0xff, 0, 1 };
	static const uint8_t many_queries[] = { 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 };
	struct nbd_info_query iq;
	struct nbd_meta_query mq;

	(void)state;
	assert_int_equal(nbd_get_info_query(huge_name, sizeof(huge_name), &iq), -EINVAL);
	assert_int_equal(nbd_get_info_query(long_name, sizeof(long_name), &iq), -EINVAL);
	assert_int_equal(nbd_get_info_query(many_infos, sizeof(many_infos), &iq), -EINVAL);
	assert_int_equal(nbd_get_meta_query(huge_name, sizeof(huge_name), &mq), -EINVAL);
	assert_int_equal(nbd_get_meta_query(many_queries, sizeof(many_queries), &mq), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_decoded),
		cmocka_unit_test(a_wrong_magic_is_not_followed),
		cmocka_unit_test(ranges_that_wrap_are_refused),
		cmocka_unit_test(a_read_only_disk_is_not_written),
		cmocka_unit_test(flags_belong_to_their_commands),
		cmocka_unit_test(payload_is_bounded_and_effects_are_not),
		cmocka_unit_test(errnos_map_to_what_the_wire_knows),
		cmocka_unit_test(replies_are_encoded),
		cmocka_unit_test(cut_options_are_refused),
		cmocka_unit_test(lengths_that_lie_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
