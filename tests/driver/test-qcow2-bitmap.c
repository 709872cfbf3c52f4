// SPDX-License-Identifier: BSD-2-Clause
/*
 * Persistent dirty bitmaps: what each call does and refuses, what every kind of write leaves in them, and, with the
 * power cut before any operation, that one that is said to be right has every bit of what was written since it was
 * empty.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "simdisk.h"
#include "testenv.h"

#define MIB     (1u << 20)
#define SIZE    (2 * MIB)
#define SECTOR  512u
#define SECTORS (SIZE / SECTOR)

static struct testenv env;
static char path[128];

/* ---- the calls, each in a coroutine of its own ---- */

struct ask {
	struct td_image *im;
	struct td_bitmap_op op;
	uint64_t off, len, ret_len;
	bool dirty;
	struct td_err err;
};

static int do_op(void *arg)
{
	struct ask *a = arg;

	return td_image_bitmap(a->im, &a->op, &a->err);
}

static int do_extent(void *arg)
{
	struct ask *a = arg;

	return td_image_bitmap_extent(a->im, a->op.name, a->off, a->len, &a->dirty, &a->ret_len);
}

static int bitmap(struct td_image *im, enum td_bitmap_what what, const char *name)
{
	struct ask a = { .im = im, .op = { .what = what, .name = name } };

	return testenv_run(&env, do_op, &a);
}

static int bitmap_add(struct td_image *im, const char *name, uint64_t granularity)
{
	struct ask a = { .im = im,
			 .op = { .what = TD_BITMAP_ADD, .name = name, .granularity = granularity } };

	return testenv_run(&env, do_op, &a);
}

static int bitmap_merge(struct td_image *im, const char *name, struct td_image *from, const char *from_name)
{
	struct ask a = {
		.im = im,
		.op = { .what = TD_BITMAP_MERGE, .name = name, .from = from, .from_name = from_name },
	};

	return testenv_run(&env, do_op, &a);
}

/* Is any byte of it dirty?  -errno. */
static int is_dirty(struct td_image *im, const char *name, uint64_t off, uint64_t len)
{
	struct ask a = { .im = im, .op = { .name = name }, .off = off, .len = len };
	int r = 0;

	while (r == 0 && a.len > 0 && !a.dirty) {
		r = testenv_run(&env, do_extent, &a);
		if (r == 0 && (a.ret_len == 0 || a.ret_len > a.len))
			return -EPROTO;
		a.off += a.ret_len;
		a.len -= a.ret_len;
	}
	return r < 0 ? r : a.dirty;
}

static uint64_t dirty_bytes(struct td_image *im, const char *name)
{
	struct ask a = { .im = im, .op = { .name = name }, .len = im->size };
	uint64_t n = 0;

	while (a.len > 0) {
		assert_int_equal(testenv_run(&env, do_extent, &a), 0);
		n += a.dirty ? a.ret_len : 0;
		a.off += a.ret_len;
		a.len -= a.ret_len;
	}
	return n;
}

/* What the list says of it; false: it is not in it. */
static bool listed(struct td_image *im, const char *name, struct td_bitmap_info *ret)
{
	struct td_bitmap_list l;
	bool found = false;

	assert_int_equal(td_image_bitmaps(im, &l), 0);
	for (unsigned i = 0; i < l.nr; i++)
		if (strcmp(l.at[i].name, name) == 0) {
			*ret = l.at[i];
			ret->name = NULL;
			found = true;
		}
	td_bitmap_list_done(&l);
	return found;
}

static void state_is(struct td_image *im, const char *name, bool enabled, bool in_use, bool valid)
{
	struct td_bitmap_info b;

	assert_true(listed(im, name, &b));
	assert_int_equal(b.enabled, enabled);
	assert_int_equal(b.in_use, in_use);
	assert_int_equal(b.valid, valid);
}

static struct td_image *open_it(unsigned flags)
{
	struct td_image *im = NULL;

	assert_int_equal(test_open(&env, &im, flags, "qcow2:%s", path), 0);
	return im;
}

static struct td_image *make(const char *opts)
{
	(void)snprintf(path, sizeof(path), "%s/disk", env.dir);
	assert_int_equal(test_create(&env, SIZE, opts, true, "qcow2:%s", path), 0);
	return open_it(0);
}

static int check_co(void *arg)
{
	struct td_check c = { 0 };
	int r = td_image_check(arg, 0, &c);

	return r < 0 ? r : (int)(c.corruptions * 1000 + c.leaks);
}

/* Corruptions, in thousands, and leaks. */
static int problems(void)
{
	struct td_image *im = NULL;
	int r = test_open(&env, &im, TD_OPEN_CHECK | TD_OPEN_RDONLY, "qcow2:%s", path), r2;

	if (r < 0)
		return r;
	r = testenv_run(&env, check_co, im);
	r2 = test_close(&env, im);
	return r == 0 ? r2 : r;
}

/* ---- one call after the other ---- */

static void each_call_does_what_it_says(void **state)
{
	static const char *const opts[] = { "", "cluster_size=512",
					    "cluster_size=2M,refcount_bits=64,lazy_refcounts=on" };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(opts); i++) {
		struct td_image *im = make(opts[i]);

		assert_int_equal(bitmap_add(im, "a", 0), 0);
		assert_int_equal(bitmap_add(im, "b", 512), 0);
		assert_int_equal(bitmap(im, TD_BITMAP_DISABLE, "b"), 0);
		state_is(im, "a", true, false, true);
		state_is(im, "b", false, false, true);
		assert_int_equal(test_write(&env, im, MIB, "x", 1, 0), 0);
		state_is(im, "a", true, true, true);
		state_is(im, "b", false, false, true);
		assert_int_equal(is_dirty(im, "a", MIB, 1), 1);
		assert_int_equal(is_dirty(im, "b", 0, SIZE), 0);
		assert_int_equal(bitmap_merge(im, "b", im, "a"), 0);
		/* Stored by that, and marked again by the next write. */
		state_is(im, "a", true, false, true);
		assert_int_equal(test_close(&env, im), 0);
		assert_int_equal(problems(), 0);

		im = open_it(TD_OPEN_RDONLY);
		assert_int_equal(dirty_bytes(im, "a"), dirty_bytes(im, "b"));
		assert_int_equal(bitmap(im, TD_BITMAP_CLEAR, "a"), -EROFS);
		assert_int_equal(test_close(&env, im), 0);

		im = open_it(0);
		assert_int_equal(bitmap(im, TD_BITMAP_CLEAR, "b"), 0);
		assert_int_equal(bitmap(im, TD_BITMAP_ENABLE, "b"), 0);
		assert_int_equal(dirty_bytes(im, "b"), 0);
		assert_int_equal(test_write(&env, im, 0, "xy", 2, TD_FUA), 0);
		assert_int_equal(dirty_bytes(im, "b"), 512);
		assert_int_equal(bitmap(im, TD_BITMAP_REMOVE, "a"), 0);
		assert_int_equal(is_dirty(im, "a", 0, 1), -ENOENT);
		assert_int_equal(test_close(&env, im), 0);
		assert_int_equal(problems(), 0);
	}
}

static void what_cannot_be_is_refused(void **state)
{
	struct td_image *im = make("");
	char name[1025];

	(void)state;
	memset(name, 'n', sizeof(name));
	name[1024] = '\0';
	assert_int_equal(bitmap_add(im, name, 0), -EINVAL);
	assert_int_equal(bitmap_add(im, "", 0), -EINVAL);
	assert_int_equal(bitmap_add(im, "a", 256), -EINVAL);
	assert_int_equal(bitmap_add(im, "a", 4097), -EINVAL);
	assert_int_equal(bitmap_add(im, "a", 1ull << 32), -EINVAL);
	assert_int_equal(bitmap_add(im, name + 1, 1u << 31), 0);
	assert_int_equal(bitmap_add(im, name + 1, 0), -EEXIST);
	for (enum td_bitmap_what what = TD_BITMAP_REMOVE; what <= TD_BITMAP_DISABLE; what++)
		assert_int_equal(bitmap(im, what, "none"), -ENOENT);
	assert_int_equal(bitmap_merge(im, name + 1, im, "none"), -ENOENT);
	assert_int_equal(is_dirty(im, name + 1, SIZE, 1), -EINVAL);
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(problems(), 0);
	im = make("compat=0.10");
	assert_int_equal(bitmap_add(im, "a", 0), -ENOTSUP);
	assert_int_equal(test_close(&env, im), 0);
}

/* Sixty names do not fit into one cluster of 512 bytes; nor do the tables of a fine one. */
static void there_may_be_many(void **state)
{
	struct td_image *im = make("cluster_size=512");
	char name[64];

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		(void)snprintf(name, sizeof(name), "bitmap with a long name, number %u", i);
		assert_int_equal(bitmap_add(im, name, 512), 0);
	}
	for (uint64_t at = 0; at < SIZE; at += 1024)
		assert_int_equal(test_write(&env, im, at, "x", 1, 0), 0);
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(problems(), 0);
	im = open_it(0);
	for (unsigned i = 0; i < 60; i++) {
		(void)snprintf(name, sizeof(name), "bitmap with a long name, number %u", i);
		assert_int_equal(dirty_bytes(im, name), SIZE / 2);
		assert_int_equal(bitmap(im, TD_BITMAP_REMOVE, name), 0);
	}
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(problems(), 0);
}

static int zero(struct td_image *im, uint64_t off, uint64_t len)
{
	return test_zero(&env, im, off, len, TD_MAY_UNMAP);
}

static int compress(struct td_image *im, uint64_t off, uint64_t len)
{
	static uint8_t buf[65536];

	memset(buf, 7, len);
	return test_write(&env, im, off, buf, len, TD_COMPRESS);
}

static int trim(struct td_image *im, uint64_t off, uint64_t len)
{
	return test_trim(&env, im, off, len);
}

static int plain(struct td_image *im, uint64_t off, uint64_t len)
{
	static uint8_t buf[65536];

	return test_write(&env, im, off, buf, len, TD_FUA);
}

static void every_kind_of_write_is_recorded(void **state)
{
	int (*const kinds[])(struct td_image * im, uint64_t off, uint64_t len) = { plain, zero, trim,
										   compress };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(kinds); i++) {
		struct td_image *im = make("");

		assert_int_equal(bitmap_add(im, "a", 4096), 0);
		assert_int_equal(kinds[i](im, 131072, 65536), 0);
		assert_int_equal(is_dirty(im, "a", 0, 131072), 0);
		assert_int_equal(is_dirty(im, "a", 131072, 65536), 1);
		assert_int_equal(dirty_bytes(im, "a"), 65536);
		assert_int_equal(test_close(&env, im), 0);
	}
}

static void a_disk_of_another_size(void **state)
{
	struct td_image *im = make("");

	(void)state;
	assert_int_equal(bitmap_add(im, "a", 0), 0);
	assert_int_equal(bitmap_add(im, "off", 512), 0);
	assert_int_equal(bitmap(im, TD_BITMAP_DISABLE, "off"), 0);
	assert_int_equal(test_resize(&env, im, 8 * SIZE), 0);
	/* What was added reads as zeros, whatever a copy of a time when it was as large holds there. */
	assert_int_equal(dirty_bytes(im, "a"), 7 * SIZE);
	assert_int_equal(dirty_bytes(im, "off"), 0);
	assert_int_equal(test_write(&env, im, 0, "x", 1, 0), 0);
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(problems(), 0);
	im = open_it(0);
	assert_int_equal(dirty_bytes(im, "a"), 7 * SIZE + 65536);
	assert_int_equal(test_resize(&env, im, SIZE + 512), 0);
	assert_int_equal(test_close(&env, im), 0);
	im = open_it(TD_OPEN_RDONLY);
	assert_int_equal(dirty_bytes(im, "a"), 65536 + 512);
	state_is(im, "off", false, false, true);
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(problems(), 0);
}

/* Whoever did not close it left it marked; nothing but removing it helps. */
static void one_that_was_not_stored_is_inconsistent(void **state)
{
	struct td_image *im = make("");

	(void)state;
	assert_int_equal(bitmap_add(im, "a", 0), 0);
	assert_int_equal(test_write(&env, im, 0, "x", 1, TD_FUA), 0);
	td_image_freeze(im);
	td_ignore(test_close(&env, im)); /* as if it had been killed */
	im = open_it(0);
	state_is(im, "a", true, true, false);
	assert_int_equal(is_dirty(im, "a", 0, 1), -ENOENT);
	assert_int_equal(test_write(&env, im, 0, "x", 1, TD_FUA), 0);
	assert_int_equal(bitmap(im, TD_BITMAP_CLEAR, "a"), -EUCLEAN);
	assert_int_equal(bitmap_add(im, "a", 0), -EEXIST);
	assert_int_equal(test_close(&env, im), 0);
	im = open_it(0);
	state_is(im, "a", true, true, false);
	assert_int_equal(bitmap(im, TD_BITMAP_REMOVE, "a"), 0);
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(problems(), 0);
}

/* ---- power cuts ---- */

struct crash {
	struct simdisk *sim;
	struct simdisk_state *clean;
	uint64_t random;
	struct td_image *im;
	uint64_t size;
	uint8_t now[4 * SECTORS];     /* what was written last, a byte a sector */
	uint8_t then[2][4 * SECTORS]; /* when "on" and "late" were empty last */
	bool late;                    /* there is "late", or was about to be */
	uint8_t buf[4 * SIZE];
};

static uint64_t below(struct crash *c, uint64_t n)
{
	return test_random(&c->random) % n;
}

static int write_some(struct crash *c, unsigned nr)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < nr; i++) {
		uint64_t s = below(c, c->size / SECTOR), n = TD_MIN(1 + below(c, 20), c->size / SECTOR - s);
		uint8_t value = (uint8_t)(1 + below(c, 255));

		if (below(c, 4) == 0)
			value = 0;
		memset(c->now + s, value, n);
		memset(c->buf, value, n * SECTOR);
		r = value == 0
			    ? test_zero(&env, c->im, s * SECTOR, n * SECTOR, below(c, 2) ? TD_MAY_UNMAP : 0)
			    : test_write(&env, c->im, s * SECTOR, c->buf, n * SECTOR,
					 below(c, 4) == 0 ? TD_FUA : 0);
	}
	return r;
}

static int empty_now(struct crash *c, unsigned which)
{
	memcpy(c->then[which], c->now, sizeof(c->now));
	return which == 0 ? bitmap(c->im, TD_BITMAP_CLEAR, "on") : bitmap_add(c->im, "late", 8192);
}

static int reopen(struct crash *c)
{
	int r = c->im ? test_close(&env, c->im) : 0;

	c->im = NULL;
	return r == 0 ? test_open(&env, &c->im, 0, "qcow2:%s", path) : r;
}

static int grow(struct crash *c, uint64_t size)
{
	c->size = size;
	return test_resize(&env, c->im, size);
}

static int first_half(struct crash *c)
{
	int r = reopen(c);

	if (r == 0)
		r = write_some(c, 3);
	if (r == 0)
		r = reopen(c);
	if (r == 0)
		r = empty_now(c, 0);
	if (r == 0)
		r = write_some(c, 2);
	if (r == 0)
		r = test_flush(&env, c->im);
	c->late |= r == 0;
	if (r == 0)
		r = empty_now(c, 1);
	return r == 0 ? write_some(c, 2) : r;
}

static void work(struct crash *c)
{
	int r = first_half(c);

	if (r == 0)
		r = bitmap_merge(c->im, "on", c->im, "late");
	if (r == 0)
		r = reopen(c);
	if (r == 0)
		r = grow(c, 2 * SIZE);
	if (r == 0)
		r = write_some(c, 2);
	if (r == 0)
		r = empty_now(c, 0);
	if (r == 0)
		r = bitmap(c->im, TD_BITMAP_REMOVE, "late");
	if (r == 0)
		td_ignore(write_some(c, 1));
	if (c->im)
		td_ignore(test_close(&env, c->im)); /* without power it fails */
	c->im = NULL;
}

static bool has_all(struct crash *c, const char *name, const uint8_t *then)
{
	for (uint64_t s = 0; s < c->im->size / SECTOR; s++) {
		const uint8_t *p = c->buf + s * SECTOR;

		/* A sector is of one write: its bytes are all the same. */
		if (p[0] != then[s] && is_dirty(c->im, name, s * SECTOR, SECTOR) != 1)
			return false;
	}
	return true;
}

/* Those that say that they are right, are. */
static void look(struct crash *c)
{
	struct td_bitmap_info b;
	int bad = problems();

	assert_in_range(bad, 0, 999);
	c->im = open_it(0);
	assert_int_equal(test_read(&env, c->im, 0, c->buf, c->im->size, 0), 0);
	assert_true(listed(c->im, "on", &b));
	assert_true(!b.valid || has_all(c, "on", c->then[0]));
	assert_true(!listed(c->im, "late", &b) || c->late);
	assert_true(!listed(c->im, "late", &b) || !b.valid || has_all(c, "late", c->then[1]));
	assert_true(listed(c->im, "off", &b));
	assert_true(!b.valid || dirty_bytes(c->im, "off") == 0);
	assert_int_equal(test_close(&env, c->im), 0);
	c->im = NULL;
}

static void begin(struct crash *c, uint64_t seed)
{
	simdisk_restore(c->sim, c->clean);
	simdisk_start(c->sim, seed);
	c->random = seed;
	c->size = SIZE;
	c->late = false;
	memset(c->now, 0, sizeof(c->now));
	memset(c->then, 0, sizeof(c->then));
}

static bool cut_at(struct crash *c, uint64_t n, uint64_t seed)
{
	struct simdisk_state *crash;
	uint64_t arg = seed * 1000 + n;

	begin(c, seed);
	simdisk_cut(c->sim, n);
	work(c);
	if (!simdisk_is_cut(c->sim))
		return false;
	crash = simdisk_crash(c->sim);
	for (enum simdisk_lost how = 0; how <= SIMDISK_KILL; how++) {
		simdisk_make(c->sim, crash, how, arg);
		if (getenv("TEST_SAY"))
			printf("# seed %llu, cut at %llu, lost %d\n", (unsigned long long)seed,
			       (unsigned long long)n, (int)how);
		look(c);
	}
	simdisk_state_free(crash);
	return true;
}

static void crash_setup(struct crash *c)
{
	struct td_image *im;

	im = make("cluster_size=4K");
	assert_int_equal(bitmap_add(im, "on", 4096), 0);
	assert_int_equal(bitmap_add(im, "off", 512), 0);
	assert_int_equal(bitmap(im, TD_BITMAP_DISABLE, "off"), 0);
	assert_int_equal(test_close(&env, im), 0);
	c->clean = simdisk_save(c->sim);
}

/* Without a cut all of them are right in the end. */
static void run_through(struct crash *c, uint64_t seed)
{
	begin(c, seed);
	work(c);
	assert_int_equal(problems(), 0);
	c->im = open_it(TD_OPEN_RDONLY);
	state_is(c->im, "on", true, false, true);
	state_is(c->im, "off", false, false, true);
	assert_int_equal(test_close(&env, c->im), 0);
	look(c);
}

/* One of so many operations, from a random one on; TEST_STRIDE=1 is every one. */
static void no_cut_makes_a_bitmap_lie(void **state)
{
	static struct crash c;
	uint64_t seed = test_seed(), stride = test_count("TEST_STRIDE", 7), cuts = 0;

	(void)state;
	testenv_close(&env);
	c.sim = simdisk_new(seed);
	assert_int_equal(testenv_open_sim(&env, c.sim), 0);
	crash_setup(&c);
	run_through(&c, seed);
	for (uint64_t n = 1 + seed % stride; cut_at(&c, n, seed); n += stride)
		cuts++;
	printf("# seed %llu: %llu power cuts\n", (unsigned long long)seed, (unsigned long long)cuts);
	simdisk_state_free(c.clean);
	testenv_close(&env);
	simdisk_free(c.sim);
	assert_int_equal(testenv_open(&env, "auto", NULL), 0);
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
		cmocka_unit_test(each_call_does_what_it_says),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(there_may_be_many),
		cmocka_unit_test(every_kind_of_write_is_recorded),
		cmocka_unit_test(a_disk_of_another_size),
		cmocka_unit_test(one_that_was_not_stored_is_inconsistent),
		cmocka_unit_test(no_cut_makes_a_bitmap_lie),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
