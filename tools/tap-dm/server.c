// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sockets of the device model, and their loop.  See server.h.
 */
#include "server.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- sockets ---- */

/* One that a device model left that was killed; nothing else is removed. */
static void remove_stale(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
}

static int listen_path(const char *path, struct td_err *ret_err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = 0;

	if (fd < 0)
		return td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
	memcpy(sa.sun_path, path, strlen(path) + 1);
	remove_stale(path);
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 8) < 0)
		r = td_err_set(ret_err, -errno, "%s: cannot listen there: %s", path, strerror(errno));
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* What libxl opened for us. */
static int check_handed_over(int fd, struct td_err *ret_err)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening)
		return fd;
	return td_err_set(ret_err, -EBADF, "fd=%d: not a listening socket", fd);
}

static json_t *describe(const struct dm_socket *k)
{
	char name[160];

	if (k->path[0])
		snprintf(name, sizeof(name), "unix:%s,server=on", k->path);
	else
		snprintf(name, sizeof(name), "unix:fd=%d,server=on", k->fd);
	return json_pack("{s:s,s:s,s:b}", "label", k->id, "filename", name, "frontend-open", 1);
}

static int send_all(struct qmp *q, const char *text, size_t len);

static int open_one(struct dm_server *s, const struct dm_socket *k, struct td_err *ret_err)
{
	struct dm_conn *c = &s->conn[s->nr];
	int fd;

	if (!k->control)
		return 0;
	fd = k->path[0] ? listen_path(k->path, ret_err) : check_handed_over(k->fd, ret_err);
	if (fd < 0)
		return fd;
	*c = (struct dm_conn){ .fd = -1, .listen_fd = fd, .socket = k };
	s->nr++;
	return json_array_append_new(s->chardevs, describe(k)) < 0 ? -ENOMEM : 0;
}

int dm_server_open(struct dm_server *s, const struct dm_args *a, struct td_err *ret_err)
{
	int r = 0;

	s->chardevs = json_array();
	s->dm.chardevs = s->chardevs;
	for (unsigned i = 0; i < a->nr_sockets && r == 0; i++)
		r = open_one(s, &a->socket[i], ret_err);
	return r;
}

static void drop(struct dm_conn *c)
{
	qmp_done(&c->q);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

void dm_server_close(struct dm_server *s)
{
	for (unsigned i = 0; i < s->nr; i++) {
		drop(&s->conn[i]);
		close(s->conn[i].listen_fd);
		if (s->conn[i].socket->path[0])
			unlink(s->conn[i].socket->path);
	}
	json_decref(s->chardevs);
}

/* ---- one client ---- */

/* A client that does not read its replies, though they fit into no socket's buffer any more, is dropped. */
static int send_all(struct qmp *q, const char *text, size_t len)
{
	const struct dm_conn *c = td_container_of(q, struct dm_conn, q);
	ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EAGAIN;
}

static void greet(struct dm_server *s, struct dm_conn *c)
{
	c->fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (c->fd < 0)
		return; /* gone already */
	c->q = (struct qmp){ .dm = &s->dm, .send = send_all };
	if (qmp_greet(&c->q) < 0)
		drop(c);
}

static void serve(struct dm_conn *c)
{
	char buf[2048];
	ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || qmp_feed(&c->q, buf, (size_t)n) < 0)
		drop(c);
}

/* ---- the loop ---- */

static int wait_for_one(struct dm_server *s, int signal_fd, struct pollfd *pfd)
{
	pfd[s->nr] = (struct pollfd){ .fd = signal_fd, .events = POLLIN };
	for (unsigned i = 0; i < s->nr; i++) {
		const struct dm_conn *c = &s->conn[i];

		pfd[i] = (struct pollfd){ .fd = c->fd >= 0 ? c->fd : c->listen_fd, .events = POLLIN };
	}
	return poll(pfd, s->nr + 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

int dm_server_run(struct dm_server *s, int signal_fd, struct td_err *ret_err)
{
	struct pollfd pfd[DM_SOCKETS + 1] = { 0 };
	int r;

	while (!s->dm.quit) {
		r = wait_for_one(s, signal_fd, pfd);
		if (r < 0)
			return td_err_set(ret_err, r, "poll: %s", strerror(-r));
		if (pfd[s->nr].revents)
			return 0;
		for (unsigned i = 0; i < s->nr; i++) {
			if (!pfd[i].revents)
				continue;
			if (s->conn[i].fd >= 0)
				serve(&s->conn[i]);
			else
				greet(s, &s->conn[i]);
		}
	}
	return 0;
}
