// SPDX-License-Identifier: BSD-2-Clause
/* The event loop: callbacks that remove each other, timers, signals, hooks, sleeping and not sleeping. */
#include "config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/co.h>
#include <blktap/loop.h>

#define MS 1000000ull

static struct td_loop *loop;

static int setup(void **state)
{
	(void)state;
	loop = td_loop_new();
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	td_loop_free(loop);
	td_co_thread_done();
	return 0;
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- descriptors ---- */

struct node {
	struct td_watch w;
	struct node **others;
	unsigned nr_others;
	unsigned calls;
};

static struct node *node_new(void (*fn)(struct td_watch *, uint32_t))
{
	struct node *n = calloc(1, sizeof(*n));

	assert_non_null(n);
	n->w.fn = fn;
	assert_int_equal(td_loop_watch(loop, &n->w, eventfd(1, EFD_NONBLOCK), EPOLLIN), 0);
	return n;
}

static void node_free(struct node *n)
{
	int fd = n->w.fd;

	td_loop_unwatch(&n->w);
	close(fd);
	free(n);
}

static unsigned nr_calls;

/* The first to run frees all, itself included: the events of the others are fetched by then. */
static void free_all(struct td_watch *w, uint32_t events)
{
	struct node *n = td_container_of(w, struct node, w);
	struct node **all = n->others;
	unsigned nr = n->nr_others;

	(void)events;
	nr_calls++;
	for (unsigned i = 0; i < nr; i++)
		node_free(all[i]);
}

static void callbacks_may_free_every_watch(void **state)
{
	struct node *all[5];

	(void)state;
	nr_calls = 0;
	for (unsigned i = 0; i < TD_NELEMS(all); i++) {
		all[i] = node_new(free_all);
		all[i]->others = all;
		all[i]->nr_others = TD_NELEMS(all);
	}
	td_loop_turn(loop, true);
	td_loop_turn(loop, false);
	assert_int_equal(nr_calls, 1);
}

static int turn_again(void *arg)
{
	(void)arg;
	td_co_pause();
	td_co_pause();
	return 0;
}

/* A turn inside a callback fetches the same events; what it frees is not called by the outer turn. */
static void nest_and_free(struct td_watch *w, uint32_t events)
{
	struct node *n = td_container_of(w, struct node, w);

	n->w.fn = free_all;
	td_ignore(td_loop_call(loop, turn_again, NULL));
	(void)events;
}

static void nested_turns_may_free_every_watch(void **state)
{
	struct node *all[5];

	(void)state;
	nr_calls = 0;
	for (unsigned i = 0; i < TD_NELEMS(all); i++) {
		all[i] = node_new(nest_and_free);
		all[i]->others = all;
		all[i]->nr_others = TD_NELEMS(all);
	}
	td_loop_turn(loop, true);
	while (nr_calls == 0)
		td_loop_turn(loop, true);
	td_loop_turn(loop, false);
	assert_int_equal(nr_calls, 1);
}

static void count_call(struct td_watch *w, uint32_t events)
{
	(void)events;
	td_container_of(w, struct node, w)->calls++;
}

static void mute_other(struct td_watch *w, uint32_t events)
{
	struct node *n = td_container_of(w, struct node, w);

	count_call(w, events);
	td_ignore(td_loop_rewatch(&n->others[0]->w, 0));
}

static void rewatch_counts_for_events_already_fetched(void **state)
{
	struct node *a = node_new(mute_other), *b = node_new(mute_other);

	(void)state;
	a->others = &b;
	b->others = &a;
	td_loop_turn(loop, true);
	assert_int_equal(a->calls + b->calls, 1);
	td_loop_turn(loop, false);
	assert_int_equal(a->calls + b->calls, 2); /* only the one that is not muted */
	assert_int_equal(td_loop_rewatch(&a->w, EPOLLIN), 0);
	assert_int_equal(td_loop_rewatch(&b->w, EPOLLIN), 0);
	node_free(a);
	node_free(b);
}

static void watch_errors_are_returned(void **state)
{
	struct td_watch w = { .fn = count_call };

	(void)state;
	assert_int_equal(td_loop_watch(loop, &w, -1, EPOLLIN), -EBADF);
	assert_null(w.loop);
	td_loop_unwatch(&w); /* not watched: nothing happens */
}

static unsigned pauses;

static void pause_for_long(void *arg)
{
	(void)arg;
	while (pauses-- > 1)
		td_co_pause();
}

static void busy_coroutines_do_not_shut_out_descriptors(void **state)
{
	struct node *n = node_new(count_call);

	(void)state;
	pauses = 1000000;
	assert_int_equal(td_co_start(pause_for_long, NULL), 0);
	for (int i = 0; i < 3; i++)
		td_loop_turn(loop, true);
	assert_int_equal(n->calls, 3);
	assert_true(pauses > 1000);
	td_co_run_ready(0);
	node_free(n);
}

/* ---- timers ---- */

static char order[32];

struct named {
	struct td_timer t;
	char name;
	struct named *other;
};

static void note_name(struct td_timer *t)
{
	size_t n = strlen(order);

	if (n + 1 < sizeof(order))
		order[n] = td_container_of(t, struct named, t)->name;
}

static void timers_fire_in_order_and_not_early(void **state)
{
	struct named a = { .t.fn = note_name, .name = 'a' }, b = { .t.fn = note_name, .name = 'b' };
	struct named c = { .t.fn = note_name, .name = 'c' }, d = { .t.fn = note_name, .name = 'd' };
	uint64_t start = clock_ns();

	(void)state;
	memset(order, 0, sizeof(order));
	td_timer_arm(loop, &c.t, 12 * MS);
	td_timer_arm(loop, &a.t, 4 * MS);
	td_timer_arm(loop, &d.t, UINT64_MAX); /* never, and without wrapping round */
	td_timer_arm(loop, &b.t, 1 * MS);
	td_timer_arm(loop, &b.t, 8 * MS); /* moved */
	while (strlen(order) < 3)
		td_loop_turn(loop, true);
	assert_true(clock_ns() - start >= 12 * MS);
	assert_string_equal(order, "abc");
	assert_null(a.t.loop);
	assert_non_null(d.t.loop);
	td_timer_cancel(&d.t);
	td_timer_cancel(&d.t);
	assert_null(d.t.loop);
}

static void cancel_other(struct td_timer *t)
{
	note_name(t);
	td_timer_cancel(&td_container_of(t, struct named, t)->other->t);
}

static void timer_may_cancel_one_that_is_due(void **state)
{
	struct named a = { .t.fn = cancel_other, .name = 'a' }, b = { .t.fn = cancel_other, .name = 'b' };

	(void)state;
	memset(order, 0, sizeof(order));
	a.other = &b;
	b.other = &a;
	td_timer_arm(loop, &a.t, 0);
	td_timer_arm(loop, &b.t, 0);
	td_loop_turn(loop, true);
	td_loop_turn(loop, false);
	assert_string_equal(order, "a");
}

static void rearm(struct td_timer *t)
{
	note_name(t);
	td_timer_arm(loop, t, 0);
}

static void timer_that_rearms_itself_does_not_hold_the_loop(void **state)
{
	struct named a = { .t.fn = rearm, .name = 'a' };

	(void)state;
	memset(order, 0, sizeof(order));
	td_timer_arm(loop, &a.t, 0);
	td_loop_turn(loop, true);
	td_loop_turn(loop, true);
	assert_string_equal(order, "aa");
	td_timer_cancel(&a.t);
}

static int sleep_5ms(void *arg)
{
	(void)arg;
	td_loop_sleep(loop, 5 * MS);
	return 42;
}

static void call_returns_the_result_after_sleeping(void **state)
{
	uint64_t start = clock_ns();

	(void)state;
	assert_int_equal(td_loop_call(loop, sleep_5ms, NULL), 42);
	assert_true(clock_ns() - start >= 5 * MS);
	assert_true(td_loop_now(loop) >= start + 5 * MS);
	assert_true(td_loop_now(loop) <= clock_ns());
}

/* ---- hooks ---- */

static struct counted_hook {
	struct td_hook h;
	unsigned calls;
	unsigned answer;
} hooks[3];

static unsigned count_hook(struct td_hook *h)
{
	struct counted_hook *c = td_container_of(h, struct counted_hook, h);

	c->calls++;
	return c->answer;
}

static unsigned unhook_first_two(struct td_hook *h)
{
	td_loop_unhook(loop, &hooks[0].h);
	td_loop_unhook(loop, &hooks[1].h);
	return count_hook(h);
}

static void hook_may_remove_itself_and_the_next(void **state)
{
	(void)state;
	memset(hooks, 0, sizeof(hooks));
	for (unsigned i = 0; i < 3; i++) {
		hooks[i].h.fn = i == 0 ? unhook_first_two : count_hook;
		td_loop_hook(loop, &hooks[i].h);
	}
	td_loop_turn(loop, false);
	td_loop_turn(loop, false);
	assert_int_equal(hooks[0].calls, 1);
	assert_int_equal(hooks[1].calls, 0);
	assert_int_equal(hooks[2].calls, 2);
	td_loop_unhook(loop, &hooks[2].h);
}

/* Were the answer ignored, the turn would sleep until the alarm of the test driver. */
static void hook_with_something_done_keeps_the_turn_awake(void **state)
{
	(void)state;
	memset(hooks, 0, sizeof(hooks));
	hooks[0].h.fn = count_hook;
	hooks[0].answer = 1;
	td_loop_hook(loop, &hooks[0].h);
	td_loop_turn(loop, true);
	assert_int_equal(hooks[0].calls, 1);
	td_loop_unhook(loop, &hooks[0].h);
}

/* ---- signals ---- */

static int seen_signals[8], nr_seen;

static void see_signal(void *arg, int signo)
{
	assert_ptr_equal(arg, &nr_seen);
	seen_signals[nr_seen++] = signo;
	if (nr_seen == 2)
		td_loop_stop(loop);
}

static void signals_arrive_and_stop_the_loop(void **state)
{
	(void)state;
	nr_seen = 0;
	assert_int_equal(td_loop_signal(loop, SIGUSR1, see_signal, &nr_seen), 0);
	assert_int_equal(td_loop_signal(loop, SIGUSR2, see_signal, &nr_seen), 0);
	assert_int_equal(td_loop_signal(loop, SIGUSR2, see_signal, &nr_seen), -EEXIST);
	assert_int_equal(td_loop_signal(loop, 9999, see_signal, &nr_seen), -EINVAL);
	kill(getpid(), SIGUSR2);
	kill(getpid(), SIGUSR1);
	td_loop_run(loop);
	assert_int_equal(nr_seen, 2);
	assert_int_equal(seen_signals[0] + seen_signals[1], SIGUSR1 + SIGUSR2);
}

static void on_alarm(int signo)
{
	(void)signo;
}

static void interrupted_wait_is_no_event(void **state)
{
	struct itimerval soon = { .it_value.tv_usec = 3000 };
	struct named a = { .t.fn = note_name, .name = 'a' };
	struct sigaction sa = { .sa_handler = on_alarm }, old;
	uint64_t start = clock_ns();

	(void)state;
	memset(order, 0, sizeof(order));
	sigaction(SIGALRM, &sa, &old);
	setitimer(ITIMER_REAL, &soon, NULL);
	td_timer_arm(loop, &a.t, 15 * MS);
	while (!order[0])
		td_loop_turn(loop, true);
	assert_true(clock_ns() - start >= 15 * MS);
	sigaction(SIGALRM, &old, NULL);
}

static void stop_before_run_is_not_lost(void **state)
{
	(void)state;
	td_loop_stop(loop);
	td_loop_run(loop);
}

static void stop_in_coroutine(void *arg)
{
	(void)arg;
	td_co_pause();
	td_loop_stop(loop);
}

static void stop_in_a_coroutine_does_not_sleep_first(void **state)
{
	(void)state;
	assert_int_equal(td_co_start(stop_in_coroutine, NULL), 0);
	td_loop_run(loop);
}

static unsigned stop_in_hook(struct td_hook *h)
{
	(void)h;
	td_loop_stop(loop);
	return 0;
}

static void stop_in_a_hook_does_not_sleep_first(void **state)
{
	struct td_hook h = { .fn = stop_in_hook };

	(void)state;
	td_loop_hook(loop, &h);
	td_loop_run(loop);
	td_loop_unhook(loop, &h);
}

static void call_in_a_stopped_loop_sleeps(void **state)
{
	(void)state;
	memset(hooks, 0, sizeof(hooks));
	hooks[0].h.fn = count_hook;
	td_loop_hook(loop, &hooks[0].h);
	td_loop_stop(loop);
	assert_int_equal(td_loop_call(loop, sleep_5ms, NULL), 42);
	assert_in_range(hooks[0].calls, 1, 20); /* thousands, if it turned without sleeping */
	td_loop_unhook(loop, &hooks[0].h);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(callbacks_may_free_every_watch),
		TEST(nested_turns_may_free_every_watch),
		TEST(rewatch_counts_for_events_already_fetched),
		TEST(watch_errors_are_returned),
		TEST(busy_coroutines_do_not_shut_out_descriptors),
		TEST(timers_fire_in_order_and_not_early),
		TEST(timer_may_cancel_one_that_is_due),
		TEST(timer_that_rearms_itself_does_not_hold_the_loop),
		TEST(call_returns_the_result_after_sleeping),
		TEST(hook_may_remove_itself_and_the_next),
		TEST(hook_with_something_done_keeps_the_turn_awake),
		TEST(signals_arrive_and_stop_the_loop),
		TEST(interrupted_wait_is_no_event),
		TEST(stop_before_run_is_not_lost),
		TEST(call_in_a_stopped_loop_sleeps),
		TEST(stop_in_a_coroutine_does_not_sleep_first),
		TEST(stop_in_a_hook_does_not_sleep_first),
	};

	alarm(600); /* a loop that sleeps for ever is a failure, too */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
