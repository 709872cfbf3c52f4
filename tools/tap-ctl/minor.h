// SPDX-License-Identifier: BSD-2-Clause
/*
 * Minors: the numbers by which scripts know disks.  Minor N is taken while the marker file tapdisk-N is in
 * the run-time directory.  Once a daemon has it, the marker holds the daemon's pid, so that what a killed
 * daemon leaves behind can be put together again.
 */
#ifndef TAP_CTL_MINOR_H
#define TAP_CTL_MINOR_H

#include <blktap/err.h>
#include <sys/types.h>

#define MINOR_MAX 16384

struct minor {
	int minor;
	pid_t pid; /* -1: none is recorded */
};

/* Take the lowest free one.  *ret_path, the marker's, is the caller's. */
TD_CHECK int minor_alloc(int *ret_minor, char **ret_path, struct td_err *ret_err);

TD_CHECK int minor_record(int minor, pid_t pid, struct td_err *ret_err);

/*
 * Give it back, if the marker still holds what it held (pid, or -1: nothing).  If it was given back meanwhile, and
 * perhaps taken again by somebody else, there is nothing to do, which is success.
 */
TD_CHECK int minor_free(int minor, pid_t pid, struct td_err *ret_err);

/* Those that are taken, in order.  *ret is the caller's (free). */
TD_CHECK int minor_list(struct minor **ret, size_t *ret_nr, struct td_err *ret_err);

#endif
