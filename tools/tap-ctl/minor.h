// SPDX-License-Identifier: BSD-2-Clause
/*
 * Minors: the numbers by which scripts know disks.  Minor N is taken while the marker file tapdisk/tapdisk-N is in the
 * run-time directory.  A daemon that has it holds a lock on the marker, and wrote its pid into it, so that what a
 * killed daemon leaves behind can be put together again.
 */
#ifndef TAP_CTL_MINOR_H
#define TAP_CTL_MINOR_H

#include <blktap/err.h>
#include <sys/types.h>

#define MINOR_MAX 16384

struct minor {
	int minor;
	pid_t pid; /* that has it, or had it; -1: none is recorded */
};

/* Take the lowest free one.  *ret_path, the marker's, is the caller's. */
TD_CHECK int minor_alloc(int *ret_minor, char **ret_path, struct td_err *ret_err);

bool minor_is_allocated(int minor);

/*
 * Give it back, if its marker still holds the pid that it had (-1: none), or whatever it holds.  -EBUSY: a daemon has
 * it; -ENOENT: it is not allocated, or was freed meanwhile and is another's now.
 */
#define MINOR_ANYBODYS -2
TD_CHECK int minor_free(int minor, pid_t had, struct td_err *ret_err);

/* Those that are taken, in order.  *ret is the caller's (free). */
TD_CHECK int minor_list(struct minor **ret, size_t *ret_nr, struct td_err *ret_err);

#endif
