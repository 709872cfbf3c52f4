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

/* Queue it, sleep until it is done.  The loop's hook submits it with all others of this turn. */
static int64_t run_once(struct td_engine *e, struct td_io *io)
{
	io->co = td_co_self();
	assert(io->co);
	STAILQ_INSERT_TAIL(&e->queue, io, link);
	td_co_yield();
	return io->result;
}

/* EAGAIN says that the kernel is short of something: after a few tries wait for it, not spin for it. */
static int64_t run(struct td_engine *e, struct td_io *io)
{
	int64_t r;

	for (unsigned tries = 1;; tries++) {
		r = run_once(e, io);
		if (r != -EAGAIN && r != -EINTR)
			return r;
		if (tries >= RETRIES_AT_ONCE)
			td_loop_sleep(e->loop, RETRY_WAIT_NS);
	}
}

/* What the next call moves: the window's own array where that will do, else a copy with its ends cut. */
struct span {
	const struct iovec *vec;
	unsigned nr;
	uint64_t len;
	struct iovec *heap;
	struct iovec small[NR_SMALL];
};

/* The window's first byte must be in its first entry, as td_iov_slice() leaves it: then s->len is not 0. */
static int span_init(struct span *s, const struct td_iov *window)
{
	uint64_t end = window->skip + window->len, sum = 0;
	struct td_iov part = *window;
	struct iovec *out;
	unsigned nr;

	for (nr = 0; nr < IOV_MAX && nr < window->nr && sum < end; nr++)
		sum += window->vec[nr].iov_len;
	part.len = TD_MIN(sum, end) - window->skip;
	s->vec = window->vec;
	s->nr = nr;
	s->len = part.len;
	s->heap = NULL;
	if (window->skip == 0 && sum <= end)
		return 0;
	if (nr > NR_SMALL) {
		s->heap = malloc(nr * sizeof(*s->heap));
		if (!s->heap)
			return -ENOMEM;
	}
	out = s->heap ? s->heap : s->small;
	s->nr = (unsigned)td_iov_fill(&part, out, nr); /* no more pieces than entries */
	s->vec = out;
	return 0;
}

/* One call for as much of [done, iov->len) as one call can take.  Returns bytes; *ret_asked is what was
 * wanted. */
static int64_t transfer(struct td_engine *e, struct td_io *io, const struct td_iov *iov, uint64_t done,
			uint64_t *ret_asked)
{
	struct td_iov rest = td_iov_slice(iov, done, iov->len - done);
	struct span s;
	int64_t r = span_init(&s, &rest);

	if (r < 0)
		return r;
	io->vec = s.vec;
	io->nr = s.nr;
	io->len = s.len;
	r = run(e, io);
	io->vec = NULL; /* s ends here */
	free(s.heap);
	if (r > (int64_t)s.len)
		return -EIO; /* more than was asked for: not to be believed */
	if (r >= 0)
		*ret_asked = s.len;
	return r;
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
	uint64_t done = 0, asked = 0;

	while (done < iov->len) {
		struct td_io io = { .op = TD_IO_READ, .fd = fd, .off = off + done };
		int64_t r = transfer(e, &io, iov, done, &asked);

		if (r < 0)
			return r;
		done += (uint64_t)r;
		if (r == 0 || ((uint64_t)r < asked && is_end_of_file(fd, off + done)))
			break;
	}
	return (int64_t)done;
}

int td_io_writev(struct td_engine *e, int fd, uint64_t off, const struct td_iov *iov)
{
	uint64_t done = 0, asked = 0;

	while (done < iov->len) {
		struct td_io io = { .op = TD_IO_WRITE, .fd = fd, .off = off + done };
		int64_t r = transfer(e, &io, iov, done, &asked);

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
