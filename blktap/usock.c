// SPDX-License-Identifier: BSD-2-Clause
/* Listening unix sockets, and their files; see usock.h. */
#include <blktap/usock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A socket file in the way: somebody's, or left behind by a process that was killed? */
static int remove_stale(const char *what, const struct sockaddr_un *sa, int type, struct td_err *ret_err)
{
	struct stat st;
	int fd, r;

	if (lstat(sa->sun_path, &st) < 0)
		return errno == ENOENT ? 0
				       : td_err_set(ret_err, -errno, "%s %s: %s", what, sa->sun_path,
						    strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return td_err_set(ret_err, -EEXIST, "%s %s: exists and is not a socket; choose another path",
				  what, sa->sun_path);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return td_err_set(ret_err, -errno, "%s: socket: %s", what, strerror(errno));
	/* A socket of another type answers too (EPROTOTYPE): it lives. */
	r = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? -errno : 0;
	close(fd);
	if (r != -ECONNREFUSED)
		return td_err_set(ret_err, -EADDRINUSE, "%s %s: somebody listens there; choose another path",
				  what, sa->sun_path);
	if (unlink(sa->sun_path) < 0 && errno != ENOENT)
		return td_err_set(ret_err, -errno, "%s %s: cannot remove the dead socket: %s", what,
				  sa->sun_path, strerror(errno));
	return 0;
}

static int bind_listen(struct td_usock *s, const struct sockaddr_un *sa, int backlog)
{
	struct stat st;

	/* The file gets the mode of the socket: nobody else can connect, not even for a moment. */
	if (fchmod(s->fd, 0600) < 0 || bind(s->fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0)
		return -errno;
	s->path = strdup(sa->sun_path);
	if (!s->path)
		return -ENOMEM;
	if (stat(sa->sun_path, &st) < 0)
		return -errno;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return listen(s->fd, backlog) < 0 ? -errno : 0;
}

int td_usock_listen(struct td_usock *s, const char *what, const char *path, int type, int backlog,
		    struct td_err *ret_err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int r;

	*s = (struct td_usock){ .fd = -1 };
	if (!*path || strlen(path) >= sizeof(sa.sun_path))
		return td_err_set(ret_err, -EINVAL, "%s unix:%s: the path of a socket has 1 to %zu bytes",
				  what, path, sizeof(sa.sun_path) - 1);
	memcpy(sa.sun_path, path, strlen(path));
	r = remove_stale(what, &sa, type, ret_err);
	if (r < 0)
		return r;
	s->fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return td_err_set(ret_err, -errno, "%s: socket: %s", what, strerror(errno));
	r = bind_listen(s, &sa, backlog);
	return r < 0 ? td_err_set(ret_err, r, "%s unix:%s: %s", what, path, strerrordesc_np(-r)) : 0;
}

void td_usock_close(struct td_usock *s)
{
	struct stat st;

	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	if (s->path && stat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
	free(s->path);
	s->path = NULL;
}
