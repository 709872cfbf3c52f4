// SPDX-License-Identifier: BSD-2-Clause
/* Wait queue, mutex, range lock: order, no starvation, and random ranges against a model. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include <blktap/lock.h>

static char trace[64];

static void note(char c)
{
	size_t n = strlen(trace);

	if (n + 1 < sizeof(trace)) {
		trace[n] = c;
		trace[n + 1] = '\0';
	}
}

static int reset(void **state)
{
	(void)state;
	trace[0] = '\0';
	return 0;
}

static void start(td_co_fn *fn, void *arg)
{
	assert_int_equal(td_co_start(fn, arg), 0);
}

/* ---- wait queue ---- */

static struct td_waitq waitq;

static void wait_and_note(void *arg)
{
	td_waitq_wait(&waitq);
	note(*(const char *)arg);
}

static void waiters_wake_in_order_of_arrival(void **state)
{
	(void)state;
	assert_false(td_waitq_wake_one(&waitq));
	start(wait_and_note, "a");
	start(wait_and_note, "b");
	start(wait_and_note, "c");
	assert_true(td_waitq_wake_one(&waitq));
	start(wait_and_note, "d");
	td_co_run_ready(0);
	assert_string_equal(trace, "a");
	td_waitq_wake_all(&waitq);
	td_co_run_ready(0);
	assert_string_equal(trace, "abcd");
	assert_false(td_waitq_wake_one(&waitq));
}

/* ---- mutex ---- */

static struct td_mutex mutex;

static int guarded(char c)
{
	td_co_guard(&mutex);
	note(c);
	td_co_pause();
	note(c);
	return c;
}

static void guard_twice(void *arg)
{
	char c = *(const char *)arg;

	if (guarded(c) == c)
		guarded(c);
}

static void mutex_is_handed_over_in_order(void **state)
{
	(void)state;
	start(guard_twice, "a");
	start(guard_twice, "b");
	start(guard_twice, "c");
	td_co_run_ready(0);
	/* a wants it again at once, and still has to wait for b and c */
	assert_string_equal(trace, "aabbccaabbcc");
	assert_false(mutex.held);
	assert_int_equal(td_co_count(), 0);
}

/* ---- range lock ---- */

static struct td_ranges ranges;

struct taker {
	char name;
	uint64_t off, len;
	enum td_range_mode mode;
	struct td_co *co;
};

/* Notes its name when it has the range, and the capital when it lets go. */
static void take_range(void *arg)
{
	struct taker *t = arg;
	struct td_range r;

	td_range_lock(&ranges, &r, t->off, t->len, t->mode);
	note(t->name);
	t->co = td_co_self();
	td_co_yield();
	note((char)(t->name - 'a' + 'A'));
	td_range_unlock(&ranges, &r);
}

static void let_go(struct taker *t)
{
	td_co_wake(t->co);
	td_co_run_ready(0);
}

static void shared_ranges_share_and_exclusive_ones_do_not(void **state)
{
	struct taker a = { 'a', 0, 100, TD_RANGE_SHARED, NULL }, b = { 'b', 50, 100, TD_RANGE_SHARED, NULL };
	struct taker c = { 'c', 149, 1, TD_RANGE_EXCLUSIVE, NULL },
		     d = { 'd', 150, 50, TD_RANGE_EXCLUSIVE, NULL };

	(void)state;
	td_ranges_init(&ranges);
	start(take_range, &a);
	start(take_range, &b);
	start(take_range, &c);
	start(take_range, &d);
	assert_string_equal(trace, "abd"); /* c shares the byte 149 with b, d touches nobody */
	let_go(&b);
	assert_string_equal(trace, "abdBc");
	let_go(&a);
	let_go(&c);
	let_go(&d);
	assert_int_equal(ranges.nr_exclusive + ranges.nr_waiting, 0);
	assert_true(TAILQ_EMPTY(&ranges.all));
}

static void newcomers_do_not_overtake_a_waiting_writer(void **state)
{
	struct taker a = { 'a', 0, 10, TD_RANGE_SHARED, NULL }, w = { 'w', 5, 10, TD_RANGE_EXCLUSIVE, NULL };
	struct taker b = { 'b', 8, 1, TD_RANGE_SHARED, NULL }, c = { 'c', 0, 5, TD_RANGE_SHARED, NULL };

	(void)state;
	td_ranges_init(&ranges);
	start(take_range, &a);
	start(take_range, &w);
	start(take_range, &b); /* conflicts with nobody who holds, but with w who waits */
	start(take_range, &c); /* conflicts with nobody */
	assert_string_equal(trace, "ac");
	let_go(&a);
	assert_string_equal(trace, "acAw");
	let_go(&w);
	assert_string_equal(trace, "acAwWb");
	let_go(&b);
	let_go(&c);
	assert_true(TAILQ_EMPTY(&ranges.all));
}

static void one_unlock_lets_several_go_on(void **state)
{
	struct taker w = { 'w', 0, 100, TD_RANGE_EXCLUSIVE, NULL }, a = { 'a', 0, 50, TD_RANGE_SHARED, NULL };
	struct taker b = { 'b', 25, 50, TD_RANGE_SHARED, NULL },
		     x = { 'x', 75, 25, TD_RANGE_EXCLUSIVE, NULL };
	struct taker y = { 'y', 99, 1, TD_RANGE_EXCLUSIVE, NULL };

	(void)state;
	td_ranges_init(&ranges);
	start(take_range, &w);
	start(take_range, &a);
	start(take_range, &b);
	start(take_range, &x);
	start(take_range, &y);
	let_go(&w);
	assert_string_equal(trace, "wWabx");
	let_go(&x);
	assert_string_equal(trace, "wWabxXy");
	let_go(&y);
	let_go(&b);
	let_go(&a);
	assert_true(TAILQ_EMPTY(&ranges.all));
}

static void trylock_does_not_wait_and_leaves_nothing(void **state)
{
	struct td_range a, b, c;

	(void)state;
	td_ranges_init(&ranges);
	assert_int_equal(td_range_trylock(&ranges, &a, 0, 10, TD_RANGE_SHARED), 0);
	assert_int_equal(td_range_trylock(&ranges, &b, 9, 1, TD_RANGE_EXCLUSIVE), -EBUSY);
	assert_int_equal(ranges.nr_exclusive, 0);
	assert_int_equal(td_range_trylock(&ranges, &b, 10, 1, TD_RANGE_EXCLUSIVE), 0);
	assert_int_equal(td_range_trylock(&ranges, &c, 0, UINT64_MAX, TD_RANGE_SHARED), -EBUSY);
	td_range_unlock(&ranges, &b);
	assert_int_equal(td_range_trylock(&ranges, &c, 0, UINT64_MAX, TD_RANGE_SHARED), 0);
	td_range_unlock(&ranges, &a);
	td_range_unlock(&ranges, &c);
	assert_true(TAILQ_EMPTY(&ranges.all));
}

/* ---- random ---- */

#define NR_CO    30
#define NR_BYTES 64

static struct model {
	int held[NR_BYTES]; /* shared holders, or -1 */
	unsigned rand;
	unsigned clashes, locks;
} model;

static unsigned draw(unsigned below)
{
	return (unsigned)rand_r(&model.rand) % below;
}

static void model_take(const struct td_range *r)
{
	for (uint64_t i = r->off; i < r->off + r->len; i++) {
		if (r->mode == TD_RANGE_EXCLUSIVE)
			model.clashes += model.held[i] != 0;
		else
			model.clashes += model.held[i] < 0;
		model.held[i] = r->mode == TD_RANGE_EXCLUSIVE ? -1 : model.held[i] + 1;
	}
}

static void model_drop(const struct td_range *r)
{
	for (uint64_t i = r->off; i < r->off + r->len; i++)
		model.held[i] = r->mode == TD_RANGE_EXCLUSIVE ? 0 : model.held[i] - 1;
}

static void random_ranges(void *arg)
{
	struct td_range r;

	(void)arg;
	for (int i = 0; i < 200; i++) {
		unsigned off = draw(NR_BYTES), len = draw(NR_BYTES - off + 1);

		td_range_lock(&ranges, &r, off, len, draw(3) ? TD_RANGE_SHARED : TD_RANGE_EXCLUSIVE);
		model.locks++;
		model_take(&r);
		for (unsigned n = draw(4); n > 0; n--)
			td_co_pause();
		model_drop(&r);
		td_range_unlock(&ranges, &r);
		td_co_pause();
	}
}

static void random_ranges_never_clash_and_all_get_theirs(void **state)
{
	(void)state;
	td_ranges_init(&ranges);
	for (int i = 0; i < NR_CO; i++)
		start(random_ranges, NULL);
	td_co_run_ready(0);
	assert_int_equal(td_co_count(), 0);
	assert_int_equal(model.clashes, 0);
	assert_int_equal(model.locks, NR_CO * 200);
	assert_true(TAILQ_EMPTY(&ranges.all));
	assert_int_equal(ranges.nr_exclusive + ranges.nr_waiting, 0);
}

static int give_stacks_back(void **state)
{
	(void)state;
	td_co_thread_done();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(waiters_wake_in_order_of_arrival, reset),
		cmocka_unit_test_setup(mutex_is_handed_over_in_order, reset),
		cmocka_unit_test_setup(shared_ranges_share_and_exclusive_ones_do_not, reset),
		cmocka_unit_test_setup(newcomers_do_not_overtake_a_waiting_writer, reset),
		cmocka_unit_test_setup(one_unlock_lets_several_go_on, reset),
		cmocka_unit_test_setup(trylock_does_not_wait_and_leaves_nothing, reset),
		cmocka_unit_test_setup(random_ranges_never_clash_and_all_get_theirs, reset),
	};

	model.rand = getenv("TD_TEST_SEED") ? (unsigned)strtoul(getenv("TD_TEST_SEED"), NULL, 0)
					    : (unsigned)time(NULL);
	printf("seed %u\n", model.rand);
	return cmocka_run_group_tests(tests, NULL, give_stacks_back);
}
