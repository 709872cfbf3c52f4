// SPDX-License-Identifier: BSD-2-Clause
/*
 * The leaf driver on the simulated disk: whatever fails, no read returns bytes that were not written there; whenever
 * the power is cut, what was flushed is there, and nothing else than what was written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "model.h"
#include "simdisk.h"
#include "testenv.h"

#define SECTORS 256u
#define WORKERS 4u
#define STEPS   12u
#define MAX_NR  24u

/* One run: workers that do random things to one image, in coroutines of their own. */
struct run {
	struct testenv t;
	struct simdisk *sim;
	struct model *model;
	struct simdisk_state *clean;
	const char *spec;
	struct td_image *im;
	uint64_t random;
	uint64_t seed;
};

static int step_write(struct run *run, uint64_t sector, uint64_t nr, unsigned flags)
{
	char *buf = malloc(nr * MODEL_SECTOR + 1);
	uint32_t number;
	int r;

	/* One byte off: the bounce path for memory. */
	number = model_begin(run->model, MODEL_WRITE, sector, nr, buf);
	r = td_image_pwrite(run->im, sector * MODEL_SECTOR, buf, nr * MODEL_SECTOR, flags);
	model_end(run->model, number, r == 0, flags & TD_FUA);
	free(buf);
	return 0;
}

static int step_read(struct run *run, uint64_t sector, uint64_t nr)
{
	char *buf = malloc(nr * MODEL_SECTOR);
	uint64_t begun = model_read_begin(run->model);
	int r = td_image_pread(run->im, sector * MODEL_SECTOR, buf, nr * MODEL_SECTOR, 0);

	if (r == 0)
		r = model_check_live(run->model, begun, sector, nr, buf);
	else
		r = 0; /* a failure is fine, a lie is not */
	model_read_end(run->model);
	free(buf);
	return r;
}

static int step_clear(struct run *run, enum model_kind kind, uint64_t sector, uint64_t nr, unsigned flags)
{
	uint32_t number = model_begin(run->model, kind, sector, nr, NULL);
	uint64_t off = sector * MODEL_SECTOR, len = nr * MODEL_SECTOR;
	int r = kind == MODEL_TRIM ? td_image_trim(run->im, off, len)
				   : td_image_zero(run->im, off, len, flags);

	model_end(run->model, number, r == 0, flags & TD_FUA);
	return 0;
}

static int step_flush(struct run *run)
{
	uint64_t flush = model_flush_begin(run->model);
	int r = td_image_flush(run->im);

	model_flush_end(run->model, flush, r == 0);
	return 0;
}

static int step(struct run *run)
{
	uint64_t what = test_random(&run->random) % 16, sector = test_random(&run->random) % SECTORS;
	uint64_t nr = 1 + test_random(&run->random) % TD_MIN(MAX_NR, SECTORS - sector);
	unsigned fua = test_random(&run->random) % 4 == 0 ? TD_FUA : 0;

	if (what < 7)
		return step_write(run, sector, nr, fua);
	if (what < 10)
		return step_read(run, sector, nr);
	if (what < 12)
		return step_clear(run, MODEL_ZERO, sector, nr, fua | (what & 1 ? TD_MAY_UNMAP : 0));
	if (what < 13)
		return step_clear(run, MODEL_TRIM, sector, nr, 0);
	return step_flush(run);
}

static int worker(void *arg)
{
	struct run *run = arg;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < STEPS; i++)
		r = step(run);
	return r;
}

/* Open, work, close; -1 only if a read lied. */
static int workload(void *arg)
{
	struct run *run = arg;
	struct td_join join = { 0 };
	uint64_t flush;
	int r;

	if (td_image_open_text(&run->t.env, run->spec, 0, &run->im, &run->t.err) < 0)
		return 0; /* a failure at open harms nobody */
	for (unsigned i = 0; i < WORKERS; i++)
		td_join_start(&join, worker, run);
	r = td_join_wait(&join);
	flush = model_flush_begin(run->model);
	model_flush_end(run->model, flush, td_image_close(run->im) == 0);
	return r;
}

/* Read it all; crash: may it look like this after a crash? */
static int look(void *arg)
{
	struct run *run = arg;
	char *buf = malloc(SECTORS * MODEL_SECTOR);
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_RDONLY, &run->im, &run->t.err);

	if (r == 0) {
		r = td_image_pread(run->im, 0, buf, SECTORS * MODEL_SECTOR, 0);
		if (r == 0)
			r = model_check_crash(run->model, 0, SECTORS, buf);
		td_ignore(td_image_close(run->im));
	}
	free(buf);
	return r;
}

static void begin(struct run *run)
{
	model_free(run->model);
	run->model = model_new(SECTORS);
	simdisk_restore(run->sim, run->clean);
	simdisk_start(run->sim, run->seed);
	run->random = run->seed;
}

static void setup(struct run *run, const char *options, uint64_t seed)
{
	static char spec[160];

	*run = (struct run){ .seed = seed };
	run->sim = simdisk_new(seed);
	assert_int_equal(testenv_open_sim(&run->t, run->sim), 0);
	assert_int_equal(test_create(&run->t, SECTORS * MODEL_SECTOR, NULL, false, "aio:%s/disk", run->t.dir),
			 0);
	(void)snprintf(spec, sizeof(spec), "aio(%s):%s/disk", options, run->t.dir);
	run->spec = spec;
	run->clean = simdisk_save(run->sim);
}

static void teardown(struct run *run)
{
	testenv_close(&run->t);
	simdisk_state_free(run->clean);
	simdisk_free(run->sim);
	model_free(run->model);
}

/* Operation n fails, for every n, in each way. */
static void fail_loop(struct run *run)
{
	unsigned points = 0;

	for (enum simdisk_fault kind = 0; kind < SIMDISK_FAULTS; kind++) {
		for (uint64_t n = 1;; n++, points++) {
			begin(run);
			simdisk_fail(run->sim, n, kind);
			assert_int_equal(testenv_run(&run->t, workload, run), 0);
			if (!simdisk_failed(run->sim))
				break;
			simdisk_fail(run->sim, 0, kind);
			assert_int_equal(testenv_run(&run->t, look, run), 0);
		}
	}
	printf("# %u failures\n", points);
}

/* The power is cut before operation n, for every n; several images of each. */
static unsigned crash_point(struct run *run, uint64_t n)
{
	struct simdisk_state *crash;
	uint64_t unflushed;
	unsigned images = 0;

	begin(run);
	simdisk_cut(run->sim, n);
	assert_int_equal(testenv_run(&run->t, workload, run), 0);
	if (!simdisk_is_cut(run->sim))
		return 0;
	crash = simdisk_crash(run->sim);
	unflushed = simdisk_unflushed(crash);
	for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++) {
		uint64_t args = how <= SIMDISK_LOSE_NONE  ? 1
				: how <= SIMDISK_KEEP_ONE ? TD_MIN(unflushed, 4u)
							  : 3;

		for (uint64_t arg = 0; arg < args; arg++, images++) {
			simdisk_make(run->sim, crash, how, run->seed * 1000 + n + arg);
			assert_int_equal(testenv_run(&run->t, look, run), 0);
		}
	}
	simdisk_state_free(crash);
	return images;
}

static void crash_loop(struct run *run)
{
	unsigned images = 0, made;
	uint64_t n = 1;

	while ((made = crash_point(run, n)) > 0) {
		images += made;
		n++;
	}
	printf("# %u crash points, %u images\n", (unsigned)n - 1, images);
}

static void each_round(void (*loop)(struct run *run))
{
	static const char *const options[] = { "", "direct=off", "align=4K" };
	uint64_t seed = test_seed();
	unsigned rounds = test_count("TEST_ROUNDS", 3);

	for (unsigned i = 0; i < rounds; i++) {
		struct run run;

		setup(&run, options[i % TD_NELEMS(options)], seed + i);
		simdisk_features(run.sim, (i / 3) % 2 == 0, i % 2 == 0);
		loop(&run);
		teardown(&run);
	}
}

static void any_failed_operation_makes_no_read_lie(void **state)
{
	(void)state;
	each_round(fail_loop);
}

static void flushed_data_survives_a_crash_at_any_operation(void **state)
{
	(void)state;
	each_round(crash_loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_failed_operation_makes_no_read_lie),
		cmocka_unit_test(flushed_data_survives_a_crash_at_any_operation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
