// SPDX-License-Identifier: BSD-2-Clause
/* Coroutines: order, nesting, reuse of stacks, the guard page, joins. */
#include "config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/co.h>

#include "rt/sanitize.h"

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

/* ---- running and waking ---- */

static struct td_co *sleeper;

static void sleep_once(void *arg)
{
	(void)arg;
	note('a');
	sleeper = td_co_self();
	td_co_yield();
	note('b');
}

static void start_runs_until_the_first_yield(void **state)
{
	(void)state;
	assert_null(td_co_self());
	assert_int_equal(td_co_start(sleep_once, NULL), 0);
	assert_string_equal(trace, "a");
	assert_null(td_co_self());
	assert_int_equal(td_co_count(), 1);
	assert_false(td_co_any_ready());

	td_co_wake(sleeper);
	assert_string_equal(trace, "a"); /* a wake-up resumes nobody by itself */
	assert_true(td_co_any_ready());
	assert_int_equal(td_co_run_ready(0), 1);
	assert_string_equal(trace, "ab");
	assert_int_equal(td_co_count(), 0);
}

static void pause_twice(void *arg)
{
	const char *c = arg;

	for (int i = 0; i < 3; i++) {
		note(c[i]);
		if (i < 2)
			td_co_pause();
	}
}

static void ready_ones_run_in_order_of_arrival(void **state)
{
	(void)state;
	assert_int_equal(td_co_start(pause_twice, "abc"), 0);
	assert_int_equal(td_co_start(pause_twice, "123"), 0);
	assert_int_equal(td_co_run_ready(1), 1);
	assert_string_equal(trace, "a1b");
	assert_int_equal(td_co_run_ready(0), 3);
	assert_string_equal(trace, "a1b2c3");
}

static void inner(void *arg)
{
	(void)arg;
	note('2');
	td_co_pause();
	note('5');
}

static void outer(void *arg)
{
	(void)arg;
	note('1');
	td_ignore(td_co_start(inner, NULL)); /* the trace shows it if it failed */
	note('3');
	td_co_pause();
	note('6');
}

static void yield_goes_back_to_whoever_entered(void **state)
{
	(void)state;
	assert_int_equal(td_co_start(outer, NULL), 0);
	note('4');
	assert_int_equal(td_co_run_ready(0), 2);
	assert_string_equal(trace, "123456");
}

/* ---- stacks ---- */

static unsigned depth_left;

static void nest(void *arg)
{
	(void)arg;
	if (--depth_left > 0 && td_co_start(nest, NULL) < 0)
		note('!');
	td_co_pause();
}

static void a_thousand_can_be_nested(void **state)
{
	(void)state;
	depth_left = 1000;
	assert_int_equal(td_co_start(nest, NULL), 0);
	assert_int_equal(td_co_count(), 1000);
	assert_int_equal(td_co_run_ready(0), 1000);
	assert_int_equal(td_co_count(), 0);
	assert_string_equal(trace, "");
	assert_null(td_co_self());
}

static char *stack_seen;
static unsigned stack_changes;

static void look_at_stack(void *arg)
{
	char *here = __builtin_frame_address(0);

	(void)arg;
	if (stack_seen != here)
		stack_changes++;
	stack_seen = here;
}

static void hundred_thousand_share_one_stack(void **state)
{
	(void)state;
	for (int i = 0; i < 100000; i++)
		assert_int_equal(td_co_start(look_at_stack, NULL), 0);
	assert_int_equal(stack_changes, 1);
}

/* Grows by half a page a call, and touches it: must meet the guard, not the next mapping. */
static __attribute__((noinline)) int overflow(int n, volatile char *above)
{
	volatile char page[2048];

	page[0] = (char)(above ? above[0] + n : n);
	return n > 0 ? overflow(n - 1, page) + page[0] : 0;
}

static void overflow_co(void *arg)
{
	(void)arg;
	note((char)overflow(1000, NULL));
}

static void overflow_meets_the_guard(void **state)
{
	struct rlimit no_core = { 0, 0 };
	int status;
	pid_t pid;

	(void)state;
	if (TD_ANY_SANITIZER)
		skip(); /* the sanitizer reports it in its own way */
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGSEGV, SIG_DFL); /* cmocka has its own */
		td_ignore(td_co_start(overflow_co, NULL));
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void no_memory_is_enomem(void **state)
{
	struct rlimit old, tight;

	(void)state;
	if (TD_ANY_SANITIZER || RUNNING_ON_VALGRIND)
		skip(); /* they need address space themselves */
	td_co_thread_done();
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	tight = old;
	tight.rlim_cur = 4096;
	assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
	int r = td_co_start(sleep_once, NULL);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	assert_int_equal(r, -ENOMEM);
	assert_string_equal(trace, "");
	assert_int_equal(td_co_count(), 0);
}

/* ---- joins ---- */

struct part {
	int pauses, result;
	bool done;
};

static int part_run(void *arg)
{
	struct part *p = arg;

	for (int i = 0; i < p->pauses; i++)
		td_co_pause();
	p->done = true;
	return p->result;
}

struct joining {
	struct part *parts;
	unsigned nr;
	int result;
	bool all_done;
};

static void join_all(void *arg)
{
	struct joining *job = arg;
	struct td_join j = { 0 };

	for (unsigned i = 0; i < job->nr; i++)
		td_join_start(&j, part_run, &job->parts[i]);
	job->result = td_join_wait(&j);
	job->all_done = true;
	for (unsigned i = 0; i < job->nr; i++)
		job->all_done &= job->parts[i].done;
}

static int run_join(struct part *parts, unsigned nr, bool *ret_all_done)
{
	struct joining job = { .parts = parts, .nr = nr, .result = 1 };

	assert_int_equal(td_co_start(join_all, &job), 0);
	td_co_run_ready(0);
	assert_int_equal(td_co_count(), 0);
	*ret_all_done = job.all_done;
	return job.result;
}

static void join_waits_for_all_and_keeps_the_first_error_in_time(void **state)
{
	struct part parts[] = { { 5, -EIO, false }, { 0, 7, false }, { 2, -ENOSPC, false }, { 9, 0, false } };
	bool all_done;

	(void)state;
	assert_int_equal(run_join(parts, TD_NELEMS(parts), &all_done), -ENOSPC);
	assert_true(all_done);
}

static void join_of_nothing_and_of_inline_ends_is_0(void **state)
{
	struct part parts[] = { { 0, 0, false }, { 0, 3, false } };
	bool all_done;

	(void)state;
	assert_int_equal(run_join(parts, 0, &all_done), 0);
	assert_int_equal(run_join(parts, TD_NELEMS(parts), &all_done), 0);
	assert_true(all_done);
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
		cmocka_unit_test_setup(start_runs_until_the_first_yield, reset),
		cmocka_unit_test_setup(ready_ones_run_in_order_of_arrival, reset),
		cmocka_unit_test_setup(yield_goes_back_to_whoever_entered, reset),
		cmocka_unit_test_setup(a_thousand_can_be_nested, reset),
		cmocka_unit_test_setup(hundred_thousand_share_one_stack, reset),
		cmocka_unit_test_setup(overflow_meets_the_guard, reset),
		cmocka_unit_test_setup(no_memory_is_enomem, reset),
		cmocka_unit_test_setup(join_waits_for_all_and_keeps_the_first_error_in_time, reset),
		cmocka_unit_test_setup(join_of_nothing_and_of_inline_ends_is_0, reset),
	};

	return cmocka_run_group_tests(tests, NULL, give_stacks_back);
}
