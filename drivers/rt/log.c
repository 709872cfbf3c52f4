// SPDX-License-Identifier: BSD-2-Clause
/*
 * Log lines to stderr or syslog.  One write a line, so that lines of several processes on one terminal do not
 * mix. Not a trace: the data path does not log.
 */
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <blktap/log.h>

#define TEXT_MAX        896 /* longer ones are cut */
#define LIMIT_BURST     10
#define LIMIT_PERIOD_NS (10 * 1000000000ull)

static enum td_log_level log_max = TD_LOG_WARN;
static bool to_syslog;

void td_log_level(enum td_log_level max)
{
	log_max = max;
}

void td_log_syslog(const char *ident)
{
	openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	to_syslog = true;
}

static void log_stderr(enum td_log_level level, const char *text)
{
	static const char *const words[] = { "error: ", "warning: ", "", "debug: " };
	char line[TEXT_MAX + 64];
	int n;

	n = snprintf(line, sizeof(line), "%s[%d]: %s%s\n", program_invocation_short_name, (int)getpid(),
		     words[level], text);
	n = TD_MIN(n, (int)sizeof(line) - 1);
	line[n - 1] = '\n'; /* of a line that was cut, too */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nowhere to complain */
}

void td_log(enum td_log_level level, const char *fmt, ...)
{
	static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
	int saved_errno = errno;
	char text[TEXT_MAX];
	va_list ap;

	if (level > log_max)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (to_syslog)
		syslog(priorities[level], "%s", text);
	else
		log_stderr(level, text);
	errno = saved_errno;
}

bool td_log_allowed(struct td_log_limit *l)
{
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	if (l->in_window == 0 || now - l->window_start_ns >= LIMIT_PERIOD_NS) {
		l->window_start_ns = now;
		l->in_window = 0;
	}
	if (l->in_window >= LIMIT_BURST) {
		l->held_back++;
		return false;
	}
	l->in_window++;
	return true;
}
