// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a driver test runs on: loop, engine and worker pool in one call, and a function run in a coroutine.
 *
 * CMocka fails a test by longjmp, so nothing asserts inside a coroutine: a coroutine returns its result, the test
 * asserts on that.
 */
#ifndef TESTS_LIB_TESTENV_H
#define TESTS_LIB_TESTENV_H

#include <blktap/err.h>
#include <blktap/image.h>
#include <blktap/io.h>
#include <blktap/lock.h>
#include <blktap/loop.h>
#include <blktap/opts.h>
#include <blktap/policy.h>
#include <blktap/pool.h>
#include <blktap/spec.h>

struct simdisk;

struct testenv {
	struct td_env env;
	struct td_policy policy; /* env.policy points here; empty at first */
	char dir[64];      /* a folder of its own; removed with all in it by testenv_close, or at exit */
	struct td_err err; /* of the last call below that failed */
};

/* engine: "auto", "io_uring", "libaio", "sync".  base: where dir is made; NULL: /dev/shm.  0 or -errno. */
TD_CHECK int testenv_open(struct testenv *t, const char *engine, const char *base);

/* On a simulated disk (simdisk.h), files in /dev/shm. */
TD_CHECK int testenv_open_sim(struct testenv *t, struct simdisk *sim);

void testenv_close(struct testenv *t);

/* fn(arg) in a coroutine; its result. */
int testenv_run(struct testenv *t, int (*fn)(void *arg), void *arg);

/* A path in dir; overwritten eight calls later. */
const char *testenv_path(struct testenv *t, const char *name);

/* The checked image calls, each in a coroutine of its own. */
int test_open(struct testenv *t, struct td_image **ret_im, unsigned flags, const char *spec_fmt, ...)
	TD_PRINTF(4, 5);
int test_create(struct testenv *t, uint64_t size, const char *opts, bool force, const char *spec_fmt, ...)
	TD_PRINTF(5, 6);
int test_close(struct testenv *t, struct td_image *im);
int test_read(struct testenv *t, struct td_image *im, uint64_t off, void *buf, size_t len, unsigned flags);
int test_write(struct testenv *t, struct td_image *im, uint64_t off, const void *buf, size_t len,
	       unsigned flags);
int test_zero(struct testenv *t, struct td_image *im, uint64_t off, uint64_t len, unsigned flags);
int test_trim(struct testenv *t, struct td_image *im, uint64_t off, uint64_t len);
int test_flush(struct testenv *t, struct td_image *im);
int test_extent(struct testenv *t, struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret);
int test_resize(struct testenv *t, struct td_image *im, uint64_t size);

/* A seed: $TEST_SEED, or from the clock; printed. */
uint64_t test_seed(void);

/* The next pseudo-random number of *state (splitmix64). */
uint64_t test_random(uint64_t *state);

/* A whole number from the environment, or the default: for loops that run longer in `make torture`. */
unsigned test_count(const char *name, unsigned otherwise);

/* TEST_STRIDE, for loops over "operation n": every so many-th. Without it the default, twice that under ASan. */
unsigned test_stride(unsigned otherwise);

#endif
