// SPDX-License-Identifier: BSD-2-Clause
/* Brief work, which the loop's thread does as well, and the choice by what work took before. */
#include "config.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/co.h>
#include <blktap/loop.h>
#include <blktap/pool.h>

#define NR_THREADS 3
#define NR_BRIEF   50

static struct td_loop *loop;
static struct td_pool *pool;
static pthread_t loops_thread;

static int setup(void **state)
{
	(void)state;
	loops_thread = pthread_self();
	loop = td_loop_new();
	pool = loop ? td_pool_new(loop, NR_THREADS) : NULL;
	alarm(600); /* a wake-up that is lost is for ever */
	return pool ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	alarm(0);
	td_pool_free(pool);
	td_loop_free(loop);
	td_co_thread_done();
	return 0;
}

/* ---- brief work ---- */

static int is_in_loop(void *arg)
{
	(void)arg;
	return pthread_equal(pthread_self(), loops_thread) != 0;
}

static unsigned nr_done, nr_in_loop;

static void count(struct td_work *w, int result)
{
	(void)w;
	nr_done++;
	nr_in_loop += result > 0;
}

static void one_alone_is_the_loops(void **state)
{
	struct td_work w = { .fn = is_in_loop, .done = count, .brief = true };

	(void)state;
	nr_done = nr_in_loop = 0;
	td_pool_submit(pool, &w);
	assert_int_equal(nr_done, 0); /* not inside the call */
	while (nr_done == 0)
		td_loop_turn(loop, true);
	assert_int_equal(nr_in_loop, 1);
}

static sem_t gate;

static int wait_at_gate(void *arg)
{
	(void)arg;
	while (sem_wait(&gate) < 0)
		;
	return 0;
}

static void submit_all(struct td_work *w, unsigned nr, int (*fn)(void *arg), bool brief)
{
	for (unsigned i = 0; i < nr; i++) {
		w[i] = (struct td_work){ .fn = fn, .done = count, .brief = brief };
		td_pool_submit(pool, &w[i]);
	}
}

static void wait_for_done(unsigned nr)
{
	while (nr_done < nr)
		td_loop_turn(loop, true);
	assert_int_equal(nr_done, nr);
}

/* As many that take long as there are workers; one more waits, and brief work does not wait behind it. */
static void brief_work_does_not_wait_for_long_work(void **state)
{
	struct td_work longs[NR_THREADS + 1], briefs[NR_BRIEF];

	(void)state;
	nr_done = nr_in_loop = 0;
	assert_int_equal(sem_init(&gate, 0, 0), 0);
	submit_all(longs, TD_NELEMS(longs), wait_at_gate, false);
	submit_all(briefs, NR_BRIEF, is_in_loop, true);
	wait_for_done(NR_BRIEF);
	assert_int_equal(nr_in_loop, NR_BRIEF);
	/* The loop looks at nothing any more: their ends have to wake it. */
	for (unsigned i = 0; i < TD_NELEMS(longs); i++)
		sem_post(&gate);
	wait_for_done(NR_BRIEF + TD_NELEMS(longs));
	sem_destroy(&gate);
}

static pthread_barrier_t barrier;

static int meet(void *arg)
{
	pthread_barrier_wait(&barrier);
	return is_in_loop(arg);
}

static void of_two_a_worker_takes_one(void **state)
{
	struct td_work w[2];

	(void)state;
	nr_done = nr_in_loop = 0;
	assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
	submit_all(w, 2, meet, true);
	wait_for_done(2);
	assert_int_equal(nr_in_loop, 1);
	pthread_barrier_destroy(&barrier);
}

struct mixed {
	struct td_work w;
	unsigned left;
};

static void again(struct td_work *w, int result)
{
	struct mixed *m = td_container_of(w, struct mixed, w);

	(void)result;
	nr_done++;
	if (--m->left == 0)
		return;
	w->brief = m->left % 3 != 0;
	td_pool_submit(pool, w);
}

/* Both sorts in flight at all times, each next one given from done(). */
static void no_wake_up_is_lost(void **state)
{
	struct mixed m[5];

	(void)state;
	nr_done = 0;
	for (unsigned i = 0; i < TD_NELEMS(m); i++) {
		m[i] = (struct mixed){ .w = { .fn = is_in_loop, .done = again, .brief = i % 2 == 0 },
				       .left = 3000 };
		td_pool_submit(pool, &m[i].w);
	}
	wait_for_done(TD_NELEMS(m) * 3000);
}

/* ---- by what it took before ---- */

struct paced {
	struct td_pace pace, *ret_pace;
	int (*fn)(void *arg);
	size_t len;
};

static int run_paced(void *arg)
{
	struct paced *p = arg;

	return td_pool_run_paced(pool, p->fn, NULL, p->ret_pace, p->len);
}

/* It may count as dear for a while: a thread's time has what interrupts it in it. */
static void what_takes_nothing_is_done_at_once(void **state)
{
	struct paced p = { .fn = is_in_loop, .ret_pace = &p.pace, .len = 4096 };

	(void)state;
	assert_int_equal(td_loop_call(loop, run_paced, &p), 0); /* nothing known */
	assert_true(p.pace.ns_per_kib > 0);
	while (td_loop_call(loop, run_paced, &p) == 0)
		;
	p.ret_pace = NULL;
	assert_int_equal(td_loop_call(loop, run_paced, &p), 0);
}

static int burn_2_ms(void *arg)
{
	struct timespec from, to;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	do
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	while ((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec < 2000000);
	return is_in_loop(arg);
}

static void what_takes_long_never_holds_up_the_loop(void **state)
{
	struct paced p = { .fn = burn_2_ms, .ret_pace = &p.pace, .len = 65536 };

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(td_loop_call(loop, run_paced, &p), 0);
	/* A little of it is as little work, and done at once. */
	p.fn = is_in_loop;
	p.len = 16;
	assert_int_equal(td_loop_call(loop, run_paced, &p), 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_alone_is_the_loops),
		TEST(of_two_a_worker_takes_one),
		TEST(brief_work_does_not_wait_for_long_work),
		TEST(no_wake_up_is_lost),
		TEST(what_takes_nothing_is_done_at_once),
		TEST(what_takes_long_never_holds_up_the_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
