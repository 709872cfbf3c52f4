// SPDX-License-Identifier: BSD-2-Clause
/*
 * Worker threads for what would hold up the loop: inflate, deflate, calls that block.
 *
 * Threads are started when there is work and none is idle, up to the limit, and end after some idle time, so that an
 * idle disk has only its own thread.  They block all signals.
 */
#ifndef BLKTAP_POOL_H
#define BLKTAP_POOL_H

#include <blktap/base.h>

struct td_loop;
struct td_pool;

/* NULL and errno on failure.  max_threads >= 1. */
struct td_pool *td_pool_new(struct td_loop *loop, unsigned max_threads);
void td_pool_free(struct td_pool *pool); /* there must be no work left */

/*
 * Let the workers do what they were given, and end.  The next work starts new ones, which inherit what the caller has
 * become meanwhile (a sandbox).
 */
void td_pool_end_threads(struct td_pool *pool);

/*
 * Run fn(arg) in a worker and return its result; the coroutine sleeps meanwhile.  fn must not touch coroutines, the
 * loop, or anything the loop's thread may change meanwhile.  If no thread can be started it runs in the caller.
 */
TD_CO TD_CHECK int td_pool_run(struct td_pool *pool, int (*fn)(void *arg), void *arg);

/*
 * The same for work whose time is about proportional to len bytes, and that never blocks.  From what it took before it
 * is known what is best: sent to a worker; or brief work (below); or done at once, where sending would take longer.
 * *pace is all-zero at first, and one for each kind of work on one sort of data; NULL: as td_pool_run.
 */
struct td_pace {
	uint64_t ns_per_kib; /* of processor time; 0: nothing known yet */
	unsigned nr;         /* runs so far */
};

/* Yields unless the work is done at once. */
TD_CO TD_CHECK int td_pool_run_paced(struct td_pool *pool, int (*fn)(void *arg), void *arg,
				     struct td_pace *pace, size_t len);

/*
 * The same for callers that are not coroutines: done(w, result) runs on the loop's thread later, never inside
 * td_pool_submit, and may free *w.
 */
struct td_work {
	int (*fn)(void *arg);
	void (*done)(struct td_work *w, int result);
	void *arg;
	bool brief; /* some 100 us, and it never blocks: the loop's thread takes it too when its turn comes to it */
	int result;
	struct td_work *next;
};

void td_pool_submit(struct td_pool *pool, struct td_work *w); /* *w is the caller's until done */

#endif
