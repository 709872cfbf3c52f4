// SPDX-License-Identifier: BSD-2-Clause
/* formats/qcow.c: headers by hand, from QEMU's structure and Xen's, and entries of both tables. */
#include <blktap/qcow.h>

#include "unit.h"

#define XEN_L1 4096u /* where Xen's addition counts */

static struct qcow_header good(void)
{
	return (struct qcow_header){
		.backing_off = 64,
		.backing_len = 5,
		.mtime = 0x01020304,
		.size = 5ull << 20,
		.cluster_bits = 12,
		.l2_bits = 9,
		.crypt = QCOW_CRYPT_AES,
		.l1_off = 72,
	};
}

static void make(uint8_t buf[QCOW_HEADER_XEN])
{
	const struct qcow_header h = good();

	memset(buf, 0, QCOW_HEADER_XEN);
	qcow_header_encode(&h, buf);
}

static int decode(const uint8_t *buf, struct qcow_header *ret, struct td_err *err)
{
	return qcow_header_decode(buf, QCOW_HEADER_XEN, ret, err);
}

/* ---- the header ---- */

static void every_byte_is_where_qemu_has_it(void **state)
{
	static const uint8_t head[QCOW_HEADER] = {
		'Q', 'F', 'I', 0xfb, 0, 0,    0, 1,  /* magic, version */
		0,   0,   0,   0,    0, 0,    0, 64, /* backing file: place */
		0,   0,   0,   5,    1, 2,    3, 4,  /* its length, its time */
		0,   0,   0,   0,    0, 0x50, 0, 0,  /* size */
		12,  9,   0,   0,    0, 0,    0, 1,  /* bits, padding, encryption */
		0,   0,   0,   0,    0, 0,    0, 72, /* L1 */
	};
	const struct qcow_header h = good();
	uint8_t buf[QCOW_HEADER_XEN];
	struct qcow_header d;

	(void)state;
	memset(buf, 0xff, sizeof(buf));
	qcow_header_encode(&h, buf);
	assert_memory_equal(buf, head, sizeof(head));
	for (size_t i = QCOW_HEADER; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0xff); /* not ours */
	assert_int_equal(qcow_header_decode(head, sizeof(head), &d, NULL), 0);
	memset(buf, 0xff, sizeof(buf));
	qcow_header_encode(&d, buf);
	assert_memory_equal(buf, head, sizeof(head));
	assert_true(!d.xen && !d.l1_swapped);
	assert_int_equal(qcow_l1_entries(&d), 3);
}

static void each_field_that_cannot_be_is_refused_by_name(void **state)
{
	static const struct {
		unsigned at, bytes;
		uint64_t value;
		int result;
		const char *says;
	} bad[] = {
		{ 0, 4, 0x514649fa, -EUCLEAN, "does not begin" },
		{ 4, 4, 0, -ENOTSUP, "version 0" },
		{ 4, 4, 2, -ENOTSUP, "qcow2" },
		{ 4, 4, 3, -ENOTSUP, "qcow2" },
		{ 4, 4, 4, -ENOTSUP, "version 4" },
		{ 16, 4, 1024, -EUCLEAN, "backing file has 1024" },
		{ 16, 4, UINT32_MAX, -EUCLEAN, "backing file" },
		{ 24, 8, 0, -EUCLEAN, "0 bytes" },
		{ 24, 8, 1, -EUCLEAN, "1 bytes" },
		{ 24, 8, 1ull << 63, -EUCLEAN, "cannot be" },
		{ 24, 8, UINT64_MAX, -EUCLEAN, "cannot be" },
		{ 24, 8, INT64_MAX, -EUCLEAN, "too large" },
		{ 32, 1, 8, -EUCLEAN, "2^8" },
		{ 32, 1, 17, -EUCLEAN, "2^17" },
		{ 32, 1, 255, -EUCLEAN, "2^255" },
		{ 33, 1, 5, -EUCLEAN, "2^5 entries" },
		{ 33, 1, 14, -EUCLEAN, "2^14 entries" },
		{ 36, 4, 2, -ENOTSUP, "method 2" },
		{ 36, 4, UINT32_MAX, -ENOTSUP, "method" },
		{ 40, 8, 0, -EUCLEAN, "byte 0" },
		{ 40, 8, 40, -EUCLEAN, "byte 40" },
		{ 40, 8, 76, -EUCLEAN, "byte 76" },
		{ 40, 8, 1ull << 63, -EUCLEAN, "L1 table" },
	};
	uint8_t buf[QCOW_HEADER_XEN], value[8];

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(bad); i++) {
		struct qcow_header d = { .size = 77 };
		struct td_err err = { "" };

		make(buf);
		td_put_be64(value, bad[i].value);
		memcpy(buf + bad[i].at, value + 8 - bad[i].bytes, bad[i].bytes);
		assert_refused(decode(buf, &d, &err), bad[i].result, &err, bad[i].says);
		assert_int_equal(decode(buf, &d, NULL), bad[i].result);
		assert_int_equal(d.size, 77); /* nothing is given back */
	}
}

static void what_is_at_the_limits_is_taken(void **state)
{
	static const struct {
		unsigned at, bytes;
		uint64_t value;
	} fine[] = {
		{ 16, 4, 1023 },       { 24, 8, 2 },
		{ 24, 8, 1ull << 45 }, { 32, 1, 9 },
		{ 32, 1, 16 },         { 33, 1, 6 },
		{ 33, 1, 13 },         { 36, 4, QCOW_CRYPT_NONE },
		{ 40, 8, 48 },         { 40, 8, INT64_MAX - 7 },
	};
	uint8_t buf[QCOW_HEADER_XEN], value[8];
	struct qcow_header d;

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(fine); i++) {
		make(buf);
		td_put_be64(value, fine[i].value);
		memcpy(buf + fine[i].at, value + 8 - fine[i].bytes, fine[i].bytes);
		assert_int_equal(decode(buf, &d, NULL), 0);
	}
	make(buf);
	td_put_be64(buf + 24, (1ull << 45) + 1); /* an entry more than an L1 table has */
	assert_int_equal(decode(buf, &d, NULL), -EUCLEAN);
}

static void a_header_that_is_cut_is_none(void **state)
{
	uint8_t buf[QCOW_HEADER_XEN];
	struct qcow_header d;
	struct td_err err;

	(void)state;
	make(buf);
	for (size_t len = 0; len < QCOW_HEADER; len++)
		assert_refused(qcow_header_decode(buf, len, &d, &err), -EUCLEAN, &err, "does not begin");
	assert_int_equal(qcow_header_decode(buf, QCOW_HEADER, &d, NULL), 0);
}

/* QEMU leaves anything there. */
static void without_a_backing_file_the_length_of_its_name_is_nothing(void **state)
{
	uint8_t buf[QCOW_HEADER_XEN];
	struct qcow_header d;

	(void)state;
	make(buf);
	td_put_be64(buf + 8, 0);
	td_put_be32(buf + 16, UINT32_MAX);
	assert_int_equal(decode(buf, &d, NULL), 0);
	assert_int_equal(d.backing_len, 0);
}

/* ---- Xen's addition ---- */

static void make_xen(uint8_t *buf, uint64_t l1_off, uint32_t flags)
{
	make(buf);
	td_put_be64(buf + 40, l1_off);
	td_put_be32(buf + 48, QCOW_XEN_MAGIC);
	td_put_be32(buf + 60, flags);
}

static void xen_says_in_which_order_its_l1_is(void **state)
{
	uint8_t buf[QCOW_HEADER_XEN];
	struct qcow_header d;

	(void)state;
	make_xen(buf, XEN_L1, QCOW_XEN_SPARSE);
	assert_int_equal(decode(buf, &d, NULL), 0);
	assert_true(d.xen && d.l1_swapped);
	assert_int_equal(d.xen_flags, QCOW_XEN_SPARSE);
	assert_int_equal(qcow_l1e(&d, 0x0102030405060708), 0x0807060504030201);
	make_xen(buf, XEN_L1, QCOW_XEN_L1_BIG_ENDIAN);
	assert_int_equal(decode(buf, &d, NULL), 0);
	assert_true(d.xen && !d.l1_swapped);
	assert_int_equal(qcow_l1e(&d, 0x0102030405060708), 0x0102030405060708);
}

static void what_only_looks_like_xen_s_is_passed_over(void **state)
{
	uint8_t buf[QCOW_HEADER_XEN];
	struct qcow_header d;

	(void)state;
	make_xen(buf, XEN_L1 + 512, 0); /* QEMU's: the name of a backing file may say XEN */
	assert_int_equal(decode(buf, &d, NULL), 0);
	assert_true(!d.xen && !d.l1_swapped);
	make_xen(buf, XEN_L1, 0);
	assert_int_equal(qcow_header_decode(buf, QCOW_HEADER_XEN - 1, &d, NULL), 0);
	assert_true(!d.xen && !d.l1_swapped);
	td_put_be32(buf + 48, QCOW_XEN_MAGIC ^ 1);
	assert_int_equal(decode(buf, &d, NULL), 0);
	assert_true(!d.xen && !d.l1_swapped);
}

/* ---- entries ---- */

static void entries_go_there_and_back(void **state)
{
	(void)state;
	for (uint32_t bits = QCOW_MIN_CLUSTER_BITS; bits <= QCOW_MAX_CLUSTER_BITS; bits++) {
		const struct qcow_header h = { .cluster_bits = bits };
		const uint64_t max = qcow_max_host(&h);
		const struct qcow_l2e all[] = {
			{ QCOW_HOLE, 0, 0 },
			{ QCOW_DATA, 512, 0 },
			{ QCOW_DATA, max, 0 },
			{ QCOW_PACKED, QCOW_HEADER, 1 },
			{ QCOW_PACKED, max - 1, (1u << bits) - 1 },
		};

		assert_int_equal(max, 1ull << (63 - bits));
		for (size_t i = 0; i < TD_NELEMS(all); i++) {
			struct qcow_l2e e;

			assert_int_equal(qcow_l2e_decode(&h, qcow_l2e_encode(&h, &all[i]), &e), 0);
			assert_int_equal(e.kind, all[i].kind);
			assert_int_equal(e.host_off, all[i].host_off);
			assert_int_equal(e.packed_len, all[i].packed_len);
		}
	}
}

static void a_packed_entry_has_its_length_above_its_place(void **state)
{
	const struct qcow_header h = { .cluster_bits = 12 };
	const struct qcow_l2e e = { QCOW_PACKED, 0x12345, 0x678 };

	(void)state;
	assert_int_equal(qcow_l2e_encode(&h, &e), 0xb3c0000000012345);
}

static void entries_that_cannot_be_are_refused(void **state)
{
	static const uint64_t bad[] = {
		1,
		511,
		513,
		INT64_MAX,
		1ull << 63,              /* no length, no place */
		1ull << 63 | 1ull << 51, /* over the header */
		1ull << 63 | 1ull << 51 | 47,
		1ull << 63 | 512, /* no length */
	};
	const struct qcow_header h = { .cluster_bits = 12 };
	struct qcow_l2e e;

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(bad); i++)
		assert_int_equal(qcow_l2e_decode(&h, bad[i], &e), -EUCLEAN);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SAYS("every byte is where QEMU has it", every_byte_is_where_qemu_has_it),
		SAYS("each field that cannot be is refused by name",
		     each_field_that_cannot_be_is_refused_by_name),
		SAYS("what is at the limits is taken", what_is_at_the_limits_is_taken),
		SAYS("a header that is cut is none", a_header_that_is_cut_is_none),
		SAYS("without a backing file the length of its name is nothing",
		     without_a_backing_file_the_length_of_its_name_is_nothing),
		SAYS("Xen says in which order its L1 is", xen_says_in_which_order_its_l1_is),
		SAYS("what only looks like Xen's is passed over", what_only_looks_like_xen_s_is_passed_over),
		SAYS("entries go there and back", entries_go_there_and_back),
		SAYS("a packed entry has its length above its place",
		     a_packed_entry_has_its_length_above_its_place),
		SAYS("entries that cannot be are refused", entries_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
