// SPDX-License-Identifier: BSD-2-Clause
/*
 * Compressed grains of the formats that share the map: each is inflated once while it is read, what is kept of it is
 * right, and a check sum that is wrong is found whatever part of the grain is read.
 */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/vmdk.h>

#include "testenv.h"

#define KIB    1024u
#define GRAIN  (64 * KIB)
#define NR     40u                     /* grains; not all are kept */
#define SIZE   (NR * GRAIN - 24 * KIB) /* the last one is not whole */
#define FIRST  (128 * VMDK_SECTOR)     /* of a stream that we make: its first marker */
#define MARKER 12u

struct format {
	const char *name, *create;
	unsigned write_open, write;
};

static const struct format formats[] = {
	{ "vmdk", "subformat=streamOptimized", TD_OPEN_ONCE, TD_COMPRESS },
	{ "qcow", "cluster_size=64k", 0, TD_COMPRESS },
};

static struct testenv env;
static char path[128];
static uint8_t disk[SIZE], buf[SIZE];

/* Each half noise. */
static void fill_disk(void)
{
	uint64_t x = 7;

	for (size_t i = 0; i < sizeof(disk); i++)
		disk[i] = i % GRAIN < GRAIN / 2 ? (uint8_t)test_random(&x) : (uint8_t)(i / GRAIN);
}

static struct td_image *reopened(const struct format *f, unsigned flags)
{
	struct td_image *im = NULL;

	assert_int_equal(test_open(&env, &im, flags, "%s:%s", f->name, path), 0);
	return im;
}

static void make(const struct format *f)
{
	struct td_image *im;

	(void)snprintf(path, sizeof(path), "%s/disk", env.dir);
	assert_int_equal(test_create(&env, SIZE, f->create, true, "%s:%s", f->name, path), 0);
	im = reopened(f, f->write_open);
	assert_int_equal(test_write(&env, im, 0, disk, SIZE, f->write), 0);
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
	assert_int_equal(test_read(&env, im, off, buf, len, 0), 0);
	assert_memory_equal(buf, disk + off, len);
}

static void read_in_small_pieces(const struct format *f)
{
	struct td_image *im;

	make(f);
	im = reopened(f, TD_OPEN_RDONLY);
	for (uint64_t off = 0; off < SIZE; off += 4 * KIB)
		reads(im, off, 4 * KIB);
	assert_int_equal(counter(im, "inflated_misses"), NR);
	assert_int_equal(counter(im, "inflated_hits"), SIZE / (4 * KIB) - NR);
	assert_int_equal(test_close(&env, im), 0);
}

static void each_is_inflated_once_while_it_is_read(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(formats); i++)
		read_in_small_pieces(&formats[i]);
}

static void read_anywhere(const struct format *f, uint64_t seed)
{
	struct td_image *im;

	make(f);
	im = reopened(f, TD_OPEN_RDONLY);
	for (unsigned i = 0; i < 300; i++) {
		const uint64_t off = test_random(&seed) % SIZE;
		const uint64_t most = i % 8 ? 4 * KIB : 5 * GRAIN;

		reads(im, off, 1 + test_random(&seed) % TD_MIN(most, SIZE - off));
	}
	assert_int_equal(test_close(&env, im), 0);
}

static void what_is_kept_is_right(void **state)
{
	const uint64_t seed = test_seed();

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(formats); i++)
		read_anywhere(&formats[i], seed);
}

/* A grain that was emptied and written again is not what is kept of the old one. */
static void what_was_written_since_is_read(void **state)
{
	const struct format *f = &formats[1];
	struct td_image *im;

	(void)state;
	make(f);
	im = reopened(f, 0);
	reads(im, GRAIN, GRAIN);
	memset(disk + GRAIN, 0x5a, GRAIN);
	assert_int_equal(test_write(&env, im, GRAIN, disk + GRAIN, GRAIN, TD_COMPRESS), 0);
	reads(im, GRAIN + 8 * KIB, 4 * KIB);
	reads(im, 0, SIZE);
	assert_int_equal(test_close(&env, im), 0);
	fill_disk();
}

static void a_wrong_check_sum_is_found(void **state)
{
	uint8_t marker[MARKER], sum;
	struct td_image *im;
	off_t at;
	int fd;

	(void)state;
	make(&formats[0]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, marker, sizeof(marker), FIRST), sizeof(marker));
	at = FIRST + MARKER + td_get_le32(marker + 8) - 1;
	assert_int_equal(pread(fd, &sum, 1, at), 1);
	sum ^= 1;
	assert_int_equal(pwrite(fd, &sum, 1, at), 1);
	assert_int_equal(close(fd), 0);
	im = reopened(&formats[0], TD_OPEN_RDONLY);
	for (unsigned i = 0; i < 2; i++) { /* and what failed leaves nothing behind */
		assert_int_equal(test_read(&env, im, 4 * KIB, buf, 4 * KIB, 0), -EUCLEAN);
		assert_int_equal(test_read(&env, im, 0, buf, 512, 0), -EUCLEAN);
		reads(im, GRAIN, SIZE - GRAIN);
	}
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
		cmocka_unit_test(each_is_inflated_once_while_it_is_read),
		cmocka_unit_test(what_is_kept_is_right),
		cmocka_unit_test(what_was_written_since_is_read),
		cmocka_unit_test(a_wrong_check_sum_is_found),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
