// SPDX-License-Identifier: BSD-2-Clause
/*
 * Xenstore by libxenstore.
 *
 * The library starts a thread with the first watch; it only reads the connection.  Watches come through a pipe of the
 * library's, calls block until xenstored has answered.
 */
#include "config.h"

#ifdef HAVE_XEN

#include <blktap/xs.h>

#include <fcntl.h>
#include <stdio.h>
#include <xenstore.h>

struct td_xs {
	struct xs_handle *h;
	xs_transaction_t t; /* XBT_NULL: none begun */
	int fd;             /* readable when a watch has fired */
};

/* The library says false or NULL and leaves errno; never believe that it is set. */
static int failed(void)
{
	return errno > 0 ? -errno : -EIO;
}

int td_xs_connect(struct td_xs **ret_xs, struct td_err *ret_err)
{
	struct td_xs *xs = calloc(1, sizeof(*xs));

	if (!xs)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	errno = 0;
	xs->h = xs_open(0);
	if (!xs->h) {
		int r = failed();

		free(xs);
		return td_err_set(ret_err, r,
				  "cannot reach xenstore (%s): it wants root in a domain of a running Xen",
				  strerror(-r));
	}
	xs->fd = xs_fileno(xs->h);
	if (xs->fd < 0) {
		td_xs_close(xs);
		return td_err_set(ret_err, -EMFILE, "xenstore: no descriptor for its watches");
	}
	td_ignore(fcntl(xs->fd, F_SETFD, FD_CLOEXEC)); /* a child that has it too does no harm */
	*ret_xs = xs;
	return 0;
}

void td_xs_close(struct td_xs *xs)
{
	if (!xs)
		return;
	td_xs_abort(xs);
	xs_close(xs->h);
	free(xs);
}

/* ---- one node ---- */

int td_xs_read(struct td_xs *xs, const char *path, char **ret_value)
{
	unsigned len = 0;
	char *value;

	errno = 0;
	value = xs_read(xs->h, xs->t, path, &len);
	if (!value)
		return failed();
	if (strlen(value) != len) { /* the library ends it with a zero of its own */
		free(value);
		return -EINVAL;
	}
	*ret_value = value;
	return 0;
}

static bool parse_u64(const char *s, uint64_t *ret)
{
	uint64_t n = 0;

	if (!*s)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*s - '0'), &n))
			return false;
	}
	*ret = n;
	return true;
}

int td_xs_read_u64(struct td_xs *xs, const char *path, uint64_t *ret)
{
	td_cleanup(free) char *value = NULL;
	int r = td_xs_read(xs, path, &value);

	if (r < 0 || !value)
		return r;
	return parse_u64(value, ret) ? 0 : -EINVAL;
}

int td_xs_write(struct td_xs *xs, const char *path, const char *fmt, ...)
{
	td_cleanup(free) char *value = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&value, fmt, ap);
	va_end(ap);
	if (n < 0) {
		value = NULL;
		return -ENOMEM;
	}
	if (n > TD_XS_VALUE_MAX)
		return -E2BIG;
	errno = 0;
	return xs_write(xs->h, xs->t, path, value, (unsigned)n) ? 0 : failed();
}

int td_xs_remove(struct td_xs *xs, const char *path)
{
	errno = 0;
	if (xs_rm(xs->h, xs->t, path))
		return 0;
	return errno == ENOENT ? 0 : failed();
}

int td_xs_list(struct td_xs *xs, const char *path, char ***ret_names, unsigned *ret_nr)
{
	unsigned nr = 0;
	char **names;

	errno = 0;
	names = xs_directory(xs->h, xs->t, path, &nr);
	if (!names)
		return failed();
	*ret_names = names;
	*ret_nr = nr;
	return 0;
}

int td_xs_mkdir(struct td_xs *xs, const char *path, unsigned owner, unsigned reader)
{
	struct xs_permissions perms[] = {
		{ .id = owner, .perms = XS_PERM_NONE }, /* the owner may do everything, others nothing */
		{ .id = reader, .perms = XS_PERM_READ },
	};

	errno = 0;
	if (!xs_mkdir(xs->h, xs->t, path) || !xs_set_permissions(xs->h, xs->t, path, perms, TD_NELEMS(perms)))
		return failed();
	return 0;
}

/* ---- transactions ---- */

int td_xs_begin(struct td_xs *xs)
{
	if (xs->t != XBT_NULL)
		return -EBUSY;
	errno = 0;
	xs->t = xs_transaction_start(xs->h);
	return xs->t == XBT_NULL ? failed() : 0;
}

int td_xs_commit(struct td_xs *xs)
{
	xs_transaction_t t = xs->t;

	if (t == XBT_NULL)
		return -EINVAL;
	xs->t = XBT_NULL; /* over in any case */
	errno = 0;
	return xs_transaction_end(xs->h, t, false) ? 0 : failed();
}

void td_xs_abort(struct td_xs *xs)
{
	if (xs->t != XBT_NULL)
		xs_transaction_end(xs->h, xs->t, true);
	xs->t = XBT_NULL;
}

/* ---- watches ---- */

int td_xs_watch(struct td_xs *xs, const char *path, const char *token)
{
	errno = 0;
	return xs_watch(xs->h, path, token) ? 0 : failed();
}

void td_xs_unwatch(struct td_xs *xs, const char *path, const char *token)
{
	xs_unwatch(xs->h, path, token);
}

int td_xs_fd(const struct td_xs *xs)
{
	return xs->fd;
}

int td_xs_next(struct td_xs *xs, char **ret_path, const char **ret_token)
{
	char **event;
	char *path;
	size_t len, token_len;

	errno = 0;
	event = xs_check_watch(xs->h);
	if (!event)
		return errno == EAGAIN ? 0 : failed();
	/* The library's block begins with pointers into itself: ours begins with the path. */
	len = strlen(event[XS_WATCH_PATH]) + 1;
	token_len = strlen(event[XS_WATCH_TOKEN]) + 1;
	path = malloc(len + token_len);
	if (path) {
		memcpy(path, event[XS_WATCH_PATH], len);
		memcpy(path + len, event[XS_WATCH_TOKEN], token_len);
		*ret_path = path;
		*ret_token = path + len;
	}
	free(event);
	return path ? 1 : -ENOMEM;
}

#endif
