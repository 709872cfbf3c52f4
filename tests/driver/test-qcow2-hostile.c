// SPDX-License-Identifier: BSD-2-Clause
/*
 * Images that lie: each lie is refused, at open by a sentence that names it, or by the request that meets it; quickly;
 * and what cannot be trusted is not written through.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "qcow2-fsck.h"
#include "testenv.h"

#define CLUSTER 4096u
#define MIB     (1u << 20)
/* Where create puts things with clusters of 4K; the first write adds an L2 table and data. */
#define REFTABLE (1 * CLUSTER)
#define REFBLOCK (2 * CLUSTER)
#define L1       (3 * CLUSTER)
#define L2       (4 * CLUSTER)
#define DATA     (5 * CLUSTER)

struct fixture {
	struct testenv t;
	char path[128];
	struct td_image *im;
};

static void patch(const char *path, uint64_t off, uint64_t value, unsigned bytes)
{
	uint8_t raw[8];
	int fd = open(path, O_RDWR | O_CLOEXEC);

	td_put_be64(raw, value);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, raw + 8 - bytes, bytes, (off_t)off), (ssize_t)bytes);
	assert_int_equal(close(fd), 0);
}

static uint64_t peek(const char *path, uint64_t off)
{
	uint8_t raw[8] = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, raw, 8, (off_t)off), 8);
	assert_int_equal(close(fd), 0);
	return td_get_be64(raw);
}

/* An image of 4 MiB with data in its first megabyte, closed. */
static void start(struct fixture *f, const char *opts)
{
	static char buf[MIB];

	*f = (struct fixture){ 0 };
	memset(buf, 'd', sizeof(buf));
	assert_int_equal(testenv_open(&f->t, "sync", NULL), 0);
	(void)snprintf(f->path, sizeof(f->path), "%s/disk", f->t.dir);
	assert_int_equal(test_create(&f->t, 4 * MIB, opts, false, "qcow2:%s", f->path), 0);
	assert_int_equal(test_open(&f->t, &f->im, 0, "qcow2:%s", f->path), 0);
	assert_int_equal(test_write(&f->t, f->im, 0, buf, sizeof(buf), 0), 0);
	assert_int_equal(test_close(&f->t, f->im), 0);
	f->im = NULL;
}

static void stop(struct fixture *f)
{
	if (f->im)
		td_ignore(test_close(&f->t, f->im)); /* a frozen image cannot be flushed */
	testenv_close(&f->t);
}

static double now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- at open ---- */

struct lie {
	const char *what;
	uint64_t off, value;
	unsigned bytes;
	int error;
	const char *names; /* in the sentence */
};

static const struct lie header_lies[] = {
	{ "version 4", 4, 4, 4, -ENOTSUP, "version" },
	{ "version 1", 4, 1, 4, -ENOTSUP, "version 1" },
	{ "clusters of 256", 20, 8, 4, -EUCLEAN, "" },
	{ "clusters of 2^22", 20, 22, 4, -EUCLEAN, "" },
	{ "clusters of 2^31", 20, 31, 4, -EUCLEAN, "" },
	{ "size of 2^63", 24, 1ull << 63, 8, -EUCLEAN, "" },
	{ "size beyond L1", 24, 1ull << 50, 8, -EUCLEAN, "" },
	{ "AES", 32, 1, 4, -ENOKEY, "encrypt" },
	{ "LUKS", 32, 2, 4, -EUCLEAN, "encrypt" },
	{ "L1 of 2^32", 36, 0xffffffff, 4, -EUCLEAN, "L1" },
	{ "L1 larger than the file", 36, 1 << 20, 4, -EUCLEAN, "L1" },
	{ "L1 misaligned", 40, L1 + 8, 8, -EUCLEAN, "L1" },
	{ "L1 behind the end", 40, 1ull << 40, 8, -EUCLEAN, "L1" },
	{ "L1 at 2^63", 40, 1ull << 63, 8, -EUCLEAN, "L1" },
	{ "L1 in the header", 40, 0, 8, -EUCLEAN, "L1" },
	{ "L1 in a refcount block", 40, REFBLOCK, 8, -EUCLEAN, "overlaps" },
	{ "refcount table misaligned", 48, REFTABLE + 512, 8, -EUCLEAN, "refcount" },
	{ "refcount table behind the end", 48, 1ull << 40, 8, -EUCLEAN, "refcount" },
	{ "refcount table of 2^32 clusters", 56, 0xffffffff, 4, -EUCLEAN, "refcount" },
	{ "refcount table over L1", 56, 3, 4, -EUCLEAN, "" },
	{ "2^32 snapshots", 60, 0xffffffff, 4, -EUCLEAN, "snapshot" },
	{ "snapshots behind the end", 60, 3, 4, -EUCLEAN, "snapshot" },
	{ "a data file without a name", 72, 4, 8, -EUCLEAN, "another file" },
	{ "extended L2", 72, 16, 8, -EUCLEAN, "extended L2" },
	{ "unknown bit 9", 72, 512, 8, -ENOTSUP, "9" },
	{ "corrupt", 72, 2, 8, -EUCLEAN, "corrupt" },
	{ "refcounts of 2^7 bits", 96, 7, 4, -EUCLEAN, "" },
	{ "header of 2^32", 100, 0xffffffff, 4, -EUCLEAN, "" },
	{ "header of 3", 100, 3, 4, -EUCLEAN, "" },
	{ "compression type 7", 104, 7, 1, -EUCLEAN, "compression" },
	{ "extension of 2^32", 116, 0xffffffff, 4, -EUCLEAN, "extension" },
	{ "backing name of 2^32", 12, 0x200ffffffffull, 8, -EUCLEAN, "backing" },
	{ "L2 table in the refcount table", L1, QCOW2_COPIED | REFTABLE, 8, -EUCLEAN, "overlaps" },
	{ "shared L2 table in a refcount block", L1, REFBLOCK, 8, -EUCLEAN, "overlaps" },
	{ "shared L2 table in L1", L1, L1, 8, -EUCLEAN, "overlaps" },
	{ "one L2 table twice", L1 + 8, QCOW2_COPIED | L2, 8, -EUCLEAN, "overlaps" },
	{ "refcount block in L1", REFTABLE, L1, 8, -EUCLEAN, "overlaps" },
};

static void check_lie(const struct lie *l)
{
	struct fixture f;
	double began;
	int r;

	start(&f, "cluster_size=4K");
	/* An extension of any length, for the lie about its length. */
	if (strncmp(l->what, "extension", 9) == 0)
		patch(f.path, 112, 0x12345678, 4);
	patch(f.path, l->off, l->value, l->bytes);
	began = now();
	r = test_open(&f.t, &f.im, 0, "qcow2:%s", f.path);
	if (r == 0)
		fail_msg("%s: was opened", l->what);
	f.im = NULL;
	if (r != l->error && !(r == -ENOTSUP && l->error == -EUCLEAN) &&
	    !(r == -EFBIG && l->error == -EUCLEAN))
		fail_msg("%s: %d: %s", l->what, r, f.t.err.msg);
	if (!strstr(f.t.err.msg, l->names) || !strstr(f.t.err.msg, f.path))
		fail_msg("%s: does not name '%s' and the file: %s", l->what, l->names, f.t.err.msg);
	assert_true(now() - began < 10.0);
	stop(&f);
}

static void every_lie_of_a_header_is_refused_by_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < TD_NELEMS(header_lies); i++)
		check_lie(&header_lies[i]);
}

static void a_truncated_file_is_refused_at_every_length(void **state)
{
	struct fixture f;

	(void)state;
	for (off_t len = 0; len < L1; len += 100) {
		start(&f, "cluster_size=4K");
		assert_int_equal(truncate(f.path, len), 0);
		assert_true(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path) < 0);
		f.im = NULL;
		stop(&f);
	}
}

/* ---- in the tables ---- */

static const struct lie table_lies[] = {
	{ "L2 table misaligned", L1, QCOW2_COPIED | (L2 + 512), 8, -EUCLEAN, "" },
	{ "L2 table behind the end", L1, QCOW2_COPIED | (1ull << 40), 8, -EUCLEAN, "" },
	{ "data in the header", L2, QCOW2_COPIED | 512, 8, -EUCLEAN, "" },
	{ "data in L1", L2, QCOW2_COPIED | L1, 8, -EUCLEAN, "" },
	{ "data in the refcount table", L2, QCOW2_COPIED | REFTABLE, 8, -EUCLEAN, "" },
	{ "data in a refcount block", L2, QCOW2_COPIED | REFBLOCK, 8, -EUCLEAN, "" },
	{ "data in its own L2 table", L2, QCOW2_COPIED | L2, 8, -EUCLEAN, "" },
	{ "data misaligned", L2, QCOW2_COPIED | (DATA + 512), 8, -EUCLEAN, "" },
	{ "data behind the end", L2, QCOW2_COPIED | (1ull << 40), 8, -EUCLEAN, "" },
	{ "packed behind the end", L2, QCOW2_L2_COMPRESSED | (1ull << 40), 8, -EUCLEAN, "" },
	{ "packed in L1", L2, QCOW2_L2_COMPRESSED | L1, 8, -EUCLEAN, "" },
};

/* The first cluster is broken; the last one of the megabyte is not, unless its table is. */
static void check_table_lie(const struct lie *l, bool write)
{
	static char buf[CLUSTER];
	struct fixture f;
	bool whole_table = l->off == L1;
	int r;

	start(&f, "cluster_size=4K");
	/* The layout that the offsets above go by. */
	assert_int_equal(peek(f.path, L1), QCOW2_COPIED | L2);
	patch(f.path, l->off, l->value, l->bytes);
	if (test_open(&f.t, &f.im, 0, "qcow2:%s", f.path) < 0)
		fail_msg("%s: %s", l->what, f.t.err.msg);
	r = write ? test_write(&f.t, f.im, 0, buf, 100, 0) : test_read(&f.t, f.im, 0, buf, 100, 0);
	if (r != l->error)
		fail_msg("%s: %d", l->what, r);
	assert_true(f.im->frozen);
	assert_int_equal(test_write(&f.t, f.im, 2 * MIB, buf, 100, 0), -EIO);
	assert_int_equal(test_read(&f.t, f.im, MIB - CLUSTER, buf, CLUSTER, 0), whole_table ? -EUCLEAN : 0);
	if (!whole_table)
		assert_int_equal(buf[7], 'd');
	stop(&f);
}

static void a_lie_in_a_table_fails_its_request_and_freezes_the_image(void **state)
{
	(void)state;
	for (size_t i = 0; i < TD_NELEMS(table_lies); i++) {
		check_table_lie(&table_lies[i], false);
		check_table_lie(&table_lies[i], true);
	}
}

/* What an extended entry says of its cluster, which is there, or (gone) is not. */
static const struct {
	const char *what;
	uint64_t bitmap;
	bool gone;
} extended_lies[] = {
	{ "one subcluster is data and zeros", 1ull << 63 | UINT32_MAX, false },
	{ "all are data and zeros", UINT64_MAX, false },
	{ "data, and no cluster", 1, true },
	{ "zeros, and data without a cluster", 0xfffffffeull << 32 | 1, true },
};

/* Whatever part of the cluster is asked for. */
static void check_extended_lie(unsigned i, bool write)
{
	static char buf[512];
	struct fixture f;
	uint64_t l2;
	int r;

	start(&f, "cluster_size=16K,extended_l2=on");
	l2 = peek(f.path, peek(f.path, 40)) & QCOW2_OFF_MASK;
	assert_int_equal(peek(f.path, l2 + 8), UINT32_MAX);
	patch(f.path, l2 + 8, extended_lies[i].bitmap, 8);
	if (extended_lies[i].gone)
		patch(f.path, l2, 0, 8);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	r = write ? test_write(&f.t, f.im, 8192, buf, 512, 0) : test_read(&f.t, f.im, 8192, buf, 512, 0);
	if (r != -EUCLEAN || !f.im->frozen)
		fail_msg("%s: %d", extended_lies[i].what, r);
	assert_int_equal(test_read(&f.t, f.im, 65536, buf, 512, 0), 0); /* another one */
	assert_int_equal(buf[7], 'd');
	stop(&f);
}

static void a_lie_of_subclusters_fails_its_request_and_freezes_the_image(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(extended_lies); i++) {
		check_extended_lie(i, false);
		check_extended_lie(i, true);
	}
}

/* Descriptors of two clusters: one at offset 0 is there if COPIED says so, and the other's is at no other place. */
static const struct {
	const char *what;
	unsigned nth; /* entry */
	uint64_t raw;
} place_lies[] = {
	{ "data, and no cluster at offset 0", 0, 0 },
	{ "the first cluster at another place", 0, QCOW2_COPIED | 32768 },
	{ "the second cluster at offset 0", 1, QCOW2_COPIED },
	{ "a stream", 1, QCOW2_L2_COMPRESSED | 16384 },
};

static void check_place_lie(unsigned i, bool write)
{
	static char buf[512];
	struct fixture f;
	uint64_t l2, at = place_lies[i].nth * 16384ull + 8192;
	int r;

	start(&f, "cluster_size=16K,extended_l2=on,data_file=data");
	l2 = peek(f.path, peek(f.path, 40)) & QCOW2_OFF_MASK;
	assert_int_equal(peek(f.path, l2), QCOW2_COPIED);
	patch(f.path, l2 + place_lies[i].nth * 16ull, place_lies[i].raw, 8);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	r = write ? test_write(&f.t, f.im, at, buf, 512, 0) : test_read(&f.t, f.im, at, buf, 512, 0);
	if (r != -EUCLEAN || !f.im->frozen)
		fail_msg("%s: %d", place_lies[i].what, r);
	assert_int_equal(test_read(&f.t, f.im, 65536, buf, 512, 0), 0); /* another one */
	assert_int_equal(buf[7], 'd');
	stop(&f);
}

static void subclusters_at_another_place_of_the_data_file_freeze_the_image(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(place_lies); i++) {
		check_place_lie(i, false);
		check_place_lie(i, true);
	}
}

static void the_corrupt_bit_is_set_and_keeps_writers_out(void **state)
{
	static char buf[CLUSTER];
	struct fixture f;

	(void)state;
	start(&f, "cluster_size=4K");
	patch(f.path, L2, QCOW2_COPIED | L1, 8);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	assert_int_equal(test_write(&f.t, f.im, 0, buf, 512, 0), -EUCLEAN);
	td_ignore(test_close(&f.t, f.im)); /* it is frozen */
	f.im = NULL;
	assert_int_equal(peek(f.path, 72), QCOW2_INCOMPAT_CORRUPT);
	assert_int_equal(peek(f.path, L1), QCOW2_COPIED | L2); /* the write did not go there */
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), -EUCLEAN);
	assert_non_null(strstr(f.t.err.msg, "corrupt"));
	assert_int_equal(test_open(&f.t, &f.im, TD_OPEN_RDONLY, "qcow2:%s", f.path), 0);
	assert_int_equal(test_read(&f.t, f.im, MIB - CLUSTER, buf, CLUSTER, 0), 0);
	assert_int_equal(test_read(&f.t, f.im, 0, buf, CLUSTER, 0), -EUCLEAN);
	stop(&f);
}

static void who_only_reads_changes_nothing(void **state)
{
	static char buf[CLUSTER];
	struct fixture f;
	struct stat before, after;

	(void)state;
	start(&f, "cluster_size=4K,lazy_refcounts=on");
	patch(f.path, 72, QCOW2_INCOMPAT_DIRTY, 8);
	patch(f.path, L2, QCOW2_COPIED | L1, 8);
	assert_int_equal(stat(f.path, &before), 0);
	assert_int_equal(test_open(&f.t, &f.im, TD_OPEN_RDONLY, "qcow2:%s", f.path), 0);
	assert_int_equal(test_read(&f.t, f.im, 0, buf, CLUSTER, 0), -EUCLEAN);
	assert_int_equal(test_read(&f.t, f.im, 8192, buf, CLUSTER, 0), 0);
	assert_int_equal(test_write(&f.t, f.im, 8192, buf, CLUSTER, 0), -EROFS);
	assert_int_equal(test_close(&f.t, f.im), 0);
	f.im = NULL;
	assert_int_equal(stat(f.path, &after), 0);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	assert_int_equal(peek(f.path, 72), QCOW2_INCOMPAT_DIRTY);
	stop(&f);
}

/* ---- refcounts ---- */

static void a_count_of_zero_for_metadata_is_found_before_it_is_overwritten(void **state)
{
	static char buf[CLUSTER];
	struct fixture f;

	(void)state;
	start(&f, "cluster_size=4K");
	patch(f.path, REFBLOCK + 2 * 3, 0, 2); /* the L1 table is free, it says */
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	assert_int_equal(test_write(&f.t, f.im, 2 * MIB, buf, 512, 0), -EUCLEAN);
	assert_true(f.im->frozen);
	stop(&f);
	start(&f, "cluster_size=4K");
	patch(f.path, REFTABLE, 1ull << 40, 8);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	assert_int_equal(test_write(&f.t, f.im, 2 * MIB, buf, 512, 0), -EUCLEAN);
	assert_true(f.im->frozen);
	stop(&f);
}

struct busy {
	struct td_image *im;
	uint64_t off;
};

static int write_through(void *arg)
{
	static char buf[16 * CLUSTER];
	const struct busy *b = arg;

	td_ignore(td_image_pwrite(b->im, b->off, buf, sizeof(buf), TD_FUA));
	return 0;
}

static int trim_and_write(void *arg)
{
	struct td_image *im = arg;
	struct busy b[20];
	struct td_join j = { 0 };
	int r = td_image_trim(im, 0, 2 * CLUSTER);

	if (r == 0)
		r = td_image_flush(im);
	for (unsigned i = 0; r == 0 && i < TD_NELEMS(b); i++) {
		b[i] = (struct busy){ im, 2 * MIB + i * 16 * CLUSTER };
		td_join_start(&j, write_through, &b[i]);
		td_co_pause();
	}
	return r == 0 ? td_join_wait(&j) : r;
}

/*
 * Giving clusters back finds that nobody had counted them, while writes are on their way: they leave tables changed
 * that can never be written, and the disk is closed all the same.
 */
static void an_image_that_breaks_while_it_gives_clusters_back_can_be_closed(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, "cluster_size=4K");
	/* Far behind the clusters that the writes get. */
	patch(f.path, L2, QCOW2_COPIED | 7 * MIB, 8);
	assert_int_equal(truncate(f.path, 7 * MIB + CLUSTER), 0);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	(void)alarm(600);
	assert_int_equal(testenv_run(&f.t, trim_and_write, f.im), 0);
	assert_true(f.im->frozen);
	td_ignore(test_close(&f.t, f.im)); /* it returns */
	(void)alarm(0);
	f.im = NULL;
	stop(&f);
}

static void a_dirty_image_gets_right_counts_and_a_clean_bit(void **state)
{
	struct fixture f;
	struct fsck k;

	(void)state;
	start(&f, "cluster_size=4K,lazy_refcounts=on");
	patch(f.path, 72, QCOW2_INCOMPAT_DIRTY, 8);
	for (unsigned i = 4; i < 200; i++)
		patch(f.path, REFBLOCK + 2 * i, i % 3, 2); /* nonsense, and free clusters that are not */
	patch(f.path, REFBLOCK + 2 * 3, 0, 2);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	assert_int_equal(peek(f.path, 72), 0);
	assert_int_equal(qcow2_fsck(f.path, &k), 0);
	assert_int_equal(k.corruptions + k.leaks, 0);
	stop(&f);
}

static void a_dirty_image_with_crossed_entries_is_not_repaired(void **state)
{
	struct fixture f;

	(void)state;
	start(&f, "cluster_size=4K,lazy_refcounts=on");
	patch(f.path, 72, QCOW2_INCOMPAT_DIRTY, 8);
	patch(f.path, L2 + 8, peek(f.path, L2), 8);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), -EUCLEAN);
	assert_non_null(strstr(f.t.err.msg, "check"));
	assert_int_equal(peek(f.path, 72), QCOW2_INCOMPAT_DIRTY);
	f.im = NULL;
	stop(&f);
}

/* ---- sizes that cost nothing to write down ---- */

static void a_dirty_image_in_a_huge_file_is_repaired_at_once(void **state)
{
	struct fixture f;
	double began;

	(void)state;
	start(&f, "cluster_size=512,lazy_refcounts=on");
	patch(f.path, 72, QCOW2_INCOMPAT_DIRTY, 8);
	assert_int_equal(truncate(f.path, (off_t)1 << 42), 0);
	began = now();
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	assert_true(now() - began < 10.0);
	stop(&f);
}

/* Version 3 would do as well; L1 of a disk of 128 GiB in clusters of 512 has 32 MiB. */
static void a_table_that_l1_names_a_million_times_is_no_work(void **state)
{
	enum { ENTRIES = 1 << 20 };
	static uint8_t l1[8 * ENTRIES];
	const uint64_t table = 64 * MIB;
	struct fixture f;
	double began;
	int fd;

	(void)state;
	start(&f, "cluster_size=2M,lazy_refcounts=on");
	patch(f.path, 72, QCOW2_INCOMPAT_DIRTY, 8);
	patch(f.path, 36, ENTRIES, 4);
	patch(f.path, 40, 32 * MIB, 8);
	for (size_t i = 0; i < ENTRIES; i++)
		td_put_be64(l1 + 8 * i, table);
	fd = open(f.path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, l1, sizeof(l1), 32 * MIB), (ssize_t)sizeof(l1));
	assert_int_equal(ftruncate(fd, table + 2 * MIB), 0);
	assert_int_equal(close(fd), 0);
	began = now();
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), -EUCLEAN);
	assert_true(now() - began < 10.0);
	f.im = NULL;
	stop(&f);
}

/* 4096 snapshots, each with an L1 of 32 MiB at its own place, cut: the file's end decides. */
static void write_snapshots(const char *path, uint64_t at, unsigned nr, uint64_t l1_off, uint64_t step)
{
	static uint8_t table[4096 * 40];
	int fd = open(path, O_RDWR | O_CLOEXEC);

	memset(table, 0, sizeof(table));
	for (unsigned i = 0; i < nr; i++) {
		td_put_be64(table + 40 * i, l1_off + i * step);
		td_put_be32(table + 40 * i + 8, 32 * MIB / 8);
	}
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, table, 40 * nr, (off_t)at), 40 * (ssize_t)nr);
	assert_int_equal(close(fd), 0);
	patch(path, 60, nr, 4);
	patch(path, 64, at, 8);
}

static void snapshots_with_terabytes_of_tables_cost_nothing(void **state)
{
	static char buf[512];
	struct fixture f;
	double began;

	(void)state;
	start(&f, "cluster_size=512,refcount_bits=1");
	write_snapshots(f.path, 16 * MIB, 4096, 32 * MIB, 32 * MIB);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), -EUCLEAN);
	assert_non_null(strstr(f.t.err.msg, "snapshot"));
	assert_int_equal(test_open(&f.t, &f.im, TD_OPEN_RDONLY, "qcow2:%s", f.path), 0);
	assert_int_equal(test_close(&f.t, f.im), 0);
	assert_int_equal(truncate(f.path, (off_t)1 << 38), 0);
	began = now();
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	assert_int_equal(test_write(&f.t, f.im, 2 * MIB, buf, sizeof(buf), 0), 0);
	assert_true(now() - began < 10.0);
	assert_int_equal(test_close(&f.t, f.im), 0);
	f.im = NULL;
	write_snapshots(f.path, 16 * MIB, 4096, 32 * MIB, 16 * MIB);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), -EUCLEAN);
	assert_non_null(strstr(f.t.err.msg, "overlaps"));
	stop(&f);
}

static void a_disk_of_an_exbibyte_of_holes_is_no_work(void **state)
{
	const uint64_t size = 1ull << 60;
	struct fixture f = { 0 };
	struct td_extent e;
	double began;

	(void)state;
	assert_int_equal(testenv_open(&f.t, "sync", NULL), 0);
	(void)snprintf(f.path, sizeof(f.path), "%s/disk", f.t.dir);
	assert_int_equal(test_create(&f.t, size, "cluster_size=2M", false, "qcow2:%s", f.path), 0);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	began = now();
	assert_int_equal(test_zero(&f.t, f.im, 0, size, TD_MAY_UNMAP), 0);
	assert_int_equal(test_zero(&f.t, f.im, 0, size, 0), 0);
	assert_int_equal(test_trim(&f.t, f.im, 0, size), 0);
	assert_int_equal(test_extent(&f.t, f.im, 0, size, &e), 0);
	assert_int_equal(e.len, size);
	assert_true(now() - began < 10.0);
	stop(&f);
}

static int snapshot_and_back(void *arg)
{
	struct fixture *f = arg;
	char x = 'x';
	int r = td_image_snapshot(f->im, TD_SNAP_CREATE, "one", NULL, &f->t.err);

	if (r == 0) /* the disk has tables of its own from here on */
		r = td_image_pwrite(f->im, 0, &x, 1, 0);
	return r;
}

static int drop_snapshot(void *arg)
{
	struct fixture *f = arg;

	return td_image_snapshot(f->im, TD_SNAP_DELETE, "one", NULL, &f->t.err);
}

/* Deleting a snapshot looks at entries of the disk that nobody asked for: one names a cluster far behind the end. */
static void a_snapshot_goes_though_the_disk_names_what_is_not_there(void **state)
{
	struct fixture f;
	uint64_t l2;

	(void)state;
	start(&f, "cluster_size=4096");
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	assert_int_equal(td_loop_call(f.t.env.loop, snapshot_and_back, &f), 0);
	assert_int_equal(test_close(&f.t, f.im), 0);
	l2 = peek(f.path, peek(f.path, 40)) & QCOW2_OFF_MASK;
	patch(f.path, l2 + 8, QCOW2_COPIED | 0x00fffffffffff000, 8);
	assert_int_equal(test_open(&f.t, &f.im, 0, "qcow2:%s", f.path), 0);
	assert_int_equal(td_loop_call(f.t.env.loop, drop_snapshot, &f), 0);
	stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_lie_of_a_header_is_refused_by_name),
		cmocka_unit_test(a_truncated_file_is_refused_at_every_length),
		cmocka_unit_test(a_lie_in_a_table_fails_its_request_and_freezes_the_image),
		cmocka_unit_test(a_lie_of_subclusters_fails_its_request_and_freezes_the_image),
		cmocka_unit_test(subclusters_at_another_place_of_the_data_file_freeze_the_image),
		cmocka_unit_test(the_corrupt_bit_is_set_and_keeps_writers_out),
		cmocka_unit_test(who_only_reads_changes_nothing),
		cmocka_unit_test(a_count_of_zero_for_metadata_is_found_before_it_is_overwritten),
		cmocka_unit_test(an_image_that_breaks_while_it_gives_clusters_back_can_be_closed),
		cmocka_unit_test(a_dirty_image_gets_right_counts_and_a_clean_bit),
		cmocka_unit_test(a_dirty_image_with_crossed_entries_is_not_repaired),
		cmocka_unit_test(a_dirty_image_in_a_huge_file_is_repaired_at_once),
		cmocka_unit_test(a_table_that_l1_names_a_million_times_is_no_work),
		cmocka_unit_test(a_disk_of_an_exbibyte_of_holes_is_no_work),
		cmocka_unit_test(snapshots_with_terabytes_of_tables_cost_nothing),
		cmocka_unit_test(a_snapshot_goes_though_the_disk_names_what_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
