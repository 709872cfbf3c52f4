// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writing compressed clusters: what comes back, what it takes of the file, and that others can read it.  The orders on
 * disk are the loops' (test-qcow2-crash, -faults, -kill), mixtures the matrix's.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "qcow2-fsck.h"
#include "testenv.h"

#define KIB     1024u
#define CLUSTER (64 * KIB)
#define SIZE    (4096 * KIB)

static struct testenv env;
static char path[128];

/* Text, more or less; another for each number, of which a cluster takes some 10 KiB deflated. */
static void fill(uint8_t *buf, size_t len, uint64_t number)
{
	uint64_t x = number;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0)
			(void)test_random(&x);
		buf[i] = i % 8 < 2 ? (uint8_t)(x >> i % 8 * 8) : "tapdisk."[i % 8];
	}
}

static void noise(uint8_t *buf, size_t len, uint64_t number)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)test_random(&number);
}

static struct td_image *make(const char *opts)
{
	struct td_image *im = NULL;

	(void)snprintf(path, sizeof(path), "%s/disk", env.dir);
	assert_int_equal(test_create(&env, SIZE, opts, true, "qcow2:%s", path), 0);
	assert_int_equal(test_open(&env, &im, 0, "qcow2:%s", path), 0);
	return im;
}

static void is_whole(void)
{
	struct fsck k;

	assert_int_equal(qcow2_fsck(path, &k), 0);
	assert_int_equal(k.corruptions, 0);
	assert_int_equal(k.leaks, 0);
}

static uint64_t file_blocks(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void TD_PRINTF(1, 2) run_qemu(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	if (system("qemu-img --version >/dev/null 2>&1") != 0) /* NOLINT: fixed text */
		return;
	va_start(ap, fmt);
	(void)vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	assert_int_equal(system(cmd), 0); /* NOLINT: our own files */
}

/* The image holds these bytes, says our reader, and qemu-img's. */
static void holds(const uint8_t *want, size_t len)
{
	uint8_t *buf = malloc(len);
	struct td_image *im = NULL;
	char raw[160];
	FILE *f;

	assert_non_null(buf);
	assert_int_equal(test_open(&env, &im, TD_OPEN_RDONLY, "qcow2:%s", path), 0);
	assert_int_equal(test_read(&env, im, 0, buf, len, 0), 0);
	assert_memory_equal(buf, want, len);
	assert_int_equal(test_close(&env, im), 0);
	free(buf);
	(void)snprintf(raw, sizeof(raw), "%s/want", env.dir);
	f = fopen(raw, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(want, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	run_qemu("qemu-img check -q %s && qemu-img compare -q -f raw -F qcow2 %s %s", path, raw, path);
	is_whole();
}

/* ---- one image ---- */

static void write_and_look(const char *opts, size_t size)
{
	struct td_image *im = make(opts);
	uint32_t cluster = im->limits.cluster_size;
	uint8_t *want = calloc(1, SIZE);

	assert_non_null(want);
	fill(want, size, 1);
	assert_int_equal(test_write(&env, im, 0, want, size, TD_COMPRESS), 0);
	/* By itself, over data, over a stream. */
	fill(want + cluster, cluster, 2);
	assert_int_equal(test_write(&env, im, cluster, want + cluster, cluster, TD_COMPRESS), 0);
	noise(want + 2 * cluster, cluster, 3);
	assert_int_equal(test_write(&env, im, 2ull * cluster, want + 2 * cluster, cluster, TD_COMPRESS), 0);
	fill(want + 2 * cluster, cluster, 4);
	assert_int_equal(test_write(&env, im, 2ull * cluster, want + 2 * cluster, cluster, TD_COMPRESS), 0);
	/* A guest's write into the middle of a stream. */
	noise(want + 3 * cluster + 100, 300, 5);
	assert_int_equal(test_write(&env, im, 3ull * cluster + 100, want + 3 * cluster + 100, 300, 0), 0);
	/* The end of the disk. */
	fill(want + SIZE - cluster, cluster, 6);
	assert_int_equal(
		test_write(&env, im, SIZE - cluster, want + SIZE - cluster, cluster, TD_COMPRESS | TD_FUA),
		0);
	assert_int_equal(test_close(&env, im), 0);
	holds(want, SIZE);
	free(want);
}

static void streams_come_back(void **state)
{
	(void)state;
	write_and_look("", SIZE / 2);
	write_and_look("compat=v2", SIZE / 2);
	write_and_look("cluster_size=512", SIZE / 8);
	write_and_look("cluster_size=512K,refcount_bits=8", SIZE / 2);
	write_and_look("cluster_size=4K,refcount_bits=1", SIZE / 2);
	write_and_look("cluster_size=64K,refcount_bits=2,lazy_refcounts=on", SIZE / 2);
#ifdef HAVE_ZSTD
	write_and_look("compression_type=zstd", SIZE / 2);
#endif
}

static void a_stream_takes_no_more_than_its_bytes(void **state)
{
	struct td_image *im = make("");
	uint8_t *want = calloc(1, SIZE);

	(void)state;
	assert_non_null(want);
	fill(want, SIZE, 1);
	assert_int_equal(test_write(&env, im, 0, want, SIZE, TD_COMPRESS), 0);
	assert_int_equal(test_close(&env, im), 0);
	/* 64 streams; each in clusters of its own would be all of SIZE. */
	assert_in_range(file_blocks(), SIZE / 16, SIZE / 2);
	holds(want, SIZE);
	free(want);
}

/* ---- zeros ---- */

static enum td_extent_kind kind_at(struct td_image *im, uint64_t off)
{
	struct td_extent e;

	assert_int_equal(test_extent(&env, im, off, CLUSTER, &e), 0);
	assert_true(e.kind == TD_EXTENT_ZERO || !im->backing || e.len == CLUSTER);
	return e.kind;
}

static void zeros_are_no_streams(void **state)
{
	struct td_image *im = make("");
	uint8_t *want = calloc(1, SIZE);
	uint64_t before;

	(void)state;
	assert_non_null(want);
	assert_int_equal(test_flush(&env, im), 0);
	before = file_blocks();
	assert_int_equal(test_write(&env, im, 0, want, SIZE, TD_COMPRESS), 0);
	assert_int_equal(test_flush(&env, im), 0);
	assert_int_equal(file_blocks(), before);
	/* Over something they are zeros too. */
	fill(want, CLUSTER, 1);
	assert_int_equal(test_write(&env, im, 0, want, CLUSTER, TD_COMPRESS), 0);
	memset(want, 0, CLUSTER);
	assert_int_equal(test_write(&env, im, 0, want, CLUSTER, TD_COMPRESS), 0);
	assert_int_equal(kind_at(im, 0), TD_EXTENT_ZERO);
	assert_int_equal(test_close(&env, im), 0);
	holds(want, SIZE);
	free(want);
}

static void zeros_hide_a_backing_image(void **state)
{
	static const char *const compat[] = { "v3", "v2" };
	uint8_t *want = calloc(1, SIZE);
	char opts[256];

	(void)state;
	assert_non_null(want);
	for (unsigned i = 0; i < TD_NELEMS(compat); i++) {
		struct td_image *im = NULL;

		(void)snprintf(path, sizeof(path), "%s/below", env.dir);
		assert_int_equal(test_create(&env, SIZE, "", true, "aio:%s", path), 0);
		assert_int_equal(test_open(&env, &im, 0, "aio:%s", path), 0);
		fill(want, SIZE, 9);
		assert_int_equal(test_write(&env, im, 0, want, SIZE, 0), 0);
		assert_int_equal(test_close(&env, im), 0);
		(void)snprintf(opts, sizeof(opts), "compat=%s,backing_file=below,backing_fmt=raw", compat[i]);
		im = make(opts);
		memset(want + CLUSTER, 0, 2 * CLUSTER);
		assert_int_equal(test_write(&env, im, CLUSTER, want + CLUSTER, 2 * CLUSTER, TD_COMPRESS), 0);
		assert_int_equal(test_close(&env, im), 0);
		holds(want, SIZE);
	}
	free(want);
}

/* ---- what is kept of streams that were read ---- */

static void a_stream_in_the_place_of_another_is_read_anew(void **state)
{
	struct td_image *im = make("cluster_size=4K");
	static uint8_t want[4096], got[4096];

	(void)state;
	/* Each is read, dropped and given back before the next, of the same length, takes its place. */
	for (uint64_t i = 0; i < 40; i++) {
		memset(want, (int)(i + 1), sizeof(want));
		assert_int_equal(test_write(&env, im, 0, want, sizeof(want), TD_COMPRESS), 0);
		assert_int_equal(test_read(&env, im, 0, got, sizeof(got), 0), 0);
		assert_memory_equal(got, want, sizeof(got));
		assert_int_equal(test_flush(&env, im), 0);
	}
	assert_int_equal(test_close(&env, im), 0);
	is_whole();
}

/* The cluster that the next stream would go into is given back, and handed out as a guest's. */
static void a_cluster_that_was_given_back_takes_no_stream(void **state)
{
	struct td_image *im = make("");
	uint8_t *want = calloc(1, SIZE);
	uint64_t blocks;

	(void)state;
	assert_non_null(want);
	for (unsigned i = 0; i < 30; i++) {
		uint64_t at = (i % 7) * CLUSTER, other = SIZE / 2 + (i % 5) * CLUSTER;

		fill(want + at, CLUSTER, i);
		assert_int_equal(test_write(&env, im, at, want + at, CLUSTER, TD_COMPRESS), 0);
		memset(want + at, 0, CLUSTER);
		assert_int_equal(test_trim(&env, im, at, CLUSTER), 0);
		assert_int_equal(test_flush(&env, im), 0);
		noise(want + other, CLUSTER, i);
		assert_int_equal(test_trim(&env, im, other, CLUSTER), 0);
		assert_int_equal(test_write(&env, im, other, want + other, CLUSTER, 0), 0);
		fill(want + at, CLUSTER, i + 1000);
		assert_int_equal(test_write(&env, im, at, want + at, CLUSTER, TD_COMPRESS), 0);
	}
	assert_int_equal(test_close(&env, im), 0);
	holds(want, SIZE);
	blocks = file_blocks();
	assert_in_range(blocks, 5 * CLUSTER, 20 * CLUSTER);
	free(want);
}

/* ---- what is refused ---- */

static void only_whole_clusters_are_taken(void **state)
{
	struct td_image *im = make("");
	struct td_image *raw = NULL;
	uint8_t *buf = calloc(2, CLUSTER);

	(void)state;
	assert_non_null(buf);
	assert_int_equal(test_write(&env, im, 512, buf, CLUSTER, TD_COMPRESS), -EINVAL);
	assert_int_equal(test_write(&env, im, 0, buf, CLUSTER + 512, TD_COMPRESS), -EINVAL);
	assert_int_equal(test_close(&env, im), 0);
	(void)snprintf(path, sizeof(path), "%s/raw", env.dir);
	assert_int_equal(test_create(&env, SIZE, "", true, "aio:%s", path), 0);
	assert_int_equal(test_open(&env, &raw, 0, "aio:%s", path), 0);
	assert_int_equal(test_write(&env, raw, 0, buf, CLUSTER, TD_COMPRESS), -ENOTSUP);
	assert_int_equal(test_close(&env, raw), 0);
	free(buf);
}

/* ---- many at a time ---- */

#define WRITERS 24u

struct writer {
	struct td_image *im;
	const uint8_t *bytes;
	uint64_t first;
};

static int write_every(void *arg)
{
	const struct writer *w = arg;
	int r = 0;

	for (uint64_t at = w->first * CLUSTER; r == 0 && at < SIZE; at += (uint64_t)WRITERS * CLUSTER)
		r = td_image_pwrite(w->im, at, w->bytes + at, TD_MIN(CLUSTER, SIZE - at), TD_COMPRESS);
	return r;
}

static int write_together(void *arg)
{
	struct writer w[WRITERS];
	struct td_join j = { 0 };

	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = *(struct writer *)arg;
		w[i].first = i;
		td_join_start(&j, write_every, &w[i]);
	}
	return td_join_wait(&j);
}

static void several_write_at_a_time(void **state)
{
	uint8_t *want = malloc(SIZE);
	struct writer w = { .bytes = want };

	(void)state;
	assert_non_null(want);
	fill(want, SIZE, 1);
	noise(want + SIZE / 4, SIZE / 4, 2);
	memset(want + SIZE / 2, 0, SIZE / 8);
	w.im = make("");
	assert_int_equal(testenv_run(&env, write_together, &w), 0);
	assert_int_equal(test_close(&env, w.im), 0);
	holds(want, SIZE);
	free(want);
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
		cmocka_unit_test(streams_come_back),
		cmocka_unit_test(a_stream_takes_no_more_than_its_bytes),
		cmocka_unit_test(zeros_are_no_streams),
		cmocka_unit_test(zeros_hide_a_backing_image),
		cmocka_unit_test(a_stream_in_the_place_of_another_is_read_anew),
		cmocka_unit_test(a_cluster_that_was_given_back_takes_no_stream),
		cmocka_unit_test(only_whole_clusters_are_taken),
		cmocka_unit_test(several_write_at_a_time),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
