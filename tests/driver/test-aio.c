// SPDX-License-Identifier: BSD-2-Clause
/*
 * The leaf on real files: random requests against a model, over engines, with and without O_DIRECT, on files and on
 * loop devices; ends of files; extents; alignment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "testenv.h"
#include "workload.h"

#define SECTORS     1021u /* no multiple of anything */
#define LOOP_TRIALS 20

static const char *const engines[] = { "sync", "libaio", "io_uring" };

/* A real file system, where there is O_DIRECT and a page cache: the build folder's. */
static const char *real_base(void)
{
	return ".";
}

static int open_env(struct testenv *t, const char *engine, const char *base)
{
	int r = testenv_open(t, engine, base);

	if (r < 0) {
		printf("# engine %s: %s\n", engine, t->err.msg);
		testenv_close(t);
	}
	return r;
}

static int run_workload(void *arg)
{
	return workload_run(arg);
}

static int run_compare(void *arg)
{
	return workload_compare(arg, false);
}

/* Random requests on what spec says; then the same after it was opened anew. */
static void random_work(struct testenv *t, const char *spec, uint64_t sectors, uint64_t seed)
{
	struct workload w = { .model = model_new(sectors),
			      .random = seed,
			      .sectors = sectors,
			      .workers = 8,
			      .steps = test_count("TEST_STEPS", 60),
			      .max_nr = 200,
			      .apart = true };

	assert_int_equal(test_open(t, &w.im, 0, "%s", spec), 0);
	assert_int_equal(w.im->size, sectors * MODEL_SECTOR);
	assert_int_equal(testenv_run(t, run_workload, &w), 0);
	assert_int_equal(testenv_run(t, run_compare, &w), 0);
	assert_int_equal(test_close(t, w.im), 0);
	assert_int_equal(test_open(t, &w.im, TD_OPEN_RDONLY, "%s", spec), 0);
	assert_int_equal(testenv_run(t, run_compare, &w), 0);
	assert_int_equal(test_close(t, w.im), 0);
	assert_int_equal(w.failed, 0);
	model_free(w.model);
}

static void random_requests_match_the_model(void **state)
{
	static const char *const options[] = { "", "(direct=off)", "(align=4K)" };
	const char *const bases[] = { "/dev/shm", real_base() };
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(engines) * TD_NELEMS(options) * TD_NELEMS(bases); i++) {
		struct testenv t;
		char spec[160];

		if (open_env(&t, engines[i % 3], bases[i / 9]) < 0)
			continue;
		assert_int_equal(test_create(&t, SECTORS * MODEL_SECTOR, NULL, false, "aio:%s/a", t.dir), 0);
		(void)snprintf(spec, sizeof(spec), "aio%s:%s/a", options[i / 3 % 3], t.dir);
		random_work(&t, spec, SECTORS, seed + i);
		testenv_close(&t);
	}
}

/* ---- byte exact ---- */

/* One request after the other, at any byte, against a plain buffer; the file ends where the writes did. */
static void bytes_round(struct testenv *t, const char *options, uint64_t *random)
{
	static unsigned char want[70000], buf[70000];
	struct td_image *im;
	uint64_t end = 1 + test_random(random) % 20000;
	struct stat st;

	memset(want, 0, sizeof(want));
	assert_int_equal(truncate(testenv_path(t, "b"), 0), 0);
	assert_int_equal(truncate(testenv_path(t, "b"), (off_t)end), 0);
	assert_int_equal(test_open(t, &im, TD_OPEN_GROW, "aio%s:%s/b", options, t->dir), 0);
	for (unsigned i = 0; i < 60; i++) {
		uint64_t off = test_random(random) % (end + 5000), len = 1 + test_random(random) % 9000;
		unsigned char *mem = buf + test_random(random) % 7;

		len = TD_MIN(len, 60000u - TD_MIN(off, 59999u));
		if (off >= 60000)
			continue;
		for (uint64_t k = 0; k < len; k++)
			mem[k] = (unsigned char)test_random(random);
		if (test_random(random) % 3 == 0) {
			assert_int_equal(test_read(t, im, off, mem, len, 0), 0);
			assert_memory_equal(mem, want + off, len);
			continue;
		}
		memcpy(want + off, mem, len);
		assert_int_equal(test_write(t, im, off, mem, len, 0), 0);
		end = TD_MAX(end, off + len);
		assert_int_equal(im->size, end);
	}
	assert_int_equal(test_close(t, im), 0);
	assert_int_equal(stat(testenv_path(t, "b"), &st), 0);
	assert_int_equal(st.st_size, end);
	assert_int_equal(test_open(t, &im, TD_OPEN_GROW | TD_OPEN_RDONLY, "aio(direct=off):%s/b", t->dir), 0);
	assert_int_equal(test_read(t, im, 0, buf, end, TD_EXACT), 0);
	assert_memory_equal(buf, want, end);
	assert_int_equal(test_close(t, im), 0);
}

static void any_byte_range_is_exact_and_files_grow_by_no_more(void **state)
{
	static const char *const options[] = { "", "(direct=off)", "(align=4K)" };
	uint64_t random = test_seed();

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct testenv t;
		int fd;

		if (open_env(&t, engines[i % 3], i < 3 ? real_base() : "/dev/shm") < 0)
			continue;
		fd = open(testenv_path(&t, "b"), O_CREAT | O_RDWR, 0644);
		assert_true(fd >= 0);
		close(fd);
		for (unsigned k = 0; k < 6; k++)
			bytes_round(&t, options[k % 3], &random);
		testenv_close(&t);
	}
}

/* ---- one environment for the rest ---- */

static struct testenv env;

static int setup(void **state)
{
	(void)state;
	return testenv_open(&env, "auto", real_base());
}

static int teardown(void **state)
{
	(void)state;
	testenv_close(&env);
	return 0;
}

static void make_file(const char *name, off_t size)
{
	int fd = open(testenv_path(&env, name), O_CREAT | O_RDWR | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static off_t file_size(const char *name)
{
	struct stat st;

	assert_int_equal(stat(testenv_path(&env, name), &st), 0);
	return st.st_size;
}

static void a_file_of_odd_size_has_whole_sectors(void **state)
{
	static const char *const options[] = { "", "(direct=off)", "(align=4K)" };
	char buf[512];

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(options); i++) {
		struct td_image *im;

		make_file("odd", 1000);
		assert_int_equal(test_open(&env, &im, 0, "aio%s:%s/odd", options[i], env.dir), 0);
		assert_int_equal(im->size, 1024);
		memset(buf, 1, sizeof(buf));
		assert_int_equal(test_read(&env, im, 512, buf, 512, 0), 0);
		assert_int_equal(buf[0], 0);
		assert_int_equal(buf[511], 0);
		assert_int_equal(test_read(&env, im, 512, buf, 512, TD_EXACT), -EUCLEAN);
		assert_int_equal(test_zero(&env, im, 0, 1024, TD_MAY_UNMAP), 0);
		assert_int_equal(test_trim(&env, im, 512, 512), 0);
		assert_int_equal(test_write(&env, im, 100, buf, 200, 0), 0);
		assert_int_equal(file_size("odd"), 1000); /* nothing of that was behind its end */
		assert_int_equal(test_write(&env, im, 512, buf, 512, 0), 0);
		assert_int_equal(test_close(&env, im), 0);
		assert_int_equal(file_size("odd"), 1024);
	}
}

/* One coroutine appends a few bytes, others write sectors of the same page. */
struct beside {
	struct td_image *im;
	uint64_t off;
	size_t len;
	unsigned char byte;
	void *buf; /* aligned */
};

static int beside_write(void *arg)
{
	struct beside *b = arg;

	return td_image_pwrite(b->im, b->off, b->buf, b->len, 0);
}

#define BESIDE 7u

static int beside_all(void *arg)
{
	struct beside *b = arg;
	struct td_join join = { 0 };

	for (unsigned i = 0; i < BESIDE; i++)
		td_join_start(&join, beside_write, &b[i]);
	return td_join_wait(&join);
}

static void bytes_at_the_end_do_not_undo_sectors_beside_them(void **state)
{
	static unsigned char found[4096];
	struct beside b[BESIDE];
	struct td_image *im;

	(void)state;
	for (unsigned i = 0; i < BESIDE; i++) /* six whole sectors, then a piece of the seventh */
		b[i] = (struct beside){ .off = i * 512, .len = i < 6 ? 512 : 100, .buf = td_buf_alloc(512) };
	for (unsigned round = 0; round < 40; round++) {
		make_file("beside", 3072);
		assert_int_equal(test_open(&env, &im, TD_OPEN_GROW, "aio:%s/beside", env.dir), 0);
		for (unsigned turn = 0; turn < 3; turn++) {
			for (unsigned i = 0; i < BESIDE; i++) {
				b[i].im = im;
				b[i].byte = (unsigned char)(1 + round + turn * 50 + i);
				memset(b[i].buf, b[i].byte, 512);
			}
			assert_int_equal(testenv_run(&env, beside_all, b), 0);
		}
		assert_int_equal(test_flush(&env, im), 0);
		assert_int_equal(test_read(&env, im, 0, found, 3172, TD_EXACT), 0);
		for (unsigned i = 0; i < 3172; i++)
			assert_int_equal(found[i], b[i / 512].byte);
		assert_int_equal(test_close(&env, im), 0);
	}
	for (unsigned i = 0; i < BESIDE; i++)
		td_buf_free(b[i].buf, 512);
}

static void a_file_that_became_shorter_is_an_error_not_zeros(void **state)
{
	struct td_image *im;
	struct td_extent e;
	static char buf[8192];

	(void)state;
	make_file("short", 65536);
	assert_int_equal(test_open(&env, &im, 0, "aio:%s/short", env.dir), 0);
	assert_int_equal(truncate(testenv_path(&env, "short"), 8192), 0);
	assert_int_equal(test_read(&env, im, 4096, buf, 8192, 0), -EIO);
	assert_int_equal(test_read(&env, im, 32768, buf, 512, 0), -EIO);
	assert_int_equal(test_extent(&env, im, 32768, 512, &e), -EIO);
	assert_int_equal(test_read(&env, im, 0, buf, 8192, 0), 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void extents_tell_holes_from_data(void **state)
{
	static char data[65536];
	struct td_image *im;
	struct td_extent e;

	(void)state;
	memset(data, 7, sizeof(data));
	make_file("holes", 1 << 20);
	assert_int_equal(test_open(&env, &im, 0, "aio:%s/holes", env.dir), 0);
	assert_int_equal(test_write(&env, im, 262144, data, sizeof(data), 0), 0);
	assert_int_equal(test_flush(&env, im), 0);
	assert_int_equal(test_extent(&env, im, 0, 1 << 20, &e), 0);
	assert_int_equal(e.kind, TD_EXTENT_ZERO);
	assert_false(e.allocated);
	assert_int_equal(e.len, 262144);
	assert_int_equal(test_extent(&env, im, 262144, 786432, &e), 0);
	assert_int_equal(e.kind, TD_EXTENT_DATA);
	assert_int_equal(e.len, 65536);
	assert_int_equal(test_extent(&env, im, 262144 + 65536, 512, &e), 0);
	assert_int_equal(e.kind, TD_EXTENT_ZERO);
	assert_int_equal(e.len, 512);
	assert_int_equal(test_trim(&env, im, 262144, sizeof(data)), 0);
	assert_int_equal(test_extent(&env, im, 0, 1 << 20, &e), 0);
	assert_int_equal(e.kind, TD_EXTENT_ZERO);
	assert_int_equal(e.len, 1 << 20);
	assert_int_equal(test_close(&env, im), 0);
}

static void resize_changes_the_file(void **state)
{
	struct td_image *im;
	char buf[512];

	(void)state;
	make_file("resize", 4096);
	assert_int_equal(test_open(&env, &im, 0, "aio:%s/resize", env.dir), 0);
	assert_int_equal(test_resize(&env, im, 1000), -EINVAL);
	assert_int_equal(test_resize(&env, im, UINT64_MAX), -EFBIG);
	assert_int_equal(test_resize(&env, im, 1 << 20), 0);
	assert_int_equal(im->size, 1 << 20);
	assert_int_equal(test_read(&env, im, (1 << 20) - 512, buf, 512, 0), 0);
	assert_int_equal(test_resize(&env, im, 512), 0);
	assert_int_equal(test_read(&env, im, 512, buf, 512, 0), -EINVAL);
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(file_size("resize"), 512);
}

static const char *info_of(struct td_opts *o, const char *name)
{
	const char *value = td_opts_get(o, name);

	return value ? value : "";
}

static void info_tells_how_the_file_is_reached(void **state)
{
	struct td_opts o = { 0 };
	struct td_image *im;

	(void)state;
	make_file("info", 4096);
	assert_int_equal(test_open(&env, &im, 0, "aio(direct=off):%s/info", env.dir), 0);
	assert_int_equal(im->drv->info(im, &o), 0);
	assert_string_equal(info_of(&o, "type"), "file");
	assert_string_equal(info_of(&o, "direct"), "off");
	assert_string_equal(info_of(&o, "direct-off-because"), "direct=off");
	assert_string_equal(info_of(&o, "file-size"), "4096");
	assert_int_equal(test_close(&env, im), 0);
	td_opts_done(&o);
}

static void preallocated_space_is_there_at_once(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(test_create(&env, 1 << 20, "preallocation=falloc", false, "aio:%s/full", env.dir),
			 0);
	assert_int_equal(stat(testenv_path(&env, "full"), &st), 0);
	assert_true(st.st_blocks * 512 >= 1 << 20);
}

/* ---- block devices ---- */

/* A loop device on a file of ours; detached by its last close (LO_FLAGS_AUTOCLEAR).  -1: not to be had. */
static int loop_open(const char *file, uint32_t block, char *ret_path, size_t size)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int back = open(file, O_RDWR | O_CLOEXEC), fd = -1;
	struct loop_config config = { .fd = (uint32_t)back,
				      .block_size = block,
				      .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };

	for (unsigned i = 0; control >= 0 && back >= 0 && i < LOOP_TRIALS && fd < 0; i++) {
		int nr = ioctl(control, LOOP_CTL_GET_FREE);

		(void)snprintf(ret_path, size, "/dev/loop%d", nr);
		fd = nr < 0 ? -1 : open(ret_path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0) { /* another one was faster */
			close(fd);
			fd = -1;
		}
	}
	if (control >= 0)
		close(control);
	if (back >= 0)
		close(back);
	return fd;
}

static void on_a_device(uint32_t block, const char *options, uint64_t seed)
{
	const uint64_t size = (uint64_t)2 << 20;
	char path[64], spec[96];
	struct td_image *im;
	struct td_extent e;
	static char buf[5000];
	int fd;

	make_file("disk", (off_t)size);
	fd = loop_open(testenv_path(&env, "disk"), block, path, sizeof(path));
	if (fd < 0) {
		printf("# no loop device to be had: %m\n");
		skip();
	}
	(void)snprintf(spec, sizeof(spec), "aio%s:%s", options, path);
	random_work(&env, spec, size / MODEL_SECTOR, seed);
	assert_int_equal(test_open(&env, &im, 0, "%s", spec), 0);
	assert_int_equal(im->limits.block_size, block);
	assert_int_equal(test_extent(&env, im, 0, size, &e), 0);
	assert_int_equal(e.kind, TD_EXTENT_DATA);
	memset(buf, 5, sizeof(buf));
	assert_int_equal(test_write(&env, im, size - 5001, buf, 5000, TD_FUA), 0);
	assert_int_equal(test_zero(&env, im, size - 4999, 4998, TD_MAY_UNMAP),
			 0); /* edges written, the rest punched */
	assert_int_equal(test_read(&env, im, size - 5001, buf, 5000, 0), 0);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(buf[i], i < 2 ? 5 : 0);
	assert_int_equal(test_resize(&env, im, size * 2), -ENOTSUP);
	assert_int_equal(test_open(&env, &im, 0, "%s", spec), -EBUSY);
	assert_int_equal(test_close(&env, im), 0);
	close(fd);
}

static void block_devices_of_either_sector_size(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	if (geteuid() != 0) {
		printf("# loop devices need root\n");
		skip();
	}
	on_a_device(512, "", seed);
	on_a_device(4096, "", seed + 1);
	on_a_device(4096, "(direct=off)", seed + 2);
}

static void a_device_with_data_needs_force(void **state)
{
	char path[64];
	int fd;

	(void)state;
	make_file("fresh", 4 << 20);
	fd = geteuid() == 0 ? loop_open(testenv_path(&env, "fresh"), 512, path, sizeof(path)) : -1;
	if (fd < 0) {
		printf("# no loop device to be had\n");
		skip();
	}
	assert_int_equal(test_create(&env, 1 << 20, NULL, false, "aio:%s", path), 0);
	assert_int_equal(test_create(&env, 5 << 20, NULL, false, "aio:%s", path), -ENOSPC);
	assert_int_equal(pwrite(fd, "x", 1, 70000), 1);
	assert_int_equal(test_create(&env, 1 << 20, NULL, false, "aio:%s", path), -EEXIST);
	assert_int_equal(test_create(&env, 1 << 20, NULL, true, "aio:%s", path), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_requests_match_the_model),
		cmocka_unit_test(any_byte_range_is_exact_and_files_grow_by_no_more),
		cmocka_unit_test(a_file_of_odd_size_has_whole_sectors),
		cmocka_unit_test(bytes_at_the_end_do_not_undo_sectors_beside_them),
		cmocka_unit_test(a_file_that_became_shorter_is_an_error_not_zeros),
		cmocka_unit_test(extents_tell_holes_from_data),
		cmocka_unit_test(resize_changes_the_file),
		cmocka_unit_test(info_tells_how_the_file_is_reached),
		cmocka_unit_test(preallocated_space_is_there_at_once),
		cmocka_unit_test(block_devices_of_either_sector_size),
		cmocka_unit_test(a_device_with_data_needs_force),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
