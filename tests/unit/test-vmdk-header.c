// SPDX-License-Identifier: BSD-2-Clause
/* formats/vmdk-header.c: a header by hand, from the table of the specification. */
#include <blktap/vmdk.h>

#include "unit.h"

static struct vmdk_header good(void)
{
	return (struct vmdk_header){
		.version = 1,
		.flags = VMDK_NEWLINE_TEST | VMDK_REDUNDANT,
		.capacity = 8192,
		.grain = 128,
		.desc = 1,
		.desc_len = 20,
		.per_table = 512,
		.rgd = 21,
		.gd = 26,
		.overhead = 128,
	};
}

static int decode(const struct vmdk_header *h, struct vmdk_header *ret, struct td_err *err)
{
	uint8_t buf[VMDK_SECTOR];

	vmdk_header_encode(h, buf);
	return vmdk_header_decode(buf, ret, err);
}

static void every_byte_is_where_the_specification_has_it(void **state)
{
	static const uint8_t head[] = {
		'K',  'D',  'M', 'V', 1, 0, 0, 0, 3,   0,    0,   0, /* magic, version, flags */
		0,    0x20, 0,   0,   0, 0, 0, 0, 128, 0,    0,   0,
		0,    0,    0,   0, /* capacity, grain size */
		1,    0,    0,   0,   0, 0, 0, 0, 20,  0,    0,   0,
		0,    0,    0,   0, /* descriptor */
		0,    2,    0,   0, /* entries of a table */
		21,   0,    0,   0,   0, 0, 0, 0, 26,  0,    0,   0,
		0,    0,    0,   0, /* RGD, GD */
		128,  0,    0,   0,   0, 0, 0, 0, 0,   '\n', ' ', '\r',
		'\n', 0,    0, /* overhead, clean, newlines */
	};
	uint8_t buf[VMDK_SECTOR], again[VMDK_SECTOR], zeros[VMDK_SECTOR] = { 0 };
	struct vmdk_header h = good(), d;
	struct td_err err;

	(void)state;
	vmdk_header_encode(&h, buf);
	assert_memory_equal(buf, head, sizeof(head));
	assert_memory_equal(buf + sizeof(head), zeros, sizeof(buf) - sizeof(head));
	assert_int_equal(vmdk_header_decode(buf, &d, &err), 0);
	vmdk_header_encode(&d, again);
	assert_memory_equal(again, buf, sizeof(buf));
	assert_int_equal(vmdk_tables(&h), 1);
	assert_int_equal(vmdk_table_len(&h), 4);
	assert_int_equal(vmdk_directory_len(&h), 1);
}

static void another_magic_or_version_is_refused(void **state)
{
	struct vmdk_header h = good(), d;
	uint8_t buf[VMDK_SECTOR];
	struct td_err err;

	(void)state;
	vmdk_header_encode(&h, buf);
	buf[0] = 'k';
	assert_refused(vmdk_header_decode(buf, &d, &err), -EUCLEAN, &err, "does not begin");
	h.version = 4;
	assert_refused(decode(&h, &d, &err), -ENOTSUP, &err, "version 4");
	h.version = 0;
	assert_refused(decode(&h, &d, &err), -ENOTSUP, &err, "version 0");
	h = good();
	h.compression = 2;
	assert_refused(decode(&h, &d, &err), -ENOTSUP, &err, "algorithm 2");
	h.compression = 0;
	h.flags |= VMDK_COMPRESSED;
	assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "no algorithm");
}

static void a_transfer_as_text_is_found_out(void **state)
{
	struct vmdk_header h = good(), d;
	uint8_t buf[VMDK_SECTOR];
	struct td_err err;

	(void)state;
	vmdk_header_encode(&h, buf);
	buf[75] = '\n';
	assert_refused(vmdk_header_decode(buf, &d, &err), -EUCLEAN, &err, "text");
	buf[8] &= (uint8_t)~VMDK_NEWLINE_TEST;
	assert_int_equal(vmdk_header_decode(buf, &d, &err), 0);
}

static void geometry_that_makes_no_sense_is_refused(void **state)
{
	static const uint64_t grains[] = { 0, 3, 65536, UINT64_MAX };
	static const uint32_t tables[] = { 0, 1, 64, 513, 8192 };
	struct vmdk_header h, d;
	struct td_err err;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(grains); i++) {
		h = good();
		h.grain = grains[i];
		assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "grains have");
	}
	for (unsigned i = 0; i < TD_NELEMS(tables); i++) {
		h = good();
		h.per_table = tables[i];
		assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "entries");
	}
	h = good();
	h.capacity = UINT64_MAX;
	assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "capacity");
}

static void regions_do_not_overlap_or_wrap(void **state)
{
	struct vmdk_header h = good(), d;
	struct td_err err;

	(void)state;
	h.desc = 0xffffffffffffffff;
	assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "descriptor cannot lie");
	h.desc = 1;
	h.desc_len = UINT64_MAX;
	assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "descriptor has");
	h = good();
	h.gd = 0;
	assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "grain directory lies over its header");
	h.gd = 5;
	assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "over its descriptor");
	h.gd = h.rgd;
	assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "over its grain directory");
	h.gd = VMDK_MAX_SECTORS;
	assert_refused(decode(&h, &d, &err), -EUCLEAN, &err, "cannot lie");
	/* Not there, so nowhere. */
	h = good();
	h.flags &= ~VMDK_REDUNDANT;
	h.rgd = UINT64_MAX - 1;
	assert_int_equal(decode(&h, &d, &err), 0);
	h.gd = VMDK_GD_AT_END;
	assert_int_equal(decode(&h, &d, &err), 0);
}

static void a_new_extent_is_laid_out_as_others_do(void **state)
{
	struct vmdk_header h = { .version = 1, .capacity = 8192, .grain = 128, .per_table = 512 }, d;
	struct td_err err;

	(void)state;
	assert_int_equal(vmdk_header_lay_out(&h, true, true, &err), 0);
	assert_int_equal(h.desc, 1);
	assert_int_equal(h.desc_len, 20);
	assert_int_equal(h.rgd, 21);
	assert_int_equal(h.gd, 26);
	assert_int_equal(h.overhead, 128);
	assert_int_equal(decode(&h, &d, &err), 0);
	assert_int_equal(vmdk_header_lay_out(&h, false, false, &err), 0);
	assert_int_equal(h.desc, 0);
	assert_int_equal(h.rgd, 0);
	assert_int_equal(h.gd, 1);
	h.capacity = 1ull << 32;
	assert_refused(vmdk_header_lay_out(&h, true, true, &err), -EFBIG, &err, "2 TiB");
}

static void markers_are_told_apart(void **state)
{
	uint8_t buf[16] = { 0x80, 1 };
	struct vmdk_marker m;

	(void)state;
	for (uint32_t type = 0; type < 4; type++) {
		td_put_le32(buf + 12, type);
		assert_int_equal(vmdk_marker_decode(buf, &m), 0);
		assert_int_equal(m.type, type);
		assert_int_equal(m.value, 0x180);
	}
	td_put_le32(buf + 12, 4);
	assert_int_equal(vmdk_marker_decode(buf, &m), -EUCLEAN);
	td_put_le32(buf + 8, 77);
	assert_int_equal(vmdk_marker_decode(buf, &m), 0);
	assert_int_equal(m.type, VMDK_MARKER_GRAIN);
	assert_int_equal(m.size, 77);
	buf[7] = 0xff;
	assert_int_equal(vmdk_marker_decode(buf, &m), -EUCLEAN);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SAYS("every byte is where the specification has it",
		     every_byte_is_where_the_specification_has_it),
		SAYS("another magic or version is refused", another_magic_or_version_is_refused),
		SAYS("a transfer as text is found out", a_transfer_as_text_is_found_out),
		SAYS("geometry that makes no sense is refused", geometry_that_makes_no_sense_is_refused),
		SAYS("regions do not overlap or wrap", regions_do_not_overlap_or_wrap),
		SAYS("a new extent is laid out as others do", a_new_extent_is_laid_out_as_others_do),
		SAYS("markers are told apart", markers_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
