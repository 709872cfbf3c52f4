// SPDX-License-Identifier: BSD-2-Clause
/*
 * Standard output as a leaf: a file that only becomes longer, for images that are written in one go.
 *
 * A format makes its image and then opens it, which reads what was made.  So the first bytes stay in memory, and
 * nothing has left before somebody writes to an image that was opened for that (TD_OPEN_ONCE).
 */
#include "drivers.h"

#include <unistd.h>

#include <blktap/pool.h>

struct sending {
	const uint8_t *buf;
	size_t len;
};

static int send_work(void *arg)
{
	struct sending *s = arg;

	while (s->len > 0) {
		ssize_t n = write(STDOUT_FILENO, s->buf, s->len);

		if (n < 0 && errno != EINTR)
			return -errno;
		s->buf += n > 0 ? n : 0;
		s->len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int send_bytes(const struct td_image *im, const uint8_t *buf, size_t len)
{
	struct sending s = { .buf = buf, .len = len };

	return td_pool_run(im->env->pool, send_work, &s);
}

static int stdout_create(const struct td_create *c, struct td_err *ret_err)
{
	if (!c->env->out)
		return td_err_set(ret_err, -ENOTSUP, "stdout: there is no standard output for a disk here");
	memset(c->env->out, 0, sizeof(*c->env->out));
	return 0;
}

static int stdout_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	(void)opts;
	if (!im->env->out)
		return td_err_set(ret_err, -ENOTSUP, "stdout: there is no standard output for a disk here");
	im->size = im->env->out->end;
	im->limits.block_size = 512;
	im->limits.mem_align = 1;
	return 0;
}

static int stdout_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	const struct td_stdout *o = im->env->out;

	(void)flags;
	if (o->sent || !td_in_range(off, iov->len, TD_STDOUT_HEAD))
		return -ESPIPE;
	td_iov_from_buf(iov, o->head + off);
	return 0;
}

/* In front of it the head, if that has not left yet. */
static int send_iov(struct td_image *im, const struct td_iov *iov)
{
	struct td_stdout *o = im->env->out;
	uint8_t *buf;
	int r = 0;

	if (!o->sent)
		r = send_bytes(im, o->head, o->end);
	if (r < 0)
		return r;
	o->sent = true;
	buf = td_buf_alloc(iov->len);
	if (!buf)
		return -ENOMEM;
	td_iov_to_buf(iov, buf);
	r = send_bytes(im, buf, iov->len);
	td_buf_free(buf, iov->len);
	return r;
}

static int stdout_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct td_stdout *o = im->env->out;
	int r = 0;

	(void)flags;
	if (!o->sent && td_in_range(off, iov->len, TD_STDOUT_HEAD))
		td_iov_to_buf(iov, o->head + off);
	else if (off != o->end || !(im->flags & TD_OPEN_ONCE))
		return -ESPIPE;
	else
		r = send_iov(im, iov);
	if (r == 0)
		o->end = TD_MAX(o->end, off + iov->len);
	return r;
}

static int sync_work(void *arg)
{
	(void)arg;
	/* A pipe: there is nothing to wait for. */
	return fsync(STDOUT_FILENO) < 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP ? -errno : 0;
}

static int stdout_flush(struct td_image *im)
{
	return im->env->out->sent ? td_pool_run(im->env->pool, sync_work, NULL) : 0;
}

/* Of the first bytes alone, by zeros. */
static int stdout_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	struct td_stdout *o = im->env->out;

	if (o->sent || size < o->end || size > TD_STDOUT_HEAD)
		return td_err_set(ret_err, -ESPIPE, "stdout: it only becomes longer as it is written");
	o->end = size;
	return 0;
}

const struct td_driver td_stdout = {
	.name = "stdout",
	.flags = TD_LEAF,
	.create = stdout_create,
	.open = stdout_open,
	.preadv = stdout_preadv,
	.pwritev = stdout_pwritev,
	.flush = stdout_flush,
	.resize = stdout_resize,
};
