// SPDX-License-Identifier: BSD-2-Clause
/*
 * The engine that every kernel has: reads and writes at once, in the loop's thread.  What waits for the
 * device by its nature (fsync) or may take long (fallocate, truncate) goes to the worker pool, so that the
 * loop goes on.
 */
#include "engine.h"

static void transfer(struct td_engine *e, struct td_io *io)
{
	ssize_t n;

	if (io->op == TD_IO_READ)
		n = preadv(io->fd, io->vec, (int)io->nr, (off_t)io->off);
	else
		n = pwritev(io->fd, io->vec, (int)io->nr, (off_t)io->off);
	io->result = n < 0 ? -errno : n;
	td_io_complete(e, io);
}

static int sync_submit(struct td_engine *e, struct td_io *const *ios, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		if (ios[i]->op == TD_IO_READ || ios[i]->op == TD_IO_WRITE)
			transfer(e, ios[i]);
		else
			td_io_offload(e, ios[i]);
	}
	return (int)nr;
}

/* Transfers complete in submit, the rest by the pool. */
static unsigned sync_reap(struct td_engine *e)
{
	(void)e;
	return 0;
}

const struct td_engine_ops td_engine_sync = {
	.name = "sync",
	.submit = sync_submit,
	.reap = sync_reap,
};
