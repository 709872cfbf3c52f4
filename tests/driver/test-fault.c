// SPDX-License-Identifier: BSD-2-Clause
/* The filter that fails on purpose, and the disks in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "drivers.h"
#include "model.h"
#include "testenv.h"
#include "workload.h"

static struct testenv env;
static char buf[4096];

static struct td_image *fault(const char *options)
{
	struct td_image *im = NULL;

	if (test_open(&env, &im, 0, "fault(%s)/ram(size=1M):", options) < 0)
		fail_msg("%s", env.err.msg);
	return im;
}

static int rd(struct td_image *im)
{
	return test_read(&env, im, 0, buf, 512, 0);
}

static int wr(struct td_image *im)
{
	return test_write(&env, im, 0, buf, 512, 0);
}

static void without_options_it_is_not_there(void **state)
{
	struct td_image *im = fault("");

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(rd(im), 0);
		assert_int_equal(wr(im), 0);
	}
	assert_int_equal(test_close(&env, im), 0);
}

static void each_kind_fails_at_its_own_pace(void **state)
{
	struct td_image *im =
		fault("read-every=2,write-every=3,zero-every=1,trim-every=1,flush-every=2,error=ENOSPC");

	(void)state;
	assert_int_equal(rd(im), 0);
	assert_int_equal(wr(im), 0);
	assert_int_equal(rd(im), -ENOSPC);
	assert_int_equal(wr(im), 0);
	assert_int_equal(wr(im), -ENOSPC);
	assert_int_equal(test_zero(&env, im, 0, 512, 0), -ENOSPC);
	assert_int_equal(test_trim(&env, im, 0, 512), -ENOSPC);
	assert_int_equal(test_flush(&env, im), 0);
	assert_int_equal(test_flush(&env, im), -ENOSPC);
	assert_int_equal(test_close(&env, im), 0);
}

static void after_and_once_are_kept(void **state)
{
	struct td_image *im = fault("read-every=1,after=3,once");

	(void)state;
	assert_int_equal(rd(im), 0);
	assert_int_equal(wr(im), 0);
	assert_int_equal(rd(im), 0);
	assert_int_equal(rd(im), -EIO);
	assert_int_equal(rd(im), 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void only_the_range_that_was_named_fails(void **state)
{
	struct td_image *im = fault("read-every=1,from=4K,to=8K");

	(void)state;
	assert_int_equal(test_read(&env, im, 0, buf, 4096, 0), 0);
	assert_int_equal(test_read(&env, im, 1, buf, 4096, 0), -EIO);
	assert_int_equal(test_read(&env, im, 8191, buf, 1, 0), -EIO);
	assert_int_equal(test_read(&env, im, 8192, buf, 512, 0), 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void a_torn_write_leaves_its_first_half(void **state)
{
	struct td_image *im = fault("write-every=1,torn,once");

	(void)state;
	memset(buf, 3, sizeof(buf));
	assert_int_equal(test_write(&env, im, 0, buf, 3 * 512, 0), -EIO);
	assert_int_equal(test_read(&env, im, 0, buf, 3 * 512, 0), 0);
	assert_int_equal(buf[511], 3);
	assert_int_equal(buf[512], 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void a_delay_delays(void **state)
{
	struct td_image *im = fault("delay-ms=20");
	struct timespec a, b;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &a);
	assert_int_equal(rd(im), 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= 19);
	assert_int_equal(test_close(&env, im), 0);
}

static void it_can_be_changed_while_the_disk_runs(void **state)
{
	struct td_image *im = fault("read-every=1");
	struct td_opts o = { 0 };

	(void)state;
	assert_int_equal(rd(im), -EIO);
	assert_int_equal(td_opts_parse(&o, "read-every=0,write-every=2", 26, NULL), 0);
	assert_int_equal(td_image_set(im, "fault", &o, NULL), 0);
	td_opts_done(&o);
	assert_int_equal(rd(im), 0);
	assert_int_equal(wr(im), 0);
	assert_int_equal(wr(im), -EIO);
	assert_int_equal(td_opts_parse(&o, "error=EPERM", 11, NULL), 0);
	assert_int_equal(td_image_set(im, "fault", &o, &env.err), -EINVAL);
	td_opts_done(&o);
	assert_int_equal(test_close(&env, im), 0);
}

static int run_workload(void *arg)
{
	int r = workload_run(arg);

	if (r == 0)
		r = workload_compare(arg, false);
	return r == -EIO ? workload_compare(arg, false) : r; /* that read was the one in seven */
}

static void random_work(const char *spec)
{
	struct workload w = { .model = model_new(2000),
			      .random = test_seed(),
			      .sectors = 2000,
			      .workers = 8,
			      .steps = 200,
			      .max_nr = 300 };

	assert_int_equal(test_open(&env, &w.im, 0, "%s", spec), 0);
	assert_int_equal(testenv_run(&env, run_workload, &w), 0);
	assert_int_equal(test_close(&env, w.im), 0);
	model_free(w.model);
}

static void a_disk_in_memory_matches_the_model(void **state)
{
	(void)state;
	random_work("ram(size=1000K):");
	random_work("fault(write-every=5,read-every=7,zero-every=3,torn)/ram(size=1000K):");
}

static void a_disk_in_memory_knows_its_holes(void **state)
{
	struct td_image *im;
	struct td_extent e;

	(void)state;
	assert_int_equal(test_open(&env, &im, 0, "ram(size=1M):"), 0);
	assert_int_equal(test_write(&env, im, 200000, buf, 512, 0), 0);
	assert_int_equal(test_extent(&env, im, 0, 1 << 20, &e), 0);
	assert_int_equal(e.kind, TD_EXTENT_ZERO);
	assert_int_equal(e.len, 196608);
	assert_int_equal(test_extent(&env, im, 200000, 500000, &e), 0);
	assert_int_equal(e.kind, TD_EXTENT_DATA);
	assert_int_equal(e.len, 262144 - 200000);
	assert_int_equal(test_trim(&env, im, 0, 1 << 20), 0);
	assert_int_equal(test_extent(&env, im, 0, 1 << 20, &e), 0);
	assert_int_equal(e.len, 1 << 20);
	memset(buf, 4, sizeof(buf));
	assert_int_equal(test_write(&env, im, 4096, buf, 4096, 0), 0);
	assert_int_equal(test_resize(&env, im, 5000), 0);
	assert_int_equal(test_resize(&env, im, 1 << 20), 0);
	assert_int_equal(test_read(&env, im, 4096, buf, 4096, 0), 0);
	assert_int_equal(buf[903], 4);
	assert_int_equal(buf[904], 0); /* what was cut off does not come back */
	assert_int_equal(test_close(&env, im), 0);
}

static void the_null_disk_reads_zeros(void **state)
{
	struct td_image *im;

	(void)state;
	assert_int_equal(test_open(&env, &im, 0, "null(size=1P):"), 0);
	assert_int_equal(im->size, (uint64_t)1 << 50);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(test_write(&env, im, im->size - 4096, buf, 4096, TD_FUA), 0);
	assert_int_equal(test_read(&env, im, im->size - 4096, buf, 4096, 0), 0);
	assert_int_equal(buf[0], 0);
	assert_int_equal(test_flush(&env, im), 0);
	assert_int_equal(test_close(&env, im), 0);
}

static int setup(void **state)
{
	(void)state;
	return testenv_open(&env, "sync", NULL);
}

static int teardown(void **state)
{
	(void)state;
	testenv_close(&env);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_options_it_is_not_there),
		cmocka_unit_test(each_kind_fails_at_its_own_pace),
		cmocka_unit_test(after_and_once_are_kept),
		cmocka_unit_test(only_the_range_that_was_named_fails),
		cmocka_unit_test(a_torn_write_leaves_its_first_half),
		cmocka_unit_test(a_delay_delays),
		cmocka_unit_test(it_can_be_changed_while_the_disk_runs),
		cmocka_unit_test(a_disk_in_memory_matches_the_model),
		cmocka_unit_test(a_disk_in_memory_knows_its_holes),
		cmocka_unit_test(the_null_disk_reads_zeros),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
