// SPDX-License-Identifier: BSD-2-Clause
/* formats/qcow2-ext.c: stepping through extensions that lie, and the refusal of features by name. */
#include "config.h"

#include <stdio.h>

#include "unit.h"

static const struct qcow2_header plain = { .version = 3, .cluster_bits = 9, .header_len = 104 };

static void extensions_are_stepped_through(void **state)
{
	static const uint8_t area[] = {
		0xe2, 0x79, 0x2a, 0xca, 0,   0,    0,    5,
		'q',  'c',  'o',  'w',  '2', 0xff, 0xff, 0xff, /* padded with anything */
		0x12, 0x34, 0x56, 0x78, 0,   0,    0,    0,    /* unknown, empty */
		0x00, 0x00, 0x00, 0x00, 0,   0,    0,    9,    /* end; its length is ignored */
		0xe2, 0x79, 0x2a, 0xca, 0,   0,    0,    1,
		'x',  0,    0,    0,    0,   0,    0,    0, /* not reached */
	};
	struct qcow2_ext x;
	uint8_t buf[512] = { 0 };
	size_t pos = 104;

	(void)state;
	memcpy(buf + 104, area, sizeof(area));
	assert_int_equal(qcow2_ext_next(&plain, buf, sizeof(buf), &pos, &x, NULL), 1);
	assert_int_equal(x.type, QCOW2_EXT_BACKING_FORMAT);
	assert_int_equal(x.len, 5);
	assert_memory_equal(x.data, "qcow2", 5);
	assert_int_equal(qcow2_ext_next(&plain, buf, sizeof(buf), &pos, &x, NULL), 1);
	assert_int_equal(x.type, 0x12345678);
	assert_int_equal(x.len, 0);
	assert_int_equal(qcow2_ext_next(&plain, buf, sizeof(buf), &pos, &x, NULL), 0);
	assert_int_equal(qcow2_ext_next(&plain, buf, sizeof(buf), &pos, &x, NULL), 0);
}

static void extensions_end_with_their_area(void **state)
{
	struct qcow2_header h = plain;
	struct qcow2_ext x;
	struct td_err e;
	uint8_t buf[512] = { 0 };
	size_t pos = 104;

	(void)state;
	td_put_be32(buf + 104, 7);
	td_put_be32(buf + 108, 400); /* exactly to the cluster's end */
	assert_int_equal(qcow2_ext_next(&h, buf, sizeof(buf), &pos, &x, NULL), 1);
	assert_int_equal(pos, 512);
	assert_int_equal(qcow2_ext_next(&h, buf, sizeof(buf), &pos, &x, NULL), 0);

	pos = 104;
	td_put_be32(buf + 108, 401);
	assert_refused(qcow2_ext_next(&h, buf, sizeof(buf), &pos, &x, &e), -EUCLEAN, &e, "runs past");
	assert_int_equal(pos, 104);
	td_put_be32(buf + 108, 0xffffffff);
	assert_int_equal(qcow2_ext_next(&h, buf, sizeof(buf), &pos, &x, &e), -EUCLEAN);

	/* The backing name cuts it, and so does the end of the file. */
	td_put_be32(buf + 108, 100);
	h.backing_off = 211;
	assert_int_equal(qcow2_ext_next(&h, buf, sizeof(buf), &pos, &x, &e), -EUCLEAN);
	h.backing_off = 212;
	assert_int_equal(qcow2_ext_next(&h, buf, 211, &pos, &x, &e), -EUCLEAN);
	assert_int_equal(qcow2_ext_next(&h, buf, 212, &pos, &x, &e), 1);
	assert_int_equal(pos, 216); /* its padding is cut by the name */
	assert_int_equal(qcow2_ext_next(&h, buf, sizeof(buf), &pos, &x, &e), 0);
}

static void no_room_for_an_extension_is_the_end(void **state)
{
	struct qcow2_header h = plain;
	struct qcow2_ext x;
	uint8_t buf[512];
	size_t pos = 104;

	(void)state;
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(qcow2_ext_next(&h, buf, 111, &pos, &x, NULL), 0);
	h.backing_off = 104; /* as in version 2 files without extensions */
	assert_int_equal(qcow2_ext_next(&h, buf, sizeof(buf), &pos, &x, NULL), 0);
}

static void extensions_are_appended_with_padding(void **state)
{
	static const uint8_t want[] = { 0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 3, 'r', 'a', 'w', 0,
					0,    0,    0,    0,    0, 0, 0, 0, 0,   0,   0,   0 };
	uint8_t buf[32];
	size_t pos = 0;

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(qcow2_ext_put(buf, sizeof(buf), &pos, QCOW2_EXT_BACKING_FORMAT, "raw", 3), 0);
	assert_int_equal(qcow2_ext_put(buf, sizeof(buf), &pos, QCOW2_EXT_END, NULL, 0), 0);
	assert_int_equal(pos, sizeof(want));
	assert_memory_equal(buf, want, sizeof(want));
	assert_int_equal(qcow2_ext_put(buf, sizeof(buf), &pos, 1, "x", 1), -ENOSPC);
	assert_int_equal(qcow2_ext_put(buf, sizeof(buf), &pos, 1, "x", 0xffffffff), -ENOSPC);
	assert_int_equal(pos, sizeof(want));
	assert_int_equal(buf[24], 0xee);
}

static void known_features_are_refused_by_our_names(void **state)
{
	struct qcow2_header h = plain;
	struct td_err e;

	(void)state;
	h.incompatible = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_EXTL2;
	assert_refused(qcow2_header_supported(&h, QCOW2_INCOMPAT_DIRTY, NULL, 0, &e), -ENOTSUP, &e,
		       ": external data file, extended L2 entries");
	assert_int_equal(qcow2_header_supported(&h, h.incompatible, NULL, 0, &e), 0);
	h.incompatible = 31;
	assert_refused(qcow2_header_supported(&h, 0, NULL, 0, &e), -ENOTSUP, &e,
		       "dirty bit, corrupt bit, external data file, compression type, extended L2 entries");
}

static void name_entry(uint8_t *e, uint8_t type, uint8_t bit, const char *name)
{
	memset(e, 0, 48);
	e[0] = type;
	e[1] = bit;
	memcpy(e + 2, name, strlen(name)); /* up to all 46 bytes: then without a NUL */
}

static void unknown_features_are_refused_by_the_images_names(void **state)
{
	struct qcow2_header h = plain;
	struct td_err e;
	uint8_t t[5 * 48];

	(void)state;
	name_entry(t, 1, 40, "a compatible feature");
	name_entry(t + 48, 0, 40, "time\ttravel\x80\x1b[2J");
	name_entry(t + 96, 0, 63, "0123456789012345678901234567890123456789abcdef");
	name_entry(t + 144, 0, 0, "evil name of the dirty bit");
	name_entry(t + 192, 0, 41, "");

	h.incompatible = 1ull << 40;
	assert_refused(qcow2_header_supported(&h, 31, t, sizeof(t), &e), -ENOTSUP, &e, ": time?travel??[2J");
	h.incompatible = 1ull << 63;
	assert_refused(qcow2_header_supported(&h, 31, t, sizeof(t), &e), -ENOTSUP, &e,
		       ": 0123456789012345678901234567890123456789abcdef");
	assert_refused(qcow2_header_supported(&h, 31, t, 3 * 48 - 1, &e), -ENOTSUP, &e, ": feature bit 63");
	h.incompatible = 1;
	assert_refused(qcow2_header_supported(&h, 0, t, sizeof(t), &e), -ENOTSUP, &e, ": dirty bit");
	h.incompatible = 1ull << 40;
	assert_refused(qcow2_header_supported(&h, 31, NULL, 0, &e), -ENOTSUP, &e, ": feature bit 40");
	h.incompatible = 3ull << 41;
	assert_refused(qcow2_header_supported(&h, 31, t, sizeof(t), &e), -ENOTSUP, &e,
		       ": feature bit 41, feature bit 42");
}

static void a_long_list_of_features_is_cut_between_names(void **state)
{
	struct qcow2_header h = plain;
	struct td_err e;
	uint8_t t[59 * 48];
	char name[47];

	(void)state;
	for (unsigned i = 0; i < 59; i++) {
		snprintf(name, sizeof(name), "a feature with a name that fills its entry %03u", i + 5);
		name_entry(t + 48 * (size_t)i, 0, (uint8_t)(i + 5), name);
	}
	h.incompatible = UINT64_MAX;
	assert_refused(qcow2_header_supported(&h, 31, t, sizeof(t), &e), -ENOTSUP, &e,
		       "its entry 005, a feature");
	assert_true(strlen(e.msg) < sizeof(e.msg) - 1);
	assert_memory_equal(e.msg + strlen(e.msg) - 9, "entry 0", 7);
}

static void zstd_is_taken_where_it_is_built_in(void **state)
{
	struct qcow2_header h = plain;
	struct td_err e;

	(void)state;
	h.compression = QCOW2_ZSTD;
	h.incompatible = QCOW2_INCOMPAT_COMPRESSION;
#ifdef HAVE_ZSTD
	assert_int_equal(qcow2_header_supported(&h, QCOW2_INCOMPAT_COMPRESSION, NULL, 0, &e), 0);
#else
	assert_refused(qcow2_header_supported(&h, QCOW2_INCOMPAT_COMPRESSION, NULL, 0, &e), -ENOTSUP, &e,
		       "zstd");
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("extensions are stepped through to the end mark", extensions_are_stepped_through),
		SAYS("an extension that runs past its area is broken", extensions_end_with_their_area),
		SAYS("where no extension fits is the end", no_room_for_an_extension_is_the_end),
		SAYS("extensions are appended with zeros as padding", extensions_are_appended_with_padding),
		SAYS("known features are refused by our names for them",
		     known_features_are_refused_by_our_names),
		SAYS("unknown features are refused by the image's names, made printable",
		     unknown_features_are_refused_by_the_images_names),
		SAYS("a long list of features is cut between two names",
		     a_long_list_of_features_is_cut_between_names),
		SAYS("zstd is taken where it is built in", zstd_is_taken_where_it_is_built_in),
	};

	return cmocka_run_group_tests_name("qcow2 extensions", tests, NULL, NULL);
}
