// SPDX-License-Identifier: BSD-2-Clause
/*
 * The event loop of one thread.  See loop.h for what a turn is.
 *
 * Callbacks may remove anything, so no pointer fetched before a callback is trusted after it: the turn in
 * progress is a struct on the stack, linked to the loop, and removing a watch or a hook corrects it there.
 * Turns nest when a callback uses td_loop_call().
 */
#include <assert.h>
#include <limits.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <blktap/co.h>
#include <blktap/loop.h>

#define BATCH 64 /* events fetched at once */

/*
 * While requests complete without sleeping, descriptors are polled once in this many rounds, and one round
 * runs at most CO_MAX coroutines: what arrives there waits for that much work and no longer.
 */
#define BUSY_ROUNDS 8
#define CO_MAX      128

#define NS_PER_S  1000000000ull
#define NS_PER_MS 1000000ull

struct turn {
	struct turn *outer;
	struct td_hook *next_hook;
	int nr, pos;
	struct epoll_event ev[BATCH];
};

struct handler {
	void (*fn)(void *arg, int signo);
	void *arg;
};

struct td_loop {
	int epfd;
	bool stop;
	uint64_t now_ns;
	struct turn *turn;                          /* in progress, the innermost */
	TAILQ_HEAD(td_timer_list, td_timer) timers; /* the next first */
	TAILQ_HEAD(td_hook_list, td_hook) hooks;
	sigset_t signals;
	struct td_watch signal_watch;
	struct handler handlers[_NSIG];
};

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

struct td_loop *td_loop_new(void)
{
	struct td_loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epfd < 0) {
		free(loop);
		return NULL;
	}
	TAILQ_INIT(&loop->timers);
	TAILQ_INIT(&loop->hooks);
	sigemptyset(&loop->signals);
	loop->now_ns = clock_ns();
	return loop;
}

void td_loop_free(struct td_loop *loop)
{
	int fd;

	if (!loop)
		return;
	assert(!loop->turn);
	if (loop->signal_watch.loop) {
		fd = loop->signal_watch.fd;
		td_loop_unwatch(&loop->signal_watch);
		close(fd);
	}
	close(loop->epfd);
	free(loop);
}

uint64_t td_loop_now(const struct td_loop *loop)
{
	return loop->now_ns;
}

/* ---- descriptors ---- */

static int watch_ctl(struct td_watch *w, int op)
{
	struct epoll_event ev = { .events = w->events, .data.ptr = w };

	return epoll_ctl(w->loop->epfd, op, w->fd, &ev) < 0 ? -errno : 0;
}

int td_loop_watch(struct td_loop *loop, struct td_watch *w, int fd, uint32_t epoll_events)
{
	int r;

	assert(!w->loop || w->loop == loop);
	w->fd = fd;
	w->events = epoll_events;
	w->loop = loop;
	r = watch_ctl(w, EPOLL_CTL_ADD);
	if (r < 0)
		w->loop = NULL;
	return r;
}

int td_loop_rewatch(struct td_watch *w, uint32_t epoll_events)
{
	uint32_t old = w->events;
	int r;

	if (old == epoll_events)
		return 0;
	w->events = epoll_events;
	r = watch_ctl(w, EPOLL_CTL_MOD);
	if (r < 0)
		w->events = old;
	return r;
}

void td_loop_unwatch(struct td_watch *w)
{
	struct turn *t;

	if (!w->loop)
		return;
	td_ignore(watch_ctl(
		w, EPOLL_CTL_DEL)); /* fails only if the descriptor is closed, and then it is gone too */
	for (t = w->loop->turn; t; t = t->outer)
		for (int i = t->pos; i < t->nr; i++)
			if (t->ev[i].data.ptr == w)
				t->ev[i].data.ptr = NULL;
	w->loop = NULL;
}

static void fetch_events(struct td_loop *loop, struct turn *t, int timeout_ms)
{
	t->pos = 0;
	t->nr = epoll_wait(loop->epfd, t->ev, BATCH, timeout_ms);
	if (t->nr < 0) /* EINTR: as if nothing had happened, the next turn looks again */
		t->nr = 0;
}

static void deliver_events(struct turn *t)
{
	while (t->pos < t->nr) {
		struct epoll_event *ev = &t->ev[t->pos++];
		struct td_watch *w = ev->data.ptr;
		uint32_t events;

		if (!w)
			continue;
		events =
			ev->events & (w->events | EPOLLHUP | EPOLLERR); /* it may have been rewatched since */
		if (events)
			w->fn(w, events);
	}
}

/* ---- timers ---- */

void td_timer_arm(struct td_loop *loop, struct td_timer *t, uint64_t after_ns)
{
	struct td_timer *before;

	td_timer_cancel(t);
	/* By the clock, not by the turn's time: in a long turn the timer would fire too early. */
	if (__builtin_add_overflow(clock_ns(), after_ns, &t->deadline_ns))
		t->deadline_ns = UINT64_MAX;
	t->loop = loop;
	/* From the end: most timers are armed for the same span, and the newest is then the last. */
	TAILQ_FOREACH_REVERSE(before, &loop->timers, td_timer_list, link) {
		if (before->deadline_ns <= t->deadline_ns) {
			TAILQ_INSERT_AFTER(&loop->timers, before, t, link);
			return;
		}
	}
	TAILQ_INSERT_HEAD(&loop->timers, t, link);
}

void td_timer_cancel(struct td_timer *t)
{
	if (!t->loop)
		return;
	TAILQ_REMOVE(&t->loop->timers, t, link);
	t->loop = NULL;
}

/* One that arms itself again, even for no time at all, is due after now_ns: arming goes by the clock. */
static void fire_timers(struct td_loop *loop)
{
	struct td_timer *t;

	while ((t = TAILQ_FIRST(&loop->timers)) && t->deadline_ns < loop->now_ns) {
		td_timer_cancel(t);
		t->fn(t);
	}
}

/* Milliseconds until the next timer, rounded up: waking too early would only be a turn for nothing. */
static int timer_timeout_ms(const struct td_loop *loop)
{
	const struct td_timer *t = TAILQ_FIRST(&loop->timers);
	uint64_t now, ms;

	if (!t)
		return -1;
	now = clock_ns();
	if (t->deadline_ns <= now)
		return 0;
	ms = td_div_up(t->deadline_ns - now, NS_PER_MS);
	return (int)TD_MIN(ms, (uint64_t)INT_MAX);
}

struct sleeper {
	struct td_timer timer;
	struct td_co *co;
};

static void sleeper_wake(struct td_timer *t)
{
	td_co_wake(td_container_of(t, struct sleeper, timer)->co);
}

void td_loop_sleep(struct td_loop *loop, uint64_t ns)
{
	struct sleeper s = { .timer.fn = sleeper_wake, .co = td_co_self() };

	td_timer_arm(loop, &s.timer, ns);
	td_co_yield();
}

/* ---- hooks ---- */

void td_loop_hook(struct td_loop *loop, struct td_hook *h)
{
	TAILQ_INSERT_TAIL(&loop->hooks, h, link);
}

void td_loop_unhook(struct td_loop *loop, struct td_hook *h)
{
	for (struct turn *t = loop->turn; t; t = t->outer)
		if (t->next_hook == h)
			t->next_hook = TAILQ_NEXT(h, link);
	TAILQ_REMOVE(&loop->hooks, h, link);
}

static unsigned call_hooks(struct td_loop *loop, struct turn *t)
{
	struct td_hook *h;
	unsigned done = 0;

	t->next_hook = TAILQ_FIRST(&loop->hooks);
	while ((h = t->next_hook)) {
		t->next_hook = TAILQ_NEXT(h, link);
		done += h->fn(h);
	}
	return done;
}

/* ---- signals ---- */

static void signal_event(struct td_watch *w, uint32_t events)
{
	struct td_loop *loop = td_container_of(w, struct td_loop, signal_watch);
	struct signalfd_siginfo si;

	(void)events;
	while (read(w->fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		struct handler *h = &loop->handlers[si.ssi_signo];

		h->fn(h->arg, (int)si.ssi_signo);
	}
}

/* It stays blocked when the loop is freed: a second SIGTERM must not kill a process that is about to exit 0. */
int td_loop_signal(struct td_loop *loop, int signo, void (*fn)(void *arg, int signo), void *arg)
{
	struct td_watch *w = &loop->signal_watch;
	sigset_t set = loop->signals;
	int fd, r;

	if (sigaddset(&set, signo) < 0)
		return -EINVAL;
	if (loop->handlers[signo].fn)
		return -EEXIST;
	r = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (r != 0)
		return -r;
	fd = signalfd(w->loop ? w->fd : -1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!w->loop) {
		w->fn = signal_event;
		r = td_loop_watch(loop, w, fd, EPOLLIN);
		if (r < 0) {
			close(fd);
			return r;
		}
	}
	loop->signals = set;
	loop->handlers[signo] = (struct handler){ fn, arg };
	return 0;
}

/* ---- turns ---- */

/*
 * Coroutines, then hooks, again while that makes others ready.  True: something was done, so do not sleep.
 *
 * at_once: again until nothing is done; then it may sleep in this very turn, without a look at the descriptors that
 * would find nothing.  Not where the caller wants to see what a turn did.
 */
static bool run_coroutines(struct td_loop *loop, struct turn *t, bool at_once)
{
	bool busy = false;

	for (int i = 0; i < BUSY_ROUNDS; i++) {
		unsigned did = td_co_run_ready(CO_MAX);

		did += call_hooks(loop, t);
		if (at_once && did == 0)
			return false;
		busy |= did > 0;
		if (!at_once && !td_co_any_ready())
			break;
	}
	return busy;
}

static void one_turn(struct td_loop *loop, bool may_sleep, bool at_once)
{
	bool was_stopped = loop->stop;
	struct turn t;

	t.outer = loop->turn; /* not ={}: that would clear a kilobyte of events each turn */
	t.next_hook = NULL;
	t.pos = t.nr = 0;
	loop->turn = &t;

	/* A stop from the coroutines is to be seen now; an old one must not make td_loop_call() spin. */
	if (run_coroutines(loop, &t, at_once) || td_co_any_ready() || loop->stop != was_stopped)
		may_sleep = false;
	fetch_events(loop, &t, may_sleep ? timer_timeout_ms(loop) : 0);
	loop->now_ns = clock_ns();
	deliver_events(&t);
	fire_timers(loop);

	loop->turn = t.outer;
}

void td_loop_turn(struct td_loop *loop, bool may_sleep)
{
	one_turn(loop, may_sleep, false);
}

void td_loop_run(struct td_loop *loop)
{
	while (!loop->stop)
		one_turn(loop, true, true);
	loop->stop = false;
}

void td_loop_stop(struct td_loop *loop)
{
	loop->stop = true;
}

struct call {
	int (*fn)(void *arg);
	void *arg;
	int result;
	bool done;
};

static void call_run(void *arg)
{
	struct call *c = arg;

	c->result = c->fn(c->arg);
	c->done = true;
}

int td_loop_call(struct td_loop *loop, int (*fn)(void *arg), void *arg)
{
	struct call c = { .fn = fn, .arg = arg };
	int r;

	assert(!td_co_self());
	r = td_co_start(call_run, &c);
	if (r < 0)
		return r;
	while (!c.done)
		td_loop_turn(loop, true);
	return c.result;
}
