// SPDX-License-Identifier: BSD-2-Clause
/*
 * A daemon that goes to the background: whoever started it returns when it is ready, with exit status 0, or with the
 * daemon's own when it could not start and has said why on stderr.
 *
 * Before anything else exists (loop, threads, open files): they do not survive the fork.
 */
#ifndef BLKTAP_BACKGROUND_H
#define BLKTAP_BACKGROUND_H

#include <blktap/err.h>

/* Returns in the child only, which has a session of its own.  *ret_parent is for td_background_ready(). */
TD_CHECK int td_background_start(int *ret_parent, struct td_err *ret_err);

/* Standard input, output and error are /dev/null from here on; parent, if not -1, is let go. */
void td_background_ready(int parent);

#endif
