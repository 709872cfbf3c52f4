// SPDX-License-Identifier: BSD-2-Clause
/*
 * A vmdk is committed into its parent, and the power is cut before operation n, for every n, any part of what was not
 * flushed being lost: the disk opens and reads as ever, so that the commit can be run again; or all is in the parent,
 * whose CID has changed, and the disk is refused until it has recorded that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "simdisk.h"
#include "testenv.h"

#define SIZE (256u << 10)
#define HELD (64u << 10) /* by the overlay, from its start on */

struct run {
	struct testenv t;
	struct simdisk *sim;
	struct simdisk_state *clean;
	char base[160], top[160];
	bool fails; /* in the middle, by itself */
	unsigned images, refused;
};

static int commit_into(struct run *run, struct td_image *top, struct td_image *base)
{
	static char buf[4096];
	int r = 0;

	for (uint64_t off = 0; r == 0 && off < HELD; off += sizeof(buf)) {
		r = td_image_pread(top, off, buf, sizeof(buf), 0);
		if (r == 0)
			r = td_image_pwrite(base, off, buf, sizeof(buf), 0);
		if (r == 0 && run->fails && off >= HELD / 2)
			return -ENOSPC;
	}
	if (r == 0)
		r = td_image_flush(base);
	return r == 0 ? td_image_empty(top, &run->t.err) : r;
}

static int commit(void *arg)
{
	struct run *run = arg;
	struct td_image *top = NULL, *base = NULL;
	struct td_spec *spec = NULL;
	int r = td_spec_parse(run->top, &spec, &run->t.err), r2;

	if (r < 0)
		return r;
	r = td_image_open_base(&run->t.env, spec, NULL, 0, &top, &base, &run->t.err);
	td_spec_free(spec);
	if (r < 0)
		return r;
	r = commit_into(run, top, base);
	r2 = td_image_close(top);
	return r < 0 ? r : r2;
}

static bool is_filled(const char *buf, size_t len, int c)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i] != (char)c)
			return false;
	return true;
}

/* 't' of the overlay, and 'b' of the base behind it. */
static bool reads_well(struct run *run, const char *spec)
{
	static char buf[SIZE];
	struct td_image *im = NULL;
	int r = test_open(&run->t, &im, TD_OPEN_RDONLY, "%s", spec);

	if (r < 0)
		return false;
	assert_int_equal(test_read(&run->t, im, 0, buf, sizeof(buf), 0), 0);
	assert_int_equal(test_close(&run->t, im), 0);
	if (!is_filled(buf, HELD, 't') || !is_filled(buf + HELD, SIZE - HELD, 'b'))
		fail_msg("%s reads otherwise", spec);
	return true;
}

static void look(struct run *run)
{
	run->images++;
	if (reads_well(run, run->top))
		return;
	run->refused++;
	if (!strstr(run->t.err.msg, "has the CID"))
		fail_msg("%s", run->t.err.msg);
	assert_true(reads_well(run, run->base));
}

static void fill(struct run *run, const char *spec, int c, size_t len)
{
	static char buf[SIZE];
	struct td_image *im = NULL;

	memset(buf, c, len);
	assert_int_equal(test_open(&run->t, &im, 0, "%s", spec), 0);
	assert_int_equal(test_write(&run->t, im, 0, buf, len, 0), 0);
	assert_int_equal(test_close(&run->t, im), 0);
}

static void setup(struct run *run)
{
	*run = (struct run){ .sim = simdisk_new(1) };
	assert_int_equal(testenv_open_sim(&run->t, run->sim), 0);
	(void)snprintf(run->base, sizeof(run->base), "vmdk:%s/base.vmdk", run->t.dir);
	(void)snprintf(run->top, sizeof(run->top), "vmdk:%s/top.vmdk", run->t.dir);
	assert_int_equal(test_create(&run->t, SIZE, "", true, "%s", run->base), 0);
	fill(run, run->base, 'b', SIZE);
	assert_int_equal(
		test_create(&run->t, SIZE, "backing_fmt=vmdk,backing_file=base.vmdk", true, "%s", run->top),
		0);
	fill(run, run->top, 't', HELD);
	run->clean = simdisk_save(run->sim);
}

static void teardown(struct run *run)
{
	testenv_close(&run->t);
	simdisk_state_free(run->clean);
	simdisk_free(run->sim);
}

static void a_committed_disk_opens(void **state)
{
	struct td_extent e = { 0 };
	struct td_image *im = NULL;
	struct run run;

	(void)state;
	setup(&run);
	if (testenv_run(&run.t, commit, &run) < 0)
		fail_msg("%s", run.t.err.msg);
	assert_true(reads_well(&run, run.top));
	assert_int_equal(test_open(&run.t, &im, 0, "%s", run.top), 0);
	assert_int_equal(test_extent(&run.t, im, 0, SIZE, &e), 0);
	assert_false(e.allocated);
	assert_int_equal(test_close(&run.t, im), 0);
	teardown(&run);
}

static void one_that_fails_can_be_run_again(void **state)
{
	struct run run;

	(void)state;
	setup(&run);
	run.fails = true;
	assert_int_equal(testenv_run(&run.t, commit, &run), -ENOSPC);
	assert_true(reads_well(&run, run.top));
	run.fails = false;
	assert_int_equal(testenv_run(&run.t, commit, &run), 0);
	assert_true(reads_well(&run, run.top));
	teardown(&run);
}

static void a_crash_loses_nothing(void **state)
{
	struct run run;

	(void)state;
	setup(&run);
	for (uint64_t n = 1;; n++) {
		struct simdisk_state *crash;

		simdisk_restore(run.sim, run.clean);
		simdisk_start(run.sim, n);
		simdisk_cut(run.sim, n);
		(void)testenv_run(&run.t, commit, &run);
		if (!simdisk_is_cut(run.sim))
			break;
		crash = simdisk_crash(run.sim);
		for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++) {
			simdisk_make(run.sim, crash, how, n * 7);
			look(&run);
		}
		simdisk_state_free(crash);
	}
	printf("# %u images, %u of them refused\n", run.images, run.refused);
	teardown(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_committed_disk_opens),
		cmocka_unit_test(one_that_fails_can_be_run_again),
		cmocka_unit_test(a_crash_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
