// SPDX-License-Identifier: BSD-2-Clause
/*
 * The metadata cache, under a toy format (toy.h) that is random-written: whatever fails, whenever the power is cut or
 * the process is killed, the file leaks at most, holds what was flushed, and after a kill what was answered.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kept.h"
#include "model.h"
#include "simdisk.h"
#include "toy.h"
#include "workload.h"

#define WORKERS 4u
#define STEPS   12u
#define MAX_NR  12u
#define TINY    (8u * TOY_SECTOR) /* a cache that has to evict */

struct run {
	struct testenv t;
	struct simdisk *sim;
	struct model *model;
	struct simdisk_state *clean;
	struct workload work;
	struct toy_how how;
	struct toy toy;
	uint64_t seed;
	char path[128], keep[160], saved[160];
	bool has_saved, unsure;
	bool closed_ok;
	unsigned adopted;
};

/* Open, work, close; -1 only if a read lied. */
static int workload(void *arg)
{
	struct run *run = arg;
	uint64_t flush;
	int r;

	run->closed_ok = false;
	if (toy_open(&run->toy, &run->how) < 0)
		return 0; /* a failure at open harms nobody */
	run->work.im = &run->toy.im;
	r = workload_run(&run->work);
	flush = model_flush_begin(run->model);
	run->closed_ok = toy_close(&run->toy) == 0;
	model_flush_end(run->model, flush, run->closed_ok);
	return r;
}

/* May it look like this afterwards? */
static int look(void *arg)
{
	struct run *run = arg;
	int r = toy_open(&run->toy, &run->how), r2;

	if (r < 0) {
		if (!simdisk_is_cut(run->sim))
			(void)fprintf(stderr, "look: %s\n", run->t.err.msg);
		return r;
	}
	run->work.im = &run->toy.im;
	r = workload_compare(&run->work, true);
	r2 = toy_close(&run->toy);
	return r < 0 ? r : r2;
}

static void begin(struct run *run)
{
	model_free(run->model);
	run->model = model_new(TOY_SECTORS);
	simdisk_restore(run->sim, run->clean);
	simdisk_start(run->sim, run->seed);
	run->work = (struct workload){ .model = run->model,
				       .random = run->seed,
				       .sectors = TOY_SECTORS,
				       .workers = WORKERS,
				       .steps = STEPS,
				       .max_nr = MAX_NR };
}

static void setup(struct run *run, uint64_t seed)
{
	*run = (struct run){ .seed = seed };
	run->sim = simdisk_new(seed);
	assert_int_equal(testenv_open_sim(&run->t, run->sim), 0);
	(void)snprintf(run->path, sizeof(run->path), "%s/disk", run->t.dir);
	(void)snprintf(run->saved, sizeof(run->saved), "%s/saved", run->t.dir);
	assert_int_equal(toy_create(run->path), 0);
	kept_path(run->t.dir, run->path, run->keep, sizeof(run->keep));
	run->how = (struct toy_how){ .t = &run->t, .path = run->path, .opts = "", .cache = TINY };
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

/* For so many seeds. */
static void rounds(void (*fn)(struct run *run))
{
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < test_count("TEST_ROUNDS", 1); i++) {
		struct run run;

		setup(&run, seed + i);
		fn(&run);
		teardown(&run);
	}
}

/* ---- failures and power cuts ---- */

static void no_failure(struct run *run)
{
	begin(run);
	assert_int_equal(testenv_run(&run->t, workload, run), 0);
	assert_true(run->closed_ok);
	assert_int_equal(run->work.failed, 0);
	assert_int_equal(toy_fsck(run->path, true), 0);
	assert_int_equal(testenv_run(&run->t, look, run), 0);
}

static void fail_each(struct run *run)
{
	unsigned points = 0, stride = test_count("TEST_STRIDE", 13);

	no_failure(run);
	for (enum simdisk_fault kind = 0; kind < SIMDISK_FAULTS; kind++) {
		for (uint64_t n = 1 + run->seed % stride;; n += stride, points++) {
			begin(run);
			simdisk_fail(run->sim, n, kind);
			assert_int_equal(testenv_run(&run->t, workload, run), 0);
			if (!simdisk_failed(run->sim))
				break;
			simdisk_fail(run->sim, 0, kind);
			simdisk_drop_cache(run->sim);
			assert_int_equal(toy_fsck(run->path, false), 0);
			assert_int_equal(testenv_run(&run->t, look, run), 0);
		}
	}
	printf("# seed %llu: %u failures\n", (unsigned long long)run->seed, points);
}

static void any_failed_operation_loses_nothing_that_was_flushed(void **state)
{
	(void)state;
	rounds(fail_each);
}

static void cut_each(struct run *run)
{
	unsigned points = 0, stride = test_count("TEST_STRIDE", 5);

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
			assert_int_equal(toy_fsck(run->path, false), 0);
			assert_int_equal(testenv_run(&run->t, look, run), 0);
		}
		simdisk_state_free(crash);
	}
	printf("# seed %llu: %u power cuts\n", (unsigned long long)run->seed, points);
}

static void a_power_cut_at_any_operation_leaks_at_most(void **state)
{
	(void)state;
	rounds(cut_each);
}

/* ---- kills ---- */

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
static void put_back(struct run *run, const struct simdisk_state *state, uint64_t seed)
{
	simdisk_make(run->sim, state, SIMDISK_KILL, seed);
	(void)unlink(run->keep);
	if (run->has_saved)
		kept_copy(run->saved, run->keep);
}

/* Who adopts it is killed at some operation. */
static void kill_the_heir(struct run *run, uint64_t n)
{
	struct simdisk_state *state;

	simdisk_start(run->sim, run->seed);
	simdisk_cut(run->sim, n);
	td_ignore(testenv_run(&run->t, look, run));
	if (!simdisk_is_cut(run->sim))
		return;
	state = simdisk_crash(run->sim);
	put_back(run, state, run->seed);
	simdisk_state_free(state);
}

static bool kill_point(struct run *run, uint64_t n)
{
	struct simdisk_state *state;

	(void)unlink(run->keep);
	run->unsure = false;
	begin(run);
	simdisk_cut(run->sim, n);
	if (n % 3 == 0) /* and something else goes wrong before */
		simdisk_fail(run->sim, 1 + run->seed % n, run->seed / 8 % SIMDISK_FAULTS);
	assert_int_equal(testenv_run(&run->t, workload, run), 0);
	if (!simdisk_is_cut(run->sim))
		return simdisk_failed(run->sim);
	simdisk_fail(run->sim, 0, SIMDISK_EIO);
	state = simdisk_crash(run->sim);
	put_back(run, state, run->seed + n);
	simdisk_state_free(state);
	if (n % 2)
		kill_the_heir(run, 1 + n / 2 % 16);
	run->adopted += access(run->keep, F_OK) == 0;
	assert_int_equal(toy_fsck(run->path, false), 0);
	assert_int_equal(testenv_run(&run->t, look, run), 0);
	assert_int_equal(toy_fsck(run->path, false), 0);
	assert_int_not_equal(access(run->keep, F_OK), 0);
	return true;
}

static void kill_each(struct run *run)
{
	unsigned points = 0, stride = test_count("TEST_STRIDE", 5);

	run->t.env.keep_dir = run->t.dir;
	simdisk_on_cut(run->sim, at_the_kill, run);
	for (uint64_t n = 1 + run->seed % stride; kill_point(run, n); n += stride)
		points++;
	printf("# seed %llu: %u kills, %u times something was adopted\n", (unsigned long long)run->seed,
	       points, run->adopted);
	assert_true(run->adopted > 0);
}

static void a_kill_at_any_operation_loses_nothing_that_was_answered(void **state)
{
	(void)state;
	rounds(kill_each);
}

/* ---- what a killed process left: a child process is really killed here ---- */

struct left {
	struct testenv t;
	struct toy_how how;
	struct toy toy;
	char path[128], keep[160];
	uint8_t byte;
};

static int write_all(void *arg)
{
	struct left *x = arg;
	static uint8_t buf[MAX_NR * TOY_SECTOR];
	int r = toy_open(&x->toy, &x->how), r2;

	if (r < 0)
		return r;
	memset(buf, x->byte, sizeof(buf));
	for (uint64_t at = 0; r == 0 && at < TOY_BYTES; at += (uint64_t)TOY_ENTRIES * TOY_SECTOR)
		r = td_image_pwrite(&x->toy.im, at, buf, sizeof(buf), 0);
	if (x->byte == 'k')
		(void)kill(getpid(), SIGKILL);
	r2 = toy_close(&x->toy);
	return r < 0 ? r : r2;
}

static int read_one(void *arg)
{
	struct left *x = arg;
	uint8_t buf[TOY_SECTOR];
	int r = toy_open(&x->toy, &x->how), r2;

	if (r < 0)
		return r;
	r = td_image_pread(&x->toy.im, TOY_BYTES - TOY_ENTRIES * TOY_SECTOR, buf, sizeof(buf), 0);
	r2 = toy_close(&x->toy);
	return r < 0 || r2 < 0 ? TD_MIN(r, r2) : buf[0];
}

static _Noreturn void be_killed(const struct left *from)
{
	struct left x = *from;

	if (testenv_open(&x.t, "sync", NULL) < 0)
		_exit(1);
	(void)rmdir(x.t.dir);
	x.t.env.keep_dir = from->t.dir;
	x.how.t = &x.t;
	x.byte = 'k';
	(void)testenv_run(&x.t, write_all, &x);
	_exit(2);
}

static int left_setup(void **state)
{
	struct left *x = calloc(1, sizeof(*x));
	int status = 0;
	pid_t pid;

	assert_non_null(x);
	assert_int_equal(testenv_open(&x->t, "sync", NULL), 0);
	(void)snprintf(x->path, sizeof(x->path), "%s/disk", x->t.dir);
	assert_int_equal(toy_create(x->path), 0);
	x->t.env.keep_dir = x->t.dir;
	x->how = (struct toy_how){ .t = &x->t, .path = x->path, .opts = "", .cache = 1u << 20 };
	kept_path(x->t.dir, x->path, x->keep, sizeof(x->keep));
	pid = fork();
	if (pid == 0)
		be_killed(x);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(access(x->keep, F_OK), 0);
	*state = x;
	return 0;
}

static int left_teardown(void **state)
{
	struct left *x = *state;

	testenv_close(&x->t);
	free(x);
	return 0;
}

static void assert_refused(struct left *x, int error)
{
	assert_int_equal(testenv_run(&x->t, read_one, x), error);
	assert_non_null(strstr(x->t.err.msg, x->keep));
	assert_non_null(strstr(x->t.err.msg, "adopt=off"));
	assert_int_equal(access(x->keep, F_OK), 0);
}

static void what_was_answered_is_there(void **state)
{
	struct left *x = *state;

	assert_int_equal(testenv_run(&x->t, read_one, x), 'k');
	assert_int_not_equal(access(x->keep, F_OK), 0);
	assert_int_equal(toy_fsck(x->path, true), 0);
}

static void it_can_be_given_up(void **state)
{
	struct left *x = *state;

	x->how.opts = "adopt=off";
	assert_int_equal(testenv_run(&x->t, read_one, x), 0);
	assert_int_not_equal(access(x->keep, F_OK), 0);
}

static void who_only_reads_is_told(void **state)
{
	struct left *x = *state;

	x->how.flags = TD_OPEN_RDONLY;
	assert_refused(x, -EBUSY);
	x->how.opts = "adopt=off";
	assert_int_equal(testenv_run(&x->t, read_one, x), 0);
	x->how.opts = "";
	x->how.flags = TD_OPEN_RDONLY | TD_OPEN_NO_LOCK;
	assert_int_equal(testenv_run(&x->t, read_one, x), 0);
	assert_int_equal(access(x->keep, F_OK), 0);
}

/* Another program, which knows nothing of it. */
static void an_image_changed_since_is_refused(void **state)
{
	struct left *x = *state;

	x->t.env.keep_dir = NULL;
	x->byte = 'o';
	assert_int_equal(testenv_run(&x->t, write_all, x), 0);
	x->t.env.keep_dir = x->t.dir;
	assert_refused(x, -ESTALE);
}

static void an_image_that_was_cut_is_refused(void **state)
{
	struct left *x = *state;

	assert_int_equal(truncate(x->path, 20 * TOY_SECTOR), 0);
	assert_refused(x, -ESTALE);
}

/* The directory and all tables are as they were; what they would name is gone. */
static void what_names_lost_data_is_refused(void **state)
{
	struct left *x = *state;
	off_t end;
	int fd = open(x->path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	end = lseek(fd, 0, SEEK_END);
	assert_int_equal(ftruncate(fd, end - TOY_SECTOR), 0);
	(void)close(fd);
	assert_refused(x, -ESTALE);
}

static void one_of_another_geometry_is_refused(void **state)
{
	struct left *x = *state;

	x->how.tag = 7;
	assert_refused(x, -EUCLEAN);
}

static void after_a_failed_flush_it_is_not_adopted(void **state)
{
	struct left *x = *state;

	x->how.fault = true;
	assert_int_equal(testenv_run(&x->t, read_one, x), -EIO);
	x->how.fault = false;
	assert_refused(x, -EUCLEAN);
}

/* ---- one commit for all who wait; room ---- */

static int commit_one(void *arg)
{
	struct left *x = arg;

	return td_meta_commit(x->toy.meta);
}

static uint64_t counter(const struct td_meta *m, const char *name)
{
	struct td_counters c = { 0 };

	td_meta_counters(m, &c);
	for (unsigned i = 0; i < c.nr; i++)
		if (strcmp(c.counter[i].name, name) == 0)
			return c.counter[i].value;
	return UINT64_MAX;
}

/* The first leads; all the others wait for the second. */
static int many_commits(void *arg)
{
	struct left *x = arg;
	static uint8_t buf[TOY_SECTOR];
	struct td_join j = { 0 };
	uint64_t before, barriers;
	int r = toy_open(&x->toy, &x->how), r2;

	if (r < 0)
		return r;
	r = td_image_pwrite(&x->toy.im, 0, buf, sizeof(buf), 0);
	before = counter(x->toy.meta, "meta_barriers");
	for (unsigned i = 0; r == 0 && i < 64; i++)
		td_join_start(&j, commit_one, x);
	r2 = td_join_wait(&j);
	barriers = counter(x->toy.meta, "meta_barriers") - before;
	if (r == 0)
		r = r2;
	r2 = toy_close(&x->toy);
	return r < 0 || r2 < 0 ? -1 : (int)barriers;
}

/* Data and table, table and directory, directory; and one more for all others. */
static void one_commit_serves_all_who_wait(void **state)
{
	struct left *x = *state;

	x->how.opts = "adopt=off";
	assert_int_equal(testenv_run(&x->t, many_commits, x), 4);
}

static int fill(void *arg)
{
	struct left *x = arg;
	static uint8_t buf[TOY_SECTOR];
	uint64_t most = 0;
	int r = toy_open(&x->toy, &x->how), r2;

	if (r < 0)
		return r;
	for (uint64_t i = 0; r == 0 && i < TOY_SECTORS; i++) {
		uint64_t at = i * 67 % TOY_SECTORS * TOY_SECTOR;

		r = td_image_pwrite(&x->toy.im, at, buf, sizeof(buf), 0);
		most = TD_MAX(most, counter(x->toy.meta, "meta_dirty"));
	}
	/* Nobody has asked for a commit. */
	if (r == 0 && (most > TINY || counter(x->toy.meta, "meta_commits") == 0))
		r = -1;
	r2 = toy_close(&x->toy);
	return r < 0 ? r : r2;
}

static void the_cache_makes_room_by_itself(void **state)
{
	struct left *x = *state;

	x->how.opts = "adopt=off";
	x->how.cache = TINY;
	assert_int_equal(testenv_run(&x->t, fill, x), 0);
	assert_int_equal(toy_fsck(x->path, true), 0);
}

int main(void)
{
#define LEFT_TEST(fn) cmocka_unit_test_setup_teardown(fn, left_setup, left_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_failed_operation_loses_nothing_that_was_flushed),
		cmocka_unit_test(a_power_cut_at_any_operation_leaks_at_most),
		cmocka_unit_test(a_kill_at_any_operation_loses_nothing_that_was_answered),
		LEFT_TEST(what_was_answered_is_there),
		LEFT_TEST(it_can_be_given_up),
		LEFT_TEST(who_only_reads_is_told),
		LEFT_TEST(an_image_changed_since_is_refused),
		LEFT_TEST(an_image_that_was_cut_is_refused),
		LEFT_TEST(what_names_lost_data_is_refused),
		LEFT_TEST(one_of_another_geometry_is_refused),
		LEFT_TEST(after_a_failed_flush_it_is_not_adopted),
		LEFT_TEST(one_commit_serves_all_who_wait),
		LEFT_TEST(the_cache_makes_room_by_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
