// SPDX-License-Identifier: BSD-2-Clause
/*
 * Operation n on the image's file fails, for every n, in every way: no read lies, nothing that was flushed is lost, and
 * the image is at worst one that leaks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "format-run.h"

static void check_after(struct run *run)
{
	simdisk_fail(run->sim, 0, SIMDISK_EIO);
	simdisk_drop_cache(run->sim);
	assert_int_equal(run_verify(run), 0);
}

static unsigned fail_kind(struct run *run, enum simdisk_fault kind, unsigned stride)
{
	unsigned points = 0;

	for (uint64_t n = 1 + run->seed % stride;; n += stride, points++) {
		run_begin(run);
		simdisk_fail(run->sim, n, kind);
		assert_int_equal(testenv_run(&run->t, run_workload, run), 0);
		if (!simdisk_failed(run->sim))
			return points;
		check_after(run);
	}
}

/* A second opinion on our own checker. */
static void check_by_qemu(const struct run *run)
{
	const char *aes = strstr(run->v->create, "encrypt.format=aes");
	char cmd[512];

	if (!run->v->format->qemu_checks)
		return;
	if (system("qemu-img --version >/dev/null 2>&1") != 0) /* NOLINT: fixed text */
		return;
	if (run->v->secret)
		(void)snprintf(cmd, sizeof(cmd),
			       "qemu-img check -q --object secret,id=s,file=%s/key --image-opts "
			       "driver=qcow2,encrypt.format=%s,encrypt.key-secret=s,file.filename=%s",
			       run->t.dir, aes ? "aes" : "luks", run->path);
	else
		(void)snprintf(cmd, sizeof(cmd), "cd %s && qemu-img check -q disk", run->t.dir);
	assert_int_equal(system(cmd), 0); /* NOLINT: our own file */
}

/* Without any failure: no leak, and everything is there. */
static void no_failure(struct run *run)
{
	run_begin(run);
	assert_int_equal(testenv_run(&run->t, run_workload, run), 0);
	assert_true(run->closed_ok);
	assert_int_equal(run_fsck(run), 0);
	if (run->v->format->no_leaks && run_knows_leaks(run))
		assert_int_equal(run->fsck_leaks, 0);
	check_after(run);
	check_by_qemu(run);
}

static void fail_each(struct run *run)
{
	unsigned points = 0, stride = run_stride(run, 13);

	run->resizes = run->seed % 2;
	no_failure(run);
	for (enum simdisk_fault kind = 0; kind < SIMDISK_FAULTS; kind++)
		points += fail_kind(run, kind, stride);
	printf("# %s: seed %llu: %u failures\n", run->v->name, (unsigned long long)run->seed, points);
}

static void any_failed_operation_loses_nothing_that_was_flushed(void **state)
{
	(void)state;
	run_rounds(test_count("TEST_ROUNDS", 1), fail_each);
}

/*
 * A zero whose ends found no space was done again after space had been reclaimed, but for its ends, and called done.
 * It takes another request's drop at the right moment: this seed has it, at operation 6 of qemu's image.
 */
static void a_zero_that_found_no_space_is_done_again_as_a_whole(void **state)
{
	struct run run;

	(void)state;
	for (unsigned i = 0; i < nr_variants; i++) {
		if (variants[i].format != &fmt_qcow2 || !run_setup(&run, &variants[i], 1882530971325044))
			continue;
		for (uint64_t n = 1; n <= 12; n++) {
			run_begin(&run);
			simdisk_fail(run.sim, n, SIMDISK_ENOSPC);
			assert_int_equal(testenv_run(&run.t, run_workload, &run), 0);
			check_after(&run);
		}
		run_teardown(&run);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_zero_that_found_no_space_is_done_again_as_a_whole),
		cmocka_unit_test(any_failed_operation_loses_nothing_that_was_flushed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
