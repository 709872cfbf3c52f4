// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk from standard input or to standard output.  See stream.h.
 *
 * Standard input may be shared with other programs, so its flags are not changed: a pipe is read when
 * the loop says that it holds something, which returns what there is.
 */
#include "stream.h"

#include <blktap/co.h>
#include <blktap/pool.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIPE_SIZE (1 << 20)
#define ZEROS     (256u << 10)

static const uint8_t stream_zeros[ZEROS];

/* ---- in ---- */

static void in_ready(struct td_watch *w, uint32_t events)
{
	struct stream_in *s = td_container_of(w, struct stream_in, watch);
	struct td_co *co = s->waiting;

	(void)events;
	if (!co)
		return;
	s->waiting = NULL;
	td_loop_unwatch(w); /* or a pipe whose writer has gone would keep the loop from sleeping */
	td_co_wake(co);
}

/* A file knows how much is left of it. */
static uint64_t bytes_left(const struct stat *st)
{
	off_t at = lseek(STDIN_FILENO, 0, SEEK_CUR);
	uint64_t size = (uint64_t)st->st_size;

	if (S_ISBLK(st->st_mode) && ioctl(STDIN_FILENO, BLKGETSIZE64, &size) < 0)
		return UINT64_MAX;
	if (at < 0 || !(S_ISREG(st->st_mode) || S_ISBLK(st->st_mode)))
		return UINT64_MAX;
	return (uint64_t)at < size ? size - (uint64_t)at : 0;
}

int stream_in_open(struct stream_in *s, struct td_loop *loop, struct td_err *ret_err)
{
	struct stat st;

	*s = (struct stream_in){ .loop = loop, .watch = { .fn = in_ready } };
	if (isatty(STDIN_FILENO) == 1)
		return td_err_set(ret_err, -EINVAL, "standard input is a terminal: give it a disk to read");
	if (fstat(STDIN_FILENO, &st) < 0)
		return td_err_set(ret_err, -errno, "standard input: %m");
	s->size = bytes_left(&st);
	td_ignore(fcntl(STDIN_FILENO, F_SETPIPE_SZ, PIPE_SIZE)); /* fewer turns; as it was is fine too */
	return 0;
}

void stream_in_cancel(struct stream_in *s)
{
	s->cancelled = true;
	in_ready(&s->watch, 0);
}

/* A file is always ready, which epoll calls EPERM. */
static int wait_ready(struct stream_in *s)
{
	int r = s->cancelled ? -ECANCELED : td_loop_watch(s->loop, &s->watch, STDIN_FILENO, EPOLLIN);

	if (r < 0)
		return r == -EPERM ? 0 : r;
	s->waiting = td_co_self();
	td_co_yield();
	return s->cancelled ? -ECANCELED : 0;
}

int64_t stream_in_read(struct stream_in *s, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		int r = wait_ready(s);
		ssize_t n;

		if (r < 0)
			return r;
		n = read(STDIN_FILENO, (char *)buf + done, len - done);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return (int64_t)done;
}

/* ---- out ---- */

struct out_work {
	const uint8_t *buf;
	uint64_t len;
};

static int write_all(const uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, buf, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		buf += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int out_work(void *arg)
{
	const struct out_work *w = arg;
	int r = 0;

	if (w->buf)
		return write_all(w->buf, w->len);
	for (uint64_t left = w->len, n; r == 0 && left > 0; left -= n) {
		n = TD_MIN(left, (uint64_t)ZEROS);
		r = write_all(stream_zeros, n);
	}
	return r;
}

int stream_out_write(struct td_pool *pool, const void *buf, uint64_t len)
{
	struct out_work w = { .buf = buf, .len = len };

	return td_pool_run(pool, out_work, &w);
}

static int sync_work(void *arg)
{
	(void)arg;
	/* A pipe, a terminal: there is nothing to wait for. */
	return fsync(STDOUT_FILENO) < 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP ? -errno : 0;
}

int stream_out_sync(struct td_pool *pool)
{
	return td_pool_run(pool, sync_work, NULL);
}
