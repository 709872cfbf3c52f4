// SPDX-License-Identifier: BSD-2-Clause
/* Error sentences and log lines: cut, not overrun; levels; one write a line; the rate limit. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/err.h>
#include <blktap/log.h>

static void sentence_is_set_prefixed_and_cut(void **state)
{
	struct td_err e = { 0 };
	char x[1000];

	(void)state;
	assert_int_equal(td_err_set(&e, -EIO, "%s: %d", "a.qcow2", 7), -EIO);
	assert_string_equal(e.msg, "a.qcow2: 7");
	assert_int_equal(td_err_prefix(&e, -EPERM, "disk %c", 'x'), -EPERM);
	assert_string_equal(e.msg, "disk x: a.qcow2: 7");
	assert_int_equal(td_err_set(&e, -EIO, "again: %s", e.msg), -EIO); /* its own text as an argument */
	assert_string_equal(e.msg, "again: disk x: a.qcow2: 7");
	memset(x, 'x', sizeof(x) - 1);
	x[sizeof(x) - 1] = '\0';
	assert_int_equal(td_err_set(&e, -EIO, "%s", x), -EIO);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_int_equal(td_err_prefix(&e, -EIO, "%s", x), -EIO);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_int_equal(td_err_set(&e, -EIO, "open %s: it is not there", x), -EIO);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_int_equal(strncmp(e.msg, "open xxx", 8), 0);
	assert_non_null(strstr(e.msg, "x...x"));
	assert_non_null(strstr(e.msg, "x: it is not there"));
	assert_int_equal(td_err_set(NULL, -EIO, "%s", x), -EIO);
	assert_int_equal(td_err_prefix(NULL, -EIO, "%s", x), -EIO);
}

static void a_name_cannot_write_to_the_terminal(void **state)
{
	struct td_err e = { 0 };

	(void)state;
	assert_int_equal(td_err_set(&e, -EIO, "%s", "a\nb\x1b[2Jc\x7f, \xc3\xa4"), -EIO);
	assert_string_equal(e.msg, "a?b?[2Jc?, \xc3\xa4");
	assert_int_equal(td_err_prefix(&e, -EIO, "%s", "x\ry"), -EIO);
	assert_string_equal(e.msg, "x?y: a?b?[2Jc?, \xc3\xa4");
}

/* What fn writes to stderr. */
static size_t capture(void (*fn)(void), char *buf, size_t size)
{
	int pipe_fds[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_int_equal(pipe(pipe_fds), 0);
	dup2(pipe_fds[1], STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pipe_fds[1]);
	n = read(pipe_fds[0], buf, size - 1);
	close(pipe_fds[0]);
	assert_true(n >= 0);
	buf[n] = '\0';
	return (size_t)n;
}

static void log_some(void)
{
	errno = EDOM;
	td_error("one %d", 1);
	td_warn("two");
	td_info("three");
	td_debug("four");
	if (errno != EDOM)
		td_error("errno is spoilt");
}

static void log_long(void)
{
	td_error("%05000d", 1);
}

static void levels_choose_what_is_written(void **state)
{
	char buf[2048];
	size_t n;

	(void)state;
	capture(log_some, buf, sizeof(buf));
	assert_non_null(strstr(buf, "error: one 1\n"));
	assert_non_null(strstr(buf, "warning: two\n"));
	assert_null(strstr(buf, "three"));
	assert_null(strstr(buf, "spoilt"));
	td_log_level(TD_LOG_DEBUG);
	capture(log_some, buf, sizeof(buf));
	assert_non_null(strstr(buf, "debug: four\n"));
	td_log_level(TD_LOG_ERR);
	n = capture(log_long, buf, sizeof(buf));
	assert_true(n <= 1024);
	assert_int_equal(buf[n - 1], '\n');
}

static void limit_holds_back_after_ten(void **state)
{
	struct td_log_limit l = { 0 };
	unsigned allowed = 0;

	(void)state;
	for (int i = 0; i < 25; i++)
		allowed += td_log_allowed(&l);
	assert_int_equal(allowed, 10);
	assert_int_equal(l.held_back, 15);
	l.window_start_ns -= 11 * 1000000000ull; /* as if eleven seconds had gone by */
	assert_true(td_log_allowed(&l));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sentence_is_set_prefixed_and_cut),
		cmocka_unit_test(a_name_cannot_write_to_the_terminal),
		cmocka_unit_test(levels_choose_what_is_written),
		cmocka_unit_test(limit_holds_back_after_ten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
