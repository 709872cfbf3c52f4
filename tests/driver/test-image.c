// SPDX-License-Identifier: BSD-2-Clause
/* The checked calls, on a driver that notes what reaches it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "drivers.h"
#include "testenv.h"

static struct testenv env;

/* ---- a driver that counts ---- */

struct spy {
	unsigned reads, writes, zeros, trims, flushes;
	uint64_t longest;
	unsigned flags; /* of the last write or zero */
	int zero_result;
	struct td_extent extent; /* what it answers; len 0: what was asked */
};

static struct spy *spy_of(const struct td_image *im)
{
	return im->state;
}

static int spy_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct spy *spy = im->state;
	uint64_t at = 0;

	(void)flags;
	spy->reads++;
	spy->longest = TD_MAX(spy->longest, iov->len);
	for (; at < iov->len; at++) {
		struct td_iov one = td_iov_slice(iov, at, 1);
		unsigned char c = (unsigned char)((off + at) * 7);

		td_iov_from_buf(&one, &c);
	}
	return 0;
}

static int spy_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct spy *spy = im->state;

	(void)off;
	spy->writes++;
	spy->flags = flags;
	spy->longest = TD_MAX(spy->longest, iov->len);
	return 0;
}

static int spy_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	struct spy *spy = im->state;

	(void)off;
	(void)len;
	spy->zeros++;
	spy->flags = flags;
	return spy->zero_result;
}

static int spy_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	(void)off;
	(void)len;
	spy_of(im)->trims++;
	return 0;
}

static int spy_flush(struct td_image *im)
{
	spy_of(im)->flushes++;
	return 0;
}

static int spy_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	(void)off;
	(void)len;
	*ret = spy_of(im)->extent;
	return 0;
}

static const struct td_driver spy_driver = {
	.name = "spy",
	.flags = TD_LEAF,
	.state_size = sizeof(struct spy),
	.preadv = spy_preadv,
	.pwritev = spy_pwritev,
	.zero = spy_zero,
	.trim = spy_trim,
	.flush = spy_flush,
	.extent = spy_extent,
};

static const struct td_driver fua_driver = {
	.name = "fua",
	.flags = TD_LEAF | TD_KNOWS_FUA,
	.state_size = sizeof(struct spy),
	.pwritev = spy_pwritev,
	.zero = spy_zero,
	.flush = spy_flush,
};

static const struct td_driver empty_driver = { .name = "empty", .flags = TD_LEAF };
static const struct td_driver empty_filter = { .name = "filter", .flags = TD_FILTER };

/* td_image_close frees it. */
static struct td_image *image(const struct td_driver *drv, uint64_t size)
{
	struct td_image *im = calloc(1, sizeof(*im));

	im->drv = drv;
	im->env = &env.env;
	im->size = size;
	im->name = strdup(drv->name);
	im->path = strdup("");
	im->state = calloc(1, sizeof(struct spy));
	return im;
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

/* ---- ranges and states ---- */

static const struct {
	uint64_t off, len;
} bad_ranges[] = {
	{ 1000, 1 },
	{ 999, 2 },
	{ 0, 1001 },
	{ 1001, 0 },
	{ INT64_MAX, 1 },
	{ (uint64_t)INT64_MAX + 1, 1 },
	{ UINT64_MAX, 1 },
	{ UINT64_MAX - 511, 512 },
	{ UINT64_MAX - 99, 200 },
	{ (uint64_t)1 << 32, 1000 },
};

static void ranges_outside_the_image_never_reach_the_driver(void **state)
{
	struct td_image *im = image(&spy_driver, 1000);
	static char buf[1001];

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(bad_ranges); i++) {
		uint64_t off = bad_ranges[i].off, len = bad_ranges[i].len;
		struct td_extent e;

		assert_int_equal(test_read(&env, im, off, buf, len, 0), -EINVAL);
		assert_int_equal(test_write(&env, im, off, buf, len, 0), -EINVAL);
		assert_int_equal(test_zero(&env, im, off, len, 0), -EINVAL);
		assert_int_equal(test_trim(&env, im, off, len), -EINVAL);
		assert_int_equal(test_extent(&env, im, off, len, &e), -EINVAL);
	}
	assert_int_equal(test_zero(&env, im, 500, UINT64_MAX - 400, 0), -EINVAL);
	assert_int_equal(test_trim(&env, im, 0, UINT64_MAX), -EINVAL);
	assert_int_equal(spy_of(im)->reads + spy_of(im)->writes + spy_of(im)->zeros + spy_of(im)->trims, 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void empty_requests_succeed_without_the_driver(void **state)
{
	struct td_image *im = image(&spy_driver, 1000);

	(void)state;
	assert_int_equal(test_read(&env, im, 1000, NULL, 0, 0), 0);
	assert_int_equal(test_write(&env, im, 1000, NULL, 0, 0), 0);
	assert_int_equal(test_zero(&env, im, 0, 0, 0), 0);
	assert_int_equal(test_trim(&env, im, 1000, 0), 0);
	assert_int_equal(spy_of(im)->reads + spy_of(im)->writes + spy_of(im)->zeros + spy_of(im)->trims, 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void read_only_images_are_not_written(void **state)
{
	struct td_image *im = image(&spy_driver, 1000);
	char c = 0;

	(void)state;
	im->read_only = true;
	assert_int_equal(test_write(&env, im, 0, &c, 1, 0), -EROFS);
	assert_int_equal(test_zero(&env, im, 0, 1, 0), -EROFS);
	assert_int_equal(test_trim(&env, im, 0, 1), -EROFS);
	assert_int_equal(test_resize(&env, im, 1), -EROFS);
	assert_int_equal(test_flush(&env, im), 0);
	assert_int_equal(test_read(&env, im, 0, &c, 1, 0), 0);
	assert_int_equal(spy_of(im)->writes + spy_of(im)->zeros + spy_of(im)->trims + spy_of(im)->flushes, 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void frozen_images_are_read_and_nothing_else(void **state)
{
	struct td_image *im = image(&spy_driver, 1000);
	char c = 0;

	(void)state;
	td_image_freeze(im);
	assert_int_equal(test_write(&env, im, 0, &c, 1, 0), -EIO);
	assert_int_equal(test_zero(&env, im, 0, 1, 0), -EIO);
	assert_int_equal(test_trim(&env, im, 0, 1), -EIO);
	assert_int_equal(test_flush(&env, im), -EIO); /* 0 would promise what is not kept */
	assert_int_equal(test_resize(&env, im, 1), -EIO);
	assert_int_equal(test_read(&env, im, 0, &c, 1, 0), 0);
	assert_int_equal(test_close(&env, im), -EIO);
}

static void what_a_driver_does_not_have_is_not_supported(void **state)
{
	struct td_image *im = image(&empty_driver, 1000);
	struct td_check check = { 0 };
	char c = 0;

	(void)state;
	assert_int_equal(test_read(&env, im, 0, &c, 1, 0), -ENOTSUP);
	assert_int_equal(test_write(&env, im, 0, &c, 1, 0), -ENOTSUP);
	assert_int_equal(test_zero(&env, im, 0, 1, 0), -ENOTSUP);
	assert_int_equal(test_trim(&env, im, 0, 1), -ENOTSUP);
	assert_int_equal(test_resize(&env, im, 1), -ENOTSUP);
	assert_int_equal(td_image_check(im, 0, &check), -ENOTSUP);
	assert_int_equal(td_image_snapshot(im, TD_SNAP_CREATE, "x", NULL, NULL), -ENOTSUP);
	assert_int_equal(test_close(&env, im), 0);
}

/* ---- what image.c does for the driver ---- */

static void long_transfers_are_cut_and_nothing_is_lost(void **state)
{
	struct td_image *im = image(&spy_driver, 100000);
	static unsigned char buf[50001];

	(void)state;
	im->limits.max_transfer = 1000;
	assert_int_equal(test_read(&env, im, 77, buf, sizeof(buf), 0), 0);
	assert_int_equal(spy_of(im)->reads, 51);
	assert_int_equal(spy_of(im)->longest, 1000);
	for (unsigned i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], (unsigned char)((77 + i) * 7));
	assert_int_equal(test_write(&env, im, 0, buf, sizeof(buf), 0), 0);
	assert_int_equal(spy_of(im)->writes, 51);
	assert_int_equal(im->stats.reads, 1);
	assert_int_equal(im->stats.write_bytes, sizeof(buf));
	assert_int_equal(im->in_flight, 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void fua_is_a_flush_where_the_driver_does_not_know_it(void **state)
{
	struct td_image *plain = image(&spy_driver, 1000), *fua = image(&fua_driver, 1000);
	char c = 0;

	(void)state;
	assert_int_equal(test_write(&env, plain, 0, &c, 1, TD_FUA), 0);
	assert_int_equal(spy_of(plain)->flushes, 1);
	assert_int_equal(spy_of(plain)->flags, 0);
	assert_int_equal(test_zero(&env, plain, 0, 1, TD_FUA | TD_MAY_UNMAP), 0);
	assert_int_equal(spy_of(plain)->flushes, 2);
	assert_int_equal(spy_of(plain)->flags, TD_MAY_UNMAP);
	assert_int_equal(test_write(&env, fua, 0, &c, 1, TD_FUA), 0);
	assert_int_equal(spy_of(fua)->flags, TD_FUA);
	assert_int_equal(test_zero(&env, fua, 0, 1, TD_FUA), 0);
	assert_int_equal(spy_of(fua)->flushes, 0);
	assert_int_equal(test_close(&env, plain), 0);
	assert_int_equal(test_close(&env, fua), 0);
}

static void zeros_are_written_where_the_driver_has_no_better_way(void **state)
{
	struct td_image *im = image(&spy_driver, (uint64_t)5 << 20);

	(void)state;
	spy_of(im)->zero_result = -ENOTSUP;
	assert_int_equal(test_zero(&env, im, 1, 3u << 20, TD_FAST), -ENOTSUP);
	assert_int_equal(spy_of(im)->writes, 0);
	assert_int_equal(test_zero(&env, im, 1, 3u << 20, TD_FUA), 0);
	assert_int_equal(spy_of(im)->writes, 3);
	assert_int_equal(spy_of(im)->flushes, 1);
	spy_of(im)->zero_result = -ENOSPC; /* an error is no reason to try another way */
	assert_int_equal(test_zero(&env, im, 0, 512, 0), -ENOSPC);
	assert_int_equal(spy_of(im)->writes, 3);
	assert_int_equal(im->stats.errors, 1);
	assert_int_equal(test_close(&env, im), 0);
}

static void a_flush_goes_through_a_filter_that_keeps_nothing(void **state)
{
	struct td_image *im = image(&empty_filter, 1000);

	(void)state;
	im->child = image(&spy_driver, 1000);
	assert_int_equal(test_flush(&env, im), 0);
	assert_int_equal(spy_of(im->child)->flushes, 1);
	td_image_freeze(im->child);
	assert_int_equal(test_flush(&env, im), -EIO);
	assert_int_equal(test_close(&env, im), -EIO);
}

static void only_a_formats_file_grows(void **state)
{
	struct td_image *im = image(&spy_driver, 1000);
	char buf[100] = { 0 };

	(void)state;
	assert_int_equal(test_write(&env, im, 950, buf, 100, 0), -EINVAL);
	im->flags = TD_OPEN_GROW;
	assert_int_equal(test_write(&env, im, 950, buf, 100, 0), 0);
	assert_int_equal(im->size, 1050);
	assert_int_equal(test_zero(&env, im, 2000, 100, 0), 0);
	assert_int_equal(im->size, 2100);
	assert_int_equal(test_write(&env, im, INT64_MAX - 99, buf, 100, 0), -EINVAL);
	assert_int_equal(test_trim(&env, im, 2050, 100), -EINVAL);
	assert_int_equal(test_close(&env, im), 0);
}

static void behind_the_end_of_a_formats_file_are_zeros_but_no_metadata(void **state)
{
	struct td_image *im = image(&spy_driver, 1000);
	unsigned char buf[100];

	(void)state;
	im->flags = TD_OPEN_GROW;
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(test_read(&env, im, 950, buf, 100, TD_EXACT), -EUCLEAN);
	assert_int_equal(test_read(&env, im, 950, buf, 100, 0), 0);
	assert_int_equal(buf[49], (unsigned char)(999 * 7));
	assert_int_equal(buf[50], 0);
	assert_int_equal(buf[99], 0);
	assert_int_equal(test_read(&env, im, 5000, buf, 100, 0), 0);
	assert_int_equal(buf[0], 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void an_extent_that_is_nonsense_is_an_error(void **state)
{
	struct td_image *im = image(&spy_driver, 1000);
	struct td_extent e = { .len = 77 };

	(void)state;
	assert_int_equal(test_extent(&env, im, 0, 10, &e), -EIO); /* of length 0 */
	spy_of(im)->extent.len = 11;
	assert_int_equal(test_extent(&env, im, 0, 10, &e), -EIO);
	assert_int_equal(e.len, 77);
	assert_int_equal(test_close(&env, im), 0);
}

/* ---- opening ---- */

static void refused(int code, const char *spec, const char *because)
{
	struct td_image *im = NULL;
	int r;

	env.err.msg[0] = 0;
	r = test_open(&env, &im, 0, "%s", spec);
	if (r != code || !strstr(env.err.msg, because))
		fail_msg("%s: %d: '%s' does not say '%s'", spec, r, env.err.msg, because);
	assert_null(im);
}

static void what_cannot_be_opened_says_why(void **state)
{
	(void)state;
	refused(-EINVAL, "nonsense:/x", "no driver 'nonsense'");
	refused(-EINVAL, "ram/aio:/x", "has to be the last");
	refused(-EINVAL, "ram(sise=1M):", "no option 'sise'");
	refused(-EINVAL, "fault(read-every=x)/ram:", "read-every");
	refused(-ENOENT, "aio:/nowhere/at/all", "/nowhere");
	refused(-ENOENT, "aio:nothing-here", "nothing-here");
	refused(-EINVAL, "aio:", "no path");
	refused(-EINVAL, "aio:/dev/null", "neither a regular file nor a block device");
	refused(-EFBIG, "ram(size=1T):", "memory");
}

static void filters_stand_where_the_specification_says(void **state)
{
	struct td_image *im = NULL;
	char buf[512];

	(void)state;
	assert_int_equal(
		test_open(&env, &im, 0, "fault(read-every=2)/fault(read-every=3,error=ENOSPC)/ram(size=1M):"),
		0);
	assert_int_equal(im->size, 1 << 20);
	assert_int_equal(test_read(&env, im, 0, buf, 512, 0), 0);
	assert_int_equal(test_read(&env, im, 0, buf, 512, 0), -EIO); /* the upper one's */
	assert_int_equal(test_read(&env, im, 0, buf, 512, 0), 0);
	assert_int_equal(test_read(&env, im, 0, buf, 512, 0), -EIO);
	assert_int_equal(test_read(&env, im, 0, buf, 512, 0), -ENOSPC); /* the lower one has seen three */
	assert_int_equal(test_close(&env, im), 0);
}

/* ---- creating ---- */

static bool exists(const char *name)
{
	return access(testenv_path(&env, name), F_OK) == 0;
}

static void create_overwrites_nothing_without_force(void **state)
{
	struct td_image *im = NULL;
	struct stat st;

	(void)state;
	assert_int_equal(test_create(&env, 1000, NULL, false, "raw:%s/new", env.dir), 0);
	assert_int_equal(stat(testenv_path(&env, "new"), &st), 0);
	assert_int_equal(st.st_size, 1024); /* whole sectors */
	assert_int_equal(test_create(&env, 2048, NULL, false, "raw:%s/new", env.dir), -EEXIST);
	assert_non_null(strstr(env.err.msg, "force"));
	assert_int_equal(stat(testenv_path(&env, "new"), &st), 0);
	assert_int_equal(st.st_size, 1024);
	assert_int_equal(test_create(&env, 2048, NULL, true, "raw:%s/new", env.dir), 0);
	/* And a disk in use not even with it. */
	assert_int_equal(test_open(&env, &im, 0, "aio:%s/new", env.dir), 0);
	assert_int_equal(test_create(&env, 512, NULL, true, "raw:%s/new", env.dir), -EBUSY);
	assert_int_equal(stat(testenv_path(&env, "new"), &st), 0);
	assert_int_equal(st.st_size, 2048);
	assert_int_equal(test_close(&env, im), 0);
}

static void a_failed_create_removes_what_it_made_and_no_more(void **state)
{
	(void)state;
	assert_int_equal(test_create(&env, 1000, "nonsense=1", false, "raw:%s/failed", env.dir), -EINVAL);
	assert_non_null(strstr(env.err.msg, "nonsense"));
	assert_false(exists("failed"));
	assert_int_equal(test_create(&env, 1000, "preallocation=some", false, "raw:%s/failed", env.dir),
			 -EINVAL);
	assert_false(exists("failed"));
	assert_int_equal(test_create(&env, 1000, NULL, false, "raw:%s/kept", env.dir), 0);
	assert_int_equal(test_create(&env, 1000, "nonsense=1", true, "raw:%s/kept", env.dir), -EINVAL);
	assert_true(exists("kept"));
	assert_int_equal(test_create(&env, UINT64_MAX, NULL, false, "raw:%s/failed", env.dir), -EFBIG);
	assert_int_equal(test_create(&env, 1000, NULL, false, "auto:%s/failed", env.dir), -EINVAL);
	assert_int_equal(test_create(&env, 1000, NULL, false, "ram:%s/failed", env.dir), -ENOTSUP);
	assert_int_equal(test_create(&env, 1000, NULL, false, "aio:/dev/null"), -EINVAL);
	assert_true(access("/dev/null", F_OK) == 0);
	assert_false(exists("failed"));
}

/* ---- probing ---- */

static void put(const char *name, size_t size, size_t off, const void *bytes, size_t len)
{
	FILE *f = fopen(testenv_path(&env, name), "w");

	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), (off_t)size), 0);
	assert_int_equal(fseek(f, (long)off, SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void a_probe_answers_raw_only_where_no_format_is_known(void **state)
{
	static const struct {
		const char *name;
		size_t off;
		const char *bytes;
		size_t len;
	} foreign[] = {
		{ "qcow", 0, "QFI\xfb\0\0\0\1", 8 },
		{ "vmdk", 0, "KDMV", 4 },
		{ "vmdk", 0, "COWD", 4 },
		{ "vmdk", 0, "# Disk DescriptorFile\n", 22 },
		{ "vhd", 0, "conectix", 8 },
		{ "vhd", 65536 - 512, "conectix", 8 },
		{ "vhd", 65536 - 511, "conectix", 8 },
		{ "vhdx", 0, "vhdxfile", 8 },
		{ "vdi", 64, "\x7f\x10\xda\xbe", 4 },
		{ "qed", 0, "QED\0", 4 },
		{ "luks", 0, "LUKS\xba\xbe", 6 },
		{ "parallels", 0, "WithoutFreeSpace", 16 },
	};
	struct td_image *im = NULL;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(foreign); i++) {
		char spec[128], want[64];

		if (td_driver_find(foreign[i].name))
			continue;
		put("probe", 65536, foreign[i].off, foreign[i].bytes, foreign[i].len);
		(void)snprintf(spec, sizeof(spec), "auto:%s/probe", env.dir);
		(void)snprintf(want, sizeof(want), "holds a %s image", foreign[i].name);
		refused(-ENOTSUP, spec, want);
	}
	put("probe", 65536, 100, "nothing", 7);
	assert_int_equal(test_open(&env, &im, 0, "auto(direct=off):%s/probe", env.dir), 0);
	assert_string_equal(im->drv->name, "aio");
	assert_int_equal(test_close(&env, im), 0);
	put("probe", 3, 0, "QFI", 3); /* too short to be anything */
	assert_int_equal(test_open(&env, &im, 0, "fault/auto:%s/probe", env.dir), 0);
	assert_int_equal(test_close(&env, im), 0);
	put("probe", 0, 0, "", 0);
	assert_int_equal(test_open(&env, &im, 0, "auto:%s/probe", env.dir), 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void buffers_come_aligned_from_the_cache(void **state)
{
	(void)state;
	for (size_t len = 1; len < (size_t)5 << 20; len = len * 3 + 1) {
		char *a = td_buf_alloc(len), *b;

		assert_non_null(a);
		assert_int_equal((uintptr_t)a % 4096, 0);
		memset(a, 1, len);
		td_buf_free(a, len);
		b = td_buf_alloc(len);
		assert_int_equal((uintptr_t)b % 4096, 0);
		td_buf_free(b, len);
	}
	td_buf_free(NULL, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_outside_the_image_never_reach_the_driver),
		cmocka_unit_test(empty_requests_succeed_without_the_driver),
		cmocka_unit_test(read_only_images_are_not_written),
		cmocka_unit_test(frozen_images_are_read_and_nothing_else),
		cmocka_unit_test(what_a_driver_does_not_have_is_not_supported),
		cmocka_unit_test(long_transfers_are_cut_and_nothing_is_lost),
		cmocka_unit_test(fua_is_a_flush_where_the_driver_does_not_know_it),
		cmocka_unit_test(zeros_are_written_where_the_driver_has_no_better_way),
		cmocka_unit_test(a_flush_goes_through_a_filter_that_keeps_nothing),
		cmocka_unit_test(only_a_formats_file_grows),
		cmocka_unit_test(behind_the_end_of_a_formats_file_are_zeros_but_no_metadata),
		cmocka_unit_test(an_extent_that_is_nonsense_is_an_error),
		cmocka_unit_test(what_cannot_be_opened_says_why),
		cmocka_unit_test(filters_stand_where_the_specification_says),
		cmocka_unit_test(create_overwrites_nothing_without_force),
		cmocka_unit_test(a_failed_create_removes_what_it_made_and_no_more),
		cmocka_unit_test(a_probe_answers_raw_only_where_no_format_is_known),
		cmocka_unit_test(buffers_come_aligned_from_the_cache),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
