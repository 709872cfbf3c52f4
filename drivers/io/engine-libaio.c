// SPDX-License-Identifier: BSD-2-Clause
/*
 * Linux AIO.  It is asynchronous for O_DIRECT; a transfer through the page cache happens inside io_submit.
 *
 * Completions are read from the ring that the kernel shares with us (its address is the context's value), so
 * those that are there already cost no system call.  For those that come later each iocb carries an eventfd;
 * it is watched edge-triggered and never read.  The layout of the ring is not in a public header, but fio and
 * QEMU have relied on it for years; where its magic or features differ, io_getevents is used.
 */
#include <assert.h>
#include <libaio.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine.h"

#define RING_MAGIC     0xa10a10a1u
#define RING_INCOMPAT  0 /* features that we must know */
#define RUN_MAX        64
#define EVENTS_AT_ONCE 64

/* Source: struct aio_ring in Linux fs/aio.c. */
struct aio_ring {
	unsigned id, nr;
	_Atomic unsigned head, tail;
	unsigned magic, compat_features, incompat_features, header_length;
	struct io_event events[];
};

struct libaio {
	io_context_t ctx;
	struct aio_ring *ring; /* NULL: not as we know it */
	bool no_fdsync;        /* this kernel or file system does not take IO_CMD_FDSYNC */
};

_Static_assert(sizeof(struct iocb) <= sizeof(((struct td_io *)0)->engine_space), "an iocb fits a request");

static int libaio_open(struct td_engine *e, unsigned depth, struct td_err *ret_err)
{
	struct libaio *s = e->state;
	struct aio_ring *ring;
	int r;

	r = io_setup((int)depth, &s->ctx);
	if (r == -EAGAIN)
		return td_err_set(ret_err, r, "libaio: no room for %u requests: raise fs.aio-max-nr", depth);
	if (r < 0)
		return td_err_set(ret_err, r, "libaio: io_setup: %s", strerror(-r));
	e->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (e->fd < 0) {
		r = -errno;
		io_destroy(s->ctx);
		return td_err_set(ret_err, r, "libaio: eventfd: %s", strerror(-r));
	}
	ring = (struct aio_ring *)s->ctx;
	if (ring->magic == RING_MAGIC && ring->incompat_features == RING_INCOMPAT)
		s->ring = ring;
	return 0;
}

static void libaio_close(struct td_engine *e)
{
	struct libaio *s = e->state;

	io_destroy(s->ctx);
	close(e->fd);
}

/* ---- submitting ---- */

static bool is_offloaded(const struct libaio *s, const struct td_io *io)
{
	return io->op == TD_IO_FALLOCATE || io->op == TD_IO_TRUNCATE ||
	       (io->op == TD_IO_FSYNC && s->no_fdsync);
}

static struct iocb *prepare(struct td_engine *e, struct td_io *io)
{
	struct iocb *cb = (struct iocb *)io->engine_space;

	switch (io->op) {
	case TD_IO_READ:
		io_prep_preadv(cb, io->fd, io->vec, (int)io->nr, (long long)io->off);
		break;
	case TD_IO_WRITE:
		io_prep_pwritev(cb, io->fd, io->vec, (int)io->nr, (long long)io->off);
		break;
	default:
		io_prep_fdsync(cb, io->fd);
		break;
	}
	io_set_eventfd(cb, e->fd);
	cb->data = io;
	return cb;
}

/* Requests up to the next one that is not for the kernel's AIO. */
static unsigned run_length(const struct libaio *s, struct td_io *const *ios, unsigned nr)
{
	unsigned n = 0;

	while (n < nr && n < RUN_MAX && !is_offloaded(s, ios[n]))
		n++;
	return n;
}

static int submit_run(struct td_engine *e, struct td_io *const *ios, unsigned nr)
{
	struct libaio *s = e->state;
	struct iocb *cbs[RUN_MAX];
	int r;

	for (unsigned i = 0; i < nr; i++)
		cbs[i] = prepare(e, ios[i]);
	r = io_submit(s->ctx, nr, cbs);
	if (r == -EINVAL && ios[0]->op == TD_IO_FSYNC) {
		s->no_fdsync = true;
		td_io_offload(e, ios[0]);
		return 1;
	}
	return r;
}

/* io_submit stops at the first iocb it does not like: what it took counts, the rest is the queue's again. */
static int libaio_submit(struct td_engine *e, struct td_io *const *ios, unsigned nr)
{
	unsigned done = 0, n;
	int r;

	while (done < nr) {
		n = run_length(e->state, ios + done, nr - done);
		if (n == 0) {
			td_io_offload(e, ios[done++]);
			continue;
		}
		r = submit_run(e, ios + done, n);
		if (r < 0)
			return done > 0 ? (int)done : r;
		done += (unsigned)r;
		if ((unsigned)r < n)
			break;
	}
	return (int)done;
}

/* ---- reaping ---- */

static void finish(struct td_engine *e, const struct io_event *ev)
{
	struct td_io *io = ev->data;

	io->result = (int64_t)ev->res;
	td_io_complete(e, io);
}

static unsigned reap_ring(struct td_engine *e, struct aio_ring *ring)
{
	unsigned head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	unsigned tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
	unsigned nr = 0;

	for (; head != tail; nr++) {
		finish(e, &ring->events[head]);
		head = (head + 1) % ring->nr;
	}
	if (nr > 0) /* the kernel may use those entries again, and counts them as room for new requests */
		atomic_store_explicit(&ring->head, head, memory_order_release);
	return nr;
}

static unsigned reap_syscall(struct td_engine *e, struct libaio *s)
{
	struct io_event ev[EVENTS_AT_ONCE];
	struct timespec no_wait = { 0, 0 };
	unsigned nr = 0;
	int r;

	do {
		r = io_getevents(s->ctx, 0, EVENTS_AT_ONCE, ev, &no_wait);
		for (int i = 0; i < r; i++)
			finish(e, &ev[i]);
		nr += r > 0 ? (unsigned)r : 0;
	} while (r == EVENTS_AT_ONCE || r == -EINTR);
	return nr;
}

static unsigned libaio_reap(struct td_engine *e)
{
	struct libaio *s = e->state;

	return s->ring ? reap_ring(e, s->ring) : reap_syscall(e, s);
}

const struct td_engine_ops td_engine_libaio = {
	.name = "libaio",
	.state_size = sizeof(struct libaio),
	.open = libaio_open,
	.close = libaio_close,
	.submit = libaio_submit,
	.reap = libaio_reap,
};
