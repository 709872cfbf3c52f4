// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading compressed clusters: of which how much is inflated, what is inflated ahead, and streams that are damaged.
 * What comes back of mixtures is the matrix's.
 */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/qcow2.h>

#include "testenv.h"

#define KIB     1024u
#define CLUSTER (64 * KIB)
#define NR      40u           /* clusters */
#define BAD     (5 * CLUSTER) /* where damage() does it */

static struct testenv env;
static char path[128];
static uint8_t disk[NR * CLUSTER];

/* Each half noise, so that a stream takes half of its cluster and more. */
static void fill_disk(void)
{
	uint64_t x = 7;

	for (size_t i = 0; i < sizeof(disk); i++)
		disk[i] = i % CLUSTER < CLUSTER * 5 / 8 ? (uint8_t)test_random(&x) : (uint8_t)(i / CLUSTER);
}

static struct td_image *reopened(unsigned flags)
{
	struct td_image *im = NULL;

	assert_int_equal(test_open(&env, &im, flags, "qcow2:%s", path), 0);
	return im;
}

static void make(void)
{
	struct td_image *im;

	(void)snprintf(path, sizeof(path), "%s/disk", env.dir);
	assert_int_equal(test_create(&env, sizeof(disk), "", true, "qcow2:%s", path), 0);
	im = reopened(0);
	assert_int_equal(test_write(&env, im, 0, disk, sizeof(disk), TD_COMPRESS), 0);
	assert_int_equal(test_close(&env, im), 0);
}

static uint64_t counter(const struct td_image *im, const char *name)
{
	struct td_counters c = { 0 };

	td_image_counters(im, &c);
	for (unsigned i = 0; i < c.nr; i++)
		if (strcmp(c.counter[i].name, name) == 0)
			return c.counter[i].value;
	return 0;
}

static void reads(struct td_image *im, uint64_t off, size_t len)
{
	static uint8_t buf[sizeof(disk)];

	assert_int_equal(test_read(&env, im, off, buf, len, 0), 0);
	assert_memory_equal(buf, disk + off, len);
}

/* ---- how much ---- */

static void a_cluster_is_inflated_as_far_as_it_is_read(void **state)
{
	struct td_image *im;

	(void)state;
	make();
	im = reopened(TD_OPEN_RDONLY);
	reads(im, 8 * KIB, 4 * KIB);
	reads(im, 4 * KIB, 8 * KIB); /* it is there */
	assert_int_equal(counter(im, "inflated_misses"), 1);
	assert_int_equal(counter(im, "inflated_hits"), 1);
	reads(im, 10 * KIB, 4 * KIB); /* a part of it: now all is inflated */
	assert_int_equal(counter(im, "inflated_misses"), 2);
	reads(im, 0, CLUSTER);
	reads(im, CLUSTER - 1, 1);
	assert_int_equal(counter(im, "inflated_misses"), 2);
	assert_int_equal(test_close(&env, im), 0);
}

static void every_piece_of_a_cluster_is_right(void **state)
{
	uint64_t x = test_seed();

	(void)state;
	make();
	for (unsigned i = 0; i < 16; i++) { /* the first read of a cluster, each time */
		struct td_image *im = reopened(TD_OPEN_RDONLY);

		for (unsigned n = 0; n < NR; n += 2) {
			uint64_t from = test_random(&x) % CLUSTER;

			reads(im, n * CLUSTER + from, 1 + test_random(&x) % (CLUSTER - from));
		}
		assert_int_equal(test_close(&env, im), 0);
	}
}

/* ---- ahead ---- */

static void what_is_read_in_order_is_inflated_ahead(void **state)
{
	struct td_image *im;

	(void)state;
	make();
	im = reopened(TD_OPEN_RDONLY);
	for (unsigned n = 0; n < NR; n += 2) /* not in order */
		reads(im, n * CLUSTER, 4 * KIB);
	for (unsigned n = NR; n-- > 0;)
		reads(im, n * CLUSTER + CLUSTER / 2, 4 * KIB);
	assert_int_equal(counter(im, "inflated_ahead"), 0);
	reads(im, 20 * CLUSTER, 4 * KIB);
	reads(im, 21 * CLUSTER, 4 * KIB);
	assert_int_equal(counter(im, "inflated_ahead"), 1);
	assert_int_equal(test_close(&env, im), 0);
	im = reopened(TD_OPEN_RDONLY);
	for (uint64_t off = 0; off < sizeof(disk); off += 4 * KIB)
		reads(im, off, 4 * KIB);
	assert_in_range(counter(im, "inflated_ahead"), 1, NR - 2); /* not the first, nor the second */
	assert_int_equal(counter(im, "inflated_misses") + counter(im, "inflated_ahead"), NR);
	assert_int_equal(test_close(&env, im), 0);
}

static int close_at_once(void *arg)
{
	static uint8_t buf[4 * KIB];
	struct td_image *im = arg;
	int r = td_image_pread(im, 3 * CLUSTER, buf, sizeof(buf), 0), r2;

	if (r == 0)
		r = td_image_pread(im, 4 * CLUSTER, buf, sizeof(buf), 0);
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

static void closing_waits_for_what_is_ahead(void **state)
{
	(void)state;
	make();
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(testenv_run(&env, close_at_once, reopened(TD_OPEN_RDONLY)), 0);
}

struct overtaking {
	struct td_image *im;
	unsigned flags;
	uint8_t next[CLUSTER];
};

/* Into the cluster that is being inflated ahead. */
static int overtake(void *arg)
{
	struct overtaking *o = arg;
	int r = td_image_pread(o->im, 3 * CLUSTER, o->next, 4 * KIB, 0);

	if (r == 0)
		r = td_image_pread(o->im, 4 * CLUSTER, o->next, 4 * KIB, 0);
	memset(o->next, 0x77, sizeof(o->next));
	if (r == 0)
		r = td_image_pwrite(o->im, 5 * CLUSTER, o->next, sizeof(o->next), o->flags);
	memset(o->next, 0, sizeof(o->next));
	return r < 0 ? r : td_image_pread(o->im, 5 * CLUSTER, o->next, sizeof(o->next), 0);
}

static void who_writes_what_is_ahead_reads_it(void **state)
{
	static struct overtaking o;
	const unsigned flags[] = { 0, TD_COMPRESS };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		make();
		o.flags = flags[i];
		o.im = reopened(0);
		assert_int_equal(testenv_run(&env, overtake, &o), 0);
		for (size_t b = 0; b < sizeof(o.next); b++)
			assert_int_equal(o.next[b], 0x77);
		assert_int_equal(test_close(&env, o.im), 0);
	}
}

/* ---- damage ---- */

/* Where in the file is the stream of a cluster?  Where a compressor that is the same every time puts the same. */
static off_t stream_of(int fd, unsigned cluster)
{
	static uint8_t packed[CLUSTER], file[2 * sizeof(disk)];
	int64_t n = qcow2_deflate(QCOW2_DEFLATE, disk + cluster * CLUSTER, CLUSTER, packed, sizeof(packed));
	ssize_t len = pread(fd, file, sizeof(file), 0);
	uint8_t *at;

	assert_in_range(n, 1, CLUSTER - 1);
	assert_in_range(len, 1, sizeof(file));
	at = memmem(file, (size_t)len, packed, (size_t)n);
	assert_non_null(at);
	return at - file;
}

/* In the place of one stream: 32 KiB in a stored block, then a block of a type that does not exist. */
static void damage(void)
{
	static uint8_t stream[5 + 32 * KIB + 1] = { 0x00, 0x00, 0x80, 0xff, 0x7f };
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	memcpy(stream + 5, disk + BAD, 32 * KIB);
	stream[5 + 32 * KIB] = 0x07;
	assert_int_equal(pwrite(fd, stream, sizeof(stream), stream_of(fd, 5)), sizeof(stream));
	assert_int_equal(close(fd), 0);
}

static void a_damaged_stream_fails_those_who_need_more_than_is_good(void **state)
{
	struct td_image *im;
	static uint8_t buf[12 * KIB];

	(void)state;
	make();
	damage();
	im = reopened(0);
	for (unsigned i = 0; i < 2; i++) { /* and what failed leaves nothing behind */
		reads(im, BAD + 4 * KIB, 4 * KIB);
		assert_int_equal(test_read(&env, im, BAD + 40 * KIB, buf, 4 * KIB, 0), -EUCLEAN);
		assert_int_equal(test_read(&env, im, BAD, buf, sizeof(buf), 0), -EUCLEAN);
	}
	/* Ahead it is nobody's error. */
	reads(im, BAD - 2 * CLUSTER, 4 * KIB);
	reads(im, BAD - CLUSTER, CLUSTER);
	assert_false(im->frozen);
	assert_int_equal(test_write(&env, im, BAD, disk + BAD, CLUSTER, 0), 0);
	reads(im, 0, sizeof(disk));
	assert_int_equal(test_close(&env, im), 0);
}

static int setup(void **state)
{
	(void)state;
	fill_disk();
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
		cmocka_unit_test(a_cluster_is_inflated_as_far_as_it_is_read),
		cmocka_unit_test(every_piece_of_a_cluster_is_right),
		cmocka_unit_test(what_is_read_in_order_is_inflated_ahead),
		cmocka_unit_test(closing_waits_for_what_is_ahead),
		cmocka_unit_test(who_writes_what_is_ahead_reads_it),
		cmocka_unit_test(a_damaged_stream_fails_those_who_need_more_than_is_good),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
