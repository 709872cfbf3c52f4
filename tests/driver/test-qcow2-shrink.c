// SPDX-License-Identifier: BSD-2-Clause
/*
 * Smaller disks: what is before the new end stays, what is behind it is gone for whoever makes the disk larger again,
 * and its space is given back.  The loops (test-qcow2-crash, -faults, -kill) do it while all else goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "qcow2-fsck.h"
#include "testenv.h"

#define MIB  (1u << 20)
#define SIZE (6 * MIB)

static struct testenv env;
static char path[128];
static uint8_t data[SIZE], got[2 * SIZE];

static bool TD_PRINTF(1, 2) qemu(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	if (system("qemu-img --version >/dev/null 2>&1") != 0) /* NOLINT: fixed text */
		return false;
	va_start(ap, fmt);
	(void)vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	assert_int_equal(system(cmd), 0); /* NOLINT: our own files */
	return true;
}

static void is_whole(void)
{
	struct fsck k;

	assert_int_equal(qcow2_fsck(path, &k), 0);
	assert_int_equal(k.corruptions, 0);
	assert_int_equal(k.leaks, 0);
	qemu("qemu-img check -q %s", path);
}

static uint64_t file_size(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

/* Nothing in it but data, packed or not; over a backing image that holds other bytes everywhere. */
static struct td_image *make(const char *opts, bool packed)
{
	struct td_image *im = NULL;

	for (size_t i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i / 512 % 255 + 1);
	(void)snprintf(path, sizeof(path), "%s/disk", env.dir);
	assert_int_equal(test_create(&env, SIZE, opts, true, "qcow2:%s", path), 0);
	assert_int_equal(test_open(&env, &im, 0, "qcow2:%s", path), 0);
	assert_int_equal(test_write(&env, im, 0, data, SIZE, packed ? TD_COMPRESS : 0), 0);
	return im;
}

/* `kept` bytes of it, then zeros. */
static void holds(struct td_image *im, uint64_t kept)
{
	assert_int_equal(test_read(&env, im, 0, got, im->size, 0), 0);
	assert_memory_equal(got, data, kept);
	for (uint64_t i = kept; i < im->size; i++)
		assert_int_equal(got[i], 0);
}

static void to_and_fro(const char *opts, uint64_t size, bool packed)
{
	struct td_image *im = make(opts, packed);

	assert_int_equal(test_flush(&env, im), 0);
	assert_int_equal(test_resize(&env, im, size), 0);
	assert_int_equal(im->size, size);
	holds(im, size);
	assert_int_equal(test_write(&env, im, size, data, 512, 0), -EINVAL);
	assert_int_equal(test_resize(&env, im, 2 * SIZE), 0);
	holds(im, size);
	/* There is room again, and it is good for something. */
	assert_int_equal(test_resize(&env, im, size), 0);
	assert_int_equal(test_resize(&env, im, SIZE), 0);
	assert_int_equal(test_write(&env, im, size, data + size, SIZE - size, 0), 0);
	holds(im, SIZE);
	assert_int_equal(test_resize(&env, im, size), 0);
	assert_int_equal(test_close(&env, im), 0);
	is_whole();
}

static const uint64_t sizes[] = { 0, 512, 65536, MIB + 4096 + 512, SIZE - 65536, SIZE - 512 };

static void what_is_before_the_end_stays(void **state)
{
	static const char *const opts[] = {
		"",
		"cluster_size=512,refcount_bits=1",
		"cluster_size=4K,compat=0.10",
		"cluster_size=2M,lazy_refcounts=on,refcount_bits=64",
	};

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(opts); i++)
		for (unsigned n = 0; n < TD_NELEMS(sizes); n++)
			to_and_fro(opts[i], sizes[n], n % 2);
}

static void a_backing_image_does_not_show(void **state)
{
	static const char *const compat[] = { "v3", "v2" };
	struct td_image *im = NULL;
	char opts[128];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/below", env.dir);
	assert_int_equal(test_create(&env, 2 * SIZE, "", true, "raw:%s", path), 0);
	assert_int_equal(test_open(&env, &im, 0, "raw:%s", path), 0);
	memset(got, 0xee, sizeof(got));
	assert_int_equal(test_write(&env, im, 0, got, 2 * SIZE, 0), 0);
	assert_int_equal(test_close(&env, im), 0);
	for (unsigned i = 0; i < TD_NELEMS(compat); i++) {
		(void)snprintf(opts, sizeof(opts), "compat=%s,backing_file=below,backing_fmt=raw", compat[i]);
		for (unsigned n = 0; n < TD_NELEMS(sizes); n++)
			to_and_fro(opts, sizes[n], n % 2);
	}
}

static void the_file_becomes_shorter(void **state)
{
	struct td_image *im = make("", false);
	uint64_t before;

	(void)state;
	assert_int_equal(test_close(&env, im), 0);
	before = file_size();
	assert_int_equal(test_open(&env, &im, 0, "qcow2:%s", path), 0);
	assert_int_equal(test_resize(&env, im, MIB), 0);
	assert_in_range(file_size(), MIB, before - 4 * MIB);
	assert_int_equal(test_close(&env, im), 0);
	is_whole();
}

/* Another program makes it larger again, which need not look at what is behind the end. */
static void others_find_zeros_too(void **state)
{
	struct td_image *im = make("", false);
	uint64_t size = MIB + 4096 + 512;

	(void)state;
	assert_int_equal(test_resize(&env, im, size), 0);
	assert_int_equal(test_close(&env, im), 0);
	if (!qemu("qemu-img resize -q %s %u", path, SIZE))
		skip();
	assert_int_equal(test_open(&env, &im, TD_OPEN_RDONLY, "qcow2:%s", path), 0);
	holds(im, size);
	assert_int_equal(test_close(&env, im), 0);
	is_whole();
}

static void a_snapshot_keeps_what_it_has(void **state)
{
	struct td_image *im = make("", false);

	(void)state;
	assert_int_equal(test_close(&env, im), 0);
	if (!qemu("qemu-img snapshot -c all %s", path))
		skip();
	assert_int_equal(test_open(&env, &im, 0, "qcow2:%s", path), 0);
	assert_int_equal(test_resize(&env, im, MIB + 4096), 0);
	holds(im, MIB + 4096);
	assert_int_equal(test_close(&env, im), 0);
	is_whole();
	qemu("qemu-img snapshot -a all %s", path);
	assert_int_equal(test_open(&env, &im, TD_OPEN_RDONLY, "qcow2:%s", path), 0);
	assert_int_equal(im->size, SIZE);
	holds(im, SIZE);
	assert_int_equal(test_close(&env, im), 0);
	is_whole();
	/* Version 2 snapshots do not say how large the disk was. */
	im = make("compat=v2", false);
	assert_int_equal(test_close(&env, im), 0);
	qemu("qemu-img snapshot -c all %s", path);
	assert_int_equal(test_open(&env, &im, 0, "qcow2:%s", path), 0);
	assert_int_equal(test_resize(&env, im, MIB), -ENOTSUP);
	holds(im, SIZE);
	assert_int_equal(test_close(&env, im), 0);
}

static int setup(void **state)
{
	(void)state;
	return testenv_open(&env, "auto", NULL);
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
		cmocka_unit_test(what_is_before_the_end_stays),
		cmocka_unit_test(a_backing_image_does_not_show),
		cmocka_unit_test(the_file_becomes_shorter),
		cmocka_unit_test(others_find_zeros_too),
		cmocka_unit_test(a_snapshot_keeps_what_it_has),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
