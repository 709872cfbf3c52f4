// SPDX-License-Identifier: BSD-2-Clause
/* Between vbd.c (requests) and vbd-state.c (open, close, pause). */
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

	/* vbd.c */
	struct td_req_list waiting, finished;
	struct td_waitq drained; /* woken when in_flight gets 0 */
	struct td_hook hook;
	struct td_vbd_stats stats;
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

/* All of them are answered with this error. */
void vbd_fail_waiting(struct td_vbd *vbd, int result);

#endif
