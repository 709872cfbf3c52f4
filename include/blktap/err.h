// SPDX-License-Identifier: BSD-2-Clause
/*
 * One sentence for a human beside a negative errno, on the control path (open, create, check, commands).
 * The data path carries the errno alone.
 *
 * All of it is here, in the header: a pure codec says what is wrong without linking anything.  No policy, no output:
 * who shows the sentence is the command's business.
 */
#ifndef BLKTAP_ERR_H
#define BLKTAP_ERR_H

#include <stdarg.h>
#include <stdio.h>

#include <blktap/base.h>

struct td_err {
	char msg[512]; /* one line, no newline: what file, what operation, what is wrong, what to do */
};

/* Names out of images go to somebody's terminal, and a sentence is one line: no control characters. */
static inline void td_err_clean(struct td_err *e)
{
	for (char *p = e->msg; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

/*
 * Write the sentence and return code, so that a failure is one statement:
 *	return td_err_set(ret_err, -EINVAL, "%s: no such option", name);
 * e may be NULL.  A longer sentence is cut.
 */
TD_PRINTF(3, 4) static inline int td_err_set(struct td_err *e, int code, const char *fmt, ...)
{
	struct td_err new; /* apart: an argument may be the old sentence itself */
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	(void)vsnprintf(new.msg, sizeof(new.msg), fmt, ap);
	va_end(ap);
	td_err_clean(&new);
	*e = new;
	return code;
}

/* Put "PREFIX: " before the sentence that is there; return code. */
TD_PRINTF(3, 4) static inline int td_err_prefix(struct td_err *e, int code, const char *fmt, ...)
{
	struct td_err old;
	va_list ap;
	size_t n;

	if (!e)
		return code;
	old = *e;
	va_start(ap, fmt);
	(void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	td_err_clean(e);
	n = strlen(e->msg);
	(void)snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", old.msg);
	return code;
}

#endif
