// SPDX-License-Identifier: BSD-2-Clause
/*
 * One client: greeted, connected, served, ended.  It is a stranger: until it has connected it has a time limit and a
 * place among few; afterwards it has nothing to say on this socket, and its rings are checked elsewhere (ring.c).
 */
#include "ring-shm.h"
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- messages out ---- */

static uint32_t state_of(const struct td_vbd *vbd)
{
	return td_vbd_state(vbd) == TD_VBD_RUNNING ? 0 : RINGWIRE_PAUSED;
}

/* A packet is sent as a whole or not at all. */
static int send_packet(struct shm_conn *c, const void *msg, size_t len, const int *fds, unsigned nr_fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(RINGWIRE_MAX_FDS * sizeof(int))];
	} control = { 0 };
	struct iovec v = { .iov_base = (void *)msg, .iov_len = len };
	struct msghdr h = { .msg_iov = &v, .msg_iovlen = 1 };

	if (nr_fds > 0) {
		struct cmsghdr *cm;

		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		cm = CMSG_FIRSTHDR(&h);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, nr_fds * sizeof(int));
	}
	return sendmsg(c->watch.fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static int send_hello(struct shm_conn *c)
{
	struct td_vbd *vbd = c->server->e.vbd;
	struct ringwire_hello m = { .version = RINGWIRE_VERSION, .max_memory = RINGWIRE_MAX_MEMORY };
	struct ring_features f;

	ring_features(vbd, &f);
	ringwire_init(&m, RINGWIRE_HELLO);
	c->features = (f.flush ? RINGWIRE_FLUSH : 0) | (f.barrier ? RINGWIRE_BARRIER : 0) |
		      (f.discard ? RINGWIRE_DISCARD : 0) | (f.max_indirect > 0 ? RINGWIRE_INDIRECT : 0);
	m.features = c->features;
	m.sectors = f.sectors;
	m.sector_size = f.sector_size;
	m.physical_sector_size = f.physical_sector_size;
	m.info = f.info;
	m.state = state_of(vbd);
	m.discard_granularity = f.discard_granularity;
	m.discard_alignment = f.discard_alignment;
	m.max_indirect = f.max_indirect;
	m.max_order = TD_MIN(f.max_order, TD_BLKIF_MAX_ORDER);
	m.max_queues = TD_MIN(f.max_queues, RINGWIRE_MAX_QUEUES);
	return send_packet(c, &m, sizeof(m), NULL, 0);
}

void shm_conn_tell(struct shm_conn *c)
{
	struct ringwire_change m = { .sectors = td_vbd_size(c->server->e.vbd) / TD_BLKIF_SECTOR };
	int r;

	ringwire_init(&m, RINGWIRE_CHANGE);
	m.state = state_of(c->server->e.vbd);
	r = send_packet(c, &m, sizeof(m), NULL, 0);
	/* One that does not read is told when it does, once, of what is then. */
	c->untold = r == -EAGAIN;
	if ((r < 0 && r != -EAGAIN) || td_loop_rewatch(&c->watch, EPOLLIN | (c->untold ? EPOLLOUT : 0)) < 0)
		shm_conn_end(c);
}

/* What it refuses is no secret: a client's author wants to know. */
static void refuse(struct shm_conn *c, int error, const char *sentence)
{
	struct ringwire_ready m = { .error = error };

	ringwire_init(&m, RINGWIRE_READY);
	snprintf(m.reason, sizeof(m.reason), "%s", sentence);
	td_ignore(send_packet(c, &m, sizeof(m), NULL, 0)); /* it is dropped in any case */
	shm_conn_end(c);
}

static void queue_broken(struct shm_queue *q, const char *reason)
{
	struct shm_conn *c = q->conn;
	struct ringwire_stopped m = { .queue = (uint32_t)(q - c->queue) };

	ringwire_init(&m, RINGWIRE_STOPPED);
	snprintf(m.reason, sizeof(m.reason), "%s", reason);
	snprintf(c->server->failed, sizeof(c->server->failed), "queue %u: %s", m.queue, reason);
	td_ignore(send_packet(c, &m, sizeof(m), NULL, 0)); /* it ends in any case */
	shm_conn_end(c);
}

/* ---- the handshake ---- */

static int check_choice(const struct ringwire_connect *m, const struct ring_features *f, struct td_err *err)
{
	unsigned order = TD_MIN(f->max_order, TD_BLKIF_MAX_ORDER),
		 queues = TD_MIN(f->max_queues, RINGWIRE_MAX_QUEUES);

	if (m->version != RINGWIRE_VERSION)
		return td_err_set(err, -EPROTONOSUPPORT, "version %u: this is version %u", m->version,
				  RINGWIRE_VERSION);
	if (m->abi > TD_BLKIF_ARM)
		return td_err_set(err, -EINVAL, "abi %u: there is no such layout", m->abi);
	if (m->order > order)
		return td_err_set(err, -EINVAL, "a ring of order %u: at most %u", m->order, order);
	if (m->nr_queues < 1 || m->nr_queues > queues)
		return td_err_set(err, -EINVAL, "%u queues: should be 1 to %u", m->nr_queues, queues);
	return 0;
}

/* Within the memory, and each has its own pages. */
static int check_rings(const struct shm_conn *c, const struct ringwire_connect *m, struct td_err *err)
{
	uint32_t pages = 1u << m->order;

	for (unsigned i = 0; i < m->nr_queues; i++) {
		if (!shm_memory_at(&c->mem, m->ring_page[i], pages))
			return td_err_set(err, -EINVAL, "ring %u is not in the memory", i);
		for (unsigned j = 0; j < i; j++)
			if (td_overlap(m->ring_page[i], pages, m->ring_page[j], pages))
				return td_err_set(err, -EINVAL, "rings %u and %u share pages", j, i);
	}
	return 0;
}

static int start_queues(struct shm_conn *c, const struct ringwire_connect *m, int *fds, struct td_err *err)
{
	int r = 0;

	for (unsigned i = 0; i < m->nr_queues && r == 0; i++) {
		c->nr_queues = i + 1;
		c->queue[i].conn = c;
		c->queue[i].broken = queue_broken;
		r = shm_queue_start(c, i, m, &fds[2 * i], err);
	}
	return r;
}

static int send_ready(struct shm_conn *c, const struct ringwire_connect *m, const int *fds,
		      struct td_err *err)
{
	struct ringwire_ready ready = { .features = m->features & c->features };
	int r;

	ringwire_init(&ready, RINGWIRE_READY);
	r = send_packet(c, &ready, sizeof(ready), fds, 2 * c->nr_queues);
	return r < 0 ? td_err_set(err, r, "cannot answer: %s", strerrordesc_np(-r)) : 0;
}

/* From here on it may be silent for as long as it likes. */
static void mark_served(struct shm_conn *c)
{
	struct shm_server *s = c->server;

	td_timer_cancel(&c->timer);
	TAILQ_REMOVE(&s->half, c, link);
	s->nr_half--;
	TAILQ_INSERT_TAIL(&s->served, c, link);
	s->nr_served++;
	c->phase = SHM_SERVED;
}

/* The client gets duplicates of its ends; ours of those are closed here. */
static int connect_rings(struct shm_conn *c, const struct ringwire_connect *m, int memfd, struct td_err *err)
{
	int fds[RINGWIRE_MAX_FDS], r;
	struct ring_features f;

	memset(fds, -1, sizeof(fds));
	ring_features(c->server->e.vbd, &f);
	r = check_choice(m, &f, err);
	if (r == 0 && c->server->nr_served == SHM_MAX_SERVED)
		r = td_err_set(err, -EBUSY, "%d clients are connected already", SHM_MAX_SERVED);
	if (r == 0)
		r = shm_memory_map(&c->mem, memfd, m->memory, err);
	if (r == 0)
		r = check_rings(c, m, err);
	if (r == 0)
		r = start_queues(c, m, fds, err);
	if (r == 0)
		r = send_ready(c, m, fds, err);
	for (unsigned i = 0; i < c->nr_queues; i++)
		if (fds[2 * i + 1] >= 0)
			close(fds[2 * i + 1]);
	return r;
}

/* One packet with at most one descriptor in it; the kernel drops what there is no room for. */
static ssize_t recv_choice(struct shm_conn *c, struct ringwire_connect *m, int *ret_fd, bool *ret_cut)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec v = { .iov_base = m, .iov_len = sizeof(*m) };
	struct msghdr h = { /* CMSG_SPACE, which has padding, would have room for a second one. */
			    .msg_iov = &v,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = CMSG_LEN(sizeof(int))
	};
	ssize_t n = recvmsg(c->watch.fd, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	*ret_fd = -1;
	*ret_cut = false;
	if (n < 0)
		return -errno;
	*ret_cut = h.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
	for (struct cmsghdr *cm = CMSG_FIRSTHDR(&h); cm; cm = CMSG_NXTHDR(&h, cm))
		if (cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS)
			memcpy(ret_fd, CMSG_DATA(cm), sizeof(int));
	return n;
}

static void take_choice(struct shm_conn *c)
{
	struct ringwire_connect m;
	struct td_err err = { "" };
	bool cut;
	int fd, r;
	ssize_t n = recv_choice(c, &m, &fd, &cut);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0)
		shm_conn_end(c);
	else if (cut || fd < 0 || !ringwire_is(&m, (size_t)n, RINGWIRE_CONNECT, sizeof(m)))
		refuse(c, -EPROTO, "the packet is not a CONNECT message with one descriptor");
	else if ((r = connect_rings(c, &m, fd, &err)) < 0)
		refuse(c, r, err.msg);
	else
		mark_served(c);
	if (fd >= 0)
		close(fd);
}

/* ---- while it is served ---- */

/* It has nothing more to say: whatever there is to read is the end, and so is the end of the file. */
static void served_event(struct shm_conn *c, uint32_t events)
{
	char byte;
	ssize_t n;

	if (events & EPOLLOUT && c->untold)
		shm_conn_tell(c);
	if (c->phase != SHM_SERVED || !(events & ~(uint32_t)EPOLLOUT))
		return;
	n = recv(c->watch.fd, &byte, 1, MSG_DONTWAIT);
	if (n >= 0 || (errno != EAGAIN && errno != EINTR))
		shm_conn_end(c);
}

static void conn_event(struct td_watch *w, uint32_t events)
{
	struct shm_conn *c = td_container_of(w, struct shm_conn, watch);

	if (c->phase == SHM_HALF)
		take_choice(c);
	else if (c->phase == SHM_SERVED)
		served_event(c, events);
}

/* ---- begin and end ---- */

static void handshake_timeout(struct td_timer *t)
{
	shm_conn_end(td_container_of(t, struct shm_conn, timer));
}

int shm_conn_new(struct shm_server *s, int fd)
{
	struct shm_conn *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->server = s;
	c->watch.fd = fd;
	c->watch.fn = conn_event;
	c->timer.fn = handshake_timeout;
	r = send_hello(c);
	if (r == 0)
		r = td_loop_watch(s->loop, &c->watch, fd, EPOLLIN);
	if (r < 0) {
		free(c);
		return r;
	}
	td_timer_arm(s->loop, &c->timer, SHM_HANDSHAKE_NS);
	TAILQ_INSERT_TAIL(&s->half, c, link);
	s->nr_half++;
	s->e.clients++;
	return 0;
}

/* The socket stays open until the rings are idle: its end tells the client that nothing more will come. */
void shm_conn_end(struct shm_conn *c)
{
	struct shm_server *s = c->server;

	if (c->phase == SHM_ENDING)
		return;
	td_timer_cancel(&c->timer);
	td_loop_unwatch(&c->watch);
	if (c->phase == SHM_SERVED) {
		TAILQ_REMOVE(&s->served, c, link);
		s->nr_served--;
	} else {
		TAILQ_REMOVE(&s->half, c, link);
		s->nr_half--;
	}
	c->phase = SHM_ENDING;
	TAILQ_INSERT_TAIL(&s->ending, c, link);
	for (unsigned i = 0; i < c->nr_queues; i++)
		shm_queue_stop(&c->queue[i]);
}

bool shm_conn_idle(const struct shm_conn *c)
{
	for (unsigned i = 0; i < c->nr_queues; i++)
		if (c->queue[i].ring && !ring_idle(c->queue[i].ring))
			return false;
	return true;
}

void shm_conn_free(struct shm_conn *c)
{
	struct shm_server *s = c->server;

	for (unsigned i = 0; i < c->nr_queues; i++)
		shm_queue_free(&c->queue[i]);
	shm_memory_unmap(&c->mem);
	close(c->watch.fd);
	TAILQ_REMOVE(&s->ending, c, link);
	s->e.clients--;
	free(c);
}
