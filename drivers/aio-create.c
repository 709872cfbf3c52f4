// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making files for the leaf driver, and judging whether a block device may be overwritten.
 *
 * Create options: preallocation=off|falloc|full.
 *
 * On disk when this returns: the file with its whole length, and its name.  A format writes into it only then, so a
 * power cut leaves no file, an empty one or one of zeros, or what the format's own order promises.
 */
#include "aio.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blktap/pool.h>

#define PIECE     (4u << 20) /* of zeros, written at a time */
#define FRESH_LEN (1u << 20) /* zeros at the start of a block device that may be used without force */

/* What a worker thread does: fsync and the reads of a device would stop the loop. */
struct create_work {
	int fd;
	int (*fn)(struct create_work *w);
	const char *path;
	uint64_t size;
};

/* Does the device begin with zeros, as one does that nobody uses?  0 yes, -EEXIST no. */
static int work_fresh(struct create_work *w)
{
	uint64_t len = TD_MIN(w->size, FRESH_LEN);
	char *buf = td_buf_alloc(FRESH_LEN);
	int r = 0;

	if (!buf)
		return -ENOMEM;
	for (uint64_t done = 0; r == 0 && done < len;) {
		ssize_t got = pread(w->fd, buf, len - done, (off_t)done);

		if (got <= 0)
			r = got < 0 ? -errno : -EIO;
		for (ssize_t i = 0; r == 0 && i < got; i++)
			if (buf[i])
				r = -EEXIST;
		if (r == 0)
			done += (uint64_t)got;
	}
	td_buf_free(buf, FRESH_LEN);
	return r;
}

/* So that the new name is still there after a power cut. */
static int work_sync(struct create_work *w)
{
	const char *slash = strrchr(w->path, '/');
	td_cleanup(free) char *dir = slash ? strndup(w->path, (size_t)(slash - w->path) + 1) : strdup(".");
	int fd, r = 0;

	if (!dir)
		return -ENOMEM;
	if (fsync(w->fd) < 0)
		return -errno;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES ? 0 : -errno; /* it may be ours to write in and not to read */
	if (fsync(fd) < 0 && errno != EINVAL)
		r = -errno;
	(void)close(fd);
	return r;
}

static int create_worker(void *arg)
{
	struct create_work *w = arg;

	return w->fn(w);
}

static int create_device(const struct td_create *c, struct create_work *w, struct td_err *ret_err)
{
	uint64_t size;
	int r;

	if (ioctl(w->fd, BLKGETSIZE64, &size) < 0)
		return td_err_set(ret_err, -errno, "%s: cannot tell its size: %m", c->path);
	if (c->size > size)
		return td_err_set(ret_err, -ENOSPC, "%s: the device has only %llu bytes", c->path,
				  (unsigned long long)size);
	if (c->force)
		return 0;
	w->fn = work_fresh;
	w->size = size;
	r = td_pool_run(c->env->pool, create_worker, w);
	if (r == -EEXIST)
		return td_err_set(ret_err, r, "%s: there is data on this device; force overwrites it",
				  c->path);
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot read it: %s", c->path, strerror(-r)) : 0;
}

/* By the engine: the loop goes on meanwhile, and what is done can be shown. */
static int write_zeros(const struct td_create *c, int fd, uint64_t size)
{
	size_t len = TD_MIN(size, (uint64_t)PIECE);
	void *buf = td_buf_alloc(len);
	struct iovec v;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	memset(buf, 0, len);
	for (uint64_t done = 0; r == 0 && done < size; done += v.iov_len) {
		struct td_iov iov = td_iov_buf(&v, buf, TD_MIN(size - done, (uint64_t)len));

		r = td_io_writev(c->env->engine, fd, done, &iov);
		if (r == 0 && c->progress)
			c->progress->fn(c->progress, done + v.iov_len, size);
	}
	td_buf_free(buf, len);
	return r;
}

/* off: sparse.  falloc: the space is kept at once.  full: and zeros are written there. */
static int preallocate(const struct td_create *c, int fd, uint64_t size, struct td_err *ret_err)
{
	const char *how = td_opts_get(c->opts, "preallocation");
	int r = 0;

	if (how && strcmp(how, "falloc") == 0)
		r = td_io_fallocate(c->env->engine, fd, 0, 0, size);
	else if (how && strcmp(how, "full") == 0)
		r = write_zeros(c, fd, size);
	else if (how && strcmp(how, "off") != 0)
		return td_err_set(ret_err, -EINVAL, "%s: preallocation=%s: it is off, falloc or full",
				  c->path, how);
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot preallocate: %s", c->path, strerror(-r)) : 0;
}

static int create_file(const struct td_create *c, struct create_work *w, const struct stat *st,
		       struct td_err *ret_err)
{
	/* A size that nothing can have is refused by ftruncate; here it must only not wrap. */
	uint64_t size = td_align_up(TD_MIN(c->size, TD_IMAGE_MAX - AIO_SECTOR), AIO_SECTOR);
	int r = 0;

	if (st->st_size > 0 && !c->force)
		return td_err_set(ret_err, -EEXIST, "%s: exists and is not empty; force overwrites it",
				  c->path);
	if (st->st_size > 0) /* what was there must not show in the new disk */
		r = td_io_truncate(c->env->engine, w->fd, 0);
	if (r == 0)
		r = td_io_truncate(c->env->engine, w->fd, size);
	if (r < 0)
		return td_err_set(ret_err, r, "%s: cannot set its size: %s", c->path, strerror(-r));
	r = size > 0 ? preallocate(c, w->fd, size, ret_err) : 0;
	if (r < 0)
		return r;
	w->fn = work_sync;
	r = td_pool_run(c->env->pool, create_worker, w);
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot be written to disk: %s", c->path, strerror(-r)) : 0;
}

static int create_open(const struct td_create *c, struct create_work *w, struct td_err *ret_err)
{
	struct stat st;
	int r = -EINVAL;

	if (fstat(w->fd, &st) < 0)
		return td_err_set(ret_err, -errno, "%s: cannot look at it: %m", c->path);
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
		r = td_filelock(w->fd, c->path, FILELOCK_GROW, ret_err); /* before anything in it is lost */
		if (r < 0)
			return r;
	}
	if (S_ISREG(st.st_mode))
		return create_file(c, w, &st, ret_err);
	if (S_ISBLK(st.st_mode))
		return create_device(c, w, ret_err);
	return td_err_set(ret_err, r, "%s: is neither a regular file nor a block device", c->path);
}

int aio_create(const struct td_create *c, struct td_err *ret_err)
{
	struct create_work w = { .path = c->path };
	bool made = true;
	int r;

	if (*c->path == 0)
		return td_err_set(ret_err, -EINVAL, "aio: no path is given: write aio:PATH");
	w.fd = open(c->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (w.fd < 0 && errno == EEXIST) {
		made = false;
		/* What is there may be a FIFO or a terminal: neither may hold us up. */
		w.fd = open(c->path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	if (w.fd < 0)
		return td_err_set(ret_err, -errno, "%s: cannot create it: %m", c->path);
	r = create_open(c, &w, ret_err);
	if (r < 0 && made)
		(void)unlink(c->path);
	(void)close(w.fd);
	return r;
}

/* A raw disk is its file. */
int aio_measure(struct td_measure *m, struct td_err *ret_err)
{
	const char *how = td_opts_get(m->opts, "preallocation");

	if (how && strcmp(how, "off") != 0 && strcmp(how, "falloc") != 0 && strcmp(how, "full") != 0)
		return td_err_set(ret_err, -EINVAL, "preallocation=%s: it is off, falloc or full", how);
	m->required = m->fully_allocated = td_align_up(m->size, AIO_SECTOR);
	return 0;
}
