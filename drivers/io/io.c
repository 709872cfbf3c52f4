// SPDX-License-Identifier: BSD-2-Clause
/*
 * The coroutine face of the engines.  It owns what the kernel leaves open: interrupted and refused requests
 * are sent again, short transfers go on with the rest, vectors longer than the kernel takes are cut.  Above
 * it there is full length, end of file, or an error.
 */
#include <assert.h>
#include <limits.h>
#include <sys/stat.h>

#include <blktap/co.h>
#include <blktap/io.h>

#define NR_SMALL        16
#define RETRIES_AT_ONCE 8
#define RETRY_WAIT_NS   1000000

/*
 * Queue it, sleep until it is done.  The loop's hook submits it with all others of this turn.  EAGAIN says that the
 * kernel is short of something: after a few tries wait for it, not spin for it.
 */
static int64_t run(struct td_engine *e, struct td_io *io)
{
	io->co = td_co_self();
	assert(io->co);
	for (unsigned tries = 1;; tries++) {
		STAILQ_INSERT_TAIL(&e->queue, io, link);
		td_co_yield();
		if (io->result != -EAGAIN && io->result != -EINTR)
			return io->result;
		if (tries >= RETRIES_AT_ONCE)
			td_loop_sleep(e->loop, RETRY_WAIT_NS);
	}
}

/* What the next call moves: the window's own array where that will do, else a copy with its ends cut. */
struct span {
	struct iovec *heap;
	struct iovec small[NR_SMALL];
};

/*
 * Let io move as much of [done, iov->len) as one call can take.  A window's first byte must be in its first entry, as
 * td_iov_slice() leaves it: then io->len is not 0.
 */
static int span_begin(struct span *s, struct td_io *io, const struct td_iov *iov, uint64_t done)
{
	struct td_iov window = td_iov_slice(iov, done, iov->len - done);
	uint64_t end = window.skip + window.len, sum = 0;
	struct iovec *out;
	unsigned nr;

	for (nr = 0; nr < IOV_MAX && nr < window.nr && sum < end; nr++)
		sum += window.vec[nr].iov_len;
	s->heap = NULL;
	window.len = io->len = TD_MIN(sum, end) - window.skip;
	io->vec = window.vec;
	io->nr = nr;
	if (window.skip == 0 && sum <= end)
		return 0;
	if (nr > NR_SMALL) {
		s->heap = malloc(nr * sizeof(*s->heap));
		if (!s->heap)
			return -ENOMEM;
	}
	out = s->heap ? s->heap : s->small;
	io->nr = (unsigned)td_iov_fill(&window, out, nr); /* no more pieces than entries */
	io->vec = out;
	return 0;
}

/* Bytes moved, as far as they can be believed; or -errno. */
static int64_t span_end(struct span *s, const struct td_io *io, int64_t moved)
{
	free(s->heap);
	return moved > (int64_t)io->len ? -EIO : moved;
}

/*
 * After a short read.  To ask the kernel again would do on most files, but with O_DIRECT a file whose end is
 * not on a block leaves us at an offset that it refuses.
 */
static bool is_end_of_file(int fd, uint64_t off)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && off >= (uint64_t)st.st_size;
}

int64_t td_io_readv(struct td_engine *e, int fd, uint64_t off, const struct td_iov *iov)
{
	uint64_t done = 0;
	struct span s;

	while (done < iov->len) {
		struct td_io io = { .op = TD_IO_READ, .fd = fd, .off = off + done };
		int64_t r = span_begin(&s, &io, iov, done);

		if (r == 0)
			r = span_end(&s, &io, run(e, &io));
		if (r < 0)
			return r;
		done += (uint64_t)r;
		if (r == 0 || ((uint64_t)r < io.len && is_end_of_file(fd, off + done)))
			break;
	}
	return (int64_t)done;
}

int td_io_writev(struct td_engine *e, int fd, uint64_t off, const struct td_iov *iov)
{
	uint64_t done = 0;
	struct span s;

	while (done < iov->len) {
		struct td_io io = { .op = TD_IO_WRITE, .fd = fd, .off = off + done };
		int64_t r = span_begin(&s, &io, iov, done);

		if (r == 0)
			r = span_end(&s, &io, run(e, &io));
		if (r < 0)
			return (int)r;
		if (r == 0)
			return -ENOSPC;
		done += (uint64_t)r;
	}
	return 0;
}

int td_io_fsync(struct td_engine *e, int fd)
{
	struct td_io io = { .op = TD_IO_FSYNC, .fd = fd };

	return (int)run(e, &io);
}

int td_io_fallocate(struct td_engine *e, int fd, int mode, uint64_t off, uint64_t len)
{
	struct td_io io = { .op = TD_IO_FALLOCATE, .fd = fd, .mode = mode, .off = off, .len = len };

	return (int)run(e, &io);
}

int td_io_truncate(struct td_engine *e, int fd, uint64_t size)
{
	struct td_io io = { .op = TD_IO_TRUNCATE, .fd = fd, .off = size };

	return (int)run(e, &io);
}
