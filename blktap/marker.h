// SPDX-License-Identifier: BSD-2-Clause
/* The marker of the daemon's minor; see marker.c. */
#ifndef BLKTAP_MARKER_H
#define BLKTAP_MARKER_H

#include <blktap/err.h>

/* *ret_fd -1 without an error: this minor has no marker; nobody allocated it.  -EBUSY: another daemon has it. */
TD_CHECK int marker_take(int minor, int *ret_fd, struct td_err *ret_err);

/* Give it back; the marker stays, with our pid, until it is freed or somebody else takes it. */
void marker_drop(int *fd);

#endif
