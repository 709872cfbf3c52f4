// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk as a stream of bytes: standard input and standard output.
 */
#ifndef TAP_IMG_STREAM_H
#define TAP_IMG_STREAM_H

#include <blktap/err.h>
#include <blktap/loop.h>

struct td_pool;
struct td_co;

/* Standard input. */
struct stream_in {
	struct td_loop *loop;
	struct td_watch watch;
	struct td_co *waiting;
	bool cancelled;
	uint64_t size; /* what a file holds from here on; UINT64_MAX: not known before its end */
};

TD_CHECK int stream_in_open(struct stream_in *s, struct td_loop *loop, struct td_err *ret_err);

/* len bytes, or fewer at the end; -ECANCELED after stream_in_cancel, which may come from a signal's callback. */
TD_CO TD_CHECK int64_t stream_in_read(struct stream_in *s, void *buf, size_t len);
void stream_in_cancel(struct stream_in *s);

/* All of it to standard output, in a worker.  buf NULL: len zeros. */
TD_CO TD_CHECK int stream_out_write(struct td_pool *pool, const void *buf, uint64_t len);

/* What was written is on the disk, where it is a file. */
TD_CO TD_CHECK int stream_out_sync(struct td_pool *pool);

#endif
