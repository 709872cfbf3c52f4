// SPDX-License-Identifier: BSD-2-Clause
/* formats/qcow2-snapshot.c: an entry by hand, then one field wrong at a time. */
#include "unit.h"

/* 64 KiB clusters; L1 of 2 entries at 0x70000; id "1", name "first"; 16 bytes of extra data. */
static const uint8_t golden[64] = {
	0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, /* L1 at */
	0x00, 0x00, 0x00, 0x02,                         /* its entries */
	0x00, 0x01, 0x00, 0x05,                         /* id, name: lengths */
	0x65, 0x00, 0x00, 0x00,                         /* seconds */
	0x00, 0x00, 0x00, 0x07,                         /* nanoseconds */
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, /* guest clock */
	0x00, 0x00, 0x00, 0x33,                         /* VM state, 32 bits */
	0x00, 0x00, 0x00, 0x10,                         /* extra data */
	0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, /* VM state, 64 bits */
	0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, /* disk size */
	'1',  'f',  'i',  'r',  's',  't',  0x00, 0x00, /* id, name, padding */
};

static void an_entry_by_hand_is_understood(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_snapshot s;

	(void)state;
	assert_int_equal(qcow2_snapshot_decode(&g, golden, sizeof(golden), &s), 0);
	assert_int_equal(s.l1_off, 0x70000);
	assert_int_equal(s.l1_size, 2);
	assert_int_equal(s.id_len, 1);
	assert_memory_equal(s.id, "1", 1);
	assert_int_equal(s.name_len, 5);
	assert_memory_equal(s.name, "first", 5);
	assert_int_equal(s.date_sec, 0x65000000);
	assert_int_equal(s.date_nsec, 7);
	assert_int_equal(s.vm_clock_nsec, 0x1000);
	assert_int_equal(s.vm_state_size, 1ull << 32);
	assert_true(s.has_disk_size);
	assert_int_equal(s.disk_size, 1ull << 30);
	assert_int_equal(s.entry_len, 64);
}

static void extra_data_may_be_short(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_snapshot s;
	uint8_t buf[64];

	(void)state;
	memcpy(buf, golden, sizeof(buf));
	td_put_be32(buf + 36, 8);
	assert_int_equal(qcow2_snapshot_decode(&g, buf, sizeof(buf), &s), 0);
	assert_int_equal(s.vm_state_size, 1ull << 32);
	assert_false(s.has_disk_size);
	assert_int_equal(s.entry_len, 56);

	td_put_be32(buf + 36, 0);
	assert_int_equal(qcow2_snapshot_decode(&g, buf, sizeof(buf), &s), 0);
	assert_int_equal(s.vm_state_size, 0x33);
	assert_ptr_equal(s.id, buf + 40);
	assert_int_equal(s.entry_len, 48);
}

static void the_last_entry_needs_no_padding(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_snapshot s = { .l1_size = 77 };

	(void)state;
	assert_int_equal(qcow2_snapshot_decode(&g, golden, 62, &s), 0);
	assert_int_equal(s.entry_len, 64);
	s.l1_size = 77;
	for (size_t len = 0; len < 62; len++)
		assert_int_equal(qcow2_snapshot_decode(&g, golden, len, &s), -EUCLEAN);
	assert_int_equal(s.l1_size, 77);
}

static void its_l1_has_a_place(void **state)
{
	static const struct {
		uint64_t off;
		uint32_t size;
		int r;
	} t[] = {
		{ 0x70008, 2, -EUCLEAN },          { 0, 2, -EUCLEAN },
		{ 1ull << 51, 2, -EUCLEAN },       { 0xffffffffffff0000, 2, -EUCLEAN },
		{ 0x70000, 4u << 20, 0 },          { 0x70000, (4u << 20) + 1, -EUCLEAN },
		{ 0x70000, 0xffffffff, -EUCLEAN }, { 0, 0, 0 }, /* of an empty disk */
	};
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_snapshot s;
	uint8_t buf[64];

	(void)state;
	memcpy(buf, golden, sizeof(buf));
	for (size_t i = 0; i < TD_NELEMS(t); i++) {
		td_put_be64(buf, t[i].off);
		td_put_be32(buf + 8, t[i].size);
		assert_int_equal(qcow2_snapshot_decode(&g, buf, sizeof(buf), &s), t[i].r);
	}
}

static void extra_data_is_bounded(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_snapshot s;
	uint8_t buf[2048] = { 0 };

	(void)state;
	memcpy(buf, golden, sizeof(golden));
	td_put_be32(buf + 36, 1024);
	assert_int_equal(qcow2_snapshot_decode(&g, buf, sizeof(buf), &s), 0);
	assert_int_equal(s.entry_len, 1072);
	td_put_be32(buf + 36, 1025);
	assert_int_equal(qcow2_snapshot_decode(&g, buf, sizeof(buf), &s), -ENOTSUP);
	td_put_be32(buf + 36, 0xfffffff0);
	assert_int_equal(qcow2_snapshot_decode(&g, buf, sizeof(buf), &s), -ENOTSUP);
}

static void the_longest_entry_fits_its_name(void **state)
{
	struct qcow2_geom g = geom(16, 4);
	struct qcow2_snapshot s;
	uint8_t *buf = calloc(1, QCOW2_MAX_SNAPSHOT_ENTRY);

	(void)state;
	assert_non_null(buf);
	memcpy(buf, golden, sizeof(golden));
	td_put_be16(buf + 12, 65535);
	td_put_be16(buf + 14, 65535);
	td_put_be32(buf + 36, 1024);
	assert_int_equal(qcow2_snapshot_decode(&g, buf, QCOW2_MAX_SNAPSHOT_ENTRY, &s), 0);
	assert_in_range(s.entry_len, QCOW2_MAX_SNAPSHOT_ENTRY - 7, QCOW2_MAX_SNAPSHOT_ENTRY);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("an entry by hand is understood", an_entry_by_hand_is_understood),
		SAYS("extra data may be short or absent", extra_data_may_be_short),
		SAYS("an entry cut short is broken; the last one needs no padding",
		     the_last_entry_needs_no_padding),
		SAYS("a snapshot's L1 is aligned, bounded, behind the header", its_l1_has_a_place),
		SAYS("extra data is bounded", extra_data_is_bounded),
		SAYS("the longest entry fits the reader's window", the_longest_entry_fits_its_name),
	};

	return cmocka_run_group_tests_name("qcow2 snapshots", tests, NULL, NULL);
}
