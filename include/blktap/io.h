// SPDX-License-Identifier: BSD-2-Clause
/*
 * I/O engines: how a leaf driver reaches the kernel.  One table, several implementations (io_uring, libaio, sync; the
 * tests add a simulated disk), and a coroutine face over it that leaf drivers call.
 *
 * A request is queued by the coroutine face and goes to the kernel with all others of the same turn of the loop, in
 * one call of submit().  The face owns errors: full length or -errno (EINTR and EAGAIN are tried again, what is left
 * of a short transfer is submitted again, a write that makes no progress is -ENOSPC).
 */
#ifndef BLKTAP_IO_H
#define BLKTAP_IO_H

#include <blktap/err.h>
#include <blktap/iov.h>
#include <blktap/loop.h>

struct td_co;
struct td_pool;
struct td_engine;

enum td_io_op {
	TD_IO_READ,
	TD_IO_WRITE,
	TD_IO_FSYNC,     /* fdatasync */
	TD_IO_FALLOCATE, /* mode, off, len */
	TD_IO_TRUNCATE,  /* off is the new size */
};

/* One request, on the stack of the coroutine that waits for it. */
struct td_io {
	enum td_io_op op;
	int fd;
	int mode;
	uint64_t off, len;
	const struct iovec *vec;
	unsigned nr;
	int64_t result; /* bytes, 0, or -errno; set by the engine before td_io_complete */
	struct td_co *co;
	STAILQ_ENTRY(td_io) link; /* queued, or in an engine's own list */
	union {
		void *engine_data; /* the engine's while it has the request */
		char engine_space[64];
	};
};

struct td_engine_ops {
	const char *name;
	size_t state_size; /* e->state: zeroed before open, freed after close */

	/* depth: requests that may be in flight.  -ENOSYS, -EPERM: not to be had here, try another. */
	int (*open)(struct td_engine *e, unsigned depth, struct td_err *ret_err);
	void (*close)(struct td_engine *e);

	/*
	 * Hand nr requests to the kernel.  Returns how many were taken, from the first on; 0 or -EAGAIN when none can
	 * be until some complete; another -errno: ios[0] failed with it, and was not taken.
	 */
	int (*submit)(struct td_engine *e, struct td_io *const *ios, unsigned nr);

	/*
	 * td_io_complete() for all that is done; returns how many.  Never sleeps.  Called after each submit and when
	 * e->fd says so.
	 */
	unsigned (*reap)(struct td_engine *e);
};

struct td_engine {
	const struct td_engine_ops *ops;
	struct td_loop *loop;
	struct td_pool *pool;
	int fd; /* readable when reap() gets work; edge-triggered, so need not be read; -1: submit completes all */
	unsigned depth, in_flight;
	STAILQ_HEAD(td_io_queue, td_io) queue; /* not yet submitted */
	struct td_hook hook;
	struct td_watch watch;
	uint64_t nr_submits, nr_requests; /* calls of submit, requests that they took */
	uint64_t nr_reaps;                /* wake-ups by fd; what submit left done is reaped without one */
	void *state;
};

/*
 * name: "auto", "io_uring", "libaio", "sync", "threads".  auto takes the first that this kernel and this sandbox allow.
 * td_engine_new_ops is for engines that are not in the list (the simulated disk).
 */
TD_CHECK int td_engine_new(const char *name, struct td_loop *loop, struct td_pool *pool, unsigned depth,
			   struct td_engine **ret_engine, struct td_err *ret_err);
TD_CHECK int td_engine_new_ops(const struct td_engine_ops *ops, struct td_loop *loop, struct td_pool *pool,
			       unsigned depth, struct td_engine **ret_engine, struct td_err *ret_err);
void td_engine_free(struct td_engine *e); /* nothing may be in flight */

/* For engines: io->result is set; wakes the coroutine. */
void td_io_complete(struct td_engine *e, struct td_io *io);

/* For engines that cannot do an operation themselves: run it in the worker pool, complete it from there. */
void td_io_offload(struct td_engine *e, struct td_io *io);

/* ---- the coroutine face ---- */

/* Bytes read: iov->len, or less at the end of the file; or -errno. */
TD_CO TD_CHECK int64_t td_io_readv(struct td_engine *e, int fd, uint64_t off, const struct td_iov *iov);

/* 0: all of it is written; or -errno. */
TD_CO TD_CHECK int td_io_writev(struct td_engine *e, int fd, uint64_t off, const struct td_iov *iov);

/*
 * As the system calls of these names, units bytes, but the loop's thread never blocks; 0 or -errno.  An fsync that
 * failed is not tried again here: what it lost is lost (drivers/aio.c).
 */
TD_CO TD_CHECK int td_io_fsync(struct td_engine *e, int fd);
TD_CO TD_CHECK int td_io_fallocate(struct td_engine *e, int fd, int mode, uint64_t off, uint64_t len);
TD_CO TD_CHECK int td_io_truncate(struct td_engine *e, int fd, uint64_t size);

#endif
