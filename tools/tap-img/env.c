// SPDX-License-Identifier: BSD-2-Clause
/*
 * Loop, engine, pool and policy of a command that works on images.  See env.h.
 */
#include "env.h"

#include <blktap/co.h>
#include <blktap/ctl.h>
#include <blktap/io.h>
#include <blktap/loop.h>
#include <blktap/pool.h>

#define IMG_DEPTH   64
#define IMG_WORKERS 4

/* Of their own: whoever compresses all the time must not hold up who reads. */
#define IMG_IO_WORKERS 8

static int open_engine(struct img_env *e, const char *engine, struct td_err *ret_err)
{
	e->io_pool = td_pool_new(e->env.loop, IMG_IO_WORKERS);
	if (!e->io_pool)
		return td_err_set(ret_err, -errno, "worker pool: %s", strerror(errno));
	return td_engine_new(engine, e->env.loop, e->io_pool, IMG_DEPTH, &e->env.engine, ret_err);
}

static int env_open(struct img_env *e, const char *engine, struct td_err *ret_err)
{
	int r;

	r = td_policy_read(&e->policy, NULL, ret_err);
	if (r < 0)
		return r;
	e->env.policy = &e->policy;
	/* What a killed tapdisk left of an image has to get into it before anything else does. */
	if (td_run_dir(&e->env.keep_dir, NULL) < 0)
		e->env.keep_dir = NULL;
	e->env.loop = td_loop_new();
	if (!e->env.loop)
		return td_err_set(ret_err, -errno, "event loop: %s", strerror(errno));
	e->env.pool = td_pool_new(e->env.loop, IMG_WORKERS);
	if (!e->env.pool)
		return td_err_set(ret_err, -errno, "worker pool: %s", strerror(errno));
	return open_engine(e, engine, ret_err);
}

static void env_close(struct img_env *e)
{
	if (e->env.engine)
		td_engine_free(e->env.engine);
	if (e->io_pool)
		td_pool_free(e->io_pool);
	if (e->env.pool)
		td_pool_free(e->env.pool);
	if (e->env.loop)
		td_loop_free(e->env.loop);
	td_co_thread_done();
	td_policy_done(&e->policy);
}

static int run_with(struct img_env *e, const char *engine, int (*fn)(void *arg), void *arg,
		    struct td_err *ret_err)
{
	int r;

	*e = (struct img_env){ 0 };
	r = env_open(e, engine, ret_err);
	if (r == 0)
		r = td_loop_call(e->env.loop, fn, arg);
	env_close(e);
	return r;
}

int img_env_run(struct img_env *e, int (*fn)(void *arg), void *arg, struct td_err *ret_err)
{
	return run_with(e, "auto", fn, arg, ret_err);
}

int img_env_run_bulk(struct img_env *e, int (*fn)(void *arg), void *arg, struct td_err *ret_err)
{
	return run_with(e, "threads", fn, arg, ret_err);
}
