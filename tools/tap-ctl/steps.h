// SPDX-License-Identifier: BSD-2-Clause
/*
 * The steps of which a disk's life is made: one control message each.  Verbs put them together.
 */
#ifndef TAP_CTL_STEPS_H
#define TAP_CTL_STEPS_H

#include <blktap/err.h>
#include <sys/types.h>

/* How long a daemon may take to start; to close, flush or pause unless -t says otherwise; to open and repair. */
#define SPAWN_TIMEOUT_MS 30000u
#define CLOSE_TIMEOUT_MS 120000u
#define OPEN_TIMEOUT_MS  600000u
#define QUICK_TIMEOUT_MS 10000u

/* Seconds as given by -t (-1: not given) to milliseconds. */
unsigned step_timeout_ms(int seconds, unsigned otherwise_ms);

uint64_t step_now_ms(void); /* CLOCK_MONOTONIC */

TD_CHECK int step_attach(pid_t pid, int minor, struct td_err *ret_err);
TD_CHECK int step_detach(pid_t pid, unsigned timeout_ms, struct td_err *ret_err);

/* What becomes of requests without room, or too late; see blktap-control(7). */
struct policy_request {
	const char *on_enospc; /* NULL: not given */
	int request_timeout;   /* seconds; -1: not given */
};

struct disk_request {
	const char *spec;
	bool read_only, no_direct;
	struct policy_request policy;
};

/* The NBD socket nbd<pid>.<minor> is asked for as well. */
TD_CHECK int step_open(pid_t pid, int minor, const struct disk_request *q, struct td_err *ret_err);
TD_CHECK int step_close(pid_t pid, unsigned timeout_ms, struct td_err *ret_err);

TD_CHECK int step_pause(pid_t pid, unsigned timeout_ms, struct td_err *ret_err);
TD_CHECK int step_unpause(pid_t pid, const char *spec,
			  struct td_err *ret_err); /* spec NULL: the same image */

TD_CHECK int step_resize(pid_t pid, uint64_t size, unsigned timeout_ms, struct td_err *ret_err);

/* Options of a driver in the stack, as a specification writes them. */
TD_CHECK int step_set(pid_t pid, const char *driver, const char *options, struct td_err *ret_err);

TD_CHECK int step_policy(pid_t pid, const struct policy_request *q, struct td_err *ret_err);

/* Remove the sockets that a dead daemon left. */
TD_CHECK int step_sweep(pid_t pid, struct td_err *ret_err);

#endif
