// SPDX-License-Identifier: BSD-2-Clause
/*
 * The vhd driver on a simulated disk: whatever fails, whenever the power is cut or the process is killed, an image
 * opens again, leaks at most, holds what was flushed, and after a kill what was answered.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include <fcntl.h>

#include "kept.h"
#include "model.h"
#include "simdisk.h"
#include "testenv.h"
#include "vhd-fsck.h"
#include "workload.h"

#define WORKERS 4u
#define STEPS   10u

struct shape {
	const char *name, *create, *open;
	unsigned sectors, max_nr;
	bool backing; /* over a raw image full of data */
};

static const struct shape shapes[] = {
	{ "dynamic", "block_size=16K", "", 512, 40, false },
	{ "differencing", "block_size=16K", "", 512, 40, true },
	{ "small blocks, a cache that evicts", "block_size=4K", "l2-cache=4K", 1024, 40, false },
	{ "small blocks over a parent", "block_size=4K", "l2-cache=4K", 1024, 40, true },
	{ "fixed", "subformat=fixed", "", 256, 24, false },
};

struct run {
	struct testenv t;
	struct simdisk *sim;
	struct model *model;
	struct simdisk_state *clean;
	struct workload work;
	const struct shape *s;
	struct td_image *im;
	uint64_t seed;
	char spec[192], path[128], keep[160], saved[160];
	bool has_saved, unsure, closed_ok;
	unsigned adopted, verified;
};

static bool is_fixed(const struct run *run)
{
	return strstr(run->s->create, "fixed") != NULL;
}

/* ---- in a coroutine ---- */

static int workload(void *arg)
{
	struct run *run = arg;
	uint64_t flush;
	int r;

	run->closed_ok = false;
	if (td_image_open_text(&run->t.env, run->spec, 0, &run->im, &run->t.err) < 0)
		return 0; /* a failure at open harms nobody */
	run->work.im = run->im;
	r = workload_run(&run->work);
	flush = model_flush_begin(run->model);
	run->closed_ok = td_image_close(run->im) == 0;
	model_flush_end(run->model, flush, run->closed_ok);
	return r;
}

static int look(void *arg)
{
	struct run *run = arg;
	int r = td_image_open_text(&run->t.env, run->spec, 0, &run->im, &run->t.err), r2;

	if (r < 0) {
		if (!simdisk_is_cut(run->sim))
			(void)fprintf(stderr, "look: %s\n", run->t.err.msg);
		return r;
	}
	run->work.im = run->im;
	r = workload_compare(&run->work, true);
	r2 = td_image_close(run->im);
	return r < 0 ? r : r2;
}

static int check_once(struct run *run, unsigned fix, struct td_check *ret)
{
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_CHECK | (fix ? 0 : TD_OPEN_RDONLY),
				   &run->im, &run->t.err);
	int r2;

	if (r < 0)
		return r;
	r = td_image_check(run->im, fix, ret);
	r2 = td_image_close(run->im);
	return r < 0 ? r : r2;
}

/* The driver's own check agrees that it leaks at most; a repair leaves nothing. */
static int check(void *arg)
{
	struct run *run = arg;
	struct td_check c = { 0 }, again = { 0 };
	int r = check_once(run, 0, &c);

	if (r == 0 && run->verified++ % 3 == 0)
		r = check_once(run, TD_FIX_ALL, &again);
	if (r == 0 && (c.corruptions > 0 || again.leaks > 0 || again.corruptions > 0))
		r = -1;
	if (r < 0)
		(void)fprintf(stderr, "check: %d: %llu corruptions; repaired: %llu, %llu leaks\n", r,
			      (unsigned long long)c.corruptions, (unsigned long long)again.corruptions,
			      (unsigned long long)again.leaks);
	return r;
}

/* ---- images ---- */

static int write_parent(struct run *run, const char *path)
{
	size_t len = (size_t)run->s->sectors * MODEL_SECTOR;
	char *buf = td_buf_alloc(len);
	struct model *m = model_new(run->s->sectors);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r;

	(void)model_begin(m, MODEL_WRITE, 0, run->s->sectors, buf);
	r = fd >= 0 && write(fd, buf, len) == (ssize_t)len ? 0 : -EIO;
	if (fd >= 0)
		(void)close(fd);
	model_free(m);
	td_buf_free(buf, len);
	return r;
}

/* What the parent holds is the model's first write. */
static void new_model(struct run *run)
{
	size_t len = (size_t)run->s->sectors * MODEL_SECTOR;
	char *buf = td_buf_alloc(len);

	model_free(run->model);
	run->model = model_new(run->s->sectors);
	if (run->s->backing)
		model_end(run->model, model_begin(run->model, MODEL_WRITE, 0, run->s->sectors, buf), true,
			  true);
	td_buf_free(buf, len);
}

static void begin(struct run *run)
{
	new_model(run);
	simdisk_restore(run->sim, run->clean);
	simdisk_start(run->sim, run->seed);
	run->work = (struct workload){ .model = run->model,
				       .random = run->seed,
				       .sectors = run->s->sectors,
				       .workers = WORKERS,
				       .steps = STEPS,
				       .max_nr = run->s->max_nr };
}

static void setup(struct run *run, const struct shape *s, uint64_t seed)
{
	char opts[160], raw[128];

	*run = (struct run){ .s = s, .seed = seed };
	run->sim = simdisk_new(seed);
	assert_int_equal(testenv_open_sim(&run->t, run->sim), 0);
	(void)snprintf(run->path, sizeof(run->path), "%s/disk", run->t.dir);
	(void)snprintf(run->saved, sizeof(run->saved), "%s/saved", run->t.dir);
	(void)snprintf(raw, sizeof(raw), "%s/raw", run->t.dir);
	(void)snprintf(run->spec, sizeof(run->spec), "vhd(%s):%s", s->open, run->path);
	(void)snprintf(opts, sizeof(opts), "%s%s", s->create,
		       s->backing ? ",backing_file=raw,backing_fmt=raw" : "");
	if (s->backing)
		assert_int_equal(write_parent(run, raw), 0);
	if (test_create(&run->t, (uint64_t)s->sectors * MODEL_SECTOR, opts, false, "vhd:%s", run->path) < 0)
		fail_msg("%s", run->t.err.msg);
	kept_path(run->t.dir, run->path, run->keep, sizeof(run->keep));
	simdisk_features(run->sim, seed % 2, seed / 2 % 2);
	simdisk_add(run->sim, run->path);
	run->clean = simdisk_save(run->sim);
}

static void teardown(struct run *run)
{
	testenv_close(&run->t);
	simdisk_state_free(run->clean);
	simdisk_free(run->sim);
	model_free(run->model);
}

static void rounds(void (*fn)(struct run *run))
{
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < test_count("TEST_ROUNDS", 1); i++) {
		for (unsigned s = 0; s < TD_NELEMS(shapes); s++) {
			struct run run;

			setup(&run, &shapes[s], seed + i);
			fn(&run);
			teardown(&run);
		}
	}
}

/* It is as a failure, a cut or a kill may leave it. */
static void verify(struct run *run)
{
	struct vhd_fsck k;

	if (!is_fixed(run))
		assert_int_equal(vhd_fsck(run->path, &k), 0);
	assert_int_equal(testenv_run(&run->t, check, run), 0);
	assert_int_equal(testenv_run(&run->t, look, run), 0);
	if (is_fixed(run))
		return;
	/* Opened and closed again it is as good as new. */
	assert_int_equal(vhd_fsck(run->path, &k), 0);
	assert_true(k.whole);
}

/* ---- the loops ---- */

static void no_failure(struct run *run)
{
	struct vhd_fsck k;

	begin(run);
	assert_int_equal(testenv_run(&run->t, workload, run), 0);
	assert_true(run->closed_ok);
	assert_int_equal(run->work.failed, 0);
	if (!is_fixed(run)) {
		assert_int_equal(vhd_fsck(run->path, &k), 0);
		assert_true(k.whole && k.holes == 0 && k.blocks > 0);
	}
	verify(run);
}

static void fail_each(struct run *run)
{
	unsigned points = 0, stride = test_stride(41);

	no_failure(run);
	for (enum simdisk_fault kind = 0; kind < SIMDISK_FAULTS; kind++) {
		for (uint64_t n = 1 + (run->seed + kind) % stride;; n += stride, points++) {
			begin(run);
			simdisk_fail(run->sim, n, kind);
			assert_int_equal(testenv_run(&run->t, workload, run), 0);
			if (!simdisk_failed(run->sim))
				break;
			simdisk_fail(run->sim, 0, kind);
			simdisk_drop_cache(run->sim);
			verify(run);
		}
	}
	printf("# %s, seed %llu: %u failures\n", run->s->name, (unsigned long long)run->seed, points);
}

static void any_failed_operation_loses_nothing_that_was_flushed(void **state)
{
	(void)state;
	rounds(fail_each);
}

static void cut_each(struct run *run)
{
	unsigned points = 0, stride = test_stride(17);

	for (uint64_t n = 1 + run->seed % stride;; n += stride, points++) {
		struct simdisk_state *crash;

		begin(run);
		simdisk_cut(run->sim, n);
		assert_int_equal(testenv_run(&run->t, workload, run), 0);
		if (!simdisk_is_cut(run->sim))
			break;
		crash = simdisk_crash(run->sim);
		for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++) {
			simdisk_make(run->sim, crash, how, run->seed + n);
			verify(run);
		}
		simdisk_state_free(crash);
	}
	printf("# %s, seed %llu: %u power cuts\n", run->s->name, (unsigned long long)run->seed, points);
}

static void a_power_cut_at_any_operation_leaks_at_most(void **state)
{
	(void)state;
	rounds(cut_each);
}

static void at_the_kill(void *arg)
{
	struct run *run = arg;

	run->unsure |= simdisk_sync_failed(run->sim);
	if (!run->unsure)
		model_kill(run->model);
	run->has_saved = access(run->keep, F_OK) == 0;
	if (run->has_saved)
		kept_copy(run->keep, run->saved);
}

/* What the next process finds: the file, and what was kept. */
static void put_back(struct run *run, uint64_t seed)
{
	struct simdisk_state *state = simdisk_crash(run->sim);

	simdisk_make(run->sim, state, SIMDISK_KILL, seed);
	simdisk_state_free(state);
	(void)unlink(run->keep);
	if (run->has_saved)
		kept_copy(run->saved, run->keep);
}

static void kill_the_heir(struct run *run, uint64_t n)
{
	simdisk_start(run->sim, run->seed);
	simdisk_cut(run->sim, n);
	td_ignore(testenv_run(&run->t, look, run));
	if (simdisk_is_cut(run->sim))
		put_back(run, run->seed);
}

/* False: the work was done before operation n.  faulty: something else goes wrong before. */
static bool kill_point(struct run *run, uint64_t n, bool faulty)
{
	(void)unlink(run->keep);
	run->unsure = false;
	begin(run);
	simdisk_cut(run->sim, n);
	if (faulty)
		simdisk_fail(run->sim, 1 + run->seed % n, run->seed / 8 % SIMDISK_FAULTS);
	assert_int_equal(testenv_run(&run->t, workload, run), 0);
	if (!simdisk_is_cut(run->sim))
		return simdisk_failed(run->sim);
	simdisk_fail(run->sim, 0, SIMDISK_EIO);
	put_back(run, run->seed + n);
	if (n % 2)
		kill_the_heir(run, 1 + n / 2 % 16);
	run->adopted += access(run->keep, F_OK) == 0;
	assert_int_equal(testenv_run(&run->t, look, run), 0);
	assert_int_not_equal(access(run->keep, F_OK), 0);
	verify(run);
	return true;
}

static void kill_each(struct run *run)
{
	unsigned points = 0, stride = test_stride(13);

	if (is_fixed(run)) /* it keeps nothing */
		return;
	run->t.env.keep_dir = run->t.dir;
	simdisk_on_cut(run->sim, at_the_kill, run);
	/* Most are without a fault, so that the end of the work is seen. */
	for (uint64_t n = 1 + run->seed % stride; kill_point(run, n, points % 3 == 2); n += stride)
		points++;
	printf("# %s, seed %llu: %u kills, %u times something was adopted\n", run->s->name,
	       (unsigned long long)run->seed, points, run->adopted);
	assert_true(run->adopted > 0);
}

static void a_kill_at_any_operation_loses_nothing_that_was_answered(void **state)
{
	(void)state;
	rounds(kill_each);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_failed_operation_loses_nothing_that_was_flushed),
		cmocka_unit_test(a_power_cut_at_any_operation_leaks_at_most),
		cmocka_unit_test(a_kill_at_any_operation_loses_nothing_that_was_answered),
	};

	if (getenv("TEST_ONLY")) /* one of them, with * and ? */
		cmocka_set_test_filter(getenv("TEST_ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
