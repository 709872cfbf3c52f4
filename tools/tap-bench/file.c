// SPDX-License-Identifier: BSD-2-Clause
/*
 * A lane's requests straight to a file or device, by the engine that tapdisk would use: what the disk itself takes.  A
 * lane is a loop with an engine, and as many coroutines as requests may be in flight.
 */
#include "bench.h"
#include <blktap/co.h>
#include <blktap/io.h>
#include <blktap/lock.h>
#include <blktap/pool.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
	struct target t;
	const struct job *job;
	int fd;
};

static int file_size(int fd, uint64_t *ret_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_size = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, ret_size) < 0)
		return -errno;
	return 0;
}

/* Past the page cache, as tapdisk does, where the file system can. */
static int open_direct(const char *path, int flags)
{
	int fd = open(path, flags | O_DIRECT | O_CLOEXEC);

	if (fd < 0 && errno == EINVAL)
		fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int file_open(const char *address, const struct job *job, struct target **ret, uint64_t *ret_size,
		     struct td_err *ret_err)
{
	struct file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	f->t.ops = &file_target;
	f->job = job;
	f->fd = open_direct(address, job->read_percent == 100 ? O_RDONLY : O_RDWR);
	r = f->fd < 0 ? f->fd : file_size(f->fd, ret_size);
	if (r < 0) {
		if (f->fd >= 0)
			close(f->fd);
		free(f);
		return td_err_set(ret_err, r, "%s: %s", address, strerrordesc_np(-r));
	}
	*ret = &f->t;
	return 0;
}

static void file_close(struct target *t)
{
	struct file *f = td_container_of(t, struct file, t);

	close(f->fd);
	free(f);
}

static pid_t file_server(const struct target *t)
{
	(void)t;
	return 0;
}

/* ---- a lane ---- */

struct lane {
	const struct file *file;
	struct load *load;
	struct td_loop *loop;
	struct td_pool *pool;
	struct td_engine *engine;
	struct td_waitq waiting; /* for any request to come back */
	unsigned running;
	struct load_io *io; /* for the coroutine that is being started */
};

TD_CO static int serve(const struct lane *ln, const struct load_io *io)
{
	struct iovec v;
	struct td_iov iov = td_iov_buf(&v, io->buf, io->len);
	int64_t n;

	switch (io->op) {
	case LOAD_READ:
		n = td_io_readv(ln->engine, ln->file->fd, io->off, &iov);
		return n < 0 ? (int)n : (uint64_t)n == io->len ? 0 : -EIO;
	case LOAD_WRITE:
		return td_io_writev(ln->engine, ln->file->fd, io->off, &iov);
	case LOAD_FLUSH:
	case LOAD_OPS:
		break;
	}
	return td_io_fsync(ln->engine, ln->file->fd);
}

static void one_slot(void *arg)
{
	struct lane *ln = arg;
	struct load_io *io = ln->io;
	enum load_next next;

	while ((next = load_next(ln->load, io)) != LOAD_END) {
		int r;

		if (next == LOAD_WAIT) {
			td_waitq_wait(&ln->waiting);
			continue;
		}
		r = serve(ln, io);
		load_finish(ln->load, io, r, load_now());
		td_waitq_wake_all(&ln->waiting);
	}
	td_waitq_wake_all(&ln->waiting);
	if (--ln->running == 0)
		td_loop_stop(ln->loop);
}

static void start_slots(struct lane *ln, struct load_io *ios, unsigned nr)
{
	ln->running = 1; /* so that it does not stop before all have been started */
	for (unsigned i = 0; i < nr; i++) {
		ln->io = &ios[i];
		ln->running++;
		if (td_co_start(one_slot, ln) < 0) {
			ln->running--;
			load_fail(ln->load, -ENOMEM, "no memory for the requests");
		}
	}
	ln->running--;
	while (ln->running > 0)
		td_loop_run(ln->loop);
}

static int start_lane(struct lane *ln, struct td_err *ret_err)
{
	ln->loop = td_loop_new();
	ln->pool = ln->loop ? td_pool_new(ln->loop, 1) : NULL;
	if (!ln->pool)
		return td_err_set(ret_err, -ENOMEM, "no memory for a lane");
	return td_engine_new(ln->file->job->engine, ln->loop, ln->pool, ln->file->job->depth, &ln->engine,
			     ret_err);
}

static void run_slots(struct lane *ln, struct load_io *ios, unsigned nr)
{
	uint64_t bs = ln->file->job->bs, stride = td_align_up(bs, 4096);
	char *data = aligned_alloc(4096, stride * nr);

	for (unsigned i = 0; data && i < nr; i++)
		ios[i].buf = memset(data + stride * i, (int)(0x55 + i), bs);
	if (data)
		start_slots(ln, ios, nr);
	else
		load_fail(ln->load, -ENOMEM, "no memory for the requests");
	free(data);
}

static void file_lane(struct target *t, unsigned lane, struct load *l)
{
	struct lane ln = { .file = td_container_of(t, struct file, t), .load = l };
	struct load_io *ios = calloc(ln.file->job->depth, sizeof(*ios));
	struct td_err err = { "no memory" };
	int r = ios ? start_lane(&ln, &err) : -ENOMEM;

	(void)lane;
	if (r < 0)
		load_fail(l, r, err.msg);
	else
		run_slots(&ln, ios, ln.file->job->depth);
	td_engine_free(ln.engine);
	if (ln.pool)
		td_pool_free(ln.pool);
	td_loop_free(ln.loop);
	td_co_thread_done();
	free(ios);
}

const struct target_ops file_target = {
	.open = file_open,
	.lane = file_lane,
	.server = file_server,
	.close = file_close,
};
