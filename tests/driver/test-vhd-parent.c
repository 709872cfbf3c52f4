// SPDX-License-Identifier: BSD-2-Clause
/*
 * Differencing vhd images: chains, names and UUIDs of parents, another parent, nothing held.
 */
#include "vhd-fixture.h"

/* ---- parents ---- */

static void a_chain_reads_through_all_of_its_images(void **state)
{
	struct fixture f;
	char name[16] = "d0", opts[64];

	(void)state;
	start(&f);
	make(&f, name, 32 * MIB, "");
	for (unsigned i = 0; i < 30; i++) {
		if (i > 0) {
			(void)snprintf(opts, sizeof(opts), "backing_file=d%u", i - 1);
			(void)snprintf(name, sizeof(name), "d%u", i);
			make(&f, name, 32 * MIB, opts);
		}
		open_it(&f, name);
		put(&f, i * MIB, 65536, (int)i + 1);
		put(&f, 31 * MIB, 1000, (int)i + 1); /* a part of a sector, too */
		close_it(&f);
	}
	open_it(&f, "d29");
	for (unsigned i = 0; i < 30; i++) {
		has(&f, i * MIB, 65536, (int)i + 1);
		has(&f, i * MIB + 65536, 512, 0);
	}
	has(&f, 31 * MIB, 1000, 30);
	has(&f, 31 * MIB + 1000, 24, 0);
	close_it(&f);
	sound(&f, "d29");
	testenv_close(&f.t);
}

static void a_part_of_a_sector_keeps_the_parent_s_rest(void **state)
{
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "base", 4 * MIB, "");
	open_it(&f, "base");
	put(&f, 0, 65536, 'b');
	close_it(&f);
	make(&f, "child", 4 * MIB, "backing_file=base");
	open_it(&f, "child");
	put(&f, 700, 2000, 'c');
	has(&f, 0, 700, 'b');
	has(&f, 700, 2000, 'c');
	has(&f, 2700, 65536 - 2700, 'b');
	assert_int_equal(test_zero(&f.t, f.im, 10000, 3000, 0), 0);
	has(&f, 10000, 3000, 0);
	has(&f, 13000, 3000, 'b');
	has(&f, 9000, 1000, 'b');
	close_it(&f);
	testenv_close(&f.t);
}

static void a_parent_that_is_not_the_one_is_refused_by_name(void **state)
{
	struct fixture f;
	uint8_t uuid[VHD_UUID];
	char text[VHD_UUID_TEXT];

	(void)state;
	start(&f);
	make(&f, "base.vhd", 4 * MIB, "");
	make(&f, "child.vhd", 4 * MIB, "backing_file=base.vhd");
	peek(&f, "base.vhd", 68, uuid, sizeof(uuid));
	assert_int_equal(rename(at(&f, "base.vhd"), at(&f, "gone")), 0);
	refused(&f, "child.vhd", -ENOENT, "base.vhd");
	make(&f, "base.vhd", 4 * MIB, "");
	vhd_uuid_text(uuid, text);
	refused(&f, "child.vhd", -EUCLEAN, text);
	peek(&f, "base.vhd", 68, uuid, sizeof(uuid));
	vhd_uuid_text(uuid, text);
	refused(&f, "child.vhd", -EUCLEAN, text);
	testenv_close(&f.t);
}

static void names_are_tried_in_their_order(void **state)
{
	struct fixture f;
	uint8_t none[24] = { 0 };

	(void)state;
	start(&f);
	make(&f, "base.vhd", 4 * MIB, "");
	make(&f, "child.vhd", 4 * MIB, "backing_file=base.vhd");
	/* Without the relative one the absolute ones are left; without those, the header's name beside the image. */
	for (unsigned i = 0; i < 4; i++) {
		if (try_open(&f, "child.vhd", 0) < 0)
			fail_msg("%u: %s", i, f.t.err.msg);
		assert_non_null(strstr(f.im->backing_path, "base.vhd"));
		assert_int_equal(f.im->backing_path[0] == '/', i == 1 || i == 2);
		close_it(&f);
		if (i == 3)
			break;
		patch(&f, "child.vhd", 512 + 576 + i * 24ull, none, sizeof(none));
		lie_in_header(&f, "child.vhd", 56, i);
	}
	patch(&f, "child.vhd", 512 + 64, none, sizeof(none));
	lie_in_header(&f, "child.vhd", 56, 9);
	refused(&f, "child.vhd", -EUCLEAN, "names no parent");
	testenv_close(&f.t);
}

static void parents_are_vhd_or_raw_and_where_they_may_be(void **state)
{
	struct fixture f;
	uint8_t utf16[32];

	(void)state;
	start(&f);
	assert_int_equal(test_create(&f.t, MIB, "", false, "raw:%s", at(&f, "raw")), 0);
	make(&f, "over-raw", MIB, "backing_file=raw,backing_fmt=raw");
	open_it(&f, "over-raw");
	assert_string_equal(f.im->backing_format, "raw");
	close_it(&f);
	assert_int_equal(test_create(&f.t, MIB, "", false, "qcow2:%s", at(&f, "q")), 0);
	assert_int_equal(
		test_create(&f.t, MIB, "backing_file=q,backing_fmt=qcow2", false, "vhd:%s", at(&f, "over-q")),
		-ENOTSUP);
	assert_non_null(strstr(f.t.err.msg, "qcow2"));
	/* A name that leads out: /etc/hosts is a file that is there. */
	make(&f, "base", MIB, "");
	make(&f, "out", MIB, "backing_file=base");
	for (unsigned i = 0; i < 10; i++)
		td_put_be16(utf16 + 2 * (size_t)i, (uint16_t)("/etc/hosts"[i] << 8));
	for (unsigned i = 0; i < 3; i++) { /* all three locators */
		uint64_t l = 512 + 576 + i * 24ull;

		patch32(&f, "out", l, VHD_LOC_W2KU);
		patch32(&f, "out", l + 8, 20);
		patch(&f, "out", peek32(&f, "out", l + 20), utf16, 20);
	}
	patch32(&f, "out", 512 + 64, 0);
	lie_in_header(&f, "out", 56, 9);
	refused(&f, "out", -EACCES, "/etc/hosts");
	testenv_close(&f.t);
}

static int rebase(void *arg)
{
	struct fixture *f = arg;

	return td_image_set_backing(f->im, "new.vhd", "vhd", &f->t.err);
}

static int rebase_to_none(void *arg)
{
	struct fixture *f = arg;

	return td_image_set_backing(f->im, NULL, NULL, &f->t.err);
}

static int empty(void *arg)
{
	struct fixture *f = arg;

	return td_image_empty(f->im, &f->t.err);
}

static void another_parent_is_recorded_and_what_is_held_stays(void **state)
{
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "base.vhd", 8 * MIB, "");
	make(&f, "new.vhd", 8 * MIB, "");
	open_it(&f, "new.vhd");
	put(&f, 0, 4 * MIB, 'n');
	close_it(&f);
	make(&f, "child.vhd", 8 * MIB, "backing_file=base.vhd");
	open_it(&f, "child.vhd");
	put(&f, 0, 65536, 'c');
	assert_int_equal(testenv_run(&f.t, rebase, &f), 0);
	put(&f, 6 * MIB, 65536, 'd');
	close_it(&f);
	sound(&f, "child.vhd");
	open_it(&f, "child.vhd");
	assert_string_equal(f.im->backing_path, "new.vhd");
	has(&f, 0, 65536, 'c');
	has(&f, 65536, 65536, 'n');
	has(&f, 6 * MIB, 65536, 'd');
	assert_int_equal(testenv_run(&f.t, empty, &f), 0);
	has(&f, 0, 65536, 'n');
	put(&f, MIB, 512, 'e');
	close_it(&f);
	sound(&f, "child.vhd");
	open_it(&f, "child.vhd");
	has(&f, MIB, 512, 'e');
	has(&f, MIB + 512, 512, 'n');
	assert_int_equal(testenv_run(&f.t, rebase_to_none, &f), 0);
	close_it(&f);
	open_it(&f, "child.vhd");
	assert_null(f.im->backing_path);
	has(&f, MIB, 512, 'e');
	has(&f, MIB + 512, 512, 0);
	close_it(&f);
	/* Tables were moved behind a block that is gone. */
	finds_and_mends(&f, "child.vhd", 0, 1);
	open_it(&f, "child.vhd");
	has(&f, MIB, 512, 'e');
	close_it(&f);
	testenv_close(&f.t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain_reads_through_all_of_its_images),
		cmocka_unit_test(a_part_of_a_sector_keeps_the_parent_s_rest),
		cmocka_unit_test(a_parent_that_is_not_the_one_is_refused_by_name),
		cmocka_unit_test(names_are_tried_in_their_order),
		cmocka_unit_test(parents_are_vhd_or_raw_and_where_they_may_be),
		cmocka_unit_test(another_parent_is_recorded_and_what_is_held_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
