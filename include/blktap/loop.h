// SPDX-License-Identifier: BSD-2-Clause
/*
 * The event loop: epoll, timers, signals, and the coroutines of its thread.  One loop a thread.
 *
 * A turn of the loop: resume ready coroutines; call the hooks (an I/O engine submits there what the coroutines
 * queued, all in one system call, and reaps what is already done); a few times more while that makes coroutines
 * ready, and then do not sleep; wait for events; call their functions; fire the timers.
 *
 * Callbacks run outside coroutines and must not block.  A callback may remove or free any watch, timer or hook,
 * its own included.
 */
#ifndef BLKTAP_LOOP_H
#define BLKTAP_LOOP_H

#include <blktap/base.h>
#include <sys/epoll.h>
#include <sys/queue.h>

struct td_loop;

/* NULL and errno on failure.  The loop belongs to the calling thread. */
struct td_loop *td_loop_new(void);
void td_loop_free(struct td_loop *loop);

/* Turn until td_loop_stop(). */
void td_loop_run(struct td_loop *loop);
void td_loop_stop(struct td_loop *loop);

/* One turn; sleeps only if may_sleep.  For tests and for td_loop_call. */
void td_loop_turn(struct td_loop *loop, bool may_sleep);

/* Run fn(arg) in a coroutine and turn the loop until it ends; returns its result.  Not from a coroutine. */
TD_CHECK int td_loop_call(struct td_loop *loop, int (*fn)(void *arg), void *arg);

/* Nanoseconds of CLOCK_MONOTONIC as of this turn of the loop (no system call). */
uint64_t td_loop_now(const struct td_loop *loop);

/* A file descriptor.  The struct is the caller's; set fn, then add. */
struct td_watch {
	void (*fn)(struct td_watch *w, uint32_t epoll_events);
	int fd; /* the caller's to close, after td_loop_unwatch */
	uint32_t events;
	struct td_loop *loop; /* NULL while not watched */
};

/* Call w->fn whenever fd has one of these events (EPOLLIN, EPOLLOUT).  0, or -errno of epoll_ctl(2). */
TD_CHECK int td_loop_watch(struct td_loop *loop, struct td_watch *w, int fd, uint32_t epoll_events);
TD_CHECK int td_loop_rewatch(struct td_watch *w,
			     uint32_t epoll_events); /* 0 events: only EPOLLHUP and EPOLLERR */
void td_loop_unwatch(struct td_watch *w);            /* not watched: nothing happens */

/* A one-shot timer.  The struct is the caller's, all-zero but fn before its first use. */
struct td_timer {
	void (*fn)(struct td_timer *t);
	uint64_t deadline_ns;
	struct td_loop *loop; /* NULL while not armed */
	TAILQ_ENTRY(td_timer) link;
};

void td_timer_arm(struct td_loop *loop, struct td_timer *t, uint64_t after_ns); /* armed already: moved */
/* Not armed: nothing happens. */
void td_timer_cancel(struct td_timer *t);

/* Sleep in a coroutine. */
TD_CO void td_loop_sleep(struct td_loop *loop, uint64_t ns);

/*
 * Called in each turn before sleeping.  Returns how many things it completed or started: if not 0, the loop does
 * not sleep in this turn.
 */
struct td_hook {
	unsigned (*fn)(struct td_hook *h);
	TAILQ_ENTRY(td_hook) link;
};

/* Hooks are called in the order in which they were added.  A hook may be removed at any time, also from inside one. */
void td_loop_hook(struct td_loop *loop, struct td_hook *h);
void td_loop_unhook(struct td_loop *loop, struct td_hook *h);

/*
 * Take a signal by signalfd (it is blocked in the thread, so start worker threads after).  One function a signal:
 * -EEXIST if it has one.  It stays blocked after td_loop_free.
 */
TD_CHECK int td_loop_signal(struct td_loop *loop, int signo, void (*fn)(void *arg, int signo), void *arg);

#endif
