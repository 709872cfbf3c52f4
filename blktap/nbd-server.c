// SPDX-License-Identifier: BSD-2-Clause
/*
 * The NBD export: its connections from accept to burial, and the turn of the loop in which all is sent.
 */
#include "nbd.h"
#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_AT_ONCE 16
#define NS_PER_S       1000000000ull

/* ---- connections that hold up others, and the dead ---- */

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

/* The one place where a client's connection is freed: nothing is under way for it any more. */
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
	nbd_forget_contexts(c);
	free(c);
}

/* ---- the turn ---- */

static void update_watch(struct nbd_conn *c)
{
	uint32_t events = (nbd_wants_input(c) ? EPOLLIN : 0) | (c->blocked ? EPOLLOUT : 0);

	if (td_loop_rewatch(&c->watch, events) < 0)
		nbd_conn_drop(c);
}

/* Sent before and after: what goes out makes room for the next requests, whose refusals go out in the same turn. */
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
	c->watch.fn = nbd_conn_event;
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

/* After nbd_stopped(), or of an export that never started: no request is in the disk any more. */
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
	s->unix_socket.fd = -1;
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
