// SPDX-License-Identifier: BSD-2-Clause
/*
 * The power is cut before operation n, for every n, and any part of what was not flushed is lost: the image opens, has
 * leaks at most, holds all that was flushed, and in every other sector something that was written there.  Now and then
 * something else fails before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "format-run.h"

static void say(const struct run *run, uint64_t n, enum simdisk_lost how, uint64_t arg)
{
	(void)fprintf(stderr, "%s: seed %llu, cut at %llu, lost %d/%llu\n", run->v->name,
		      (unsigned long long)run->seed, (unsigned long long)n, (int)how,
		      (unsigned long long)arg);
}

/* Some of the images that may be found after it. */
static unsigned look_at_some(struct run *run, uint64_t n, unsigned per_kind)
{
	struct simdisk_state *crash = simdisk_crash(run->sim);
	uint64_t unflushed = simdisk_unflushed(crash);
	unsigned images = 0;

	for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++) {
		uint64_t most = how <= SIMDISK_LOSE_NONE  ? 1
				: how <= SIMDISK_KEEP_ONE ? TD_MIN(unflushed, (uint64_t)per_kind)
							  : per_kind;

		for (uint64_t i = 0; i < most; i++, images++) {
			uint64_t arg = run->seed * 1000 + n + i * 7;

			simdisk_make(run->sim, crash, how, arg);
			if (getenv("TEST_SAY"))
				say(run, n, how, arg);
			assert_int_equal(run_verify(run), 0);
		}
	}
	simdisk_state_free(crash);
	return images;
}

/* false: there is no operation n. */
static bool crash_point(struct run *run, uint64_t n, unsigned per_kind, unsigned *images)
{
	uint64_t seed = run->seed * 1000 + n;

	run_begin(run);
	simdisk_cut(run->sim, n);
	if (seed % 4 == 0)
		simdisk_fail(run->sim, 1 + seed / 4 % n, seed / 8 % SIMDISK_FAULTS);
	assert_int_equal(testenv_run(&run->t, run_workload, run), 0);
	if (!simdisk_is_cut(run->sim))
		return simdisk_failed(run->sim);
	simdisk_fail(run->sim, 0, SIMDISK_EIO);
	*images += look_at_some(run, n, per_kind);
	return true;
}

static void crash_each(struct run *run)
{
	unsigned images = 0, per_kind = test_count("TEST_IMAGES", 1);
	unsigned points = 0, stride = run_stride(run, 8);

	run->resizes = run->seed % 2;
	for (uint64_t n = 1 + run->seed % stride; crash_point(run, n, per_kind, &images); n += stride)
		points++;
	printf("# %s: seed %llu: %u power cuts, %u images\n", run->v->name, (unsigned long long)run->seed,
	       points, images);
}

static void a_crash_at_any_operation_leaks_at_most(void **state)
{
	(void)state;
	run_rounds(test_count("TEST_ROUNDS", 1), crash_each);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crash_at_any_operation_leaks_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
