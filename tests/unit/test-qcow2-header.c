// SPDX-License-Identifier: BSD-2-Clause
/* formats/qcow2-header.c: golden headers by hand, then one field wrong at a time. */
#include "unit.h"

#define K       1024ull
#define CLUSTER (64 * K)

/* Version 2: 64 KiB clusters, 1 GiB, backing name of 5 bytes at 0x1f0, two snapshots. */
static const uint8_t golden_v2[72] = {
	'Q',  'F',  'I',  0xfb,                         /* magic */
	0x00, 0x00, 0x00, 0x02,                         /* version */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xf0, /* backing name at */
	0x00, 0x00, 0x00, 0x05,                         /* its length */
	0x00, 0x00, 0x00, 0x10,                         /* cluster bits */
	0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, /* size */
	0x00, 0x00, 0x00, 0x00,                         /* crypt */
	0x00, 0x00, 0x00, 0x02,                         /* L1 entries */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, /* L1 at */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, /* refcount table at */
	0x00, 0x00, 0x00, 0x01,                         /* its clusters */
	0x00, 0x00, 0x00, 0x02,                         /* snapshots */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, /* their table at */
};

/* Version 3: 512-byte clusters, 1 MiB, 64-bit refcounts, lazy, zstd, no backing file. */
static const uint8_t golden_v3[112] = {
	'Q',  'F',  'I',  0xfb,                         /* magic */
	0x00, 0x00, 0x00, 0x03,                         /* version */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* no backing name */
	0x00, 0x00, 0x00, 0x00,                         /* its length */
	0x00, 0x00, 0x00, 0x09,                         /* cluster bits */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, /* size */
	0x00, 0x00, 0x00, 0x00,                         /* crypt */
	0x00, 0x00, 0x00, 0x20,                         /* L1 entries: 32 KiB each */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x06, 0x00, /* L1 at */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, /* refcount table at */
	0x00, 0x00, 0x00, 0x01,                         /* its clusters */
	0x00, 0x00, 0x00, 0x00,                         /* snapshots */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* their table at */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, /* incompatible: compression type */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, /* compatible: lazy refcounts */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* autoclear */
	0x00, 0x00, 0x00, 0x06,                         /* refcount order */
	0x00, 0x00, 0x00, 0x70,                         /* header length */
	0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* compression type, padding */
};

/* A plain version 3 header to break: 64 KiB clusters, 1 GiB. */
static void plain_v3(uint8_t buf[512])
{
	memset(buf, 0, 512);
	memcpy(buf, golden_v2, sizeof(golden_v2));
	buf[7] = 3;
	memset(buf + 8, 0, 12);
	memset(buf + 60, 0, 12);
	buf[99] = 4;
	buf[103] = 104;
}

static void v2_golden_is_understood(void **state)
{
	struct qcow2_header h;

	(void)state;
	assert_int_equal(qcow2_header_decode(golden_v2, sizeof(golden_v2), &h, NULL), 0);
	assert_int_equal(h.version, 2);
	assert_int_equal(h.backing_off, 0x1f0);
	assert_int_equal(h.backing_len, 5);
	assert_int_equal(h.cluster_bits, 16);
	assert_int_equal(h.size, 1024 * K * K);
	assert_int_equal(h.crypt, 0);
	assert_int_equal(h.l1_size, 2);
	assert_int_equal(h.l1_off, 3 * CLUSTER);
	assert_int_equal(h.reftable_off, CLUSTER);
	assert_int_equal(h.reftable_clusters, 1);
	assert_int_equal(h.nr_snapshots, 2);
	assert_int_equal(h.snapshots_off, 5 * CLUSTER);
	assert_int_equal(h.incompatible | h.compatible | h.autoclear, 0);
	assert_int_equal(h.refcount_order, 4);
	assert_int_equal(h.header_len, 72);
	assert_int_equal(h.compression, QCOW2_DEFLATE);
}

static void v3_golden_is_understood(void **state)
{
	struct qcow2_header h;

	(void)state;
	assert_int_equal(qcow2_header_decode(golden_v3, sizeof(golden_v3), &h, NULL), 0);
	assert_int_equal(h.version, 3);
	assert_int_equal(h.cluster_bits, 9);
	assert_int_equal(h.size, K * K);
	assert_int_equal(h.l1_size, 32);
	assert_int_equal(h.incompatible, QCOW2_INCOMPAT_COMPRESSION);
	assert_int_equal(h.compatible, QCOW2_COMPAT_LAZY);
	assert_int_equal(h.refcount_order, 6);
	assert_int_equal(h.header_len, 112);
	assert_int_equal(h.compression, QCOW2_ZSTD);
}

static void encoding_gives_the_golden_bytes(void **state)
{
	struct qcow2_header h;
	uint8_t buf[112];

	(void)state;
	assert_int_equal(qcow2_header_decode(golden_v2, sizeof(golden_v2), &h, NULL), 0);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(qcow2_header_encode(&h, buf, sizeof(buf)), 72);
	assert_memory_equal(buf, golden_v2, 72);

	assert_int_equal(qcow2_header_decode(golden_v3, sizeof(golden_v3), &h, NULL), 0);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(qcow2_header_encode(&h, buf, sizeof(buf)), 112);
	assert_memory_equal(buf, golden_v3, 112);
}

static void rewriting_keeps_unknown_fields(void **state)
{
	struct qcow2_header h;
	uint8_t buf[512], before[512];

	(void)state;
	plain_v3(buf);
	td_put_be32(buf + 100, 128);
	memset(buf + 112, 0xa5, 16); /* a field that we do not know, without a feature bit */
	memcpy(before, buf, sizeof(buf));
	assert_int_equal(qcow2_header_decode(buf, sizeof(buf), &h, NULL), 0);
	assert_int_equal(h.header_len, 128);
	assert_int_equal(qcow2_header_encode(&h, buf, sizeof(buf)), 128);
	assert_memory_equal(buf, before, sizeof(buf));
}

static void encoding_needs_room(void **state)
{
	struct qcow2_header h;
	uint8_t buf[112] = { 0 }, zeros[112] = { 0 };

	(void)state;
	assert_int_equal(qcow2_header_decode(golden_v3, sizeof(golden_v3), &h, NULL), 0);
	assert_int_equal(qcow2_header_encode(&h, buf, 111), 0);
	assert_int_equal(qcow2_header_decode(golden_v2, sizeof(golden_v2), &h, NULL), 0);
	assert_int_equal(qcow2_header_encode(&h, buf, 71), 0);
	assert_memory_equal(buf, zeros, sizeof(buf));
}

static void a_field_counts_only_inside_the_header_length(void **state)
{
	struct qcow2_header h;
	uint8_t buf[512];

	(void)state;
	plain_v3(buf);
	buf[104] = 1; /* behind a header of 104 bytes: the first extension, not a compression type */
	assert_int_equal(qcow2_header_decode(buf, sizeof(buf), &h, NULL), 0);
	assert_int_equal(h.compression, QCOW2_DEFLATE);
	assert_int_equal(qcow2_header_encode(&h, buf, sizeof(buf)), 104);
	assert_int_equal(buf[104], 1);
}

/* One field of an otherwise good header. */
struct wrong {
	unsigned at, bytes;
	uint64_t value;
	int code;
	const char *says;
};

static void check_wrong(const uint8_t *good, const struct wrong *w, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct qcow2_header h = { .version = 77 };
		struct td_err e = { "" };
		uint8_t buf[512];
		int r;

		memcpy(buf, good, sizeof(buf));
		for (unsigned b = 0; b < w[i].bytes; b++)
			buf[w[i].at + b] = (uint8_t)(w[i].value >> 8 * (w[i].bytes - 1 - b));
		r = qcow2_header_decode(buf, sizeof(buf), &h, &e);
		if (r != w[i].code)
			fail_msg("value %#llx at %u: %d, not %d (%s)", (unsigned long long)w[i].value,
				 w[i].at, r, w[i].code, e.msg);
		if (r < 0)
			assert_refused(r, w[i].code, &e, w[i].says);
		if (r < 0)
			assert_int_equal(h.version, 77); /* written only on success */
	}
}

static void each_field_is_checked(void **state)
{
	static const struct wrong wrong[] = {
		{ 0, 4, 0x514649fa, -EUCLEAN, "not a qcow2 image" },
		{ 4, 4, 0, -ENOTSUP, "version 0" },
		{ 4, 4, 1, -ENOTSUP, "driver is qcow" },
		{ 4, 4, 4, -ENOTSUP, "version 4" },
		{ 20, 4, 8, -EUCLEAN, "512 is the least" },
		{ 20, 4, 22, -ENOTSUP, "2 MiB" },
		{ 20, 4, 0xffffffff, -ENOTSUP, "2 MiB" },
		{ 24, 8, 1ull << 63, -EUCLEAN, "more than any disk" },
		{ 24, 8, 1024 * K * K + 1, -EUCLEAN, "too small for" },
		{ 24, 8, 0, 0, "" },
		{ 32, 4, 1, 0, "" }, /* refused by name later */
		{ 32, 4, 2, 0, "" },
		{ 32, 4, 3, -EUCLEAN, "encryption method 3" },
		{ 36, 4, 1, -EUCLEAN, "too small for" },
		{ 36, 4, 4 * K * K, 0, "" },
		{ 36, 4, 4 * K * K + 1, -ENOTSUP, "32 MiB" },
		{ 40, 8, 3 * CLUSTER + 8, -EUCLEAN, "L1 table at 0x30008 is not aligned" },
		{ 40, 8, 0, -EUCLEAN, "L1 table cannot be at 0" },
		{ 40, 8, 1ull << 56, -EUCLEAN, "L1 table cannot be" },
		{ 40, 8, (1ull << 51) - CLUSTER, 0,
		  "" }, /* the last cluster that a refcount table can count */
		{ 40, 8, 1ull << 51, -EUCLEAN, "L1 table cannot be" },
		{ 40, 8, 0xffffffffffff0000, -EUCLEAN, "L1 table cannot be" },
		{ 40, 8, CLUSTER, -EUCLEAN, "the L1 table overlaps the refcount table" },
		{ 48, 8, CLUSTER + 512, -EUCLEAN, "refcount table at 0x10200 is not aligned" },
		{ 48, 8, 0, -EUCLEAN, "refcount table cannot be at 0" },
		{ 56, 4, 0, -EUCLEAN, "no refcount table" },
		{ 56, 4, 128, -EUCLEAN, "overlaps" },
		{ 56, 4, 129, -ENOTSUP, "8 MiB" },
		{ 64, 8, 1, 0, "" },          /* nobody looks without snapshots */
		{ 72, 8, 1ull << 40, 0, "" }, /* unknown bits are refused by name later */
		{ 72, 8, QCOW2_INCOMPAT_COMPRESSION, -EUCLEAN, "contradicts" },
		{ 96, 4, 6, 0, "" },
		{ 96, 4, 7, -EUCLEAN, "64 are the most" },
		{ 100, 4, 72, -EUCLEAN, "header length 72" },
		{ 100, 4, 108, -EUCLEAN, "header length 108" },
		{ 100, 4, 112, 0, "" },
		{ 100, 4, CLUSTER, 0, "" },
		{ 100, 4, CLUSTER + 8, -EUCLEAN, "larger than a cluster" },
		{ 100, 4, 0xfffffff8, -EUCLEAN, "larger than a cluster" },
	};
	uint8_t good[512];

	(void)state;
	plain_v3(good);
	check_wrong(good, wrong, TD_NELEMS(wrong));
}

static void the_backing_name_is_in_the_first_cluster(void **state)
{
	static const struct wrong wrong[] = {
		{ 16, 4, 0, 0, "" }, /* no name after all */
		{ 16, 4, 1023, 0, "" },
		{ 16, 4, 1024, -EUCLEAN, "1023 are the most" },
		{ 8, 8, 103, -EUCLEAN, "not in the first cluster" },
		{ 8, 8, 104, 0, "" },
		{ 8, 8, CLUSTER - 5, 0, "" },
		{ 8, 8, CLUSTER - 4, -EUCLEAN, "not in the first cluster" },
		{ 8, 8, UINT64_MAX - 2, -EUCLEAN, "not in the first cluster" },
	};
	uint8_t good[512];

	(void)state;
	plain_v3(good);
	td_put_be64(good + 8, 200);
	td_put_be32(good + 16, 5);
	check_wrong(good, wrong, TD_NELEMS(wrong));
}

static void a_backing_length_without_a_name_is_undefined(void **state)
{
	struct qcow2_header h;
	uint8_t buf[512];

	(void)state;
	plain_v3(buf);
	td_put_be32(buf + 16, 0xdeadbeef);
	assert_int_equal(qcow2_header_decode(buf, sizeof(buf), &h, NULL), 0);
	assert_int_equal(h.backing_len, 0);
}

static void snapshots_are_bounded_and_placed(void **state)
{
	static const struct wrong wrong[] = {
		{ 60, 4, 65536, 0, "" },
		{ 60, 4, 65537, -ENOTSUP, "65536 are the most" },
		{ 64, 8, 5 * CLUSTER + 8, -EUCLEAN, "snapshot table at 0x50008 is not aligned" },
		{ 64, 8, 0, -EUCLEAN, "snapshot table cannot be at 0" },
		{ 64, 8, 3 * CLUSTER, -EUCLEAN, "the L1 table overlaps the snapshot table" },
		{ 64, 8, CLUSTER, -EUCLEAN, "the refcount table overlaps the snapshot table" },
	};
	uint8_t good[512] = { 0 };

	(void)state;
	memcpy(good, golden_v2, sizeof(golden_v2));
	check_wrong(good, wrong, TD_NELEMS(wrong));
}

static void the_compression_type_agrees_with_its_bit(void **state)
{
	static const struct wrong wrong[] = {
		{ 104, 1, 1, 0, "" },
		{ 104, 1, 0, -EUCLEAN, "contradicts its feature bit, which is set" },
		{ 104, 1, 2, -ENOTSUP, "compression type 2" },
		{ 72, 8, 0, -EUCLEAN, "contradicts its feature bit, which is clear" },
	};
	uint8_t good[512] = { 0 };

	(void)state;
	memcpy(good, golden_v3, sizeof(golden_v3));
	check_wrong(good, wrong, TD_NELEMS(wrong));
}

static void extended_l2_needs_16k_clusters(void **state)
{
	struct qcow2_header h;
	struct td_err e;
	uint8_t buf[512];

	(void)state;
	plain_v3(buf);
	td_put_be64(buf + 24, 0);
	td_put_be64(buf + 72, QCOW2_INCOMPAT_EXTL2);
	td_put_be32(buf + 20, 14);
	assert_int_equal(qcow2_header_decode(buf, sizeof(buf), &h, &e), 0);
	td_put_be32(buf + 20, 13);
	assert_refused(qcow2_header_decode(buf, sizeof(buf), &h, &e), -EUCLEAN, &e, "extended L2");
}

static void a_header_cut_short_is_broken(void **state)
{
	struct qcow2_header h;
	struct td_err e;

	(void)state;
	for (size_t len = 0; len < 112; len++)
		assert_int_equal(qcow2_header_decode(golden_v3, len, &h, &e), -EUCLEAN);
	assert_string_equal(e.msg, "the file ends inside the header");
	for (size_t len = 0; len < 72; len++)
		assert_int_equal(qcow2_header_decode(golden_v2, len, &h, &e), -EUCLEAN);
}

static void geometry_follows_from_the_header(void **state)
{
	struct qcow2_geom g = geom(16, 4);

	(void)state;
	assert_int_equal(g.cluster_bits, 16);
	assert_int_equal(g.cluster_size, 65536);
	assert_int_equal(g.l2_bits, 13);
	assert_int_equal(g.refcount_bits, 16);
	assert_int_equal(g.refblock_entries, 32768);
	assert_int_equal(g.max_host, 1ull << 51); /* 2^20 blocks of 2^15 clusters of 2^16 */
	assert_int_equal(g.compressed_off_bits, 54);

	g = geom(9, 6);
	assert_int_equal(g.l2_bits, 6);
	assert_int_equal(g.refblock_entries, 64);
	assert_int_equal(g.max_host, 1ull << 35); /* 32 GiB, as the specification says */
	assert_int_equal(g.compressed_off_bits, 61);

	g = geom(21, 0);
	assert_int_equal(g.refcount_bits, 1);
	assert_int_equal(g.refblock_entries, 1ull << 24);
	assert_int_equal(g.max_host, 1ull << 56); /* what an L2 entry can say */
	assert_int_equal(g.compressed_off_bits, 49);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("a version 2 header by hand is understood", v2_golden_is_understood),
		SAYS("a version 3 header by hand is understood", v3_golden_is_understood),
		SAYS("encoding gives the bytes made by hand", encoding_gives_the_golden_bytes),
		SAYS("rewriting a header keeps the fields that are not known",
		     rewriting_keeps_unknown_fields),
		SAYS("encoding into too little room writes nothing", encoding_needs_room),
		SAYS("a field counts only if the header is longer than its offset",
		     a_field_counts_only_inside_the_header_length),
		SAYS("each wrong field is refused, by its name", each_field_is_checked),
		SAYS("the backing file's name lies in the first cluster",
		     the_backing_name_is_in_the_first_cluster),
		SAYS("a backing length without a name is undefined",
		     a_backing_length_without_a_name_is_undefined),
		SAYS("snapshots are bounded, and their table is placed", snapshots_are_bounded_and_placed),
		SAYS("the compression type agrees with its feature bit",
		     the_compression_type_agrees_with_its_bit),
		SAYS("extended L2 entries need clusters of 16 KiB", extended_l2_needs_16k_clusters),
		SAYS("a header cut short is broken at every length", a_header_cut_short_is_broken),
		SAYS("geometry follows from the header", geometry_follows_from_the_header),
	};

	return cmocka_run_group_tests_name("qcow2 header", tests, NULL, NULL);
}
