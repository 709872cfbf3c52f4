// SPDX-License-Identifier: BSD-2-Clause
/*
 * Worker threads for one loop.  Work goes in by a list under a mutex, comes back by another, and an eventfd
 * wakes the loop.  Only the loop's thread calls this file's functions; the workers run worker_main() and what
 * it is given.
 *
 * Brief work has a list of its own, from which the loop's thread takes too, by a hook that is in the loop from the
 * first such work on: two threads that both have work need not wake each other.
 */
#include "config.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <blktap/co.h>
#include <blktap/loop.h>
#include <blktap/pool.h>

#define IDLE_S 10 /* a worker without work for this long ends */

#ifdef TD_SANITIZE
#define WORKER_STACK (2048 * 1024)
#else
#define WORKER_STACK (256 * 1024)
#endif

struct work_list {
	struct td_work *head, **tail;
};

enum worker_state { WORKER_NONE, WORKER_RUNS, WORKER_ENDED /* to be joined */ };

struct worker {
	struct td_pool *pool;
	pthread_t thread;
	enum worker_state state;
};

struct td_pool {
	struct td_watch watch; /* on the eventfd */
	struct td_hook hook;   /* for brief work */
	bool hooked;
	unsigned nr_out, nr_out_brief; /* submitted, done() not yet called; the loop's own */
	pthread_mutex_t lock;          /* all below, except a worker's thread */
	pthread_cond_t more;
	struct work_list todo, brief, done;
	bool quit;
	bool waking; /* a sleeper was signalled and has not looked yet: it wakes the next if there is more */
	bool looks;  /* the loop's thread does brief work, and looks at the lists again before it sleeps */
	unsigned nr_todo, nr_brief, nr_idle, nr_running;
	unsigned max;
	struct worker workers[];
};

static void list_init(struct work_list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static void list_add(struct work_list *l, struct td_work *w)
{
	w->next = NULL;
	*l->tail = w;
	l->tail = &w->next;
}

static struct td_work *list_take(struct work_list *l)
{
	struct td_work *w = l->head;

	if (!w)
		return NULL;
	l->head = w->next;
	if (!l->head)
		l->tail = &l->head;
	return w;
}

/* ---- under the lock ---- */

static struct td_work *take_brief(struct td_pool *pool)
{
	struct td_work *w = list_take(&pool->brief);

	if (w)
		pool->nr_brief--;
	return w;
}

/* Brief work comes second: it has the loop's thread as well. */
static struct td_work *take_any(struct td_pool *pool)
{
	struct td_work *w = list_take(&pool->todo);

	if (!w)
		return take_brief(pool);
	pool->nr_todo--;
	return w;
}

/* How much is there for workers?  One brief work is the loop's own, which does it before a worker is awake. */
static unsigned for_workers(const struct td_pool *pool)
{
	return pool->nr_todo + pool->nr_brief - (pool->nr_brief > 0);
}

/* The loop reads the counter and then takes the whole list, so one wake-up for a list that was empty is enough. */
static void add_done(struct td_pool *pool, struct td_work *w)
{
	bool unseen = !pool->done.head && !pool->looks;

	list_add(&pool->done, w);
	if (unseen && eventfd_write(pool->watch.fd, 1) < 0)
		abort(); /* cannot happen to a counter that is read; without it the request would hang for
			    ever */
}

/*
 * Wake a sleeper?  One at a time: work that is done sooner than a thread wakes is left to those who
 * are awake, and a thread for each piece of it would cost the loop more than the work.
 */
static bool to_wake(struct td_pool *pool)
{
	if (pool->waking || pool->nr_idle == 0 || for_workers(pool) == 0)
		return false;
	pool->waking = true;
	return true;
}

/* ---- in the workers ---- */

/* Sleep until there is work; NULL when the time is up or the pool ends. */
static struct td_work *wait_for_work(struct td_pool *pool)
{
	struct timespec until;
	struct td_work *w;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_S;
	while (!(w = take_any(pool)) && !pool->quit && r == 0) {
		pool->nr_idle++;
		r = pthread_cond_timedwait(&pool->more, &pool->lock, &until);
		pool->nr_idle--;
		pool->waking = false;
	}
	return w;
}

static void *worker_main(void *arg)
{
	struct worker *self = arg;
	struct td_pool *pool = self->pool;
	struct td_work *w;
	bool wake;

	pthread_mutex_lock(&pool->lock);
	while ((w = wait_for_work(pool))) {
		wake = to_wake(pool);
		pthread_mutex_unlock(&pool->lock);
		if (wake)
			pthread_cond_signal(&pool->more);
		w->result = w->fn(w->arg);
		pthread_mutex_lock(&pool->lock);
		add_done(pool, w);
	}
	self->state = WORKER_ENDED;
	pool->nr_running--;
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* ---- in the loop's thread ---- */

static int thread_create(pthread_t *ret_thread, struct worker *w)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int r;

	r = pthread_attr_init(&attr);
	if (r != 0)
		return -r;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* inherited: no signal is ever handled in a worker */
	r = pthread_attr_setstacksize(&attr, TD_MAX(WORKER_STACK, PTHREAD_STACK_MIN));
	if (r == 0)
		r = pthread_create(ret_thread, &attr, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

/* Under the lock.  There may be no thread to be had: whoever runs takes the work then. */
static int start_worker(struct td_pool *pool)
{
	struct worker *w = pool->workers;
	int r;

	while (w->state == WORKER_RUNS)
		w++;
	if (w->state == WORKER_ENDED)
		pthread_join(w->thread,
			     NULL); /* it let go of the lock after it said so: this does not wait for work */
	w->state = WORKER_NONE;
	w->pool = pool;
	r = thread_create(&w->thread, w);
	if (r < 0)
		return r;
	w->state = WORKER_RUNS;
	pool->nr_running++;
	return 0;
}

/* Under the lock.  False: there is no thread, so the caller is to do it. */
static bool put(struct td_pool *pool, struct td_work *w)
{
	list_add(w->brief ? &pool->brief : &pool->todo, w);
	if (w->brief)
		pool->nr_brief++;
	else
		pool->nr_todo++;
	if (for_workers(pool) <= pool->nr_idle || pool->nr_running == pool->max || start_worker(pool) == 0)
		return true;
	if (pool->nr_running > 0 || w->brief)
		return true;
	take_any(pool); /* w: without a thread none stays there */
	return false;
}

static void run_here(struct td_pool *pool, struct td_work *w)
{
	w->result = w->fn(w->arg);
	pthread_mutex_lock(&pool->lock);
	add_done(pool, w);
	pthread_mutex_unlock(&pool->lock);
}

void td_pool_submit(struct td_pool *pool, struct td_work *w)
{
	bool is_put, wake = false;

	pool->nr_out++;
	if (w->brief) {
		pool->nr_out_brief++;
		if (!pool->hooked) /* now, so that it is called after the engine's: I/O before work */
			td_loop_hook(pool->watch.loop, &pool->hook);
		pool->hooked = true;
	}
	pthread_mutex_lock(&pool->lock);
	is_put = put(pool, w);
	if (is_put)
		wake = to_wake(pool);
	pthread_mutex_unlock(&pool->lock);
	if (wake)
		pthread_cond_signal(&pool->more); /* not under the lock, which it takes first */
	if (!is_put)
		run_here(pool, w);
}

/* done() may free its work, and even the pool after the last: touch neither afterwards. */
static unsigned finish_all(struct td_pool *pool, struct work_list done)
{
	struct td_work *w;
	unsigned n;

	for (n = 0; (w = done.head); n++) {
		done.head = w->next;
		pool->nr_out--;
		pool->nr_out_brief -= w->brief;
		w->done(w, w->result);
	}
	return n;
}

static struct work_list take_done(struct td_pool *pool)
{
	struct work_list done = pool->done;

	list_init(&pool->done);
	return done;
}

static void pool_event(struct td_watch *watch, uint32_t events)
{
	struct td_pool *pool = td_container_of(watch, struct td_pool, watch);
	struct work_list done;
	eventfd_t n;

	(void)events;
	td_ignore(eventfd_read(watch->fd, &n)); /* before the list: what comes later wakes us again */
	pthread_mutex_lock(&pool->lock);
	done = take_done(pool);
	pthread_mutex_unlock(&pool->lock);
	finish_all(pool, done);
}

/* One piece at a time, so that who has bytes for the loop waits for no more than some of these. */
static unsigned pool_hook(struct td_hook *h)
{
	struct td_pool *pool = td_container_of(h, struct td_pool, hook);
	struct work_list done;
	struct td_work *w;

	if (pool->nr_out_brief == 0 && !pool->looks) /* what only this thread writes */
		return 0;
	pthread_mutex_lock(&pool->lock);
	w = take_brief(pool);
	pool->looks = w != NULL; /* then something is done in this turn, and the hook is called again */
	if (w) {
		pthread_mutex_unlock(&pool->lock);
		w->result = w->fn(w->arg);
		pthread_mutex_lock(&pool->lock);
		add_done(pool, w);
	}
	done = take_done(pool);
	pthread_mutex_unlock(&pool->lock);
	return finish_all(pool, done);
}

struct pool_call {
	struct td_work work;
	struct td_co *co;
};

static void pool_call_done(struct td_work *w, int result)
{
	(void)result;
	td_co_wake(td_container_of(w, struct pool_call, work)->co);
}

int td_pool_run(struct td_pool *pool, int (*fn)(void *arg), void *arg)
{
	struct pool_call c = {
		.work = { .fn = fn, .done = pool_call_done, .arg = arg },
		.co = td_co_self(),
	};

	td_pool_submit(pool, &c.work);
	td_co_yield();
	return c.work.result;
}

struct td_pool *td_pool_new(struct td_loop *loop, unsigned max_threads)
{
	struct td_pool *pool = calloc(1, sizeof(*pool) + max_threads * sizeof(pool->workers[0]));
	pthread_condattr_t attr;
	int fd, r;

	if (!pool)
		return NULL;
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		goto no_fd;
	pool->watch.fn = pool_event;
	pool->hook.fn = pool_hook;
	r = td_loop_watch(loop, &pool->watch, fd, EPOLLIN);
	if (r < 0)
		goto no_watch;
	pool->max = max_threads;
	list_init(&pool->todo);
	list_init(&pool->brief);
	list_init(&pool->done);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->more, &attr);
	pthread_condattr_destroy(&attr);
	return pool;

no_watch:
	close(fd);
	errno = -r;
no_fd:
	free(pool);
	return NULL;
}

static bool worker_started(struct td_pool *pool, unsigned i)
{
	enum worker_state state;

	pthread_mutex_lock(&pool->lock);
	state = pool->workers[i].state;
	pthread_mutex_unlock(&pool->lock);
	return state != WORKER_NONE;
}

void td_pool_end_threads(struct td_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->quit = true;
	pthread_cond_broadcast(&pool->more);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->max; i++) {
		if (worker_started(pool, i))
			pthread_join(pool->workers[i].thread, NULL);
		pool->workers[i].state = WORKER_NONE;
	}
	pool->quit = false;
}

void td_pool_free(struct td_pool *pool)
{
	if (!pool)
		return;
	assert(pool->nr_out == 0);
	td_pool_end_threads(pool);
	pthread_cond_destroy(&pool->more);
	pthread_mutex_destroy(&pool->lock);
	if (pool->hooked)
		td_loop_unhook(pool->watch.loop, &pool->hook);
	td_loop_unwatch(&pool->watch);
	close(pool->watch.fd);
	free(pool);
}
