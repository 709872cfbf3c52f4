// SPDX-License-Identifier: BSD-2-Clause
/* Between vbd.c (requests), vbd-policy.c (no room, too late) and vbd-state.c (open, close, pause). */
#ifndef BLKTAP_VBD_PRIVATE_H
#define BLKTAP_VBD_PRIVATE_H

#include <blktap/err.h>
#include <blktap/lock.h>
#include <blktap/log.h>
#include <blktap/loop.h>
#include <blktap/vbd.h>

/* Each has a stack and memory of its export; more wait in order. */
#define VBD_MAX_IN_FLIGHT 1024

TAILQ_HEAD(td_req_list, td_req);

struct td_vbd {
	struct td_env *env;
	char *name;

	/* vbd-state.c; under state_lock */
	struct td_mutex state_lock; /* one change of state at a time */
	enum td_vbd_state state;
	bool held; /* running, but the image is being resized: requests wait */
	char *spec;
	unsigned open_flags;
	struct td_image *image; /* NULL: closed or paused */
	uint64_t size;          /* of the last image, while there is none */
	bool read_only;
	struct td_limits limits;
	int flush_owed; /* a pause closed an image that could not be flushed: the next flush's answer; 0: none */

	/* vbd-policy.c */
	struct td_vbd_policy policy;
	uint64_t timeout_ns;   /* the policy's; 0: none */
	struct td_timer timer; /* for the next request to be late; armed only where there may be one */
	bool full;             /* requests that failed for want of space are at the head of `waiting` */

	/* vbd.c */
	struct td_req_list waiting, running, finished;
	struct td_waitq drained; /* woken when in_flight gets 0 */
	struct td_hook hook;
	struct td_vbd_stats stats;
	struct td_hist *hist; /* of stats: mapped, so that only what is used takes memory */
	struct td_log_limit log_limit;

	/* who is told of changes; from the hook */
	TAILQ_HEAD(td_vbd_watch_list, td_vbd_watch) watches;
	struct td_vbd_watch *next_watch; /* while they are told */
	bool changed;
};

/* Size or state: those who watch are told in this turn of the loop. */
static inline void vbd_changed(struct td_vbd *vbd)
{
	vbd->changed = true;
}

/* As many as may run.  From a coroutine or not. */
void vbd_start_waiting(struct td_vbd *vbd);

/* All of them are answered with this error, or with their own if they failed once. */
void vbd_fail_waiting(struct td_vbd *vbd, int result);

/* One that waits is answered with this error. */
void vbd_fail_one(struct td_vbd *vbd, struct td_req *req, int result);

/* ---- vbd-policy.c ---- */

/* There is, or may be, room again.  The caller lets go what waits. */
void vbd_not_full(struct td_vbd *vbd);

#endif
