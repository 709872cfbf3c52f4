// SPDX-License-Identifier: BSD-2-Clause
/* The sentence beside an errno.  No policy, no output: who shows it is the command's business. */
#include <stdarg.h>
#include <stdio.h>

#include <blktap/err.h>

/* Formatted apart first: the arguments may be the old sentence itself. */
static void put(struct td_err *e, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static void put(struct td_err *e, const char *fmt, va_list ap)
{
	char msg[sizeof(e->msg)];

	vsnprintf(msg, sizeof(msg), fmt, ap);
	memcpy(e->msg, msg, sizeof(msg));
}

int td_err_set(struct td_err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	put(e, fmt, ap);
	va_end(ap);
	return code;
}

int td_err_prefix(struct td_err *e, int code, const char *fmt, ...)
{
	struct td_err old;
	va_list ap;
	size_t n;

	if (!e)
		return code;
	old = *e;
	va_start(ap, fmt);
	put(e, fmt, ap);
	va_end(ap);
	n = strlen(e->msg);
	snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", old.msg);
	return code;
}
