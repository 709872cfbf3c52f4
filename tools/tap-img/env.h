// SPDX-License-Identifier: BSD-2-Clause
/*
 * What drivers run on, for a command that works on images itself: one loop, one engine, one pool, and the
 * policy of the configuration file.
 */
#ifndef TAP_IMG_ENV_H
#define TAP_IMG_ENV_H

#include <blktap/image.h>
#include <blktap/policy.h>

struct img_env {
	struct td_env env;
	struct td_policy policy;
	struct td_pool *io_pool; /* the engine's */
};

/* Run fn(arg) in a coroutine, to its end; *e is there for as long as that. */
TD_CHECK int img_env_run(struct img_env *e, int (*fn)(void *arg), void *arg, struct td_err *ret_err);

/* The same for reading or writing whole images in large pieces, by as many processors as there are. */
TD_CHECK int img_env_run_bulk(struct img_env *e, int (*fn)(void *arg), void *arg, struct td_err *ret_err);

#endif
