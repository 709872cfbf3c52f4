// SPDX-License-Identifier: BSD-2-Clause
/*
 * The qcow2 driver where nothing fails: every cluster size and refcount width, what must be kept in an image that
 * others made, what a flush costs, resizing, long chains, a device that is full.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "format-run.h"
#include "qcow2-fsck.h"

#define MIB (1u << 20)

static bool have_qemu(void)
{
	return system("qemu-img --version >/dev/null 2>&1") == 0; /* NOLINT: fixed text */
}

static int TD_PRINTF(1, 2) shell(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return system(cmd); /* NOLINT: our own files */
}

/* ---- the matrix ---- */

static void run_one(const struct variant *v, uint64_t seed, bool qemu)
{
	struct run run;

	if (!run_setup(&run, v, seed))
		fail_msg("%s %s", v->name, v->create);
	run.workers = 16;
	run.steps = 12;
	run_begin(&run);
	assert_int_equal(testenv_run(&run.t, run_workload, &run), 0);
	assert_true(run.closed_ok);
	assert_int_equal(run_fsck(&run), 0);
	assert_int_equal(run.fsck_leaks, 0);
	assert_int_equal(testenv_run(&run.t, run_look, &run), 0);
	if (qemu)
		assert_int_equal(shell("qemu-img check -q %s", run.path), 0);
	run_teardown(&run);
}

static void every_cluster_size_and_refcount_width_keeps_what_16_writers_wrote(void **state)
{
	uint64_t seed = test_seed();
	bool qemu = have_qemu();

	(void)state;
	for (unsigned bits = 9; bits <= 21; bits++) {
		for (unsigned order = bits % 2; order <= 6; order += 2) {
			char create[96];
			struct variant v = {
				.format = &fmt_qcow2, .name = "matrix", .create = create, .sectors = 1024
			};

			(void)snprintf(create, sizeof(create), "cluster_size=%u,refcount_bits=%u%s",
				       1u << bits, 1u << order,
				       (bits + order) % 3 ? "" : ",lazy_refcounts=on");
			v.open = bits % 2 ? "l2-cache=512,refcount-cache=512" : "";
			v.backing = bits % 3 == 0;
			run_one(&v, seed++, qemu && order == 4);
		}
	}
}

/* ---- an environment for single images ---- */

struct fixture {
	struct testenv t;
	char path[128];
	struct td_image *im;
};

static void start(struct fixture *f, uint64_t size, const char *opts)
{
	*f = (struct fixture){ 0 };
	assert_int_equal(testenv_open(&f->t, "sync", NULL), 0);
	(void)snprintf(f->path, sizeof(f->path), "%s/disk", f->t.dir);
	assert_int_equal(test_create(&f->t, size, opts, false, "qcow2:%s", f->path), 0);
}

static void reopen(struct fixture *f)
{
	if (f->im)
		assert_int_equal(test_close(&f->t, f->im), 0);
	f->im = NULL;
	if (test_open(&f->t, &f->im, 0, "qcow2:%s", f->path) < 0)
		fail_msg("%s", f->t.err.msg);
}

static void stop(struct fixture *f)
{
	struct fsck k;

	if (f->im)
		assert_int_equal(test_close(&f->t, f->im), 0);
	assert_int_equal(qcow2_fsck(f->path, &k), 0);
	assert_int_equal(k.corruptions, 0);
	assert_int_equal(k.leaks, 0);
	testenv_close(&f->t);
}

static void patch(const char *path, uint64_t off, const void *data, size_t len)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, (off_t)off), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static void peek(const char *path, uint64_t off, void *data, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, data, len, (off_t)off), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static void write_byte(struct fixture *f, uint64_t off, size_t len, char byte)
{
	char *buf = td_buf_alloc(len);

	memset(buf, byte, len);
	assert_int_equal(test_write(&f->t, f->im, off, buf, len, 0), 0);
	td_buf_free(buf, len);
}

static void expect_byte(struct fixture *f, uint64_t off, size_t len, char byte)
{
	char *buf = td_buf_alloc(len);

	assert_int_equal(test_read(&f->t, f->im, off, buf, len, 0), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], byte);
	td_buf_free(buf, len);
}

/* ---- what others put there ---- */

static void unknown_extensions_stay_and_autoclear_bits_go_with_the_first_write(void **state)
{
	uint8_t ext[24] = { 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o' }, now[24];
	uint8_t autoclear[8] = { 0, 0, 0, 0, 0, 0, 0x80, 0x21 };
	struct fixture f;

	(void)state;
	start(&f, MIB, "cluster_size=4K");
	patch(f.path, QCOW2_HEADER_KNOWN, ext, sizeof(ext));
	patch(f.path, 88, autoclear, sizeof(autoclear));
	reopen(&f);
	expect_byte(&f, 0, 4096, 0);
	reopen(&f);
	peek(f.path, 88, now, 8);
	assert_memory_equal(now, autoclear, 8); /* who only reads clears nothing */
	write_byte(&f, 0, 512, 1);
	peek(f.path, 88, now, 8);
	assert_int_equal(td_get_be64(now), 0);
	reopen(&f);
	peek(f.path, QCOW2_HEADER_KNOWN, now, sizeof(ext));
	assert_memory_equal(now, ext, sizeof(ext));
	stop(&f);
}

static void writing_beside_a_snapshot_made_by_qemu_copies(void **state)
{
	struct fixture f;

	(void)state;
	if (!have_qemu())
		skip();
	start(&f, 4 * MIB, "cluster_size=4K");
	reopen(&f);
	write_byte(&f, 0, MIB, 'a');
	assert_int_equal(test_close(&f.t, f.im), 0);
	f.im = NULL;
	assert_int_equal(shell("qemu-img snapshot -c one %s", f.path), 0);
	reopen(&f);
	write_byte(&f, 1000, 100000, 'b');
	assert_int_equal(test_trim(&f.t, f.im, 512 * 1024, 256 * 1024), 0);
	assert_int_equal(test_zero(&f.t, f.im, 800 * 1024, 50000, TD_MAY_UNMAP), 0);
	expect_byte(&f, 1000, 100000, 'b');
	expect_byte(&f, 0, 1000, 'a');
	stop(&f);
}

static void the_snapshot_reads_back_by_qemu(void **state)
{
	struct fixture f;
	char other[160];
	struct stat st;

	(void)state;
	if (!have_qemu())
		skip();
	start(&f, MIB, "cluster_size=512,refcount_bits=8");
	(void)snprintf(other, sizeof(other), "%s/snap.raw", f.t.dir);
	reopen(&f);
	write_byte(&f, 0, MIB, 'a');
	assert_int_equal(test_close(&f.t, f.im), 0);
	assert_int_equal(shell("qemu-img snapshot -c one %s", f.path), 0);
	f.im = NULL;
	reopen(&f);
	write_byte(&f, 0, MIB, 'b');
	assert_int_equal(test_close(&f.t, f.im), 0);
	f.im = NULL;
	assert_int_equal(shell("qemu-img check -q %s", f.path), 0);
	assert_int_equal(shell("qemu-img convert -l one -O raw -U %s %s", f.path, other), 0);
	assert_int_equal(stat(other, &st), 0);
	assert_int_equal(shell("test -z \"$(tr -d a <%s)\"", other), 0);
	stop(&f);
}

/* ---- what a flush costs ---- */

static uint64_t flushes(struct fixture *f)
{
	return f->im->child->stats.flushes;
}

static void a_flush_waits_only_for_what_depends_on_it(void **state)
{
	struct fixture f;
	uint64_t before;

	(void)state;
	start(&f, 64 * MIB, NULL);
	reopen(&f);
	write_byte(&f, 0, 4096, 1);
	assert_int_equal(test_flush(&f.t, f.im), 0);

	before = flushes(&f);
	assert_int_equal(test_flush(&f.t, f.im), 0);
	assert_int_equal(flushes(&f) - before, 1); /* nothing changed */

	before = flushes(&f);
	write_byte(&f, 512, 512, 2);
	assert_int_equal(flushes(&f) - before, 0);
	assert_int_equal(test_flush(&f.t, f.im), 0);
	assert_int_equal(flushes(&f) - before, 1); /* overwritten in place */

	before = flushes(&f);
	for (unsigned i = 1; i < 100; i++)
		write_byte(&f, i * 65536u, 4096, 3);
	assert_int_equal(flushes(&f) - before, 0);
	assert_int_equal(test_flush(&f.t, f.im), 0);
	assert_int_equal(flushes(&f) - before, 2); /* refcounts and data | L2 */
	stop(&f);
}

static int flush_many(void *arg)
{
	struct fixture *f = arg;

	return td_image_flush(f->im);
}

static int join_flushes(void *arg)
{
	struct td_join j = { 0 };

	for (unsigned i = 0; i < 16; i++)
		td_join_start(&j, flush_many, arg);
	return td_join_wait(&j);
}

static void flushes_that_come_together_share_a_commit(void **state)
{
	struct fixture f;
	uint64_t before;

	(void)state;
	start(&f, 64 * MIB, NULL);
	reopen(&f);
	write_byte(&f, 0, 4096, 1);
	before = flushes(&f);
	assert_int_equal(testenv_run(&f.t, join_flushes, &f), 0);
	/* The first runs alone: three barriers, for it has a new L2 table; the others wait for one more. */
	assert_true(flushes(&f) - before <= 4);
	stop(&f);
}

/* ---- space ---- */

static uint64_t blocks(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void trimmed_clusters_leave_the_file_and_are_used_again(void **state)
{
	struct fixture f;
	uint64_t full;
	struct stat st;

	(void)state;
	start(&f, 16 * MIB, NULL);
	reopen(&f);
	write_byte(&f, 0, 8 * MIB, 1);
	reopen(&f);
	full = blocks(f.path);
	assert_int_equal(test_trim(&f.t, f.im, 0, 8 * MIB), 0);
	expect_byte(&f, 0, 8 * MIB, 0);
	reopen(&f);
	assert_true(blocks(f.path) + 7 * MIB < full);
	write_byte(&f, 8 * MIB, 8 * MIB, 2);
	reopen(&f);
	assert_int_equal(stat(f.path, &st), 0);
	assert_true(st.st_size < 9 * (off_t)MIB); /* the same clusters again */
	expect_byte(&f, 0, 8 * MIB, 0);
	expect_byte(&f, 8 * MIB, 8 * MIB, 2);
	stop(&f);
}

static void zeroing_an_empty_disk_allocates_nothing(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, 1ull << 40, NULL);
	reopen(&f);
	assert_int_equal(test_zero(&f.t, f.im, 0, 1ull << 40, TD_FAST), 0);
	assert_int_equal(test_trim(&f.t, f.im, 12345, (1ull << 40) - 12345), 0);
	assert_true(f.im->child->stats.writes == 0);
	stop(&f);
}

static void a_closed_image_is_not_longer_than_its_clusters(void **state)
{
	struct fixture f;
	struct stat st;

	(void)state;
	start(&f, 64 * MIB, NULL);
	reopen(&f);
	write_byte(&f, MIB, 512, 1);
	reopen(&f);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_size, 6 * 65536); /* header, table, block, L1, L2, one of data */
	expect_byte(&f, MIB, 512, 1);
	expect_byte(&f, MIB + 512, 65536, 0);
	stop(&f);
}

/* ---- resize ---- */

static void growing_moves_the_l1_table_and_keeps_the_bytes(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, MIB, "cluster_size=512");
	reopen(&f);
	write_byte(&f, 0, MIB, 5);
	assert_int_equal(test_resize(&f.t, f.im, 64 * MIB), 0);
	assert_int_equal(f.im->size, 64 * MIB);
	write_byte(&f, 64 * MIB - 4096, 4096, 6);
	reopen(&f);
	assert_int_equal(f.im->size, 64 * MIB);
	expect_byte(&f, 0, MIB, 5);
	expect_byte(&f, MIB, MIB, 0);
	expect_byte(&f, 64 * MIB - 4096, 4096, 6);
	assert_int_equal(test_resize(&f.t, f.im, MIB), 0);
	expect_byte(&f, 0, MIB, 5);
	stop(&f);
}

static void growing_over_a_longer_backing_image_shows_zeros(void **state)
{
	struct fixture f;
	char base[160];

	(void)state;
	start(&f, 4 * MIB, "cluster_size=4K");
	reopen(&f);
	write_byte(&f, 0, 4 * MIB, 7);
	assert_int_equal(test_close(&f.t, f.im), 0);
	(void)snprintf(base, sizeof(base), "%s/base", f.t.dir);
	assert_int_equal(rename(f.path, base), 0);
	assert_int_equal(test_create(&f.t, MIB + 512, "cluster_size=64K,backing_file=base,backing_fmt=qcow2",
				     false, "qcow2:%s", f.path),
			 0);
	f.im = NULL;
	reopen(&f);
	expect_byte(&f, 0, MIB + 512, 7);
	assert_int_equal(test_resize(&f.t, f.im, 8 * MIB), 0);
	expect_byte(&f, 0, MIB + 512, 7);
	expect_byte(&f, MIB + 512, 5 * MIB, 0);
	reopen(&f);
	expect_byte(&f, MIB + 512, 5 * MIB, 0);
	stop(&f);
}

/* ---- chains ---- */

static void a_chain_of_500_images_reads_and_writes(void **state)
{
	struct fixture f;
	char opts[96], spec[160];

	(void)state;
	start(&f, MIB, "cluster_size=4K");
	reopen(&f);
	write_byte(&f, 0, 4096, 9);
	assert_int_equal(test_close(&f.t, f.im), 0);
	for (unsigned i = 1; i <= 500; i++) {
		(void)snprintf(spec, sizeof(spec), "qcow2:%s/disk%u", f.t.dir, i);
		(void)snprintf(opts, sizeof(opts), "cluster_size=%s,backing_file=disk,backing_fmt=qcow2",
			       i % 2 ? "512" : "64K");
		if (i > 1)
			(void)snprintf(opts, sizeof(opts),
				       "cluster_size=%s,backing_file=disk%u,backing_fmt=qcow2",
				       i % 2 ? "512" : "64K", i - 1);
		assert_int_equal(test_create(&f.t, MIB, opts, false, "%s", spec), 0);
	}
	if (test_open(&f.t, &f.im, 0, "%s", spec) < 0)
		fail_msg("%s", f.t.err.msg);
	expect_byte(&f, 0, 4096, 9);
	write_byte(&f, 100, 100, 8);
	expect_byte(&f, 0, 100, 9);
	expect_byte(&f, 100, 100, 8);
	expect_byte(&f, 200, 3896, 9);
	expect_byte(&f, 4096, 65536, 0);
	stop(&f);
}

/* ---- a device: it does not grow, and is not zeros at first ---- */

static void a_full_device_says_so_and_goes_on_after_a_trim(void **state)
{
	struct fixture f;
	char dev[64] = "", cmd[512];
	FILE *p;

	(void)state;
	start(&f, MIB, NULL);
	(void)snprintf(cmd, sizeof(cmd),
		       "tr '\\0' x </dev/zero | head -c 4M >%s; losetup -f --show %s 2>/dev/null", f.path,
		       f.path);
	p = popen(cmd, "r"); /* NOLINT: our own file */
	if (!p || !fgets(dev, sizeof(dev), p))
		dev[0] = '\0';
	if (p)
		(void)pclose(p);
	if (!dev[0]) {
		testenv_close(&f.t);
		print_message("# no loop device: not tested on a device\n");
		skip();
	}
	dev[strcspn(dev, "\n")] = '\0';
	int r = test_create(&f.t, 64 * MIB, "cluster_size=4K", true, "qcow2:%s", dev);
	int opened = r == 0 ? test_open(&f.t, &f.im, 0, "qcow2:%s", dev) : r;
	static char buf[1 << 16];
	int full = 0, again = -1, zero = -1;
	uint64_t at = 0;
	bool clean = true;

	if (opened == 0) {
		memset(buf, 'y', sizeof(buf));
		for (; full == 0 && at < 64 * MIB; at += sizeof(buf))
			full = test_write(&f.t, f.im, at, buf, sizeof(buf), 0);
		if (test_trim(&f.t, f.im, 0, MIB) == 0 && test_flush(&f.t, f.im) == 0)
			again = test_flush(&f.t, f.im);
		if (again == 0)
			again = test_write(&f.t, f.im, 32 * MIB, buf, 100, 0);
		zero = test_read(&f.t, f.im, 32 * MIB, buf, 4096, 0);
		for (unsigned i = 100; i < 4096; i++)
			clean &= buf[i] == 0;
		opened = test_close(&f.t, f.im);
	}
	assert_int_equal(shell("losetup -d %s", dev), 0);
	assert_int_equal(r, 0);
	assert_int_equal(opened, 0);
	assert_int_equal(full, -ENOSPC);
	assert_true(at > 3 * (uint64_t)MIB);
	assert_int_equal(again, 0);
	assert_int_equal(zero, 0);
	assert_true(clean);
	f.im = NULL;
	stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cluster_size_and_refcount_width_keeps_what_16_writers_wrote),
		cmocka_unit_test(unknown_extensions_stay_and_autoclear_bits_go_with_the_first_write),
		cmocka_unit_test(writing_beside_a_snapshot_made_by_qemu_copies),
		cmocka_unit_test(the_snapshot_reads_back_by_qemu),
		cmocka_unit_test(a_flush_waits_only_for_what_depends_on_it),
		cmocka_unit_test(flushes_that_come_together_share_a_commit),
		cmocka_unit_test(trimmed_clusters_leave_the_file_and_are_used_again),
		cmocka_unit_test(zeroing_an_empty_disk_allocates_nothing),
		cmocka_unit_test(a_closed_image_is_not_longer_than_its_clusters),
		cmocka_unit_test(growing_moves_the_l1_table_and_keeps_the_bytes),
		cmocka_unit_test(growing_over_a_longer_backing_image_shows_zeros),
		cmocka_unit_test(a_chain_of_500_images_reads_and_writes),
		cmocka_unit_test(a_full_device_says_so_and_goes_on_after_a_trim),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
