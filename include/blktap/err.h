// SPDX-License-Identifier: BSD-2-Clause
/*
 * One sentence for a human beside a negative errno, on the control path (open, create, check, commands).
 * The data path carries the errno alone.
 */
#ifndef BLKTAP_ERR_H
#define BLKTAP_ERR_H

#include <blktap/base.h>

struct td_err {
	char msg[512]; /* one line, no newline: what file, what operation, what is wrong, what to do */
};

/*
 * Write the sentence and return code, so that a failure is one statement:
 *	return td_err_set(ret_err, -EINVAL, "%s: no such option", name);
 * e may be NULL.  A longer sentence is cut.
 */
int td_err_set(struct td_err *e, int code, const char *fmt, ...) TD_PRINTF(3, 4);

/* Put "PREFIX: " before the sentence that is there; return code. */
int td_err_prefix(struct td_err *e, int code, const char *fmt, ...) TD_PRINTF(3, 4);

#endif
