// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where space ends: qcow2 on a block device that cannot grow, and on a file system that is full.  Every cluster can be
 * used, what the guest trims can be written again at once, and an image that ran full is still whole.
 */
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "qcow2-fsck.h"
#include "testenv.h"

#define KIB         1024u
#define MIB         (1u << 20)
#define PIECE       (8 * KIB)
#define LOOP_TRIALS 50

static struct testenv env;
static bool may_mount;

static void fill_piece(char *buf, uint64_t off)
{
	for (size_t i = 0; i < PIECE; i++)
		buf[i] = (char)(off / PIECE + i / 64);
}

static int write_piece(struct td_image *im, uint64_t off)
{
	static char buf[PIECE];

	fill_piece(buf, off);
	return test_write(&env, im, off, buf, sizeof(buf), 0);
}

static void read_piece(struct td_image *im, uint64_t off)
{
	static char buf[PIECE], want[PIECE];

	fill_piece(want, off);
	assert_int_equal(test_read(&env, im, off, buf, sizeof(buf), 0), 0);
	assert_memory_equal(buf, want, sizeof(buf));
}

/* Pieces from the start on, until there is no space; how many bytes went in. */
static uint64_t fill_up(struct td_image *im)
{
	uint64_t off = 0;
	int r = 0;

	while (r == 0 && off < im->size) {
		r = write_piece(im, off);
		if (r == 0)
			off += PIECE;
	}
	assert_int_equal(r, -ENOSPC);
	return off;
}

/* The guest makes room and uses it, several times, without ever asking for a flush. */
static void trim_and_write_on(struct td_image *im, uint64_t full)
{
	const uint64_t chunk = 256 * KIB;
	uint64_t to = full;

	for (uint64_t from = 0; from + chunk <= full / 2; from += chunk, to += chunk / 2) {
		assert_int_equal(test_trim(&env, im, from, chunk), 0);
		for (uint64_t at = 0; at < chunk / 2; at += PIECE)
			assert_int_equal(write_piece(im, to + at), 0);
	}
	for (uint64_t off = td_align_up(full / 2, PIECE); off < to; off += PIECE)
		read_piece(im, off);
}

static void is_whole(const char *path)
{
	struct fsck k;

	assert_int_equal(qcow2_fsck(path, &k), 0);
	assert_int_equal(k.corruptions, 0);
	assert_int_equal(k.leaks, 0);
}

/* ---- a device ---- */

/* Detached by its last close. -1: not to be had. */
static int loop_open(const char *file, char *ret_path, size_t size)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int back = open(file, O_RDWR | O_CLOEXEC), fd = -1;
	struct loop_config config = { .fd = (uint32_t)back, .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };

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

static int make_device(const char *name, uint64_t size, char *ret_path, size_t path_size)
{
	const char *file = testenv_path(&env, name);
	int fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
	fd = loop_open(file, ret_path, path_size);
	if (fd < 0) {
		printf("# no loop device to be had\n");
		skip();
	}
	return fd;
}

static void on_a_device(uint64_t size, const char *opts, uint64_t metadata)
{
	char path[64];
	struct td_image *im;
	uint64_t full;
	int fd = make_device("device", size, path, sizeof(path));

	assert_int_equal(test_create(&env, 4 * size, opts, true, "qcow2:%s", path), 0);
	assert_int_equal(test_open(&env, &im, 0, "qcow2:%s", path), 0);
	full = fill_up(im);
	/* All of it but for the tables: no region is stepped over, not even at the odd end. */
	assert_in_range(full, size - metadata, size);
	for (uint64_t off = 0; off < full; off += PIECE)
		read_piece(im, off);
	assert_int_equal(test_flush(&env, im), 0);
	trim_and_write_on(im, full);
	assert_int_equal(test_close(&env, im), 0);
	close(fd);
	is_whole(testenv_path(&env, "device"));
}

static void a_device_is_used_to_its_last_cluster(void **state)
{
	(void)state;
	/* Refcount blocks for 128 KiB each: many regions that nobody counts at first. */
	on_a_device(4 * MIB, "cluster_size=512", 200 * KIB);
	on_a_device(8 * MIB + 3 * 512, "cluster_size=64K", 600 * KIB);
}

/* ---- a file system ---- */

static void a_full_file_system_takes_what_was_trimmed(const char *opts, const char *leaf)
{
	char dir[128], path[160];
	struct td_image *im;
	uint64_t full;

	if (!may_mount) {
		printf("# to mount a small file system takes root\n");
		skip();
	}
	(void)snprintf(dir, sizeof(dir), "%s", testenv_path(&env, "small"));
	(void)snprintf(path, sizeof(path), "%s/disk", dir);
	(void)mkdir(dir, 0700);
	assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "size=8m"), 0);
	assert_int_equal(test_create(&env, 64 * MIB, opts, false, "qcow2:%s", path), 0);
	assert_int_equal(test_open(&env, &im, 0, "qcow2%s:%s", leaf, path), 0);
	full = fill_up(im);
	assert_in_range(full, 6 * MIB, 8 * MIB);
	trim_and_write_on(im, full);
	assert_int_equal(test_close(&env, im), 0);
	is_whole(path);
	assert_int_equal(umount(dir), 0);
}

static void a_full_file_system_is_no_end(void **state)
{
	(void)state;
	a_full_file_system_takes_what_was_trimmed("cluster_size=64K", "");
	a_full_file_system_takes_what_was_trimmed("cluster_size=4K", "(direct=off)");
}

static int setup(void **state)
{
	(void)state;
	/* Mounts of our own: they go with the process, however it ends. */
	may_mount = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
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
		cmocka_unit_test(a_device_is_used_to_its_last_cluster),
		cmocka_unit_test(a_full_file_system_is_no_end),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
