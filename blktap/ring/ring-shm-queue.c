// SPDX-License-Identifier: BSD-2-Clause
/*
 * One queue: its ring, the pages that its requests name, and its two doorbells.
 *
 * The doorbells are made here and handed out.  The kick eventfd is watched edge-triggered and never read; the client
 * may do to it what it likes.  The call eventfd stays with us: a client that held it could fill it and take its
 * O_NONBLOCK away, and our next write would sleep.  It gets an epoll descriptor instead, in which the eventfd is.
 */
#include "ring-shm.h"
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct shm_queue *queue_of(struct ring_port *p)
{
	return td_container_of(p, struct shm_queue, port);
}

static int port_map(struct ring_port *p, const uint32_t *grefs, unsigned nr, bool writable, void **ret_pages)
{
	const struct shm_memory *m = &queue_of(p)->conn->mem;

	(void)writable;
	for (unsigned i = 0; i < nr; i++) {
		ret_pages[i] = shm_memory_at(m, grefs[i], 1);
		if (!ret_pages[i])
			return -EINVAL;
	}
	return 0;
}

/* The memory is mapped as a whole, and stays. */
static void port_unmap(struct ring_port *p, void *const *pages, unsigned nr)
{
	(void)p;
	(void)pages;
	(void)nr;
}

static void port_notify(struct ring_port *p)
{
	td_ignore(eventfd_write(queue_of(p)->call_fd,
				1)); /* fails only if it is full, and then it is ringing */
}

static const struct ring_port_ops port_ops = { .map = port_map, .unmap = port_unmap, .notify = port_notify };

static void kick_event(struct td_watch *w, uint32_t events)
{
	(void)events;
	ring_kick(td_container_of(w, struct shm_queue, kick)->ring);
}

static void ring_stopped(struct ring *r, const char *reason)
{
	struct shm_queue *q = ring_owner(r);

	q->broken(q, reason);
}

/* An epoll descriptor that wakes up with each write to the eventfd, for whoever waits on it or watches it. */
static int wrap_call(int call_fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int fd = epoll_create1(EPOLL_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	if (epoll_ctl(fd, EPOLL_CTL_ADD, call_fd, &ev) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int make_doorbells(struct shm_queue *q, int *fds)
{
	int r;

	q->call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	q->kick.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (q->call_fd < 0 || q->kick.fd < 0)
		return -errno;
	r = wrap_call(q->call_fd);
	if (r < 0)
		return r;
	fds[0] = q->kick.fd;
	fds[1] = r;
	return 0;
}

int shm_queue_start(struct shm_conn *c, unsigned i, const struct ringwire_connect *m, int *fds,
		    struct td_err *ret_err)
{
	struct shm_server *s = c->server;
	struct shm_queue *q = &c->queue[i];
	char name[160];
	struct ring_setup setup = {
		.name = name,
		.abi = (enum td_blkif_abi)m->abi,
		.order = m->order,
		.shared = shm_memory_at(&c->mem, m->ring_page[i], 1u << m->order),
		.port = &q->port,
		.take_max = SHM_TAKE_MAX,
		.poll_us = SHM_POLL_US,
		.stopped = ring_stopped,
		.owner = q,
		.export = &s->e,
	};
	int r;

	snprintf(name, sizeof(name), "ring %s queue %u", s->e.address, i);
	q->port.ops = &port_ops;
	q->kick.fn = kick_event;
	r = make_doorbells(q, fds);
	if (r < 0)
		return td_err_set(ret_err, r, "cannot make doorbells: %s", strerrordesc_np(-r));
	r = ring_new(s->loop, s->e.vbd, &setup, &q->ring, ret_err);
	if (r == 0)
		r = td_loop_watch(s->loop, &q->kick, q->kick.fd, EPOLLIN | EPOLLET);
	return r;
}

void shm_queue_stop(struct shm_queue *q)
{
	td_loop_unwatch(&q->kick);
	if (!q->ring)
		return;
	/* Nobody wants the answers of a client that has gone, not even at the end of a pause. */
	if (q->conn->server->stopping)
		ring_stop(q->ring);
	else
		ring_cancel(q->ring);
}

void shm_queue_free(struct shm_queue *q)
{
	if (q->ring)
		ring_free(q->ring);
	if (q->kick.fd >= 0)
		close(q->kick.fd);
	if (q->call_fd >= 0)
		close(q->call_fd);
}
