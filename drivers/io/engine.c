// SPDX-License-Identifier: BSD-2-Clause
/*
 * What all engines share: the queue, its place in the loop, the way into the worker pool, and the choice of
 * an engine. The coroutine face is io.c; what talks to the kernel is engine-*.c.
 *
 * Requests pile up in e->queue while coroutines run.  The loop's hook hands them over, all of a turn in one
 * call, as far as the engine has room; what does not fit waits in the queue, in order, until completions make
 * room.
 */
#include "config.h"

#include <assert.h>
#include <fcntl.h>
#include <unistd.h>

#include <blktap/co.h>
#include <blktap/log.h>
#include <blktap/pool.h>

#include "engine.h"

#define BATCH         64u
#define RETRY_WAIT_NS 1000000 /* when the kernel takes nothing though it has nothing of ours */

struct engine {
	struct td_engine e;
	struct td_timer retry; /* its end is a turn of the loop, which calls the hook: nothing more to do */
};

/* ---- the queue ---- */

static unsigned take_batch(struct td_engine *e, struct td_io **batch)
{
	unsigned room = e->depth > e->in_flight ? TD_MIN(e->depth - e->in_flight, BATCH) : 0, nr;
	struct td_io *io;

	for (nr = 0; nr < room && (io = STAILQ_FIRST(&e->queue)); nr++) {
		STAILQ_REMOVE_HEAD(&e->queue, link); /* from here on the link is the engine's */
		batch[nr] = io;
	}
	return nr;
}

static void put_back(struct td_engine *e, struct td_io **batch, unsigned from, unsigned nr)
{
	while (nr > from) {
		nr--; /* not inside the macro: that reads its argument more than once */
		STAILQ_INSERT_HEAD(&e->queue, batch[nr], link);
	}
}

/* Hand one batch over.  False: no use to go on before something completes. */
static bool submit_batch(struct td_engine *e)
{
	struct td_io *batch[BATCH];
	unsigned nr = take_batch(e, batch), taken = 0;
	int r;

	if (nr == 0)
		return false;
	e->in_flight += nr; /* before the call: engines may complete inside it */
	e->nr_submits++;
	r = e->ops->submit(e, batch, nr);
	if (r > 0)
		taken = (unsigned)r;
	if (r < 0 && r != -EAGAIN && r != -EINTR) {
		batch[0]->result = r; /* its own fault: the others go on */
		td_io_complete(e, batch[0]);
		taken = 1;
	}
	assert(taken <= nr);
	e->in_flight -= nr - taken;
	e->nr_requests += taken;
	put_back(e, batch, taken, nr);
	return taken > 0 || r == -EINTR;
}

static void submit_all(struct td_engine *e)
{
	while (submit_batch(e))
		;
}

static unsigned reap(struct td_engine *e)
{
	return e->in_flight > 0 ? e->ops->reap(e) : 0;
}

static unsigned engine_hook(struct td_hook *h)
{
	struct engine *en = td_container_of(h, struct engine, e.hook);
	struct td_engine *e = &en->e;
	unsigned done = 0, n;

	do {
		submit_all(e);
		n = reap(e); /* that made room for more */
		done += n;
	} while (n > 0 && !STAILQ_EMPTY(&e->queue));
	/* Nothing of ours is there to complete and wake us: come back by the clock. */
	if (!STAILQ_EMPTY(&e->queue) && e->in_flight == 0 && !en->retry.loop)
		td_timer_arm(e->loop, &en->retry, RETRY_WAIT_NS);
	return done;
}

/* The hook of the next turn submits what now fits. */
static void engine_event(struct td_watch *w, uint32_t events)
{
	struct td_engine *e = td_container_of(w, struct td_engine, watch);

	(void)events;
	e->nr_reaps++;
	reap(e);
}

static void retry_now(struct td_timer *t)
{
	(void)t;
}

void td_io_complete(struct td_engine *e, struct td_io *io)
{
	assert(e->in_flight > 0);
	e->in_flight--;
	td_co_wake(io->co);
}

/* ---- the worker pool ---- */

/* In the request's engine_space while a worker has it. */
struct offload {
	struct td_work work;
	struct td_engine *e;
};

_Static_assert(sizeof(struct offload) <= sizeof(((struct td_io *)0)->engine_space), "fits a request");

static int offload_run(void *arg)
{
	const struct td_io *io = arg;
	ssize_t r = -1; /* a transfer is 2 GiB at most, by the kernel's rule */

	errno = ENOTSUP;
	switch (io->op) {
	case TD_IO_FSYNC:
		r = fdatasync(io->fd);
		break;
	case TD_IO_FALLOCATE:
		r = fallocate(io->fd, io->mode, (off_t)io->off, (off_t)io->len);
		break;
	case TD_IO_TRUNCATE:
		r = ftruncate(io->fd, (off_t)io->off);
		break;
	case TD_IO_READ:
		r = preadv(io->fd, io->vec, (int)io->nr, (off_t)io->off);
		break;
	case TD_IO_WRITE:
		r = pwritev(io->fd, io->vec, (int)io->nr, (off_t)io->off);
		break;
	}
	return r < 0 ? -errno : (int)r;
}

static void offload_done(struct td_work *w, int result)
{
	struct td_io *io = w->arg;

	io->result = result;
	td_io_complete(td_container_of(w, struct offload, work)->e, io);
}

void td_io_offload(struct td_engine *e, struct td_io *io)
{
	struct offload *o = (struct offload *)io->engine_space;

	*o = (struct offload){ .work = { .fn = offload_run, .done = offload_done, .arg = io }, .e = e };
	if (e->pool)
		td_pool_submit(e->pool, &o->work);
	else
		offload_done(&o->work, offload_run(io));
}

/* ---- making one ---- */

int td_engine_new_ops(const struct td_engine_ops *ops, struct td_loop *loop, struct td_pool *pool,
		      unsigned depth, struct td_engine **ret_engine, struct td_err *ret_err)
{
	struct engine *en = calloc(1, sizeof(*en) + ops->state_size);
	struct td_engine *e;
	int r;

	if (!en)
		return td_err_set(ret_err, -ENOMEM, "%s: out of memory", ops->name);
	e = &en->e;
	en->retry.fn = retry_now;
	e->ops = ops;
	e->loop = loop;
	e->pool = pool;
	e->fd = -1;
	e->depth = depth;
	e->state = en + 1;
	e->hook.fn = engine_hook;
	e->watch.fn = engine_event;
	STAILQ_INIT(&e->queue);
	r = ops->open ? ops->open(e, depth, ret_err) : 0;
	if (r < 0)
		goto fail;
	/*
	 * Edge-triggered: the engine need not read the descriptor, which would be a system call for each
	 * wake-up.
	 */
	if (e->fd >= 0)
		r = td_loop_watch(loop, &e->watch, e->fd, EPOLLIN | EPOLLET);
	if (r < 0) {
		td_err_set(ret_err, r, "%s: cannot watch for completions: %s", ops->name, strerror(-r));
		goto fail_watch;
	}
	td_loop_hook(loop, &e->hook);
	*ret_engine = e;
	return 0;

fail_watch:
	if (ops->close)
		ops->close(e);
fail:
	free(en);
	return r;
}

void td_engine_free(struct td_engine *e)
{
	struct engine *en = td_container_of(e, struct engine, e);

	if (!e)
		return;
	assert(e->in_flight == 0 && STAILQ_EMPTY(&e->queue));
	td_timer_cancel(&en->retry);
	td_loop_unhook(e->loop, &e->hook);
	td_loop_unwatch(&e->watch);
	if (e->ops->close)
		e->ops->close(e);
	free(en);
}

/*
 * In auto's order of preference, by measurement (tests/rt/bench-engine, Linux 6.18, 4 KiB O_DIRECT).  On ext4 libaio
 * and io_uring are equal for transfers, and libaio is ahead by a fifth where each write is followed by fsync.  Where
 * the file system completes at once (tmpfs) io_uring hands every request to a kernel thread: 39 us of processor time
 * at depth 1 against 2.1.  What libaio cannot do is the page cache without blocking: there io_uring is worth asking
 * for.
 */
static const struct td_engine_ops *const engines[] = {
	&td_engine_libaio,
#ifdef HAVE_LIBURING
	&td_engine_uring,
#endif
	&td_engine_sync,
	&td_engine_threads, /* never auto's: sync is always to be had */
};

static int new_auto(struct td_loop *loop, struct td_pool *pool, unsigned depth, struct td_engine **ret_engine,
		    struct td_err *ret_err)
{
	struct td_err err = { 0 };
	int r = -ENOSYS;

	for (unsigned i = 0; i < TD_NELEMS(engines); i++) {
		r = td_engine_new_ops(engines[i], loop, pool, depth, ret_engine, &err);
		if (r == 0)
			return 0;
		td_debug("engine auto: not %s: %s", engines[i]->name, err.msg);
	}
	return td_err_set(ret_err, r, "%s", err.msg);
}

int td_engine_new(const char *name, struct td_loop *loop, struct td_pool *pool, unsigned depth,
		  struct td_engine **ret_engine, struct td_err *ret_err)
{
	if (strcmp(name, "auto") == 0)
		return new_auto(loop, pool, depth, ret_engine, ret_err);
	for (unsigned i = 0; i < TD_NELEMS(engines); i++)
		if (strcmp(name, engines[i]->name) == 0)
			return td_engine_new_ops(engines[i], loop, pool, depth, ret_engine, ret_err);
	if (strcmp(name, "io_uring") == 0)
		return td_err_set(ret_err, -ENOSYS,
				  "engine io_uring is not in this build: it needs liburing");
	return td_err_set(ret_err, -EINVAL, "no engine '%s': there are auto, io_uring, libaio, sync, threads", name);
}
