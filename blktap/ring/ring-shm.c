// SPDX-License-Identifier: BSD-2-Clause
/*
 * The ring over shared memory as an export: --ring unix:PATH.  Who may connect, and how it ends.
 *
 * Half connections cost a descriptor and some bytes each and are bounded: when there are too many the oldest goes, so
 * that a thousand that never choose keep nobody out.
 */
#include "ring-shm.h"
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG        128
#define ACCEPT_AT_ONCE 16
#define NS_PER_S       1000000000ull

/* Behind the hooks of the rings: whoever ends and is idle is freed. */
static unsigned server_turn(struct td_hook *h)
{
	struct shm_server *s = td_container_of(h, struct shm_server, hook);
	struct shm_conn *c = TAILQ_FIRST(&s->ending), *next;
	unsigned nr = 0;

	for (; c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!shm_conn_idle(c))
			continue;
		shm_conn_free(c);
		nr++;
	}
	return nr;
}

static void disk_changed(struct td_vbd_watch *w)
{
	struct shm_server *s = td_container_of(w, struct shm_server, change);
	struct shm_conn *c = TAILQ_FIRST(&s->served), *next;

	for (; c; c = next) {
		next = TAILQ_NEXT(c, link);
		shm_conn_tell(c);
	}
}

/* ---- new connections ---- */

static void accept_again(struct td_timer *t)
{
	struct shm_server *s = td_container_of(t, struct shm_server, accept_timer);

	td_ignore(td_loop_rewatch(&s->watch, EPOLLIN)); /* EPOLL_CTL_MOD of a live fd */
}

/* Out of descriptors or memory: the client waits in the listener's queue, and we do not spin. */
static void accept_later(struct shm_server *s)
{
	td_ignore(td_loop_rewatch(&s->watch, 0)); /* as above */
	td_timer_arm(s->loop, &s->accept_timer, NS_PER_S);
}

static void accept_event(struct td_watch *w, uint32_t events)
{
	struct shm_server *s = td_container_of(w, struct shm_server, watch);

	(void)events;
	for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
		/* cppcheck-suppress nullPointer ; no address is wanted */
		int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
			accept_later(s);
		if (fd < 0)
			return;
		if (s->nr_half == SHM_MAX_HALF)
			shm_conn_end(TAILQ_FIRST(&s->half));
		if (shm_conn_new(s, fd) < 0)
			close(fd);
	}
}

/* ---- the export ---- */

static void end_all(struct shm_conns *list)
{
	struct shm_conn *c;

	while ((c = TAILQ_FIRST(list)))
		shm_conn_end(c); /* takes it off this list */
}

static void shm_stop(struct td_export *e)
{
	struct shm_server *s = td_container_of(e, struct shm_server, e);

	if (s->stopping)
		return;
	s->stopping = true;
	td_timer_cancel(&s->accept_timer);
	td_loop_unwatch(&s->watch);
	td_usock_close(&s->socket);
	end_all(&s->half);
	end_all(&s->served);
}

static bool shm_stopped(struct td_export *e)
{
	struct shm_server *s = td_container_of(e, struct shm_server, e);

	return s->stopping && TAILQ_EMPTY(&s->ending);
}

static void shm_free(struct td_export *e)
{
	struct shm_server *s = td_container_of(e, struct shm_server, e);
	struct shm_conn *c;

	shm_stop(e);
	while ((c = TAILQ_FIRST(&s->ending)))
		shm_conn_free(c);
	td_vbd_unwatch(e->vbd, &s->change);
	td_loop_unhook(s->loop, &s->hook);
	free(s->e.address);
	free(s);
}

static int listen_on(struct shm_server *s, const char *address, struct td_err *ret_err)
{
	int r;

	if (strncmp(address, "unix:", 5) != 0)
		return td_err_set(ret_err, -EINVAL, "ring %s: an address is unix:PATH", address);
	r = td_usock_listen(&s->socket, "ring", address + 5, SOCK_SEQPACKET, BACKLOG, ret_err);
	if (r < 0)
		return r;
	r = td_loop_watch(s->loop, &s->watch, s->socket.fd, EPOLLIN);
	return r < 0 ? td_err_set(ret_err, r, "ring %s: %s", address, strerrordesc_np(-r)) : 0;
}

static int shm_start(struct td_loop *loop, struct td_vbd *vbd, const char *address,
		     struct td_export **ret_export, struct td_err *ret_err)
{
	struct shm_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return td_err_set(ret_err, -ENOMEM, "ring: no memory");
	s->e.ops = &td_ring_export;
	s->e.vbd = vbd;
	s->e.address = strdup(address);
	s->loop = loop;
	s->socket.fd = -1;
	s->watch.fn = accept_event;
	s->accept_timer.fn = accept_again;
	s->hook.fn = server_turn;
	s->change.fn = disk_changed;
	TAILQ_INIT(&s->half);
	TAILQ_INIT(&s->served);
	TAILQ_INIT(&s->ending);
	td_loop_hook(loop, &s->hook);
	td_vbd_watch(vbd, &s->change);
	r = s->e.address ? listen_on(s, address, ret_err) : td_err_set(ret_err, -ENOMEM, "ring: no memory");
	if (r < 0) {
		shm_free(&s->e);
		return r;
	}
	*ret_export = &s->e;
	return 0;
}

/* Each ring of each client. */
static int shm_stats(const struct td_export *e, json_t *ret_object)
{
	const struct shm_server *s = td_container_of(e, struct shm_server, e);
	json_t *rings = json_array();
	const struct shm_conn *c;
	int r = json_object_set_new(ret_object, "rings", rings) < 0 ? -ENOMEM : 0;

	TAILQ_FOREACH(c, &s->served, link) {
		for (unsigned i = 0; i < c->nr_queues && r == 0; i++) {
			json_t *one = json_object();

			r = json_array_append_new(rings, one) < 0 ? -ENOMEM
								  : ring_stats_json(c->queue[i].ring, one);
		}
	}
	if (r == 0 && s->failed[0] && json_object_set_new(ret_object, "failed", json_string(s->failed)) < 0)
		r = -ENOMEM;
	return r;
}

const struct td_export_ops td_ring_export = {
	.name = "ring",
	.start = shm_start,
	.stop = shm_stop,
	.stopped = shm_stopped,
	.free = shm_free,
	.stats = shm_stats,
};
