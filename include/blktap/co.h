// SPDX-License-Identifier: BSD-2-Clause
/*
 * Stackful coroutines: a request runs as one ordinary call chain on its own small stack.
 *
 * A coroutine lives and dies on the thread that started it; its locks (lock.h) are therefore plain integers.
 * It always runs to its end: there is no way to destroy a suspended one.  Stacks are 64 KiB, guarded, and pooled
 * for the life of the thread, so that starting one costs no system call.
 *
 * Scheduling is first come, first served: td_co_wake() puts a coroutine on its thread's ready list, and the event
 * loop (or td_co_run_ready(), where there is no loop) resumes it.  Nothing is resumed from inside a wake-up, so a
 * waker never loses the processor and the stack never nests.
 */
#ifndef BLKTAP_CO_H
#define BLKTAP_CO_H

#include <blktap/base.h>
#include <sys/queue.h>

struct td_co;

typedef void td_co_fn(void *arg);

/*
 * Run fn(arg) in a new coroutine at once, until its first yield or its end; then return here.  May itself be
 * called from a coroutine.  -ENOMEM if no stack can be had (fn is not called then).
 */
TD_CHECK int td_co_start(td_co_fn *fn, void *arg);

/* The running coroutine, or NULL outside of any. */
struct td_co *td_co_self(void);

/* Sleep until td_co_wake(self).  Wake-ups do not count: one for each yield, by whoever took the pointer. */
TD_CO void td_co_yield(void);

/* Make a sleeping coroutine of this thread ready.  From anywhere on its thread. */
void td_co_wake(struct td_co *co);

/* Go to the end of the ready list: lets the others run. */
TD_CO void td_co_pause(void);

/*
 * Resume ready coroutines until none is ready, those made ready meanwhile included, but at most max of them
 * (0: no limit).  Returns how many ran.  Not from a coroutine.
 */
unsigned td_co_run_ready(unsigned max);

/* Is any ready on this thread? */
bool td_co_any_ready(void);

/* How many of this thread exist (running, ready or asleep). */
unsigned td_co_count(void);

/* Stacks of this thread, in use and pooled; memory of one, which is taken from the system as far as it was used. */
unsigned td_co_stacks(size_t *ret_bytes);

/* Give this thread's pooled stacks back; there must be no coroutine left.  At the end of a thread. */
void td_co_thread_done(void);

/*
 * Several pieces of one request at the same time:
 *	struct td_join j = { 0 };
 *	for each piece: td_join_start(&j, fn, &piece[i]);
 *	r = td_join_wait(&j);
 * fn runs in a coroutine of its own (or, if no stack can be had, in the caller's, before td_join_start returns).
 * td_join_wait returns the first negative result in order of time, else 0, and only after every piece has ended.
 */
struct td_join {
	unsigned running;
	int result;
	struct td_co *waiter;
};

typedef int td_join_fn(void *arg);

/* The pieces' memory is the caller's until td_join_wait() has returned; *j may then be used again. */
TD_CO void td_join_start(struct td_join *j, td_join_fn *fn, void *arg);
TD_CO TD_CHECK int td_join_wait(struct td_join *j);

#endif
