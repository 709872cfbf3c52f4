// SPDX-License-Identifier: BSD-2-Clause
/*
 * Log lines.  Only the daemon and the tools log; drivers return.  td_debug is the exception, off unless asked for.
 *
 * A line goes to stderr, or to syslog after td_log_syslog().  Lines are rate-limited by the caller where a guest can
 * cause them (struct td_log_limit).
 */
#ifndef BLKTAP_LOG_H
#define BLKTAP_LOG_H

#include <blktap/base.h>

enum td_log_level { TD_LOG_ERR, TD_LOG_WARN, TD_LOG_INFO, TD_LOG_DEBUG };

void td_log_level(enum td_log_level max); /* default TD_LOG_WARN */
void td_log_syslog(const char *ident);    /* from here on to syslog; ident is kept by reference */
/* One line, written without a newline at its end. */
void td_log(enum td_log_level level, const char *fmt, ...) TD_PRINTF(2, 3);

#define td_error(...) td_log(TD_LOG_ERR, __VA_ARGS__)
#define td_warn(...)  td_log(TD_LOG_WARN, __VA_ARGS__)
#define td_info(...)  td_log(TD_LOG_INFO, __VA_ARGS__)
#define td_debug(...) td_log(TD_LOG_DEBUG, __VA_ARGS__)

/* At most burst lines in period_ns; counts what was held back. */
struct td_log_limit {
	uint64_t window_start_ns;
	unsigned in_window;
	uint64_t held_back;
};

/* May this line be written now?  10 lines in 10 seconds. */
bool td_log_allowed(struct td_log_limit *l);

#endif
