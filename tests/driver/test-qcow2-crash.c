// SPDX-License-Identifier: BSD-2-Clause
/*
 * The power is cut before operation n, for every n, and any part of what was not flushed is lost: the image opens, has
 * leaks at most, holds all that was flushed, and in every other sector something that was written there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "qcow2-run.h"

static void look_at_one(struct run *run)
{
	assert_int_equal(run_fsck(run), 0);
	assert_int_equal(testenv_run(&run->t, run_look, run), 0);
	assert_int_equal(run_fsck(run), 0);
}

static void say(const struct run *run, uint64_t n, enum simdisk_lost how, uint64_t arg)
{
	(void)fprintf(stderr, "%s: seed %llu, cut at %llu, lost %d/%llu\n", run->v->name,
		      (unsigned long long)run->seed, (unsigned long long)n, (int)how,
		      (unsigned long long)arg);
}

static unsigned crash_point(struct run *run, uint64_t n, unsigned per_kind)
{
	struct simdisk_state *crash;
	uint64_t unflushed;
	unsigned images = 0;

	run_begin(run);
	simdisk_cut(run->sim, n);
	assert_int_equal(testenv_run(&run->t, run_workload, run), 0);
	if (!simdisk_is_cut(run->sim))
		return 0;
	crash = simdisk_crash(run->sim);
	unflushed = simdisk_unflushed(crash);
	for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++) {
		uint64_t most = how <= SIMDISK_LOSE_NONE  ? 1
				: how <= SIMDISK_KEEP_ONE ? TD_MIN(unflushed, (uint64_t)per_kind)
							  : per_kind;

		for (uint64_t i = 0; i < most; i++, images++) {
			uint64_t arg = run->seed * 1000 + n + i * 7;

			simdisk_make(run->sim, crash, how, arg);
			if (getenv("TEST_SAY"))
				say(run, n, how, arg);
			look_at_one(run);
		}
	}
	simdisk_state_free(crash);
	return images;
}

static void a_crash_at_any_operation_leaks_at_most(void **state)
{
	uint64_t seed = test_seed();
	unsigned rounds = test_count("TEST_ROUNDS", 2), per_kind = test_count("TEST_IMAGES", 1);
	unsigned points = 0, images = 0;

	(void)state;
	for (unsigned i = 0; i < rounds * nr_variants; i++) {
		struct run run;
		unsigned made;

		if (!run_setup(&run, &variants[i % nr_variants], seed + i))
			continue;
		for (uint64_t n = 1; (made = crash_point(&run, n, per_kind)) > 0; n++, points++)
			images += made;
		run_teardown(&run);
	}
	printf("# %u crash points, %u images\n", points, images);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crash_at_any_operation_leaks_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
