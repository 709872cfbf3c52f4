// SPDX-License-Identifier: BSD-2-Clause
/*
 * Another backing file is recorded in a qcow image, or none, and the power is cut before operation n, for every n, any
 * part of what was not flushed being lost: it is the old name or the new one, with the new one is all that was written
 * before, and the L1 table in the header's sector is whole.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "simdisk.h"
#include "testenv.h"

/* Three tables of 2 MiB each; what is written to a table that is not there changes L1. */
#define SIZE  (6u << 20)
#define FIRST 0u
#define THEN  (2u << 20)
#define LAST  (4u << 20)

#define FIFTY "a/name/that/is/longer/than/a/sector/is/and/longer/"
#define LONG  FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY "z"

static const char *const names[] = { "a", "bb", LONG, NULL };

static const struct {
	const char *create, *from;
	bool xen;
} shapes[] = {
	{ "cluster_size=512", NULL, false }, /* L1 directly behind the header */
	{ "backing_file=a,backing_fmt=raw", "a", false },
	{ "backing_file=" LONG ",backing_fmt=raw", LONG, false },
	{ NULL, NULL, true }, /* L1 apart, and little-endian */
};

struct run {
	struct testenv t;
	struct simdisk *sim;
	struct simdisk_state *clean;
	const char *from, *to;
	char path[128], spec[160];
	bool xen;
	int result;
	unsigned images;
	uint64_t leaks; /* of the last check */
};

static int put(struct td_image *im, uint64_t off, int byte)
{
	uint8_t buf[512];

	memset(buf, byte, sizeof(buf));
	return td_image_pwrite(im, off, buf, sizeof(buf), 0);
}

/* Writes around it change L1 as well. */
static int change(void *arg)
{
	struct run *run = arg;
	struct td_image *im = NULL;
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_NO_CHAIN, &im, &run->t.err), r2;

	if (r < 0)
		return r;
	r = put(im, THEN, 2);
	if (r == 0)
		run->result = td_image_set_backing(im, run->to, run->to ? "raw" : NULL, &run->t.err);
	if (r == 0)
		r = put(im, LAST, 3);
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

static bool is_named(const struct td_image *im, const char *name)
{
	return name && im->backing_path ? strcmp(im->backing_path, name) == 0 : name == im->backing_path;
}

static uint8_t byte_at(struct run *run, struct td_image *im, uint64_t off)
{
	uint8_t b = 0xff;

	assert_int_equal(test_read(&run->t, im, off, &b, 1, 0), 0);
	return b;
}

static int check_image(void *arg)
{
	struct run *run = arg;
	struct td_image *im = NULL;
	struct td_check c = { 0 };
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_CHECK | TD_OPEN_RDONLY | TD_OPEN_NO_CHAIN,
				   &im, &run->t.err),
	    r2;

	if (r < 0)
		return r;
	r = td_image_check(im, 0, &c);
	if (r == 0 && (c.corruptions || c.errors))
		r = -EPROTO;
	run->leaks = c.leaks;
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

static bool fact_is(const struct td_image *im, const char *name, const char *want)
{
	struct td_opts facts = { 0 };
	const char *v;
	bool same;

	assert_int_equal(im->drv->info((struct td_image *)(uintptr_t)im, &facts), 0);
	v = td_opts_get(&facts, name);
	same = v && want ? strcmp(v, want) == 0 : v == want;
	td_opts_done(&facts);
	return same;
}

static void look(struct run *run, bool may_be_old, bool may_be_new)
{
	struct td_image *im = NULL;
	uint8_t then, last;

	run->images++;
	if (test_open(&run->t, &im, TD_OPEN_RDONLY | TD_OPEN_NO_CHAIN, "%s", run->spec) < 0)
		fail_msg("from %s to %s: %s", run->from, run->to, run->t.err.msg);
	if (!(may_be_old && is_named(im, run->from)) && !(may_be_new && is_named(im, run->to)))
		fail_msg("from %s to %s: it names %s", run->from, run->to, im->backing_path);
	assert_int_equal(im->size, SIZE);
	assert_int_equal(byte_at(run, im, FIRST), 1);
	then = byte_at(run, im, THEN);
	last = byte_at(run, im, LAST);
	if (then != 2 && (then != 0 || !is_named(im, run->from)))
		fail_msg("the new name, and not what was written before: %u", then);
	assert_true(last == 3 || (last == 0 && may_be_old));
	assert_true(fact_is(im, "xen-header", run->xen ? "little-endian" : NULL));
	assert_int_equal(test_close(&run->t, im), 0);
	assert_int_equal(testenv_run(&run->t, check_image, run), 0);
}

static void all_crashes(struct run *run)
{
	for (uint64_t n = 1;; n++) {
		struct simdisk_state *crash;

		simdisk_restore(run->sim, run->clean);
		simdisk_start(run->sim, n);
		simdisk_cut(run->sim, n);
		(void)testenv_run(&run->t, change, run); /* after a cut it fails */
		if (!simdisk_is_cut(run->sim))
			return;
		crash = simdisk_crash(run->sim);
		for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++) {
			for (uint64_t i = 0; i < 2; i++) {
				simdisk_make(run->sim, crash, how, n * 7 + i);
				look(run, true, true);
			}
		}
		simdisk_state_free(crash);
	}
}

/* An operation fails: whatever is said, it is one of the names, and nothing else is lost. */
static void all_failures(struct run *run)
{
	for (uint64_t n = 1;; n++) {
		simdisk_restore(run->sim, run->clean);
		simdisk_start(run->sim, n);
		simdisk_fail(run->sim, n, SIMDISK_EIO);
		(void)testenv_run(&run->t, change, run);
		if (!simdisk_failed(run->sim))
			return;
		simdisk_fail(run->sim, 0, SIMDISK_EIO);
		look(run, true, true);
	}
}

/* As the first tapdisk of Xen left them. */
static void make_xen(struct run *run)
{
	static uint8_t b[16384] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 1 };
	FILE *f = fopen(run->path, "w");

	td_put_be64(b + 24, SIZE);
	b[32] = 9;
	b[33] = 12;
	td_put_be64(b + 40, 4096);
	memcpy(b + 48, "XEN\xfb", 4);
	td_put_be32(b + 60, 1);
	assert_non_null(f);
	assert_int_equal(fwrite(b, sizeof(b), 1, f), 1);
	assert_int_equal(fclose(f), 0);
}

static int first_write(void *arg)
{
	struct run *run = arg;
	struct td_image *im = NULL;
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_NO_CHAIN, &im, &run->t.err), r2;

	if (r < 0)
		return r;
	r = put(im, FIRST, 1);
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

static void setup(struct run *run, unsigned shape)
{
	*run = (struct run){ .from = shapes[shape].from, .xen = shapes[shape].xen };
	run->sim = simdisk_new(1);
	assert_int_equal(testenv_open_sim(&run->t, run->sim), 0);
	(void)snprintf(run->path, sizeof(run->path), "%s/disk", run->t.dir);
	(void)snprintf(run->spec, sizeof(run->spec), "qcow(backing-format=raw):%s", run->path);
	if (run->xen)
		make_xen(run);
	else
		assert_int_equal(test_create(&run->t, SIZE, shapes[shape].create, true, "qcow:%s", run->path),
				 0);
	assert_int_equal(testenv_run(&run->t, first_write, run), 0);
	simdisk_add(run->sim, run->path);
	run->clean = simdisk_save(run->sim);
}

static void teardown(struct run *run)
{
	testenv_close(&run->t);
	simdisk_state_free(run->clean);
	simdisk_free(run->sim);
}

static void a_crash_leaves_the_old_name_or_the_new(void **state)
{
	unsigned images = 0;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(shapes); i++) {
		struct run run;

		setup(&run, i);
		for (unsigned k = 0; k < TD_NELEMS(names); k++) {
			run.to = names[k];
			simdisk_restore(run.sim, run.clean);
			simdisk_start(run.sim, 1);
			assert_int_equal(testenv_run(&run.t, change, &run), 0);
			assert_int_equal(run.result, 0);
			look(&run, false, true);
			all_crashes(&run);
			all_failures(&run);
		}
		images += run.images;
		teardown(&run);
	}
	printf("# %u images\n", images);
}

/* One after the other on the same image, which grows by the names alone. */
static void changes_follow_each_other(void **state)
{
	static const unsigned order[] = { 1, 0, 2, 3, 2, 1, 3, 0, 2, 2 };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(shapes); i++) {
		struct stat before, after;
		struct run run;

		setup(&run, i);
		assert_int_equal(testenv_run(&run.t, change, &run), 0);
		assert_int_equal(stat(run.path, &before), 0);
		for (unsigned k = 0; k < TD_NELEMS(order); k++) {
			run.to = names[order[k]];
			assert_int_equal(testenv_run(&run.t, change, &run), 0);
			assert_int_equal(run.result, 0);
			look(&run, false, true);
		}
		assert_int_equal(stat(run.path, &after), 0);
		assert_true(after.st_size <= before.st_size + (off_t)TD_NELEMS(order) * 1024);
		teardown(&run);
	}
}

/* ---- the name lies behind the clusters, and stays when they go ---- */

static int empty_and_write(void *arg)
{
	struct run *run = arg;
	struct td_image *im = NULL;
	int r = td_image_open_text(&run->t.env, run->spec, 0, &im, &run->t.err), r2;

	if (r < 0)
		return r;
	r = td_image_empty(im, &run->t.err);
	if (r == 0)
		r = put(im, FIRST, 1);
	if (r == 0)
		r = put(im, THEN, 2);
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

static void emptying_keeps_the_name(void **state)
{
	struct td_image *im;
	struct run run;

	(void)state;
	setup(&run, 0);
	assert_int_equal(test_create(&run.t, SIZE, "", true, "raw:%s/bb", run.t.dir), 0);
	run.to = "bb";
	assert_int_equal(testenv_run(&run.t, change, &run), 0);
	assert_int_equal(testenv_run(&run.t, empty_and_write, &run), 0);
	assert_int_equal(test_open(&run.t, &im, TD_OPEN_RDONLY, "%s", run.spec), 0);
	assert_true(is_named(im, "bb"));
	assert_int_equal(byte_at(&run, im, FIRST), 1);
	assert_int_equal(byte_at(&run, im, THEN), 2);
	assert_int_equal(byte_at(&run, im, LAST), 0);
	assert_int_equal(test_close(&run.t, im), 0);
	assert_int_equal(testenv_run(&run.t, check_image, &run), 0);
	assert_int_equal(run.leaks, 0);
	teardown(&run);
}

static void what_cannot_be_recorded_is_refused(void **state)
{
	static char endless[1025];
	struct run run;

	(void)state;
	setup(&run, 1);
	memset(endless, 'x', sizeof(endless) - 1);
	run.to = endless;
	assert_int_equal(testenv_run(&run.t, change, &run), 0);
	assert_int_equal(run.result, -ENAMETOOLONG);
	run.to = endless + 1; /* 1023 bytes */
	assert_int_equal(testenv_run(&run.t, change, &run), 0);
	assert_int_equal(run.result, 0);
	look(&run, false, true);
	teardown(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crash_leaves_the_old_name_or_the_new),
		cmocka_unit_test(changes_follow_each_other),
		cmocka_unit_test(emptying_keeps_the_name),
		cmocka_unit_test(what_cannot_be_recorded_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
