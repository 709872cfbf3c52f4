// SPDX-License-Identifier: BSD-2-Clause
/*
 * New images in which every cluster has its place: as qemu-img makes them; what is written goes there; and the power
 * cut before each operation of create leaves no image, or a whole one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "qcow2-fsck.h"
#include "simdisk.h"
#include "testenv.h"

#define MIB (1u << 20)

static const char *const how[] = {
	"preallocation=metadata",
	"preallocation=falloc",
	"preallocation=full",
	"preallocation=metadata,cluster_size=512,refcount_bits=64",
	"preallocation=metadata,compat=0.10,cluster_size=4K",
	"preallocation=full,cluster_size=2M,refcount_bits=1",
	"preallocation=falloc,lazy_refcounts=on",
};

static const char *path_in(const struct testenv *t)
{
	static char path[128];

	(void)snprintf(path, sizeof(path), "%s/disk", t->dir);
	return path;
}

static void is_whole(const char *path)
{
	struct fsck k;

	assert_int_equal(qcow2_fsck(path, &k), 0);
	assert_int_equal(k.corruptions, 0);
	assert_int_equal(k.leaks, 0);
}

static void reads_zero(struct testenv *t, struct td_image *im)
{
	uint8_t *buf = malloc(im->size), *zeros = calloc(1, im->size);

	assert_true(buf && zeros);
	assert_int_equal(test_read(t, im, 0, buf, im->size, 0), 0);
	assert_memory_equal(buf, zeros, im->size);
	free(buf);
	free(zeros);
}

static uint64_t file_size(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static void compare_with_qemu(const char *path, const char *opts)
{
	char cmd[768];

	if (system("qemu-img --version >/dev/null 2>&1") != 0) /* NOLINT: fixed text */
		return;
	(void)snprintf(cmd, sizeof(cmd),
		       "qemu-img check -q %s && qemu-img create -q -f qcow2 -o %s %s.q 5M && "
		       "qemu-img compare -q %s.q %s && rm %s.q",
		       path, opts, path, path, path, path);
	assert_int_equal(system(cmd), 0); /* NOLINT: our own files */
}

static void all_has_its_place(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(how); i++) {
		struct testenv t;
		struct td_image *im = NULL;
		static uint8_t data[3 * 65536 + 1000];
		struct td_extent e;
		const char *path;
		uint64_t size;

		assert_int_equal(testenv_open(&t, "auto", NULL), 0);
		path = path_in(&t);
		assert_int_equal(test_create(&t, 5 * MIB, how[i], false, "qcow2:%s", path), 0);
		is_whole(path);
		compare_with_qemu(path, how[i]);
		size = file_size(path);
		assert_true(size > 5 * MIB);
		assert_int_equal(test_open(&t, &im, 0, "qcow2:%s", path), 0);
		assert_int_equal(test_extent(&t, im, 0, 5 * MIB, &e), 0);
		assert_int_equal(e.kind, TD_EXTENT_DATA);
		assert_int_equal(e.len, 5 * MIB);
		reads_zero(&t, im);
		/* In its place: no cluster more than before. */
		memset(data, 0x5a, sizeof(data));
		assert_int_equal(test_write(&t, im, 1234567, data, sizeof(data), TD_FUA), 0);
		assert_int_equal(test_close(&t, im), 0);
		assert_int_equal(file_size(path), size);
		is_whole(path);
		testenv_close(&t);
	}
}

static void what_cannot_be_is_refused(void **state)
{
	struct testenv t;
	const char *path;

	(void)state;
	assert_int_equal(testenv_open(&t, "auto", NULL), 0);
	path = path_in(&t);
	assert_int_equal(test_create(&t, MIB, "preallocation=some", false, "qcow2:%s", path), -EINVAL);
	assert_int_equal(test_create(&t, MIB, "preallocation=full,backing_file=x,backing_fmt=raw", false,
				     "qcow2:%s", path),
			 -EINVAL);
	/* 64 bit counts of 512 byte clusters: the refcount table would be too long. */
	assert_int_equal(test_create(&t, 64ull << 30,
				     "preallocation=metadata,cluster_size=512,refcount_bits=64", false,
				     "qcow2:%s", path),
			 -EFBIG);
	assert_int_not_equal(access(path, F_OK), 0);
	assert_int_equal(test_create(&t, 3 * MIB + 512, "preallocation=full", false, "raw:%s", path), 0);
	assert_int_equal(file_size(path), 3 * MIB + 512);
	testenv_close(&t);
}

/* ---- the power is cut ---- */

static void make_is_whole(struct testenv *t, const char *path)
{
	struct td_image *im = NULL;
	int r = test_open(t, &im, TD_OPEN_RDONLY, "qcow2:%s", path);

	if (r < 0)
		return; /* no image: that is fine */
	reads_zero(t, im);
	assert_int_equal(test_close(t, im), 0);
	is_whole(path);
}

static bool cut_at(struct testenv *t, struct simdisk *sim, const char *opts, uint64_t n)
{
	struct simdisk_state *crash;
	const char *path = path_in(t);
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fclose(f), 0);
	simdisk_add(sim, path);
	simdisk_start(sim, n);
	simdisk_cut(sim, n);
	if (test_create(t, MIB, opts, true, "qcow2:%s", path) == 0)
		return false;
	crash = simdisk_crash(sim);
	for (enum simdisk_lost lost = 0; lost <= SIMDISK_LOSE_PIECES; lost++) {
		simdisk_make(sim, crash, lost, n);
		make_is_whole(t, path);
	}
	simdisk_state_free(crash);
	return true;
}

static void a_cut_leaves_none_or_all(void **state)
{
	unsigned points = 0;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(how); i++) {
		struct simdisk *sim = simdisk_new(i);
		struct testenv t;

		assert_int_equal(testenv_open_sim(&t, sim), 0);
		for (uint64_t n = 1; cut_at(&t, sim, how[i], n); n++)
			points++;
		testenv_close(&t);
		simdisk_free(sim);
	}
	printf("# %u cuts\n", points);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_has_its_place),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(a_cut_leaves_none_or_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
