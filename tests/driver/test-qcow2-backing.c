// SPDX-License-Identifier: BSD-2-Clause
/*
 * Another backing file is recorded, or an overlay emptied, and the power is cut before operation n, for every n, any
 * part of what was not flushed being lost: the name and its format are both the old ones or both the new ones, all
 * other header extensions are there, and what the guest sees has not changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include <blktap/qcow2.h>

#include "qcow2-fsck.h"
#include "simdisk.h"
#include "testenv.h"

#define SIZE      (256u << 10)
#define FIRST_MAX 65536u

struct pair {
	const char *path, *format;
};

/* An image: its cluster size, how it begins, and what else its header holds. */
struct shape {
	const char *create;
	struct pair from;
	unsigned names, unknown; /* bytes of a feature name table, of an unknown extension */
	bool fits;               /* all of the changes below */
};

static const char long_path[] =
	"a/rather/long/name/of/a/backing/file/that/does/not/fit/into/what/is/left/of/the/first/sector/of/an/"
	"image/and/so/has/to/lie/behind/it/in/the/second/or/the/third/sector/where/one/write/is/not/"
	"enough.raw";

static const struct shape shapes[] = {
	{ .create = "cluster_size=4K", .fits = true },
	{ .create = "cluster_size=4K", .from = { "base", "raw" }, .fits = true },
	{ .create = "cluster_size=64K", .from = { long_path, "qcow2" }, .names = 384, .fits = true },
	{ .create = "cluster_size=4K", .from = { "base", NULL }, .names = 384, .unknown = 24, .fits = true },
	{ .create = "cluster_size=4K",
	  .from = { "base", "raw" },
	  .names = 384,
	  .unknown = 900,
	  .fits = true },
	{ .create = "cluster_size=4K,compat=v2", .from = { long_path, NULL }, .unknown = 700, .fits = true },
	{ .create = "cluster_size=512", .from = { "base", "raw" } },
	{ .create = "cluster_size=1K", .from = { long_path, "raw" }, .names = 384 },
};

static const struct pair news[] = {
	{ NULL, NULL },    { "base", "raw" },    { "other", "qcow2" },
	{ "other", NULL }, { long_path, "raw" }, { long_path, "aformatwithalongname" },
};

struct run {
	struct testenv t;
	struct simdisk *sim;
	struct simdisk_state *clean;
	const struct shape *shape;
	struct pair to;
	char path[128], spec[160];
	int result;
	unsigned images;
};

/* ---- the header as a string: the pair, and all other extensions ---- */

static void put_ext(uint8_t *buf, size_t len, size_t *pos, uint32_t type, uint8_t fill, unsigned bytes)
{
	uint8_t data[FIRST_MAX / 32];

	memset(data, fill, bytes);
	assert_int_equal(qcow2_ext_put(buf, len, pos, type, data, bytes), 0);
}

/* The image's first cluster, written anew by hand. */
static void dress(const struct run *run)
{
	static uint8_t buf[FIRST_MAX];
	const struct shape *s = run->shape;
	int fd = open(run->path, O_RDWR | O_CLOEXEC);
	struct qcow2_header h;
	struct td_err err;
	size_t pos, len;

	assert_true(pread(fd, buf, sizeof(buf), 0) > 0);
	assert_int_equal(qcow2_header_decode(buf, sizeof(buf), &h, &err), 0);
	len = (size_t)1 << h.cluster_bits;
	pos = h.version == 2 ? QCOW2_HEADER_V2 : h.header_len;
	memset(buf + pos, 0, len - pos);
	if (s->names)
		put_ext(buf, len, &pos, QCOW2_EXT_FEATURE_NAMES, 0, s->names);
	if (s->from.format)
		assert_int_equal(qcow2_ext_put(buf, len, &pos, QCOW2_EXT_BACKING_FORMAT, s->from.format,
					       (uint32_t)strlen(s->from.format)),
				 0);
	if (s->unknown)
		put_ext(buf, len, &pos, 0x11223344, 'u', s->unknown);
	assert_int_equal(qcow2_ext_put(buf, len, &pos, QCOW2_EXT_END, NULL, 0), 0);
	if (s->from.path) {
		h.backing_off = pos;
		h.backing_len = (uint32_t)strlen(s->from.path);
		memcpy(buf + pos, s->from.path, h.backing_len);
	}
	assert_true(qcow2_header_encode(&h, buf, len) > 0);
	assert_int_equal(pwrite(fd, buf, len, 0), (ssize_t)len);
	close(fd);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Is the unknown extension there as it was, and the table of names?  final: and nothing else. */
static bool extensions_kept(const struct run *run, bool final)
{
	static uint8_t buf[FIRST_MAX];
	int fd = open(run->path, O_RDONLY | O_CLOEXEC);
	ssize_t len = pread(fd, buf, sizeof(buf), 0);
	struct qcow2_header h;
	struct qcow2_ext e;
	struct td_err err;
	unsigned names = 0, unknown = 0, others = 0;
	size_t pos;
	int r = qcow2_header_decode(buf, (size_t)len, &h, &err);

	close(fd);
	pos = h.version == 2 ? QCOW2_HEADER_V2 : h.header_len;
	while (r == 0 && (r = qcow2_ext_next(&h, buf, (size_t)len, &pos, &e, &err)) > 0) {
		r = 0;
		if (e.type == QCOW2_EXT_FEATURE_NAMES)
			names += e.len;
		else if (e.type == 0x11223344)
			unknown += e.len > 0 && e.data[0] == 'u' && e.data[e.len - 1] == 'u' ? e.len : 0;
		else
			others += e.type != QCOW2_EXT_BACKING_FORMAT;
	}
	return r == 0 && names == run->shape->names && unknown == run->shape->unknown && !(final && others);
}

static int look(struct run *run, struct pair *ret, char *path, char *format)
{
	struct td_image *im;
	int r = test_open(&run->t, &im, TD_OPEN_RDONLY | TD_OPEN_NO_CHAIN, "%s", run->spec);

	if (r < 0)
		return r;
	*ret = (struct pair){ im->backing_path ? path : NULL, im->backing_format ? format : NULL };
	strcpy(path, im->backing_path ? im->backing_path : "");
	strcpy(format, im->backing_format ? im->backing_format : "");
	return test_close(&run->t, im);
}

static bool is_pair(const struct pair *a, const struct pair *b)
{
	return same_text(a->path, b->path) && same_text(a->format, b->format);
}

/* ---- changing it ---- */

static int change(void *arg)
{
	struct run *run = arg;
	struct td_image *im = NULL;
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_NO_CHAIN, &im, &run->t.err);

	if (r < 0)
		return r;
	run->result = td_image_set_backing(im, run->to.path, run->to.format, &run->t.err);
	if (run->result == 0 &&
	    (!same_text(im->backing_path, run->to.path) || !same_text(im->backing_format, run->to.format)))
		run->result = -EPROTO;
	td_ignore(td_image_close(im)); /* after a cut it fails */
	return 0;
}

static void look_at_image(struct run *run, bool may_be_old, bool may_be_new)
{
	char path[1024], format[1024];
	struct pair p = { 0 };

	run->images++;
	if (look(run, &p, path, format) < 0)
		fail_msg("%s: %s", run->shape->create, run->t.err.msg);
	if (!(may_be_old && is_pair(&p, &run->shape->from)) && !(may_be_new && is_pair(&p, &run->to)))
		fail_msg("%s: '%s' in format '%s' is neither", run->shape->create, path, format);
	assert_true(extensions_kept(run, !may_be_old));
}

static void all_crashes(struct run *run)
{
	for (uint64_t n = 1;; n++) {
		struct simdisk_state *crash;

		simdisk_restore(run->sim, run->clean);
		simdisk_start(run->sim, n);
		simdisk_cut(run->sim, n);
		(void)testenv_run(&run->t, change, run);
		if (!simdisk_is_cut(run->sim))
			return;
		crash = simdisk_crash(run->sim);
		for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++) {
			for (uint64_t i = 0; i < 3; i++) {
				simdisk_make(run->sim, crash, how, n * 7 + i);
				look_at_image(run, true, true);
			}
		}
		simdisk_state_free(crash);
	}
}

static void one_change(struct run *run)
{
	simdisk_restore(run->sim, run->clean);
	simdisk_start(run->sim, 1);
	assert_int_equal(testenv_run(&run->t, change, run), 0);
	if (run->shape->fits && run->result < 0)
		fail_msg("%s: %s", run->shape->create, run->t.err.msg);
	assert_true(run->result == 0 || run->result == -ENOSPC);
	look_at_image(run, run->result < 0, run->result == 0);
	all_crashes(run);
}

static void setup(struct run *run, const struct shape *shape)
{
	*run = (struct run){ .shape = shape };
	run->sim = simdisk_new(1);
	assert_int_equal(testenv_open_sim(&run->t, run->sim), 0);
	(void)snprintf(run->path, sizeof(run->path), "%s/disk", run->t.dir);
	(void)snprintf(run->spec, sizeof(run->spec), "qcow2:%s", run->path);
	assert_int_equal(test_create(&run->t, SIZE, shape->create, false, "%s", run->spec), 0);
	dress(run);
	simdisk_add(run->sim, run->path);
	run->clean = simdisk_save(run->sim);
}

static void teardown(struct run *run)
{
	testenv_close(&run->t);
	simdisk_state_free(run->clean);
	simdisk_free(run->sim);
}

static void a_crash_leaves_the_old_name_or_the_new(void **state)
{
	unsigned images = 0;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(shapes); i++) {
		struct run run;

		setup(&run, &shapes[i]);
		for (unsigned k = 0; k < TD_NELEMS(news); k++) {
			run.to = news[k];
			one_change(&run);
		}
		images += run.images;
		teardown(&run);
	}
	printf("# %u images\n", images);
}

/* One change after the other, on the same image: it does not grow, and nothing is lost on the way. */
static void changes_follow_each_other(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(shapes); i++) {
		uint64_t random = 5;
		struct run run;

		if (!shapes[i].fits)
			continue;
		setup(&run, &shapes[i]);
		for (unsigned k = 0; k < 60; k++) {
			run.to = news[test_random(&random) % TD_NELEMS(news)];
			assert_int_equal(testenv_run(&run.t, change, &run), 0);
			if (run.result < 0)
				fail_msg("%s", run.t.err.msg);
			look_at_image(&run, false, true);
		}
		teardown(&run);
	}
}

static void what_makes_no_sense_is_refused(void **state)
{
	static char endless[2000];
	struct td_image *im;
	struct run run;

	(void)state;
	setup(&run, &shapes[0]);
	memset(endless, 'x', sizeof(endless) - 1);
	run.to = (struct pair){ "", "raw" };
	assert_int_equal(testenv_run(&run.t, change, &run), 0);
	assert_int_equal(run.result, -EINVAL);
	run.to = (struct pair){ NULL, "raw" };
	assert_int_equal(testenv_run(&run.t, change, &run), 0);
	assert_int_equal(run.result, -EINVAL);
	run.to = (struct pair){ endless, "raw" };
	assert_int_equal(testenv_run(&run.t, change, &run), 0);
	assert_int_equal(run.result, -ENAMETOOLONG);
	assert_int_equal(test_open(&run.t, &im, TD_OPEN_RDONLY, "%s", run.spec), 0);
	assert_int_equal(td_image_set_backing(im, "a", "raw", &run.t.err), -EROFS);
	assert_int_equal(td_image_empty(im, &run.t.err), -EROFS);
	assert_int_equal(test_close(&run.t, im), 0);
	assert_int_equal(test_open(&run.t, &im, 0, "raw:%s", run.path), 0);
	assert_int_equal(td_image_set_backing(im, "a", "raw", &run.t.err), -ENOTSUP);
	assert_int_equal(td_image_empty(im, &run.t.err), -ENOTSUP);
	assert_int_equal(test_close(&run.t, im), 0);
	teardown(&run);
}

/* ---- emptying ---- */

/* The base holds what the overlay holds, and more. */
static int fill(void *arg)
{
	struct run *run = arg;
	struct td_image *top = NULL, *base = NULL;
	struct td_spec *spec = NULL;
	char buf[512];
	int r = td_spec_parse(run->spec, &spec, &run->t.err), r2;

	if (r == 0)
		r = td_image_open_base(&run->t.env, spec, NULL, 0, &top, &base, &run->t.err);
	td_spec_free(spec);
	if (r < 0)
		return r;
	/* First the base as a whole: what is written to the overlay takes the rest of its cluster from there. */
	for (uint64_t at = 0; r == 0 && at < 2ull * SIZE; at += sizeof(buf)) {
		uint64_t off = at % SIZE;

		memset(buf, (int)(off >> 12) + 1, sizeof(buf));
		if (at < SIZE || (off >> 12) % 3)
			r = td_image_pwrite(at < SIZE ? base : top, off, buf, sizeof(buf), 0);
	}
	r2 = td_image_close(top);
	return r < 0 ? r : r2;
}

static int empty(void *arg)
{
	struct run *run = arg;
	struct td_image *im = NULL;
	int r = td_image_open_text(&run->t.env, run->spec, 0, &im, &run->t.err), r2;

	if (r < 0)
		return r;
	run->result = td_image_empty(im, &run->t.err);
	r2 = td_image_close(im);
	return run->result < 0 ? 0 : r2;
}

/* -1: it does not read as it should. */
static int compare(void *arg)
{
	struct run *run = arg;
	struct td_image *im = NULL;
	char buf[512];
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_RDONLY, &im, &run->t.err);

	if (r < 0)
		return r;
	for (uint64_t off = 0; r == 0 && off < SIZE; off += sizeof(buf)) {
		r = td_image_pread(im, off, buf, sizeof(buf), 0);
		for (size_t i = 0; r == 0 && i < sizeof(buf); i++)
			r = buf[i] == (char)((off >> 12) + 1) ? 0 : -1;
	}
	td_ignore(td_image_close(im)); /* read-only */
	return r;
}

static int nothing_held(void *arg)
{
	struct run *run = arg;
	struct td_extent e = { 0 };
	struct td_image *im = NULL;
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_RDONLY, &im, &run->t.err);

	if (r < 0)
		return r;
	r = td_image_extent_above(im, im->backing, 0, im->size, &e);
	if (r == 0 && (e.kind != TD_EXTENT_BACKING || e.len != im->size))
		r = -1;
	td_ignore(td_image_close(im)); /* read-only */
	return r;
}

static void setup_overlay(struct run *run, const char *create, uint64_t base_size)
{
	char opts[256], base[160];

	*run = (struct run){ .shape = &shapes[0] };
	run->sim = simdisk_new(1);
	assert_int_equal(testenv_open_sim(&run->t, run->sim), 0);
	(void)snprintf(run->path, sizeof(run->path), "%s/disk", run->t.dir);
	(void)snprintf(run->spec, sizeof(run->spec), "qcow2:%s", run->path);
	(void)snprintf(base, sizeof(base), "raw:%s/base", run->t.dir);
	(void)snprintf(opts, sizeof(opts), "backing_file=base,backing_fmt=raw,%s", create);
	assert_int_equal(test_create(&run->t, base_size, NULL, false, "%s", base), 0);
	assert_int_equal(test_create(&run->t, SIZE, opts, false, "%s", run->spec), 0);
	assert_int_equal(testenv_run(&run->t, fill, run), 0);
	assert_int_equal(testenv_run(&run->t, compare, run), 0);
	simdisk_add(run->sim, run->path);
	run->clean = simdisk_save(run->sim);
}

static unsigned leaks_at_most(const struct run *run)
{
	struct fsck f;

	assert_int_equal(qcow2_fsck(run->path, &f), 0);
	assert_int_equal(f.corruptions, 0);
	return (unsigned)f.leaks;
}

static void a_crash_while_emptying_changes_nothing_for_the_guest(void **state)
{
	static const char *const creates[] = { "cluster_size=512", "cluster_size=4K,lazy_refcounts=on",
					       "cluster_size=512,compat=v2", "cluster_size=64K" };
	unsigned images = 0;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(creates); i++) {
		struct run run;

		setup_overlay(&run, creates[i], SIZE);
		assert_int_equal(testenv_run(&run.t, empty, &run), 0);
		assert_int_equal(run.result, 0);
		assert_int_equal(leaks_at_most(&run), 0);
		assert_int_equal(testenv_run(&run.t, nothing_held, &run), 0);
		assert_int_equal(testenv_run(&run.t, compare, &run), 0);
		for (uint64_t n = 1;; n += 1 + n / 16) {
			struct simdisk_state *crash;

			simdisk_restore(run.sim, run.clean);
			simdisk_start(run.sim, n);
			simdisk_cut(run.sim, n);
			(void)testenv_run(&run.t, empty, &run);
			if (!simdisk_is_cut(run.sim))
				break;
			crash = simdisk_crash(run.sim);
			for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++, images++) {
				simdisk_make(run.sim, crash, how, n);
				(void)leaks_at_most(&run);
				assert_int_equal(testenv_run(&run.t, compare, &run), 0);
				assert_int_equal(testenv_run(&run.t, empty, &run), 0);
				assert_int_equal(run.result, 0);
				(void)leaks_at_most(&run);
				assert_int_equal(testenv_run(&run.t, compare, &run), 0);
			}
			simdisk_state_free(crash);
		}
		teardown(&run);
	}
	printf("# %u images\n", images);
}

/* Every operation fails once: emptying says so, or has succeeded; the guest sees the same. */
static void a_failure_while_emptying_changes_nothing_for_the_guest(void **state)
{
	struct run run;

	(void)state;
	setup_overlay(&run, "cluster_size=512", SIZE);
	for (uint64_t n = 1;; n += 1 + n / 32) {
		simdisk_restore(run.sim, run.clean);
		simdisk_start(run.sim, n);
		simdisk_fail(run.sim, n, SIMDISK_EIO);
		(void)testenv_run(&run.t, empty, &run);
		if (!simdisk_failed(run.sim))
			break;
		simdisk_fail(run.sim, 0, SIMDISK_EIO);
		(void)leaks_at_most(&run);
		assert_int_equal(testenv_run(&run.t, compare, &run), 0);
	}
	teardown(&run);
}

/* ---- zeros by one's own word ---- */

static int own_zeros(void *arg)
{
	struct run *run = arg;
	struct td_extent e = { 0 };
	struct td_image *im = NULL;
	int r = td_image_open_text(&run->t.env, run->spec, 0, &im, &run->t.err), r2;

	if (r < 0)
		return r;
	/* All of it reads as zeros already: only with TD_OWN is there anything to do. */
	r = td_image_zero(im, 0, im->size, TD_MAY_UNMAP);
	if (r == 0)
		r = td_image_extent_above(im, im->backing, 0, im->size, &e);
	if (r == 0 && im->limits.zero_efficient && e.held)
		r = -1;
	if (r == 0)
		r = td_image_zero(im, 0, im->size, TD_MAY_UNMAP | TD_OWN);
	for (uint64_t off = 0; r == 0 && off < im->size; off += e.len) {
		r = td_image_extent_above(im, im->backing, off, im->size - off, &e);
		if (r == 0 && !e.held)
			r = -2;
	}
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

static void zeros_can_be_had_over_zeros(void **state)
{
	static const char *const creates[] = { "cluster_size=512", "cluster_size=64K",
					       "cluster_size=4K,compat=v2",
					       "cluster_size=512,backing_file=b,backing_fmt=raw",
					       "cluster_size=4K,compat=v2,backing_file=b,backing_fmt=raw" };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(creates); i++) {
		struct run run = { 0 };

		assert_int_equal(testenv_open(&run.t, "auto", NULL), 0);
		(void)snprintf(run.spec, sizeof(run.spec), "qcow2:%s/disk", run.t.dir);
		assert_int_equal(test_create(&run.t, SIZE / 2, NULL, false, "raw:%s/b", run.t.dir), 0);
		assert_int_equal(test_create(&run.t, SIZE + 512, creates[i], false, "%s", run.spec), 0);
		assert_int_equal(testenv_run(&run.t, own_zeros, &run), 0);
		testenv_close(&run.t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crash_leaves_the_old_name_or_the_new),
		cmocka_unit_test(changes_follow_each_other),
		cmocka_unit_test(what_makes_no_sense_is_refused),
		cmocka_unit_test(a_crash_while_emptying_changes_nothing_for_the_guest),
		cmocka_unit_test(a_failure_while_emptying_changes_nothing_for_the_guest),
		cmocka_unit_test(zeros_can_be_had_over_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
