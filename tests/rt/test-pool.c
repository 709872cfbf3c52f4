// SPDX-License-Identifier: BSD-2-Clause
/* The worker pool: results, parallel work, coroutines that go on meanwhile, no threads to be had. */
#include "config.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/co.h>
#include <blktap/loop.h>
#include <blktap/pool.h>

#include "rt/sanitize.h"

static struct td_loop *loop;
static struct td_pool *pool;

static int setup(void **state)
{
	(void)state;
	loop = td_loop_new();
	pool = loop ? td_pool_new(loop, 3) : NULL;
	return pool ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	td_pool_free(pool);
	td_loop_free(loop);
	td_co_thread_done();
	return 0;
}

static _Atomic unsigned at_once, max_at_once, nr_ran;

static int work(void *arg)
{
	unsigned now = ++at_once, max = max_at_once;

	while (now > max && !atomic_compare_exchange_weak(&max_at_once, &max, now))
		;
	usleep(1000);
	at_once--;
	nr_ran++;
	return *(int *)arg;
}

static int run_one(void *arg)
{
	return td_pool_run(pool, work, arg);
}

static int run_many(void *arg)
{
	int *values = arg;
	struct td_join j = { 0 };

	for (unsigned i = 0; i < 50; i++)
		td_join_start(&j, run_one, &values[i]);
	return td_join_wait(&j);
}

static void results_come_back_and_work_is_parallel(void **state)
{
	int values[50] = { 0 };

	(void)state;
	at_once = max_at_once = nr_ran = 0;
	values[17] = -EDOM;
	assert_int_equal(td_loop_call(loop, run_many, values), -EDOM);
	assert_int_equal(nr_ran, 50);
	assert_in_range(max_at_once, 2, 3); /* several, and not above the limit */
	values[0] = 12345;
	assert_int_equal(td_loop_call(loop, run_one, values), 12345);
}

static int signals_blocked(void *arg)
{
	sigset_t set;

	(void)arg;
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	return sigismember(&set, SIGTERM) && sigismember(&set, SIGINT) && sigismember(&set, SIGALRM);
}

static int run_signals_blocked(void *arg)
{
	return td_pool_run(pool, signals_blocked, arg);
}

static void workers_block_signals_and_the_loop_does_not(void **state)
{
	(void)state;
	assert_int_equal(td_loop_call(loop, run_signals_blocked, NULL), 1);
	assert_int_equal(signals_blocked(NULL), 0);
}

struct counted_work {
	struct td_work w;
	int value;
};

static unsigned nr_done;

static void count_and_free(struct td_work *w, int result)
{
	struct counted_work *c = td_container_of(w, struct counted_work, w);

	nr_done += result == c->value && result == w->result;
	free(c);
	if (nr_done == 20)
		td_loop_stop(loop);
}

static void done_runs_on_the_loop_and_may_free_its_work(void **state)
{
	(void)state;
	nr_done = 0;
	for (int i = 0; i < 20; i++) {
		struct counted_work *c = calloc(1, sizeof(*c));

		assert_non_null(c);
		c->value = i;
		c->w = (struct td_work){ .fn = work, .done = count_and_free, .arg = &c->value };
		td_pool_submit(pool, &c->w);
		assert_int_equal(nr_done, 0);
	}
	td_loop_run(loop);
	assert_int_equal(nr_done, 20);
}

static int run_identity(void *arg)
{
	pthread_t *ret = arg;

	*ret = pthread_self();
	return 7;
}

static int run_run_identity(void *arg)
{
	return td_pool_run(pool, run_identity, arg);
}

static void without_threads_the_caller_does_the_work(void **state)
{
	struct rlimit old, none;
	pthread_t who;
	int r;

	(void)state;
	if (TD_ANY_SANITIZER)
		skip(); /* needs its address space */
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	none = old;
	none.rlim_cur = 4096;
	assert_int_equal(td_loop_call(loop, signals_blocked, NULL),
			 0); /* has a stack in the pool from here on */
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	r = td_loop_call(loop, run_run_identity, &who);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	assert_int_equal(r, 7);
	if (RUNNING_ON_VALGRIND)
		return; /* it makes its threads without asking */
	assert_true(pthread_equal(who, pthread_self()));
}

static pthread_barrier_t barrier;

static int meet(void *arg)
{
	int r = pthread_barrier_wait(&barrier);

	(void)arg;
	return r == PTHREAD_BARRIER_SERIAL_THREAD ? 0 : -r;
}

static int run_meet(void *arg)
{
	return td_pool_run(pool, meet, arg);
}

static int run_three_that_meet(void *arg)
{
	struct td_join j = { 0 };

	for (unsigned i = 0; i < 3; i++)
		td_join_start(&j, run_meet, arg);
	return td_join_wait(&j);
}

/*
 * One idle worker is there; were it counted for each of the three, they would wait for each other for ever.  And again
 * with three that sleep: each has to be woken.
 */
static void a_burst_gets_a_thread_each(void **state)
{
	int value = 0;

	(void)state;
	alarm(600);
	assert_int_equal(td_loop_call(loop, run_one, &value), 0);
	usleep(2000);
	assert_int_equal(pthread_barrier_init(&barrier, NULL, 3), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(td_loop_call(loop, run_three_that_meet, NULL), 0);
		usleep(1000);
	}
	pthread_barrier_destroy(&barrier);
	alarm(0);
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

static int run_nothing_often(void *arg)
{
	int r = 0;

	for (unsigned i = 0; i < 3000 && r == 0; i++)
		r = td_pool_run(pool, nothing, arg);
	return r;
}

static int run_nothing_in_parallel(void *arg)
{
	struct td_join j = { 0 };

	for (unsigned i = 0; i < 8; i++)
		td_join_start(&j, run_nothing_often, arg);
	return td_join_wait(&j);
}

static void no_wake_up_is_lost(void **state)
{
	(void)state;
	alarm(600);
	assert_int_equal(td_loop_call(loop, run_nothing_in_parallel, NULL), 0);
	alarm(0);
}

static _Thread_local int of_thread;

static int mark_thread(void *arg)
{
	int was = of_thread;

	(void)arg;
	of_thread = 1;
	return was;
}

static int run_mark_thread(void *arg)
{
	return td_pool_run(pool, mark_thread, arg);
}

/* What the loop's thread became meanwhile holds for all work from then on. */
static void threads_that_were_ended_are_followed_by_new_ones(void **state)
{
	int value = 5;

	(void)state;
	assert_int_equal(td_loop_call(loop, run_mark_thread, NULL), 0);
	assert_int_equal(td_loop_call(loop, run_mark_thread, NULL), 1); /* the same, which was idle */
	td_pool_end_threads(pool);
	td_pool_end_threads(pool); /* of none */
	assert_int_equal(td_loop_call(loop, run_mark_thread, NULL), 0);
	assert_int_equal(td_loop_call(loop, run_one, &value), 5);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_threads_the_caller_does_the_work), /* first: later there are cached thread stacks */
		TEST(results_come_back_and_work_is_parallel),
		TEST(workers_block_signals_and_the_loop_does_not),
		TEST(done_runs_on_the_loop_and_may_free_its_work),
		TEST(a_burst_gets_a_thread_each),
		TEST(no_wake_up_is_lost),
		TEST(threads_that_were_ended_are_followed_by_new_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
