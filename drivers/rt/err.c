// SPDX-License-Identifier: BSD-2-Clause
/* The sentence beside an errno.  No policy, no output: who shows it is the command's business. */
#include <stdarg.h>
#include <stdio.h>

#include <blktap/err.h>

int td_err_set(struct td_err *e, int code, const char *fmt, ...)
{
	struct td_err new; /* apart: an argument may be the old sentence itself */
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	vsnprintf(new.msg, sizeof(new.msg), fmt, ap);
	va_end(ap);
	*e = new;
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
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	n = strlen(e->msg);
	snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", old.msg);
	return code;
}
