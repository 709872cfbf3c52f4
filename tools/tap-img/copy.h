// SPDX-License-Identifier: BSD-2-Clause
/*
 * Copying a disk: several coroutines, each with a buffer, take pieces of the plan and read, look for zeros, count the
 * digest and write, all at the same time.  Writes begin in the order of the disk, so that the target is laid out in
 * it.
 */
#ifndef TAP_IMG_COPY_H
#define TAP_IMG_COPY_H

#include "digest.h"
#include "plan.h"
#include "stream.h"
#include "target.h"
#include "tools/common/progress.h"

#define COPY_CHUNK (1u << 20)

struct copy {
	/* The caller's. */
	struct td_env *env;
	struct source *source;
	struct stream_in *in;  /* in place of source */
	struct target *target; /* without an image: standard output */
	uint64_t
		size; /* bytes to copy; UINT64_MAX: as many as the stream has, and the target grows with them */
	uint64_t min_zeros; /* so many are not written as data; 0: all is */
	unsigned workers;
	bool compress, any_order;
	bool over_backing; /* what the target reads already is not written */
	struct digest digest;
	struct progress progress;
	struct rate rate;

	/* Results. */
	uint64_t read_bytes, written_bytes, zero_bytes, same_bytes;

	/* copy.c's. */
	struct plan plan;
	struct td_mutex plan_lock;
	struct turns writing;
	unsigned busy; /* pieces between plan and done */
	struct td_waitq idle;
	int result;
	struct td_err *err;
};

TD_CO TD_CHECK int copy_run(struct copy *c, struct td_err *ret_err);

/* From a signal's callback: copy_run ends soon, with -ECANCELED. */
void copy_cancel(struct copy *c);

#endif
