// SPDX-License-Identifier: BSD-2-Clause
/*
 * The vhd driver where the disk does what it should: footers that others left, growing, moving tables, check and
 * repair, and images that lie.
 */
#include "vhd-fixture.h"

/* ---- growing ---- */

static void a_larger_disk_gets_a_longer_table(void **state)
{
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "d", 3 * MIB, "");
	open_it(&f, "d");
	put(&f, 0, 3 * MIB, 'a');
	assert_int_equal(test_resize(&f.t, f.im, 5 * MIB), 0);       /* a block more */
	assert_int_equal(test_resize(&f.t, f.im, 2000ull << 30), 0); /* a million */
	put(&f, 1999ull << 30, 65536, 'z');
	has(&f, 0, 3 * MIB, 'a');
	has(&f, 3 * MIB, 4 * MIB, 0);
	close_it(&f);
	open_it(&f, "d");
	assert_int_equal(f.im->size, 2000ull << 30);
	has(&f, 0, 3 * MIB, 'a');
	has(&f, 3 * MIB, 4 * MIB, 0);
	has(&f, 1999ull << 30, 65536, 'z');
	assert_true(test_resize(&f.t, f.im, 2041ull << 30) < 0);
	close_it(&f);
	finds_and_mends(&f, "d", 0, 0);
	make(&f, "fixed", 3 * MIB, "subformat=fixed");
	open_it(&f, "fixed");
	put(&f, 0, 3 * MIB, 'a');
	assert_int_equal(test_resize(&f.t, f.im, 5 * MIB), 0);
	close_it(&f);
	open_it(&f, "fixed");
	has(&f, 0, 3 * MIB, 'a');
	has(&f, 3 * MIB, 2 * MIB, 0);
	close_it(&f);
	testenv_close(&f.t);
}

/* Of Virtual PC's own the geometry is the size, and the file has more than that. */
static void a_fixed_disk_grows_into_what_its_file_has(void **state)
{
	const uint64_t old = 90ull * 4 * 17 * 512, larger[] = { old + 512, 3 * MIB, 3 * MIB + 512 };
	struct fixture f;

	(void)state;
	start(&f);
	for (unsigned i = 0; i < TD_NELEMS(larger); i++) {
		make(&f, "d", 3 * MIB, "subformat=fixed");
		open_it(&f, "d");
		put(&f, 0, 3 * MIB, 'a');
		close_it(&f);
		lie(&f, "d", 3 * MIB, VHD_FOOTER, 64, 28, 0x76706320);
		open_it(&f, "d");
		assert_int_equal(f.im->size, old);
		if (test_resize(&f.t, f.im, larger[i]) < 0)
			fail_msg("%s", f.t.err.msg);
		put(&f, larger[i] - 512, 512, 'z');
		close_it(&f);
		open_it(&f, "d");
		assert_int_equal(f.im->size, larger[i]);
		has(&f, 0, old, 'a');
		has(&f, old, larger[i] - 512 - old, 0);
		has(&f, larger[i] - 512, 512, 'z');
		close_it(&f);
		assert_int_equal(unlink(at(&f, "d")), 0);
	}
	testenv_close(&f.t);
}

static void blocks_of_other_sizes_work(void **state)
{
	static const char *const sizes[] = { "4K", "32K", "512K", "64M" };
	struct fixture f;
	char opts[32];

	(void)state;
	start(&f);
	for (unsigned i = 0; i < TD_NELEMS(sizes); i++) {
		(void)snprintf(opts, sizeof(opts), "block_size=%s", sizes[i]);
		make(&f, sizes[i], 130 * MIB, opts);
		open_it(&f, sizes[i]);
		put(&f, 63 * MIB, 3 * MIB, 'a');
		put(&f, 17 * MIB - 512, 1024, 'b'); /* over a boundary of bitmap units */
		close_it(&f);
		sound(&f, sizes[i]);
		open_it(&f, sizes[i]);
		has(&f, 63 * MIB - 512, 512, 0);
		has(&f, 63 * MIB, 3 * MIB, 'a');
		has(&f, 66 * MIB, 512, 0);
		has(&f, 17 * MIB - 512, 1024, 'b');
		close_it(&f);
		assert_int_equal(unlink(at(&f, sizes[i])), 0);
	}
	testenv_close(&f.t);
}

/* ---- footers ---- */

static void a_damaged_footer_is_found_again(void **state)
{
	static const uint8_t junk[512] = { 1, 2, 3 };
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "d", 4 * MIB, "");
	open_it(&f, "d");
	put(&f, 0, 512, 'a');
	close_it(&f);
	patch(&f, "d", size_of(&f, "d") - 512, junk, sizeof(junk));
	open_it(&f, "d");
	has(&f, 0, 512, 'a');
	close_it(&f);
	sound(&f, "d");
	patch(&f, "d", 0, junk, sizeof(junk));
	open_it(&f, "d");
	has(&f, 0, 512, 'a');
	put(&f, 3 * MIB, 512, 'b');
	close_it(&f);
	sound(&f, "d");
	patch(&f, "d", 0, junk, sizeof(junk));
	finds_and_mends(&f, "d", 1, 0);
	patch(&f, "d", size_of(&f, "d") - 512, junk, sizeof(junk));
	finds_and_mends(&f, "d", 0, 1);
	patch(&f, "d", 0, junk, sizeof(junk));
	patch(&f, "d", size_of(&f, "d") - 512, junk, sizeof(junk));
	refused(&f, "d", -EUCLEAN, "no vhd image");
	testenv_close(&f.t);
}

static void a_footer_without_its_last_byte_is_one(void **state)
{
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "fixed", 4 * MIB, "subformat=fixed");
	cut_file(&f, "fixed", 4 * MIB + 511);
	open_it(&f, "fixed");
	assert_int_equal(f.im->size, 4 * MIB);
	put(&f, 4 * MIB - 512, 512, 'a');
	close_it(&f);
	open_it(&f, "fixed");
	has(&f, 4 * MIB - 512, 512, 'a');
	close_it(&f);
	make(&f, "d", 4 * MIB, "");
	cut_file(&f, "d", size_of(&f, "d") - 1);
	open_it(&f, "d");
	put(&f, 0, 512, 'a');
	close_it(&f);
	sound(&f, "d");
	testenv_close(&f.t);
}

/* What a guest writes never decides what the image is. */
static void a_guest_cannot_forge_a_footer(void **state)
{
	uint8_t raw[2048];
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "secret", 4 * MIB, "");
	make(&f, "forged", 4 * MIB, "backing_file=secret");
	peek(&f, "forged", 0, raw, sizeof(raw));
	make(&f, "fixed", 4 * MIB, "subformat=fixed");
	open_it(&f, "fixed");
	assert_int_equal(test_write(&f.t, f.im, 0, raw, sizeof(raw), 0), 0);
	close_it(&f);
	open_it(&f, "fixed");
	assert_int_equal(f.im->size, 4 * MIB);
	assert_null(f.im->backing_path);
	memcpy(raw, "v_poison", 8);
	assert_int_equal(test_write(&f.t, f.im, 0, raw, sizeof(raw), 0), 0);
	close_it(&f);
	open_it(&f, "fixed");
	close_it(&f);
	/* A dynamic one that a crash cut off behind its guest's last sector. */
	make(&f, "d", 2 * MIB, "");
	peek(&f, "forged", 0, raw, 512);
	open_it(&f, "d");
	assert_int_equal(test_write(&f.t, f.im, 2 * MIB - 512, raw, 512, 0), 0);
	close_it(&f);
	cut_file(&f, "d", size_of(&f, "d") - 512);
	open_it(&f, "d");
	assert_null(f.im->backing_path);
	close_it(&f);
	sound(&f, "d");
	testenv_close(&f.t);
}

static void what_others_left_half_done_is_refused(void **state)
{
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "d", 4 * MIB, "");
	patch(&f, "d", 0, "v_poison", 8);
	lie(&f, "d", 0, 512, 64, 24, 5);
	refused(&f, "d", -ENOTSUP, "journal");
	testenv_close(&f.t);
}

static void xenserver_s_flags_stay(void **state)
{
	uint8_t flags[2] = { 1, 1 };
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "d", 4 * MIB, "");
	patch(&f, "d", 84, flags, 2);
	lie(&f, "d", 0, 512, 64, 24, 5);
	open_it(&f, "d");
	put(&f, 0, 512, 'a');
	assert_int_equal(test_resize(&f.t, f.im, 9 * MIB), 0);
	close_it(&f);
	sound(&f, "d");
	memset(flags, 0, 2);
	peek(&f, "d", size_of(&f, "d") - 512 + 84, flags, 2);
	assert_true(flags[0] == 1 && flags[1] == 1);
	testenv_close(&f.t);
}

/* ---- tables ---- */

static void as_many_tables_as_there_can_be_are_known(void **state)
{
	const uint32_t locators = 576, locator = 24;
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "d", 4 * MIB, "");
	for (uint32_t i = 0; i < VHD_LOCATORS; i++) {
		lie_in_header(&f, "d", locators + i * locator, VHD_LOC_W2RU);
		lie_in_header(&f, "d", locators + i * locator + 8, 512);
		lie_in_header(&f, "d", locators + i * locator + 20, 512);
	}
	open_it(&f, "d");
	put(&f, 0, 3 * MIB, 'a');
	close_it(&f);
	open_it(&f, "d");
	has(&f, 0, 3 * MIB, 'a');
	close_it(&f);
	testenv_close(&f.t);
}

/* ---- the batmap ---- */

#define BATMAP 2048u /* behind footer, header and one sector of BAT: its header, then the bits */

static void the_batmap_says_which_blocks_are_full(void **state)
{
	struct fixture f;
	uint8_t bits = 0;

	(void)state;
	start(&f);
	make(&f, "d", 20 * MIB, "");
	open_it(&f, "d");
	put(&f, 2 * MIB, 2 * MIB, 'a');
	put(&f, 4 * MIB, 2 * MIB - 512, 'b');
	close_it(&f);
	peek(&f, "d", BATMAP + 512, &bits, 1);
	assert_int_equal(bits, 0x60); /* without a parent a block is full from the first */
	finds_and_mends(&f, "d", 0, 0);
	/* It is believed ... */
	open_it(&f, "d");
	has(&f, 2 * MIB, 2 * MIB, 'a');
	put(&f, 6 * MIB - 512, 512, 'b');
	close_it(&f);
	peek(&f, "d", BATMAP + 512, &bits, 1);
	assert_int_equal(bits, 0x60);
	/* ... unless its sum is wrong ... */
	bits = 0xff;
	patch(&f, "d", BATMAP + 512, &bits, 1);
	open_it(&f, "d");
	put(&f, 10 * MIB, 512, 'c');
	has(&f, 10 * MIB + 512, 512, 0);
	close_it(&f);
	finds_and_mends(&f, "d", 1, 0);
	/* ... and of a block that is not there it says nothing for long. */
	bits = 0x61;
	patch(&f, "d", BATMAP + 512, &bits, 1);
	patch32(&f, "d", BATMAP + 24, ~0x61u);
	open_it(&f, "d");
	put(&f, 14 * MIB, 512, 'd');
	peek(&f, "d", BATMAP + 512, &bits, 1);
	assert_int_equal(bits, 0x60);
	close_it(&f);
	bits = 0x71;
	patch(&f, "d", BATMAP + 512, &bits, 1);
	patch32(&f, "d", BATMAP + 24, ~0x71u);
	finds_and_mends(&f, "d", 1, 0);
	testenv_close(&f.t);
}

/* Other programs make a table for more blocks than the disk has, and a batmap for those that it has. */
static void a_batmap_that_is_too_short_is_made_anew(void **state)
{
	const uint64_t large = 20ull << 30, batmap = 1536 + 10240 * 4;
	struct fixture f;

	(void)state;
	start(&f);
	make(&f, "d", large, "");
	lie(&f, "d", 0, 512, 64, 48, 1); /* 4 GiB */
	lie(&f, "d", size_of(&f, "d") - 512, 512, 64, 48, 1);
	patch32(&f, "d", batmap + 16, 1); /* sector: 4096 blocks */
	open_it(&f, "d");
	assert_int_equal(f.im->size, 4ull << 30);
	put(&f, 3ull << 30, 2 * MIB, 'a');
	assert_int_equal(test_resize(&f.t, f.im, large), 0);
	put(&f, large - 2 * MIB, 2 * MIB, 'b');
	close_it(&f);
	finds_and_mends(&f, "d", 0, 0);
	open_it(&f, "d");
	has(&f, 3ull << 30, 2 * MIB, 'a');
	has(&f, large - 2 * MIB, 2 * MIB, 'b');
	close_it(&f);
	testenv_close(&f.t);
}

/* ---- damage ---- */

#define BAT 1536u

static void damage_is_found_and_mended(void **state)
{
	struct fixture f;
	uint32_t second;

	(void)state;
	start(&f);
	make(&f, "d", 20 * MIB, "");
	open_it(&f, "d");
	for (unsigned i = 0; i < 6; i++)
		put(&f, i * 2 * MIB, 65536, 'a' + (int)i);
	close_it(&f);
	second = peek32(&f, "d", BAT + 4);
	/* Two blocks in one place: each has its bytes afterwards. */
	patch32(&f, "d", BAT + 16, second);
	finds_and_mends(&f, "d", 1, 1);
	open_it(&f, "d");
	has(&f, 2 * MIB, 65536, 'b');
	has(&f, 8 * MIB, 65536, 'b');
	put(&f, 8 * MIB, 512, 'x');
	has(&f, 2 * MIB, 512, 'b');
	has(&f, 10 * MIB, 65536, 'f');
	put(&f, 2 * MIB + 999 * 512, 512, 'b');
	close_it(&f);
	/* Half over another, whose bytes are its bitmap: the batmap says more of it. */
	patch32(&f, "d", BAT + 16, second + 1000);
	finds_and_mends(&f, "d", 2, 1);
	/* Over the tables, and outside the file. */
	patch32(&f, "d", BAT + 16, 2);
	refused(&f, "d", -EUCLEAN, "block 4");
	patch32(&f, "d", BAT + 20, 0x7fffffff);
	finds_and_mends(&f, "d", 3, 2);
	open_it(&f, "d");
	for (unsigned i = 0; i < 4; i++)
		has(&f, i * 2 * MIB, 65536, 'a' + (int)i);
	has(&f, 8 * MIB, 4 * MIB, 0);
	close_it(&f);
	testenv_close(&f.t);
}

/* A table of junk names one place again and again: a block whose bitmap is empty needs none. */
static void blocks_that_share_nothing_take_up_no_space(void **state)
{
	static const uint8_t empty[512];
	struct fixture f;
	uint32_t first, second;
	uint64_t size;

	(void)state;
	start(&f);
	make(&f, "d", 1024 * MIB, "");
	open_it(&f, "d");
	put(&f, 0, 65536, 'a');
	put(&f, 2 * MIB, 65536, 'b');
	close_it(&f);
	size = size_of(&f, "d");
	first = peek32(&f, "d", BAT);
	second = peek32(&f, "d", BAT + 4);
	patch(&f, "d", second * 512ull, empty, sizeof(empty));
	for (unsigned i = 2; i < 512; i++)
		patch32(&f, "d", BAT + i * 4, second);
	patch32(&f, "d", BAT + 40, first);
	finds_and_mends(&f, "d", 511, 0); /* the batmap says more of it */
	/* Of the one that shares what there is. */
	assert_in_range(size_of(&f, "d"), size + 2 * MIB + 512, size + 2 * MIB + 8192);
	assert_int_equal(peek32(&f, "d", BAT + 4), second);
	assert_int_equal(peek32(&f, "d", BAT + 8), UINT32_MAX);
	open_it(&f, "d");
	has(&f, 0, 65536, 'a');
	has(&f, 20 * MIB, 65536, 'a');
	has(&f, 2 * MIB, 4 * MIB, 0);
	has(&f, 1022 * MIB, 2 * MIB, 0);
	close_it(&f);
	testenv_close(&f.t);
}

/* The same of a block that holds something: there is an end to copying, and a person is told. */
static void a_table_of_junk_is_not_copied(void **state)
{
	struct fixture f;
	struct td_check c;
	uint32_t first;
	uint64_t size;

	(void)state;
	start(&f);
	make(&f, "d", 1024 * MIB, "");
	open_it(&f, "d");
	put(&f, 0, 65536, 'a');
	put(&f, 2 * MIB, 65536, 'b');
	close_it(&f);
	size = size_of(&f, "d");
	first = peek32(&f, "d", BAT);
	for (unsigned i = 2; i < 512; i++)
		patch32(&f, "d", BAT + i * 4, first);
	c = check(&f, "d", TD_FIX_ALL);
	assert_int_equal(c.corruptions, 510);
	assert_int_equal(c.corruptions_fixed, 0);
	assert_true(size_of(&f, "d") <= size);
	open_it(&f, "d");
	has(&f, 0, 65536, 'a');
	has(&f, 2 * MIB, 65536, 'b');
	close_it(&f);
	/* As many as a damaged image may have. */
	for (unsigned i = 10; i < 512; i++)
		patch32(&f, "d", BAT + i * 4, UINT32_MAX);
	finds_and_mends(&f, "d", 8, 0);
	open_it(&f, "d");
	for (unsigned i = 2; i < 10; i++)
		has(&f, i * 2 * MIB, 65536, 'a');
	close_it(&f);
	testenv_close(&f.t);
}

static void what_a_crash_left_at_the_end_goes(void **state)
{
	struct fixture f;
	uint64_t size;

	(void)state;
	start(&f);
	make(&f, "d", 20 * MIB, "");
	open_it(&f, "d");
	put(&f, 0, 512, 'a');
	close_it(&f);
	size = size_of(&f, "d");
	cut_file(&f, "d", size + 5 * MIB);
	open_it(&f, "d");
	put(&f, 4 * MIB, 512, 'b');
	close_it(&f);
	assert_true(size_of(&f, "d") < size + 3 * MIB);
	cut_file(&f, "d", size_of(&f, "d") + 5 * MIB);
	finds_and_mends(&f, "d", 0, 3); /* two blocks' space, and no footer */
	testenv_close(&f.t);
}

/* ---- lies ---- */

static void lies_are_refused_by_name(void **state)
{
	static const struct {
		unsigned field;
		uint32_t value;
		const char *word;
		int result;
	} lies[] = {
		{ 28, 0, "too few", -EUCLEAN },
		{ 28, 1, "too few", -EUCLEAN },
		{ 28, UINT32_MAX, "block table", -EUCLEAN },
		{ 28, 1u << 30, "inside", -EUCLEAN },
		{ 32, 0, "cannot have", -EUCLEAN },
		{ 32, 3000, "cannot have", -EUCLEAN },
		{ 32, 1u << 31, "at most", -ENOTSUP },
		{ 32, 512, "too few", -EUCLEAN },
		{ 20, 1 << 30, "inside", -EUCLEAN },
		{ 20, 1024, "over its header", -EUCLEAN },
		{ 16, 1 << 31, "cannot be", -EUCLEAN },
		{ 24, 0x20000, "version", -ENOTSUP },
	};
	struct fixture f;

	(void)state;
	start(&f);
	for (unsigned i = 0; i < TD_NELEMS(lies); i++) {
		make(&f, "d", 20 * MIB, "");
		lie_in_header(&f, "d", lies[i].field, lies[i].value);
		refused(&f, "d", lies[i].result, lies[i].word);
		assert_int_equal(unlink(at(&f, "d")), 0);
	}
	make(&f, "d", 20 * MIB, "subformat=fixed");
	lie(&f, "d", 20 * MIB, 512, 64, 52, 21 << 20);
	refused(&f, "d", -EUCLEAN, "of which the file has");
	testenv_close(&f.t);
}

/* A kill came between the data and its bit: other programs do not ask for the bit. */
static void zeros_go_to_sectors_that_are_not_held(void **state)
{
	uint8_t was[512], zeros[512] = { 0 }, none = 0;
	struct fixture f;
	uint64_t place;

	(void)state;
	start(&f);
	make(&f, "d", 4 * MIB, "block_size=4K"); /* no batmap speaks of such */
	open_it(&f, "d");
	put(&f, 0, 512, 'a');
	close_it(&f);
	place = peek32(&f, "d", BAT) * 512ull;
	patch(&f, "d", place, &none, 1);
	open_it(&f, "d");
	has(&f, 0, 512, 0);
	peek(&f, "d", place + 512, was, sizeof(was));
	assert_memory_not_equal(was, zeros, sizeof(was));
	assert_int_equal(test_zero(&f.t, f.im, 0, 4096, TD_MAY_UNMAP), 0);
	peek(&f, "d", place + 512, was, sizeof(was));
	assert_memory_equal(was, zeros, sizeof(was));
	close_it(&f);
	testenv_close(&f.t);
}

/* Two of three blocks go, of many: what is left moves to the start. */
static void many_holes_are_filled_at_once(void **state)
{
	enum { BLOCKS = 3000, BLOCK = 4096 };
	struct fixture f;
	struct td_check c;

	(void)state;
	start(&f);
	make(&f, "d", (uint64_t)BLOCKS * BLOCK, "block_size=4K");
	open_it(&f, "d");
	for (unsigned i = 0; i < BLOCKS; i++)
		put(&f, (uint64_t)i * BLOCK, 512, 1 + (int)i % 255);
	close_it(&f);
	for (unsigned i = 0; i < BLOCKS; i++)
		if (i % 3 != 2)
			patch32(&f, "d", BAT + 4ull * i, VHD_UNUSED);
	c = check(&f, "d", 0);
	assert_int_equal(c.corruptions, 0);
	assert_true(c.leaks >= BLOCKS / 3 * 2);
	finds_and_mends(&f, "d", 0, c.leaks);
	open_it(&f, "d");
	for (unsigned i = 0; i < BLOCKS; i++)
		has(&f, (uint64_t)i * BLOCK, 512, i % 3 == 2 ? 1 + (int)i % 255 : 0);
	close_it(&f);
	testenv_close(&f.t);
}

static void entries_that_lie_fail_alone_when_only_read(void **state)
{
	struct fixture f;
	char buf[512];

	(void)state;
	start(&f);
	make(&f, "d", 20 * MIB, "");
	open_it(&f, "d");
	put(&f, 0, 512, 'a');
	put(&f, 2 * MIB, 512, 'b');
	close_it(&f);
	patch32(&f, "d", BAT, 1); /* the header */
	patch32(&f, "d", BAT + 8, 0x10000000);
	assert_int_equal(try_open(&f, "d", TD_OPEN_RDONLY), 0);
	assert_int_equal(test_read(&f.t, f.im, 0, buf, 512, 0), -EUCLEAN);
	assert_int_equal(test_read(&f.t, f.im, 4 * MIB, buf, 512, 0), -EUCLEAN);
	has(&f, 2 * MIB, 512, 'b');
	close_it(&f);
	testenv_close(&f.t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_larger_disk_gets_a_longer_table),
		cmocka_unit_test(a_fixed_disk_grows_into_what_its_file_has),
		cmocka_unit_test(blocks_of_other_sizes_work),
		cmocka_unit_test(a_damaged_footer_is_found_again),
		cmocka_unit_test(a_footer_without_its_last_byte_is_one),
		cmocka_unit_test(a_guest_cannot_forge_a_footer),
		cmocka_unit_test(what_others_left_half_done_is_refused),
		cmocka_unit_test(xenserver_s_flags_stay),
		cmocka_unit_test(as_many_tables_as_there_can_be_are_known),
		cmocka_unit_test(the_batmap_says_which_blocks_are_full),
		cmocka_unit_test(a_batmap_that_is_too_short_is_made_anew),
		cmocka_unit_test(damage_is_found_and_mended),
		cmocka_unit_test(blocks_that_share_nothing_take_up_no_space),
		cmocka_unit_test(a_table_of_junk_is_not_copied),
		cmocka_unit_test(what_a_crash_left_at_the_end_goes),
		cmocka_unit_test(lies_are_refused_by_name),
		cmocka_unit_test(zeros_go_to_sectors_that_are_not_held),
		cmocka_unit_test(many_holes_are_filled_at_once),
		cmocka_unit_test(entries_that_lie_fail_alone_when_only_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
