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

/*
 * The sentence, fit to be shown.  Names come out of images that somebody else made: no control characters, since it
 * goes to a terminal and is one line.  A long one loses its middle: what is wrong and what to do stands at the end.
 */
static inline void td_err_put(struct td_err *e, const char *text)
{
	const size_t room = sizeof(e->msg) - 1, head = room / 4, len = strlen(text);

	if (len <= room) {
		memcpy(e->msg, text, len + 1);
	} else {
		memcpy(e->msg, text, head);
		memcpy(e->msg + head, "...", 3);
		memcpy(e->msg + head + 3, text + len - (room - head - 3), room - head - 3 + 1);
	}
	for (char *p = e->msg; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

/* What td_err_set and td_err_prefix do, but for what they return. */
TD_PRINTF(2, 3) static inline void td_err_write(struct td_err *e, const char *fmt, ...)
{
	td_cleanup(free) char *text = NULL; /* apart: an argument may be the old sentence itself */
	va_list ap;

	if (!e)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	td_err_put(e, text ? text : "no memory to say what is wrong");
}

TD_PRINTF(2, 3) static inline void td_err_write_before(struct td_err *e, const char *fmt, ...)
{
	td_cleanup(free) char *prefix = NULL;
	td_cleanup(free) char *text = NULL;
	va_list ap;

	if (!e)
		return;
	va_start(ap, fmt);
	if (vasprintf(&prefix, fmt, ap) < 0)
		prefix = NULL;
	va_end(ap);
	if (!prefix || asprintf(&text, "%s: %s", prefix, e->msg) < 0)
		text = NULL;
	if (text)
		td_err_put(e, text);
}

/*
 * int td_err_set(struct td_err *e, int code, const char *fmt, ...)
 *
 * Write the sentence and return code, so that a failure is one statement:
 *	return td_err_set(ret_err, -EINVAL, "%s: no such option", name);
 * e may be NULL.  A macro, because no analyzer looks into a function of variable arguments: it would not know that
 * what such a statement returns is negative.
 */
#define td_err_set(e, code, ...) TD_ERR_(td_err_write, e, code, __VA_ARGS__)

/* The same: put "PREFIX: " before the sentence that is there; return code. */
#define td_err_prefix(e, code, ...) TD_ERR_(td_err_write_before, e, code, __VA_ARGS__)

#define TD_ERR_(write, e, code, ...)                                                                         \
	__extension__({                                                                                      \
		const int td_code_ __attribute__((unused)) = (code);                                         \
		write(e, __VA_ARGS__);                                                                       \
		td_code_;                                                                                    \
	})

#endif
