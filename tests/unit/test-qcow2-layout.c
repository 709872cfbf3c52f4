// SPDX-License-Identifier: BSD-2-Clause
/* formats/qcow2-layout.c: new images of every shape are laid out without overlap, and decode again. */
#include "unit.h"

static struct qcow2_header wish(uint64_t size, uint32_t cluster_bits, uint32_t order)
{
	return (struct qcow2_header){
		.version = 3, .size = size, .cluster_bits = cluster_bits, .refcount_order = order
	};
}

static void a_plain_image_is_laid_out(void **state)
{
	struct qcow2_header h = wish(1ull << 30, 16, 4);
	struct qcow2_layout l;

	(void)state;
	assert_int_equal(qcow2_layout_new(&h, &l, NULL), 0);
	assert_int_equal(h.header_len, 112);
	assert_int_equal(h.l1_size, 2);
	assert_int_equal(h.reftable_clusters, 1);
	assert_int_equal(l.reftable_off, 0x10000);
	assert_int_equal(l.refblock_off, 0x20000);
	assert_int_equal(l.refblocks, 1);
	assert_int_equal(l.l1_off, 0x30000);
	assert_int_equal(l.end, 0x40000);
	assert_int_equal(h.l1_off, l.l1_off);
	assert_int_equal(h.reftable_off, l.reftable_off);
	assert_int_equal(h.incompatible, 0);
}

static void check_shape(uint64_t size, uint32_t cluster_bits, uint32_t order)
{
	struct qcow2_header h = wish(size, cluster_bits, order), back;
	struct qcow2_geom g;
	struct qcow2_layout l;
	struct td_err e;
	uint8_t buf[112] = { 0 }, again[112] = { 0 };
	uint64_t l1_bytes;

	assert_int_equal(qcow2_layout_new(&h, &l, &e), 0);
	qcow2_geom_of(&h, &g);
	l1_bytes = td_align_up(8ull * h.l1_size, g.cluster_size);

	/* No gap, no overlap, and the refcount blocks count all of it. */
	assert_int_equal(l.reftable_off, g.cluster_size);
	assert_int_equal(l.refblock_off, l.reftable_off + h.reftable_clusters * g.cluster_size);
	assert_int_equal(l.l1_off, l.refblock_off + l.refblocks * g.cluster_size);
	assert_int_equal(l.end, l.l1_off + l1_bytes);
	assert_true(l.refblocks * g.refblock_entries >= l.end / g.cluster_size);
	assert_true(h.reftable_clusters * g.cluster_size / 8 >= l.refblocks);
	assert_true(h.l1_size >= 1);

	assert_int_equal(qcow2_header_encode(&h, buf, sizeof(buf)), 112);
	if (qcow2_header_decode(buf, sizeof(buf), &back, &e) != 0)
		fail_msg("size %llu, clusters 2^%u, refcounts 2^%u: %s", (unsigned long long)size,
			 cluster_bits, order, e.msg);
	assert_int_equal(qcow2_header_encode(&back, again, sizeof(again)), 112);
	assert_memory_equal(buf, again, sizeof(buf));
}

static void every_shape_decodes_again(void **state)
{
	(void)state;
	for (uint32_t bits = 9; bits <= 21; bits++) {
		/* What 4 Mi L1 entries cover. */
		uint64_t most = 1ull << (2 * bits - 3 + 22);

		for (uint32_t order = 0; order <= 6; order++) {
			check_shape(0, bits, order);
			check_shape(512, bits, order);
			check_shape(most / 7, bits, order);
			check_shape(most, bits, order);
		}
	}
}

static void a_large_l1_in_small_clusters_needs_many_refcount_blocks(void **state)
{
	struct qcow2_header h = wish(128ull << 30, 9, 6);
	struct qcow2_layout l;

	(void)state;
	assert_int_equal(qcow2_layout_new(&h, &l, NULL), 0);
	/* 65,536 clusters of L1, 64 refcounts in a block, 64 blocks in a table cluster. */
	assert_in_range(l.refblocks, 65536 / 64 + 1, 65536 / 64 + 64);
	assert_in_range(h.reftable_clusters, 17, 18);
}

static void too_large_a_size_names_what_would_do(void **state)
{
	struct qcow2_header h = wish((128ull << 30) + 512, 9, 4);
	struct qcow2_layout l;
	struct td_err e;

	(void)state;
	assert_refused(qcow2_layout_new(&h, &l, &e), -EFBIG, &e, "cluster_size=1024 would do");
	h = wish(1ull << 61, 20, 4);
	assert_refused(qcow2_layout_new(&h, &l, &e), -EFBIG, &e, "cluster_size=2097152 would do");
	h = wish((1ull << 61) + 512, 21, 4);
	assert_refused(qcow2_layout_new(&h, &l, &e), -EFBIG, &e, "too large for qcow2");
	h = wish(UINT64_MAX, 9, 4);
	assert_refused(qcow2_layout_new(&h, &l, &e), -EFBIG, &e, "too large for qcow2");
}

static void impossible_wishes_are_refused(void **state)
{
	struct qcow2_layout l;
	struct qcow2_header h;
	struct td_err e;

	(void)state;
	h = wish(512, 8, 4);
	assert_refused(qcow2_layout_new(&h, &l, &e), -EINVAL, &e, "512 to 2M");
	h = wish(512, 22, 4);
	assert_refused(qcow2_layout_new(&h, &l, &e), -EINVAL, &e, "512 to 2M");
	h = wish(512, 16, 7);
	assert_refused(qcow2_layout_new(&h, &l, &e), -EINVAL, &e, "1 to 64");
	h = wish(512, 16, 4);
	h.version = 4;
	assert_refused(qcow2_layout_new(&h, &l, &e), -EINVAL, &e, "version 4");
	h.version = 1;
	assert_refused(qcow2_layout_new(&h, &l, &e), -EINVAL, &e, "version 1");
}

static void version_2_has_less(void **state)
{
	struct qcow2_header h = wish(512, 16, 4);
	struct qcow2_layout l;
	struct td_err e;

	(void)state;
	h.version = 2;
	assert_int_equal(qcow2_layout_new(&h, &l, &e), 0);
	assert_int_equal(h.header_len, 72);
	h.refcount_order = 3;
	assert_refused(qcow2_layout_new(&h, &l, &e), -EINVAL, &e, "16 bits only");
	h.refcount_order = 4;
	h.compression = QCOW2_ZSTD;
	assert_refused(qcow2_layout_new(&h, &l, &e), -EINVAL, &e, "deflate");
	h.compression = QCOW2_DEFLATE;
	h.compatible = QCOW2_COMPAT_LAZY;
	assert_refused(qcow2_layout_new(&h, &l, &e), -EINVAL, &e, "lazy refcounts");
}

static void zstd_sets_its_feature_bit(void **state)
{
	struct qcow2_header h = wish(512, 16, 4);
	struct qcow2_layout l;

	(void)state;
	h.compression = QCOW2_ZSTD;
	assert_int_equal(qcow2_layout_new(&h, &l, NULL), 0);
	assert_int_equal(h.incompatible, QCOW2_INCOMPAT_COMPRESSION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("a plain image is laid out", a_plain_image_is_laid_out),
		SAYS("every shape is gapless, counted, and decodes again", every_shape_decodes_again),
		SAYS("a large L1 in small clusters needs many refcount blocks",
		     a_large_l1_in_small_clusters_needs_many_refcount_blocks),
		SAYS("too large a size names the cluster size that would do",
		     too_large_a_size_names_what_would_do),
		SAYS("impossible wishes are refused", impossible_wishes_are_refused),
		SAYS("version 2 has one refcount width, one compression, no features", version_2_has_less),
		SAYS("zstd sets its feature bit", zstd_sets_its_feature_bit),
	};

	return cmocka_run_group_tests_name("qcow2 layout", tests, NULL, NULL);
}
