// SPDX-License-Identifier: BSD-2-Clause
/*
 * The engine for few, large transfers: each is a preadv or pwritev in the worker pool.  Several processors copy at the
 * same time, and the page cache, which no asynchronous call reads or writes without blocking, holds up nobody.  A
 * hand-over costs some 10 us, so it is nothing for small requests.
 */
#include "engine.h"

static int threads_submit(struct td_engine *e, struct td_io *const *ios, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		td_io_offload(e, ios[i]);
	return (int)nr;
}

/* The pool completes. */
static unsigned threads_reap(struct td_engine *e)
{
	(void)e;
	return 0;
}

const struct td_engine_ops td_engine_threads = {
	.name = "threads",
	.submit = threads_submit,
	.reap = threads_reap,
};
