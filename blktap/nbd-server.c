// SPDX-License-Identifier: BSD-2-Clause
/*
 * The NBD export: its connections from accept to burial, and what they may take of memory.
 *
 * Memory.  Payload in flight (being received, in the disk, being sent) is bounded for each connection and in total.
 * Who gets nothing waits in order of arrival, and is not read from meanwhile.  A connection that has nothing in
 * flight always gets a small buffer, so somebody who never reads his replies cannot stop the others' small requests;
 * their large ones he stops for NBD_STALL_NS, then he is dropped.
 */
#include "nbd.h"
#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_AT_ONCE 16
#define NS_PER_S       1000000000ull

/* ---- memory ---- */

static void starve(struct nbd_conn *c)
{
	struct nbd_server *s = c->server;

	if (c->starving)
		return;
	c->starving = true;
	TAILQ_INSERT_TAIL(&s->starving, c, starving_link);
	if (!s->stall_timer.loop)
		td_timer_arm(s->loop, &s->stall_timer, NBD_STALL_NS);
}

static void fed(struct nbd_conn *c)
{
	struct nbd_server *s = c->server;

	if (!c->starving)
		return;
	c->starving = false;
	TAILQ_REMOVE(&s->starving, c, starving_link);
	if (!TAILQ_EMPTY(&s->starving))
		nbd_conn_touch(TAILQ_FIRST(&s->starving));
}

/* The connection's own limit is not starving: its own replies will make room. */
static bool may_take(struct nbd_conn *c, size_t len)
{
	struct nbd_server *s = c->server;
	bool others_first = !TAILQ_EMPTY(&s->starving) && TAILQ_FIRST(&s->starving) != c;

	if (c->bytes == 0 && len <= NBD_FREE_BYTES)
		return true;
	if (c->bytes > 0 && c->bytes + len > NBD_MAX_CONN_BYTES)
		return false;
	if (!others_first && s->bytes + len <= NBD_MAX_BYTES)
		return true;
	starve(c);
	return false;
}

int nbd_job_buffer(struct nbd_job *job, size_t len)
{
	struct nbd_conn *c = job->conn;

	if (!may_take(c, len))
		return -EAGAIN;
	fed(c);
	job->buf = td_buf_alloc(len);
	if (!job->buf)
		return -ENOMEM;
	job->buf_len = len;
	c->bytes += len;
	c->server->bytes += len;
	return 0;
}

static void free_buffer(struct nbd_job *job)
{
	struct nbd_server *s = job->conn->server;

	if (!job->buf)
		return;
	td_buf_free(job->buf, job->buf_len);
	job->buf = NULL;
	job->conn->bytes -= job->buf_len;
	s->bytes -= job->buf_len;
	if (!TAILQ_EMPTY(&s->starving))
		nbd_conn_touch(TAILQ_FIRST(&s->starving));
}

struct nbd_job *nbd_job_new(struct nbd_conn *c, const struct nbd_request *q)
{
	struct nbd_server *s = c->server;
	struct nbd_job *job = STAILQ_FIRST(&s->pool);

	if (job)
		STAILQ_REMOVE_HEAD(&s->pool, link);
	else
		job = malloc(sizeof(*job));
	if (!job)
		return NULL;
	job->conn = c;
	job->wire = *q;
	job->buf = NULL;
	job->head_len = job->data_len = 0;
	c->nr_jobs++;
	return job;
}

void nbd_job_free(struct nbd_job *job)
{
	free_buffer(job);
	job->conn->nr_jobs--;
	STAILQ_INSERT_HEAD(&job->conn->server->pool, job, link);
}

/* Those who hold memory and do not move are dropped, but only when others wait for it. */
static void stall_check(struct td_timer *t)
{
	struct nbd_server *s = td_container_of(t, struct nbd_server, stall_timer);
	uint64_t now = td_loop_now(s->loop);
	struct nbd_conn *c;

	if (TAILQ_EMPTY(&s->starving))
		return;
	TAILQ_FOREACH(c, &s->conns, link) {
		bool his_turn = c->filling || !STAILQ_EMPTY(&c->out);

		if (c->phase != NBD_DEAD && c->bytes > 0 && his_turn && now - c->progress_ns >= NBD_STALL_NS)
			nbd_conn_drop(c);
	}
	td_timer_arm(s->loop, &s->stall_timer, NS_PER_S);
}

/* ---- a connection's end ---- */

void nbd_conn_touch(struct nbd_conn *c)
{
	if (c->touched)
		return;
	c->touched = true;
	TAILQ_INSERT_TAIL(&c->server->touched, c, touched_link);
}

/* Jobs that the disk does not have. */
static void free_incoming(struct nbd_conn *c)
{
	if (c->held)
		nbd_job_free(c->held);
	if (c->filling)
		nbd_job_free(c->filling);
	c->held = c->filling = NULL;
	c->draining = 0;
}

void nbd_conn_end(struct nbd_conn *c)
{
	c->phase = NBD_ENDING;
	free_incoming(c);
	fed(c);
	nbd_conn_touch(c);
}

void nbd_conn_drop(struct nbd_conn *c)
{
	struct nbd_job *job;

	if (c->phase == NBD_DEAD)
		return;
	c->phase = NBD_DEAD;
	c->server->e.clients--;
	td_timer_cancel(&c->timer);
	td_loop_unwatch(&c->watch);
	close(c->watch.fd);
	free_incoming(c);
	fed(c);
	while ((job = STAILQ_FIRST(&c->out))) {
		STAILQ_REMOVE_HEAD(&c->out, link);
		nbd_job_free(job);
	}
	nbd_conn_touch(c);
}

static void bury(struct nbd_conn *c)
{
	struct nbd_server *s = c->server;

	assert(c->phase == NBD_DEAD && c->nr_jobs == 0);
	if (c->touched)
		TAILQ_REMOVE(&s->touched, c, touched_link);
	TAILQ_REMOVE(&s->conns, c, link);
	if (s->nr_conns-- == NBD_MAX_CONNS)
		nbd_listen_pause(s, false);
	free(c->in);
	free(c->text);
	free(c);
}

/* ---- the turn ---- */

static void update_watch(struct nbd_conn *c)
{
	uint32_t events = (nbd_wants_input(c) ? EPOLLIN : 0) | (c->blocked ? EPOLLOUT : 0);

	if (td_loop_rewatch(&c->watch, events) < 0)
		nbd_conn_drop(c);
}

static unsigned conn_turn(struct nbd_conn *c)
{
	unsigned nr = 0;

	nbd_send(c);
	if (c->phase != NBD_DEAD)
		nr = nbd_progress(c);
	nbd_send(c);
	if (c->phase == NBD_ENDING && c->nr_jobs == 0 && c->text_len == 0)
		nbd_conn_drop(c);
	if (c->phase != NBD_DEAD)
		update_watch(c);
	return nr;
}

/* Behind the vbd's hook: what was answered in this turn goes out in one call for each connection. */
static unsigned server_turn(struct td_hook *h)
{
	struct nbd_server *s = td_container_of(h, struct nbd_server, hook);
	struct nbd_conn *c;
	unsigned nr = 0;

	while ((c = TAILQ_FIRST(&s->touched))) {
		TAILQ_REMOVE(&s->touched, c, touched_link);
		c->touched = false;
		if (c->phase != NBD_DEAD)
			nr += conn_turn(c);
		if (c->phase == NBD_DEAD && c->nr_jobs == 0)
			bury(c);
	}
	return nr;
}

static void conn_event(struct td_watch *w, uint32_t events)
{
	struct nbd_conn *c = td_container_of(w, struct nbd_conn, watch);

	if (events & EPOLLOUT)
		c->blocked = false;
	if (events & EPOLLIN)
		nbd_receive(c);
	else if (events & (EPOLLHUP | EPOLLERR))
		nbd_conn_drop(c);
	nbd_conn_touch(c);
}

static void handshake_timeout(struct td_timer *t)
{
	nbd_conn_drop(td_container_of(t, struct nbd_conn, timer));
}

/* ---- new connections ---- */

static struct nbd_conn *conn_alloc(struct nbd_server *s)
{
	struct nbd_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->in = malloc(NBD_IN_SIZE);
	c->text = malloc(NBD_TEXT_SIZE);
	if (!c->in || !c->text) {
		free(c->in);
		free(c->text);
		free(c);
		return NULL;
	}
	c->server = s;
	c->watch.fn = conn_event;
	c->timer.fn = handshake_timeout;
	c->progress_ns = td_loop_now(s->loop);
	STAILQ_INIT(&c->out);
	return c;
}

/* Best effort: a unix socket does not know them, and none is needed for being right. */
static void tune_socket(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

static int conn_new(struct nbd_server *s, int fd)
{
	struct nbd_conn *c = conn_alloc(s);
	int r;

	if (!c)
		return -ENOMEM;
	r = nbd_send_hello(c);
	if (r == 0)
		r = td_loop_watch(s->loop, &c->watch, fd, EPOLLIN);
	if (r < 0) {
		free(c->in);
		free(c->text);
		free(c);
		return r;
	}
	tune_socket(fd);
	td_timer_arm(s->loop, &c->timer, NBD_HANDSHAKE_NS);
	TAILQ_INSERT_TAIL(&s->conns, c, link);
	s->nr_conns++;
	s->e.clients++;
	nbd_conn_touch(c);
	return 0;
}

static void accept_again(struct td_timer *t)
{
	struct nbd_server *s = td_container_of(t, struct nbd_server, accept_timer);

	nbd_listen_pause(s, s->nr_conns >= NBD_MAX_CONNS);
}

/* Out of descriptors or memory: the client waits in the listener's queue, and we do not spin. */
static void accept_later(struct nbd_server *s)
{
	nbd_listen_pause(s, true);
	td_timer_arm(s->loop, &s->accept_timer, NS_PER_S);
}

static void accept_event(struct td_watch *w, uint32_t events)
{
	struct nbd_server *s = td_container_of(w, struct nbd_listener, watch)->server;

	(void)events;
	for (int i = 0; i < ACCEPT_AT_ONCE && s->nr_conns < NBD_MAX_CONNS; i++) {
		/* cppcheck-suppress nullPointer ; no address is wanted */
		int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
			accept_later(s);
		if (fd < 0)
			return;
		if (conn_new(s, fd) < 0)
			close(fd);
	}
	if (s->nr_conns >= NBD_MAX_CONNS)
		nbd_listen_pause(s, true);
}

/* ---- the export ---- */

static void nbd_free(struct td_export *e)
{
	struct nbd_server *s = td_container_of(e, struct nbd_server, e);
	struct nbd_conn *c;
	struct nbd_job *job;

	nbd_listen_stop(s);
	td_timer_cancel(&s->accept_timer);
	td_timer_cancel(&s->stop_timer);
	while ((c = TAILQ_FIRST(&s->conns))) {
		nbd_conn_drop(c);
		bury(c);
	}
	td_timer_cancel(&s->stall_timer);
	while ((job = STAILQ_FIRST(&s->pool))) {
		STAILQ_REMOVE_HEAD(&s->pool, link);
		free(job);
	}
	td_loop_unhook(s->loop, &s->hook);
	free(s->e.address);
	free(s);
}

static void drop_all(struct td_timer *t)
{
	struct nbd_server *s = td_container_of(t, struct nbd_server, stop_timer);
	struct nbd_conn *c;

	TAILQ_FOREACH(c, &s->conns, link)
		nbd_conn_drop(c);
}

/* A client in the handshake has asked for nothing yet; one that does not read is given NBD_STOP_NS. */
static void nbd_stop(struct td_export *e)
{
	struct nbd_server *s = td_container_of(e, struct nbd_server, e);
	struct nbd_conn *c;

	if (s->stopping)
		return;
	s->stopping = true;
	td_timer_cancel(&s->accept_timer);
	nbd_listen_stop(s);
	td_timer_arm(s->loop, &s->stop_timer, NBD_STOP_NS);
	TAILQ_FOREACH(c, &s->conns, link) {
		if (c->phase == NBD_HELLO || c->phase == NBD_OPTIONS)
			nbd_conn_drop(c);
		else if (c->phase == NBD_TRANSMIT)
			nbd_conn_end(c);
	}
}

static bool nbd_stopped(struct td_export *e)
{
	struct nbd_server *s = td_container_of(e, struct nbd_server, e);

	return s->stopping && TAILQ_EMPTY(&s->conns);
}

static int nbd_start(struct td_loop *loop, struct td_vbd *vbd, const char *address,
		     struct td_export **ret_export, struct td_err *ret_err)
{
	struct nbd_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return td_err_set(ret_err, -ENOMEM, "nbd: no memory");
	s->e.ops = &td_nbd_export;
	s->e.vbd = vbd;
	s->loop = loop;
	TAILQ_INIT(&s->conns);
	TAILQ_INIT(&s->touched);
	TAILQ_INIT(&s->starving);
	STAILQ_INIT(&s->pool);
	s->hook.fn = server_turn;
	s->accept_timer.fn = accept_again;
	s->stall_timer.fn = stall_check;
	s->stop_timer.fn = drop_all;
	td_loop_hook(loop, &s->hook);
	r = nbd_listen(s, address, accept_event, ret_err);
	if (r < 0) {
		nbd_free(&s->e);
		return r;
	}
	*ret_export = &s->e;
	return 0;
}

const struct td_export_ops td_nbd_export = {
	.name = "nbd",
	.start = nbd_start,
	.stop = nbd_stop,
	.stopped = nbd_stopped,
	.free = nbd_free,
};
