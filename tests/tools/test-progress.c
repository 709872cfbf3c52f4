// SPDX-License-Identifier: BSD-2-Clause
/* Progress as a file and as a terminal see it, the line that a signal asks for, and the limit of a rate. */
#define _XOPEN_SOURCE 700
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/co.h>

#include "tools/common/progress.h"

static struct td_loop *loop;
static int saved_stderr;

static int setup(void **state)
{
	(void)state;
	loop = td_loop_new();
	saved_stderr = dup(STDERR_FILENO);
	return loop && saved_stderr >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	(void)close(saved_stderr);
	td_loop_free(loop);
	td_co_thread_done();
	return 0;
}

/* Standard error becomes the write end; what was written is read from the other. */
static void divert(int fd)
{
	assert_return_code(dup2(fd, STDERR_FILENO), errno);
	(void)close(fd);
}

static void read_back(int fd, char *buf, size_t len)
{
	size_t have = 0;
	ssize_t n;

	(void)fflush(stderr);
	assert_return_code(dup2(saved_stderr, STDERR_FILENO), errno);
	/* A terminal hands it over in parts. */
	do {
		n = read(fd, buf + have, len - 1 - have);
		have += n > 0 ? (size_t)n : 0;
		buf[have] = '\0';
	} while (n > 0 && buf[have - 1] != '\n');
	(void)close(fd);
}

static void to_pipe(enum progress_how how, bool ok, char *buf, size_t len)
{
	struct progress p;
	int fds[2];

	assert_return_code(pipe(fds), errno);
	assert_return_code(fcntl(fds[0], F_SETFL, O_NONBLOCK), errno);
	divert(fds[1]);
	progress_begin(&p, loop, how, 4096);
	progress_add(&p, 1024);
	progress_end(&p, ok);
	read_back(fds[0], buf, len);
}

static void test_lines_where_no_terminal_is(void **state)
{
	char buf[512];

	(void)state;
	to_pipe(PROGRESS_ASKED, true, buf, sizeof(buf));
	assert_non_null(strstr(buf, "(100.00/100%) 4 KiB of 4 KiB, "));
	assert_null(strchr(buf, '\r'));
}

static void test_a_failure_stays_where_it_was(void **state)
{
	char buf[512];

	(void)state;
	to_pipe(PROGRESS_ASKED, false, buf, sizeof(buf));
	assert_non_null(strstr(buf, "(25.00/100%) 1 KiB of 4 KiB, "));
}

static void test_nothing_unless_asked_for(void **state)
{
	char buf[512];

	(void)state;
	to_pipe(PROGRESS_AUTO, true, buf, sizeof(buf));
	assert_string_equal(buf, "");
	to_pipe(PROGRESS_NEVER, true, buf, sizeof(buf));
	assert_string_equal(buf, "");
}

static void test_a_bar_on_a_terminal(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	struct progress p;
	char buf[1024];

	(void)state;
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		skip();
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	if (slave < 0)
		skip();
	divert(slave);
	progress_begin(&p, loop, PROGRESS_AUTO, 1 << 20);
	p.start_ns -= 1000000000u; /* as if it had begun a second ago */
	p.shown_ns -= 1000000000u;
	progress_add(&p, 512 << 10);
	progress_end(&p, true);
	read_back(master, buf, sizeof(buf));
	assert_non_null(strstr(buf, "\r 50.0 % [##########          ] 512 KiB of 1 MiB, "));
	assert_non_null(strstr(buf, "\r100.0 % [####################] 1 MiB of 1 MiB, "));
	assert_int_equal(buf[strlen(buf) - 1], '\n');
}

static void test_a_signal_asks(void **state)
{
	struct progress p;
	char buf[512];
	int fds[2];

	(void)state;
	assert_return_code(pipe(fds), errno);
	divert(fds[1]);
	progress_begin(&p, loop, PROGRESS_NEVER, 2000);
	progress_add(&p, 500);
	assert_return_code(kill(getpid(), SIGUSR1), errno);
	td_loop_turn(loop, true);
	read_back(fds[0], buf, sizeof(buf));
	assert_non_null(strstr(buf, "(25.00/100%) "));
}

/* ---- rate ---- */

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int five_transfers(void *arg)
{
	for (unsigned i = 0; i < 5; i++)
		rate_wait(arg, 1 << 20);
	return 0;
}

static int four_at_once(void *arg)
{
	struct td_join j = { 0 };

	for (unsigned i = 0; i < 4; i++)
		td_join_start(&j, five_transfers, arg);
	return td_join_wait(&j);
}

/* 20 MiB at 50 MiB/s: the last may begin after 380 ms, less the slack of 100. */
static void test_a_rate_holds_for_all_together(void **state)
{
	struct rate r = { .loop = loop, .per_second = 50 << 20 };
	uint64_t start = clock_ns();

	(void)state;
	assert_int_equal(td_loop_call(loop, four_at_once, &r), 0);
	assert_in_range((clock_ns() - start) / 1000000, 270, 60000);
}

static void test_no_rate_no_wait(void **state)
{
	struct rate r = { .loop = loop };

	(void)state;
	assert_int_equal(td_loop_call(loop, four_at_once, &r), 0);
	assert_int_equal(r.free_ns, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lines_where_no_terminal_is, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_failure_stays_where_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_unless_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_bar_on_a_terminal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_signal_asks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_rate_holds_for_all_together, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_rate_no_wait, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
