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
#include "workload.h"

#define SECTORS 256u
#define WORKERS 4u
#define STEPS   12u
#define MAX_NR  24u

struct run {
	struct testenv t;
	struct simdisk *sim;
	struct model *model;
	struct simdisk_state *clean;
	const char *spec;
	struct workload work;
	uint64_t seed;
};

/* Open, work, close; -1 only if a read lied. */
static int workload(void *arg)
{
	struct run *run = arg;
	uint64_t flush;
	int r;

	if (td_image_open_text(&run->t.env, run->spec, 0, &run->work.im, &run->t.err) < 0)
		return 0; /* a failure at open harms nobody */
	r = workload_run(&run->work);
	flush = model_flush_begin(run->model);
	model_flush_end(run->model, flush, td_image_close(run->work.im) == 0);
	return r;
}

/* May it look like this after a crash? */
static int look(void *arg)
{
	struct run *run = arg;
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_RDONLY, &run->work.im, &run->t.err);

	if (r < 0)
		return r;
	r = workload_compare(&run->work, true);
	td_ignore(td_image_close(run->work.im)); /* it was only read */
	return r;
}

static void begin(struct run *run)
{
	model_free(run->model);
	run->model = model_new(SECTORS);
	simdisk_restore(run->sim, run->clean);
	simdisk_start(run->sim, run->seed);
	run->work = (struct workload){ .model = run->model,
				       .random = run->seed,
				       .sectors = SECTORS,
				       .workers = WORKERS,
				       .steps = STEPS,
				       .max_nr = MAX_NR };
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
			simdisk_drop_cache(run->sim);
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
