// SPDX-License-Identifier: BSD-2-Clause
/* formats/qcow2-tables.c: entries by hand, from the bit tables of the specification. */
#include "unit.h"

#define MIB (1ull << 20)

static void l1_entries_are_decoded(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_l1e e;

	(void)state;
	assert_int_equal(qcow2_l1e_decode(&g, 0, &e), 0);
	assert_false(e.present || e.copied || e.reserved);
	assert_int_equal(qcow2_l1e_decode(&g, 0x8000000000050000, &e), 0);
	assert_true(e.present && e.copied && !e.reserved);
	assert_int_equal(e.host_off, 0x50000);
	assert_int_equal(qcow2_l1e_decode(&g, 0x50000, &e), 0);
	assert_true(e.present && !e.copied && !e.reserved);
	assert_int_equal(qcow2_l1e_decode(&g, 0x8000000000000000, &e), 0);
	assert_false(e.present || e.copied);
}

static void reserved_bits_alone_are_reported_not_refused(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_reftable_entry t;
	struct qcow2_l1e e;
	struct qcow2_l2e d;

	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		bool in_off = bit >= 16 && bit <= 50, high_off = bit > 50 && bit <= 55,
		     low_off = bit >= 9 && bit < 16;
		uint64_t raw = 0x20000 ^ 1ull << bit;

		if (in_off || high_off || low_off)
			continue;
		assert_int_equal(qcow2_l1e_decode(&g, raw, &e), 0);
		assert_int_equal(e.reserved, bit != 63);
		assert_int_equal(e.host_off, 0x20000);
		if (bit == 62) /* another kind of entry */
			continue;
		assert_int_equal(qcow2_l2e_decode(&g, 3, raw, &d), 0);
		assert_int_equal(d.reserved, bit != 63 && bit != 0);
		assert_int_equal(d.host_off, 0x20000);
		if (bit >= 9)
			continue;
		assert_int_equal(qcow2_reftable_decode(&g, raw, &t), 0);
		assert_true(t.present && t.reserved);
		assert_int_equal(t.host_off, 0x20000);
	}
}

static void misplaced_offsets_are_broken(void **state)
{
	struct qcow2_geom g = geom(16, 4); /* max_host 2^51 */
	static const uint64_t bad[] = { 0x200, 0x8000, 0x10200, 0x18000, 1ull << 51, (1ull << 55) + 0x10000 };
	struct qcow2_reftable_entry t;
	struct qcow2_l1e e = { .host_off = 77 };
	struct qcow2_l2e d = { .host_off = 77 };

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(bad); i++) {
		assert_int_equal(qcow2_l1e_decode(&g, bad[i], &e), -EUCLEAN);
		assert_int_equal(qcow2_l2e_decode(&g, 3, bad[i], &d), -EUCLEAN);
		assert_int_equal(qcow2_l2e_decode(&g, 3, bad[i] | QCOW2_L2_ZERO, &d), -EUCLEAN);
		assert_int_equal(qcow2_reftable_decode(&g, bad[i], &t), -EUCLEAN);
	}
	assert_int_equal(qcow2_reftable_decode(&g, 1ull << 60, &t), -EUCLEAN);
	assert_int_equal(e.host_off, 77);
	assert_int_equal(d.host_off, 77);
	assert_int_equal(qcow2_l2e_decode(&g, 3, (1ull << 51) - 0x10000, &d), 0);
	assert_int_equal(d.host_off, (1ull << 51) - 0x10000);
}

static void standard_l2_entries_are_decoded(void **state)
{
	static const struct {
		uint64_t raw;
		enum qcow2_kind kind;
		bool copied;
		uint64_t off;
	} t[] = {
		{ 0, QCOW2_HOLE, false, 0 },
		{ 1, QCOW2_ZERO, false, 0 },
		{ 0x0000000000070000, QCOW2_DATA, false, 0x70000 },
		{ 0x8000000000070000, QCOW2_DATA, true, 0x70000 },
		{ 0x8000000000070001, QCOW2_ZERO_ALLOC, true, 0x70000 },
		{ 0x0000000000070001, QCOW2_ZERO_ALLOC, false, 0x70000 },
	};
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_l2e e;

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(t); i++) {
		assert_int_equal(qcow2_l2e_decode(&g, 3, t[i].raw, &e), 0);
		assert_int_equal(e.kind, t[i].kind);
		assert_int_equal(e.copied, t[i].copied);
		assert_int_equal(e.host_off, t[i].off);
		assert_false(e.reserved);
		assert_int_equal(qcow2_l2e_encode(&g, &e), t[i].raw);
	}
}

static void copied_without_an_offset_is_a_hole(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_l2e e;

	(void)state;
	assert_int_equal(qcow2_l2e_decode(&g, 3, QCOW2_COPIED, &e), 0);
	assert_int_equal(e.kind, QCOW2_HOLE);
	assert_true(e.reserved);
	assert_false(e.copied);
	assert_int_equal(qcow2_l2e_encode(&g, &e), 0);
}

/* There the first cluster has offset 0 as well, and nothing is compressed. */
static void a_data_file_has_data_at_offset_0(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_l2e e;

	(void)state;
	g.data_file = true;
	g.max_data = 1ull << 56;
	assert_int_equal(qcow2_l2e_decode(&g, 3, QCOW2_COPIED, &e), 0);
	assert_int_equal(e.kind, QCOW2_DATA);
	assert_true(e.copied && !e.reserved && e.host_off == 0);
	assert_int_equal(qcow2_l2e_encode(&g, &e), QCOW2_COPIED);
	assert_int_equal(qcow2_l2e_decode(&g, 3, QCOW2_COPIED | QCOW2_L2_ZERO, &e), 0);
	assert_int_equal(e.kind, QCOW2_ZERO);
	assert_false(e.reserved);
	assert_int_equal(qcow2_l2e_decode(&g, 3, 0, &e), 0);
	assert_int_equal(e.kind, QCOW2_HOLE);
	assert_int_equal(qcow2_l2e_decode(&g, 3, QCOW2_COPIED | (g.max_host + 0x10000), &e), 0);
	assert_int_equal(qcow2_l2e_decode(&g, 3, QCOW2_COPIED | 0x8000, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode(&g, 3, QCOW2_L2_COMPRESSED | 0x50000, &e), -EUCLEAN);
}

static struct qcow2_geom extended(void)
{
	struct qcow2_header h = {
		.version = 3, .cluster_bits = 16, .refcount_order = 4, .incompatible = QCOW2_INCOMPAT_EXTL2
	};
	struct qcow2_geom g;

	qcow2_geom_of(&h, &g);
	return g;
}

static void extended_l2_entries_are_decoded(void **state)
{
	static const struct {
		uint64_t raw, bitmap;
		enum qcow2_kind kind;
	} t[] = {
		{ 0, 0, QCOW2_HOLE },
		{ 0, 0x0000000100000000, QCOW2_HOLE },
		{ 0, 0xffffffff00000000, QCOW2_ZERO },
		{ 0x8000000000070000, 0x00000000ffffffff, QCOW2_DATA },
		{ 0x0000000000070000, 0x7ffffffe80000001, QCOW2_DATA },
		{ 0x8000000000070000, 0xffffffff00000000, QCOW2_ZERO_ALLOC },
		{ 0x8000000000070000, 0, QCOW2_ZERO_ALLOC },
		{ QCOW2_L2_COMPRESSED | 3ull << 54 | 0x51234, 0, QCOW2_PACKED },
	};
	struct qcow2_geom g = extended();
	struct qcow2_l2e e;

	(void)state;
	assert_true(qcow2_is_extended(&g));
	assert_int_equal(g.l2_entry_bits, 4);
	assert_int_equal(g.l2_bits, 12);
	assert_int_equal(g.sub_bits, 11);
	for (size_t i = 0; i < TD_NELEMS(t); i++) {
		assert_int_equal(qcow2_l2e_decode_extended(&g, t[i].raw, t[i].bitmap, &e), 0);
		assert_int_equal(e.kind, t[i].kind);
		assert_int_equal(e.data, (uint32_t)t[i].bitmap);
		assert_int_equal(e.zero, t[i].bitmap >> 32);
		assert_false(e.reserved);
		assert_int_equal(qcow2_l2e_encode(&g, &e), t[i].raw);
		assert_int_equal(qcow2_l2e_bitmap(&e), t[i].bitmap);
	}
}

/* The bit for zeros means nothing there, so COPIED alone says whether there is a cluster at offset 0. */
static void an_extended_entry_of_a_data_file_names_offset_0(void **state)
{
	struct qcow2_geom g = extended();
	struct qcow2_l2e e;

	(void)state;
	g.data_file = true;
	g.max_data = 1ull << 56;
	assert_int_equal(qcow2_l2e_decode_extended(&g, QCOW2_COPIED, 1, &e), 0);
	assert_int_equal(e.kind, QCOW2_DATA);
	assert_true(e.copied && !e.reserved && e.host_off == 0 && e.data == 1);
	assert_int_equal(qcow2_l2e_encode(&g, &e), QCOW2_COPIED);
	assert_int_equal(qcow2_l2e_decode_extended(&g, QCOW2_COPIED, 0, &e), 0);
	assert_true(e.kind == QCOW2_ZERO_ALLOC && e.copied && !e.reserved);
	assert_int_equal(qcow2_l2e_decode_extended(&g, QCOW2_COPIED | QCOW2_L2_ZERO, 1, &e), 0);
	assert_true(e.kind == QCOW2_DATA && e.reserved);
	assert_int_equal(qcow2_l2e_decode_extended(&g, 0, 0xffffffff00000000, &e), 0);
	assert_true(e.kind == QCOW2_ZERO && !e.copied);
	assert_int_equal(qcow2_l2e_decode_extended(&g, 0, 1, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode_extended(&g, QCOW2_COPIED | (g.max_host + 0x10000), 1, &e), 0);
	assert_int_equal(qcow2_l2e_decode_extended(&g, QCOW2_COPIED | 0x8000, 1, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode_extended(&g, QCOW2_L2_COMPRESSED | 0x50000, 0, &e), -EUCLEAN);
}

static void extended_entries_that_contradict_themselves_are_broken(void **state)
{
	struct qcow2_geom g = extended();
	struct qcow2_l2e e;

	(void)state;
	assert_int_equal(qcow2_l2e_decode_extended(&g, 0x70000, 0x0000000100000001, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode_extended(&g, 0x70000, 0x8000000080000000, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode_extended(&g, 0, 1, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode_extended(&g, 0x70200, 1, &e), -EUCLEAN);
	/* What means nothing is no error. */
	assert_int_equal(qcow2_l2e_decode_extended(&g, 0x70001, 1, &e), 0);
	assert_true(e.reserved && e.kind == QCOW2_DATA);
	assert_int_equal(qcow2_l2e_decode_extended(&g, QCOW2_COPIED, 0, &e), 0);
	assert_true(e.reserved && e.kind == QCOW2_HOLE);
	assert_int_equal(qcow2_l2e_decode_extended(&g, QCOW2_L2_COMPRESSED | 0x51234, 1, &e), 0);
	assert_true(e.reserved && e.kind == QCOW2_PACKED);
	assert_int_equal(qcow2_l2e_bitmap(&e), 0);
}

static void version_2_has_no_zero_flag(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_l2e e;

	(void)state;
	assert_int_equal(qcow2_l2e_decode(&g, 2, 1, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode(&g, 2, 0x70001, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode(&g, 2, 0x70000, &e), 0);
}

static void packed_entries_are_decoded(void **state)
{
	struct qcow2_geom g = geom(16, 4); /* x = 54: 8 bits of sectors */
	struct qcow2_l2e e;

	(void)state;
	/* From 0x50123, two sectors beyond its own: to the end of the third. */
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62 | 2ull << 54 | 0x50123, &e), 0);
	assert_int_equal(e.kind, QCOW2_PACKED);
	assert_int_equal(e.host_off, 0x50123);
	assert_int_equal(e.packed_len, 3 * 512 - 0x123);
	assert_false(e.copied || e.reserved);
	assert_int_equal(qcow2_l2e_encode(&g, &e), 1ull << 62 | 2ull << 54 | 0x50123);

	/* The low bit is part of the offset, not the zero flag; version 2 has them too. */
	assert_int_equal(qcow2_l2e_decode(&g, 2, 1ull << 62 | 0x50001, &e), 0);
	assert_int_equal(e.host_off, 0x50001);
	assert_int_equal(e.packed_len, 511);

	/* COPIED says nothing about them. */
	assert_int_equal(qcow2_l2e_decode(&g, 3, 3ull << 62 | 0x50000, &e), 0);
	assert_true(e.reserved && !e.copied);
	assert_int_equal(e.packed_len, 512);
}

static void packed_fields_move_with_the_cluster_size(void **state)
{
	struct qcow2_geom g = geom(9, 4); /* x = 61: one bit */
	struct qcow2_l2e e;

	(void)state;
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62 | 1ull << 61 | 0x3ff, &e), 0);
	assert_int_equal(e.host_off, 0x3ff);
	assert_int_equal(e.packed_len, 513);
	assert_int_equal(qcow2_l2e_encode(&g, &e), 1ull << 62 | 1ull << 61 | 0x3ff);

	g = geom(21, 4); /* x = 49: 13 bits */
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62 | 0x1fffull << 49 | 4 * MIB, &e), 0);
	assert_int_equal(e.host_off, 4 * MIB);
	assert_int_equal(e.packed_len, 4 * MIB);
}

static void packed_bytes_have_a_place(void **state)
{
	struct qcow2_geom g = geom(9, 4); /* max_host 2^(20 + 8 + 9) = 2^37 */
	struct qcow2_l2e e;

	(void)state;
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62, &e), -EUCLEAN); /* the header */
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62 | 511, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62 | 512, &e), 0);
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62 | 1ull << 37, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62 | 1ull << 56 | 512, &e), -EUCLEAN);
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62 | ((1ull << 37) - 512), &e), 0);
	assert_int_equal(qcow2_l2e_decode(&g, 3, 1ull << 62 | 1ull << 61 | ((1ull << 37) - 512), &e),
			 -EUCLEAN);
}

static void exact_packed_lengths_encode_to_whole_sectors(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_l2e e = { .kind = QCOW2_PACKED, .host_off = 0x501ff, .packed_len = 1 };

	(void)state;
	assert_int_equal(qcow2_l2e_encode(&g, &e), 1ull << 62 | 0x501ff);
	e.packed_len = 2; /* its second byte is in the next sector */
	assert_int_equal(qcow2_l2e_encode(&g, &e), 1ull << 62 | 1ull << 54 | 0x501ff);
	e.packed_len = 65535;
	assert_int_equal(qcow2_l2e_encode(&g, &e), 1ull << 62 | 128ull << 54 | 0x501ff);
}

static void l1_entries_are_encoded(void **state)
{
	struct qcow2_l1e e = { .present = true, .copied = true, .host_off = 0x50000 };

	(void)state;
	assert_int_equal(qcow2_l1e_encode(&e), 0x8000000000050000);
	e.copied = false;
	assert_int_equal(qcow2_l1e_encode(&e), 0x50000);
	e.present = false;
	e.copied = true;
	assert_int_equal(qcow2_l1e_encode(&e), 0);
}

static void refcount_table_entries_are_decoded(void **state)
{
	struct qcow2_geom g = geom(21, 4); /* max_host 2^56 */
	struct qcow2_reftable_entry e;

	(void)state;
	assert_int_equal(qcow2_reftable_decode(&g, 0, &e), 0);
	assert_false(e.present);
	assert_int_equal(qcow2_reftable_decode(&g, 0x400000, &e), 0);
	assert_true(e.present && !e.reserved);
	assert_int_equal(e.host_off, 0x400000);
	assert_int_equal(qcow2_reftable_decode(&g, 1ull << 55, &e), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("L1 entries are decoded", l1_entries_are_decoded),
		SAYS("L1 entries are encoded", l1_entries_are_encoded),
		SAYS("reserved bits alone are reported, not refused",
		     reserved_bits_alone_are_reported_not_refused),
		SAYS("an offset that is misaligned, in the header or out of reach is broken",
		     misplaced_offsets_are_broken),
		SAYS("standard L2 entries are decoded and encoded", standard_l2_entries_are_decoded),
		SAYS("COPIED without an offset is a hole", copied_without_an_offset_is_a_hole),
		SAYS("with a data file offset 0 with COPIED is data", a_data_file_has_data_at_offset_0),
		SAYS("extended L2 entries are decoded and encoded", extended_l2_entries_are_decoded),
		SAYS("with a data file an extended entry with COPIED has a cluster at offset 0",
		     an_extended_entry_of_a_data_file_names_offset_0),
		SAYS("an extended entry that contradicts itself is broken",
		     extended_entries_that_contradict_themselves_are_broken),
		SAYS("the zero flag in a version 2 image is broken", version_2_has_no_zero_flag),
		SAYS("compressed entries are decoded and encoded", packed_entries_are_decoded),
		SAYS("the fields of compressed entries move with the cluster size",
		     packed_fields_move_with_the_cluster_size),
		SAYS("compressed bytes lie behind the header and within reach", packed_bytes_have_a_place),
		SAYS("an exact compressed length is encoded in sectors",
		     exact_packed_lengths_encode_to_whole_sectors),
		SAYS("refcount table entries are decoded", refcount_table_entries_are_decoded),
	};

	return cmocka_run_group_tests_name("qcow2 tables", tests, NULL, NULL);
}
