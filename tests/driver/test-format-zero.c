// SPDX-License-Identifier: BSD-2-Clause
/*
 * A fast zero of formats that cannot say "zero" in their tables: it is done as a whole, or refused, and nothing has
 * changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "testenv.h"

#define MIB (1u << 20)

static struct testenv env;
static char buf[2 * MIB], back[2 * MIB];

static struct td_image *open_top(const char *driver)
{
	struct td_image *im = NULL;

	if (test_open(&env, &im, 0, "%s(backing-format=%s):%s", driver, driver, testenv_path(&env, "top")) <
	    0)
		fail_msg("%s", env.err.msg);
	return im;
}

static void make(const char *driver, const char *name, const char *opts)
{
	if (test_create(&env, 4 * MIB, opts, false, "%s:%s", driver, testenv_path(&env, name)) < 0)
		fail_msg("%s", env.err.msg);
}

static void put(struct td_image *im, uint64_t off, size_t len, int byte)
{
	memset(buf, byte, len);
	assert_int_equal(test_write(&env, im, off, buf, len, 0), 0);
}

static void has(struct td_image *im, uint64_t off, size_t len, int byte)
{
	memset(buf, byte, len);
	assert_int_equal(test_read(&env, im, off, back, len, 0), 0);
	assert_memory_equal(buf, back, len);
}

/* The first MiB is held by the image, the second by what is below. */
static struct td_image *over_a_base(const char *driver)
{
	struct td_image *im = NULL;
	char opts[80];

	make(driver, "base", "");
	assert_int_equal(test_open(&env, &im, 0, "%s:%s", driver, testenv_path(&env, "base")), 0);
	put(im, 0, 2 * MIB, 'b');
	assert_int_equal(test_close(&env, im), 0);
	(void)snprintf(opts, sizeof(opts), "backing_file=base,backing_fmt=%s", driver);
	make(driver, "top", opts);
	im = open_top(driver);
	put(im, 0, MIB, 't');
	return im;
}

static void refused_or_whole(const char *driver)
{
	struct td_image *im = over_a_base(driver);

	assert_int_equal(test_zero(&env, im, 0, 2 * MIB, TD_FAST | TD_MAY_UNMAP), -ENOTSUP);
	has(im, 0, MIB, 't');
	has(im, MIB, MIB, 'b');
	/* What is held can be punched out, and behind the base's data are zeros. */
	assert_int_equal(test_zero(&env, im, 0, MIB, TD_FAST | TD_MAY_UNMAP), 0);
	assert_int_equal(test_zero(&env, im, 2 * MIB, MIB, TD_FAST | TD_MAY_UNMAP), 0);
	has(im, 0, MIB, 0);
	has(im, MIB, MIB, 'b');
	assert_int_equal(test_zero(&env, im, 0, 4 * MIB, TD_MAY_UNMAP), 0);
	has(im, 0, 2 * MIB, 0);
	has(im, 2 * MIB, 2 * MIB, 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void vmdk_says_so_first(void **state)
{
	(void)state;
	assert_int_equal(testenv_open(&env, "sync", NULL), 0);
	refused_or_whole("vmdk");
	testenv_close(&env);
}

static void qcow_says_so_first(void **state)
{
	(void)state;
	assert_int_equal(testenv_open(&env, "sync", NULL), 0);
	refused_or_whole("qcow");
	testenv_close(&env);
}

/* A place for the block and zeros in it are a promise of the file alone. */
static void vhd_does_it(void **state)
{
	struct td_image *im;

	(void)state;
	assert_int_equal(testenv_open(&env, "sync", NULL), 0);
	im = over_a_base("vhd");
	assert_int_equal(test_zero(&env, im, 0, 2 * MIB, TD_FAST | TD_MAY_UNMAP), 0);
	has(im, 0, 2 * MIB, 0);
	assert_int_equal(test_close(&env, im), 0);
	testenv_close(&env);
}

/* Subclusters can be said to be zeros, but a compressed cluster has none: a part of it would have to be written. */
static void a_part_of_a_stream_is_refused_first(void **state)
{
	enum { CLUSTER = 64 << 10 };
	struct td_image *im = NULL;

	(void)state;
	assert_int_equal(testenv_open(&env, "sync", NULL), 0);
	make("qcow2", "top", "extended_l2=on");
	assert_int_equal(test_open(&env, &im, 0, "qcow2:%s", testenv_path(&env, "top")), 0);
	put(im, 0, 4 * CLUSTER, 'd');
	memset(buf, 's', CLUSTER);
	assert_int_equal(test_write(&env, im, 4 * CLUSTER, buf, CLUSTER, TD_COMPRESS), 0);
	assert_int_equal(test_zero(&env, im, CLUSTER, 3 * CLUSTER + CLUSTER / 2, TD_FAST | TD_MAY_UNMAP),
			 -ENOTSUP);
	has(im, 0, 4 * CLUSTER, 'd');
	has(im, 4 * CLUSTER, CLUSTER, 's');
	assert_int_equal(test_zero(&env, im, CLUSTER / 2, 5 * CLUSTER - CLUSTER / 2, TD_FAST | TD_MAY_UNMAP),
			 0);
	has(im, 0, CLUSTER / 2, 'd');
	has(im, CLUSTER / 2, 5 * CLUSTER - CLUSTER / 2, 0);
	assert_int_equal(test_close(&env, im), 0);
	testenv_close(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vmdk_says_so_first),
		cmocka_unit_test(qcow_says_so_first),
		cmocka_unit_test(vhd_does_it),
		cmocka_unit_test(a_part_of_a_stream_is_refused_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
