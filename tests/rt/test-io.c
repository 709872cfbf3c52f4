// SPDX-License-Identifier: BSD-2-Clause
/*
 * The queue and the coroutine face over an engine that does everything a kernel may do: it takes none, one or some of
 * a batch, refuses, is interrupted, and completes late, out of order, short or not at all.
 * TD_TEST_SEED repeats a run.
 */
#include "config.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/co.h>
#include <blktap/io.h>

#define DISK_SIZE 65536
#define NR_CO     40
#define CO_BYTES  (DISK_SIZE / NR_CO)

/* ---- the engine ---- */

static struct fake {
	/* what it does */
	bool naughty;     /* everything at random */
	bool inline_done; /* complete inside submit */
	int submit_error; /* of each request whose offset is bad_off */
	uint64_t bad_off;
	unsigned refusals; /* so many submits take nothing, with refusal */
	int refusal;
	unsigned failures; /* so many requests end with failure */
	int64_t failure;
	unsigned max_bytes; /* of one request; 0: no limit */
	uint64_t disk_size; /* transfers end here */
	unsigned take_max;  /* of one submit; 0: no limit */
	bool direct;        /* offsets must be on a sector */
	/* what it has */
	char disk[DISK_SIZE];
	struct td_io *pending[64];
	unsigned nr_pending, depth;
	/* what it saw */
	unsigned max_in_flight, max_nr, nr_iovs_max;
	bool broken; /* the queue broke its contract */
	uint64_t order[64];
	unsigned nr_order;
	unsigned rand;
} fake;

static unsigned draw(unsigned below)
{
	return (unsigned)rand_r(&fake.rand) % below;
}

static int64_t move_bytes(struct td_io *io)
{
	uint64_t left = io->off < fake.disk_size ? fake.disk_size - io->off : 0, n = TD_MIN(io->len, left);
	struct td_iov all = { .vec = io->vec, .nr = io->nr, .len = io->len }, part;

	if (fake.max_bytes)
		n = TD_MIN(n, fake.max_bytes);
	if (fake.naughty && n > 1 && draw(3) == 0)
		n = 1 + draw((unsigned)n);
	part = td_iov_slice(&all, 0, n);
	if (io->op == TD_IO_READ)
		td_iov_from_buf(&part, fake.disk + io->off);
	else
		td_iov_to_buf(&part, fake.disk + io->off);
	return (int64_t)n;
}

static void finish(struct td_engine *e, struct td_io *io)
{
	static const int errors[] = { -EINTR, -EAGAIN };

	fake.nr_iovs_max = TD_MAX(fake.nr_iovs_max, io->nr);
	if (fake.failures > 0) {
		fake.failures--;
		io->result = fake.failure;
	} else if (fake.naughty && draw(8) == 0) {
		io->result = errors[draw(2)];
	} else if (fake.direct && io->off % 512) {
		io->result = -EINVAL;
	} else {
		io->result = move_bytes(io);
	}
	td_io_complete(e, io);
}

static void take(struct td_engine *e, struct td_io *io)
{
	for (unsigned i = 0; i < fake.nr_pending; i++)
		fake.broken |= fake.pending[i] == io; /* sent twice */
	if (fake.nr_order < TD_NELEMS(fake.order))
		fake.order[fake.nr_order++] = io->off;
	if (fake.inline_done)
		finish(e, io);
	else
		fake.pending[fake.nr_pending++] = io;
	fake.max_in_flight = TD_MAX(fake.max_in_flight, fake.nr_pending);
}

static int fake_submit(struct td_engine *e, struct td_io *const *ios, unsigned nr)
{
	unsigned n = nr;

	fake.max_nr = TD_MAX(fake.max_nr, nr);
	fake.broken |= nr == 0 || fake.nr_pending + nr > fake.depth;
	if (fake.submit_error && ios[0]->off == fake.bad_off)
		return fake.submit_error;
	if (fake.refusals > 0) {
		fake.refusals--;
		return fake.refusal;
	}
	if (fake.take_max)
		n = TD_MIN(n, fake.take_max);
	if (fake.naughty) {
		switch (draw(6)) {
		case 0:
			return 0;
		case 1:
			return -EAGAIN;
		case 2:
			return -EINTR;
		case 3:
			n = 1;
			break;
		case 4:
			n = draw(nr + 1);
			break;
		}
	}
	for (unsigned i = 0; i < n; i++) {
		if (fake.submit_error && ios[i]->off == fake.bad_off)
			return (int)i;
		take(e, ios[i]);
	}
	return (int)n;
}

static unsigned fake_reap(struct td_engine *e)
{
	unsigned nr = fake.naughty ? 1 + draw(3) : fake.nr_pending, done;

	for (done = 0; done < nr && fake.nr_pending > 0; done++) {
		unsigned i = fake.naughty ? draw(fake.nr_pending) : 0;
		struct td_io *io = fake.pending[i];

		memmove(fake.pending + i, fake.pending + i + 1, (--fake.nr_pending - i) * sizeof(io));
		finish(e, io);
	}
	return done;
}

static const struct td_engine_ops fake_ops = { .name = "fake", .submit = fake_submit, .reap = fake_reap };

static struct td_loop *loop;
static struct td_engine *engine;
static unsigned seed;

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.disk_size = DISK_SIZE;
	fake.depth = 8;
	fake.rand = seed;
	loop = td_loop_new();
	assert_non_null(loop);
	return td_engine_new_ops(&fake_ops, loop, NULL, fake.depth, &engine, NULL);
}

static int teardown(void **state)
{
	(void)state;
	td_engine_free(engine);
	td_loop_free(loop);
	td_co_thread_done();
	return fake.broken ? -1 : 0;
}

/* ---- one transfer ---- */

struct transfer {
	bool write;
	int fd;
	uint64_t off;
	struct td_iov iov;
};

static int transfer_run(void *arg)
{
	struct transfer *x = arg;

	return x->write ? td_io_writev(engine, x->fd, x->off, &x->iov)
			: (int)td_io_readv(engine, x->fd, x->off, &x->iov);
}

static int transfer(bool write, uint64_t off, void *buf, size_t len)
{
	struct iovec v;
	struct transfer x = { .fd = -1, .write = write, .off = off, .iov = td_iov_buf(&v, buf, len) };

	return td_loop_call(loop, transfer_run, &x);
}

static void short_transfers_go_on_with_the_rest(void **state)
{
	char out[100], in[100];

	(void)state;
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (char)i;
	fake.max_bytes = 7;
	assert_int_equal(transfer(true, 50, out, sizeof(out)), 0);
	assert_memory_equal(fake.disk + 50, out, sizeof(out));
	assert_int_equal(transfer(false, 50, in, sizeof(in)), sizeof(in));
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(engine->nr_requests, 2 * td_div_up(sizeof(out), 7));
}

static void read_at_the_end_returns_what_there_is(void **state)
{
	char in[100];

	(void)state;
	fake.disk_size = 1000;
	assert_int_equal(transfer(false, 940, in, sizeof(in)), 60);
	assert_int_equal(transfer(false, 1000, in, sizeof(in)), 0);
	assert_int_equal(transfer(false, 5000, in, sizeof(in)), 0);
}

/* Some file systems refuse to go on from there, and that is no error of the read. */
static void end_of_a_file_that_is_not_on_a_sector_is_no_error(void **state)
{
	char in[3072];
	struct iovec v;
	struct transfer x = { .fd = memfd_create("test-io", MFD_CLOEXEC),
			      .iov = td_iov_buf(&v, in, sizeof(in)) };

	(void)state;
	assert_true(x.fd >= 0);
	assert_int_equal(ftruncate(x.fd, 1000), 0);
	fake.disk_size = 1000;
	fake.direct = true;
	assert_int_equal(td_loop_call(loop, transfer_run, &x), 1000);
	assert_int_equal(ftruncate(x.fd, 2000), 0); /* here it is not the end, and stays an error */
	assert_int_equal(td_loop_call(loop, transfer_run, &x), -EINVAL);
	close(x.fd);
}

static void write_without_progress_is_enospc(void **state)
{
	char out[100] = { 0 };

	(void)state;
	fake.disk_size = 1000;
	assert_int_equal(transfer(true, 940, out, sizeof(out)), -ENOSPC);
	assert_int_equal(transfer(true, 1000, out, sizeof(out)), -ENOSPC);
}

static void more_than_was_asked_for_is_eio(void **state)
{
	char buf[100] = { 0 };

	(void)state;
	fake.failures = 2;
	fake.failure = 101;
	assert_int_equal(transfer(true, 0, buf, sizeof(buf)), -EIO);
	assert_int_equal(transfer(false, 0, buf, sizeof(buf)), -EIO);
}

static void errors_come_back_unchanged(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -EINVAL, -ENOMEM, -EDQUOT };
	char buf[100] = { 0 };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(errors); i++) {
		fake.failures = 2;
		fake.failure = errors[i];
		assert_int_equal(transfer(true, 0, buf, sizeof(buf)), errors[i]);
		assert_int_equal(transfer(false, 0, buf, sizeof(buf)), errors[i]);
	}
}

static unsigned later_failure_hook(struct td_hook *h)
{
	(void)h;
	if (engine->nr_requests == 1 && fake.failures == 0) {
		fake.failures = 1;
		fake.failure = -EIO;
	}
	return 0;
}

/* It must not be taken for another short transfer, nor for the end of the file. */
static void error_after_a_short_transfer_is_an_error(void **state)
{
	struct td_hook hook = { .fn = later_failure_hook };
	char buf[100] = { 0 };
	struct iovec v;
	struct transfer x = { .fd = -1, .write = false, .off = 0, .iov = td_iov_buf(&v, buf, sizeof(buf)) };
	int r;

	(void)state;
	fake.max_bytes = 60;
	td_loop_hook(loop, &hook);
	r = td_loop_call(loop, transfer_run, &x);
	td_loop_unhook(loop, &hook);
	assert_int_equal(r, -EIO);
}

static void eintr_and_eagain_are_tried_again(void **state)
{
	static const int errors[] = { -EINTR, -EAGAIN };
	char buf[100];

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(errors); i++) {
		fake.failures = 20; /* beyond the point where it waits between the tries */
		fake.failure = errors[i];
		assert_int_equal(transfer(false, 0, buf, sizeof(buf)), sizeof(buf));
		assert_int_equal(fake.failures, 0);
	}
}

/* Nothing is in flight that could wake the loop: it has to come back by the clock. */
static void refusal_with_nothing_in_flight_is_tried_again(void **state)
{
	static const int refusals[] = { 0, -EAGAIN, -EINTR };
	char buf[100];

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(refusals); i++) {
		fake.refusals = 5;
		fake.refusal = refusals[i];
		assert_int_equal(transfer(false, 0, buf, sizeof(buf)), sizeof(buf));
		assert_int_equal(fake.refusals, 0);
	}
}

static void long_vectors_are_cut_to_iov_max(void **state)
{
	static struct iovec vec[3 * IOV_MAX];
	static char buf[3 * IOV_MAX * 2];
	struct td_iov all = { .vec = vec, .nr = TD_NELEMS(vec), .len = sizeof(buf) };
	struct transfer x = { .fd = -1, .write = true, .off = 3 };

	(void)state;
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i % 249);
	for (unsigned i = 0; i < TD_NELEMS(vec); i++)
		vec[i] = (struct iovec){ buf + 2 * i, 2 };
	x.iov = td_iov_slice(&all, 1, sizeof(buf) - 2);
	assert_int_equal(td_loop_call(loop, transfer_run, &x), 0);
	assert_memory_equal(fake.disk + 3, buf + 1, sizeof(buf) - 2);
	assert_int_equal(fake.nr_iovs_max, IOV_MAX);
}

/* ---- many ---- */

struct job {
	unsigned nr;
	bool write;
	int result;
};

static int job_run(void *arg)
{
	struct job *job = arg;
	char buf[CO_BYTES];
	struct iovec v;
	struct td_iov iov = td_iov_buf(&v, buf, 8);

	memset(buf, (int)job->nr + 1, sizeof(buf));
	job->result = td_io_writev(engine, -1, (uint64_t)job->nr * CO_BYTES, &iov);
	return 0;
}

static int run_jobs(void *arg)
{
	struct job *jobs = arg;
	struct td_join j = { 0 };

	for (unsigned i = 0; i < NR_CO; i++)
		td_join_start(&j, job_run, &jobs[i]);
	return td_join_wait(&j);
}

static void run_all(struct job *jobs)
{
	for (unsigned i = 0; i < NR_CO; i++)
		jobs[i] = (struct job){ .nr = i };
	assert_int_equal(td_loop_call(loop, run_jobs, jobs), 0);
}

static void queue_keeps_order_and_depth(void **state)
{
	struct job jobs[NR_CO];

	(void)state;
	run_all(jobs);
	assert_int_equal(fake.max_in_flight, fake.depth);
	assert_int_equal(fake.max_nr, fake.depth);
	for (unsigned i = 0; i < NR_CO; i++) {
		assert_int_equal(jobs[i].result, 0);
		assert_int_equal(fake.order[i], i * CO_BYTES);
	}
	assert_int_equal(engine->nr_requests, NR_CO);
	assert_int_equal(engine->nr_submits, NR_CO / fake.depth);
	assert_int_equal(engine->in_flight, 0);
}

static void short_submits_keep_the_order(void **state)
{
	struct job jobs[NR_CO];

	(void)state;
	fake.take_max = 3;
	run_all(jobs);
	for (unsigned i = 0; i < NR_CO; i++) {
		assert_int_equal(jobs[i].result, 0);
		assert_int_equal(fake.order[i], i * CO_BYTES);
	}
}

static void completions_inside_submit_are_fine(void **state)
{
	struct job jobs[NR_CO];

	(void)state;
	fake.inline_done = true;
	run_all(jobs);
	for (unsigned i = 0; i < NR_CO; i++)
		assert_int_equal(jobs[i].result, 0);
	assert_int_equal(engine->nr_requests, NR_CO);
	assert_int_equal(engine->in_flight, 0);
}

static void error_of_submit_is_the_first_requests_alone(void **state)
{
	struct job jobs[NR_CO];

	(void)state;
	fake.submit_error = -EBADF;
	fake.bad_off = 5 * CO_BYTES;
	run_all(jobs);
	for (unsigned i = 0; i < NR_CO; i++)
		assert_int_equal(jobs[i].result, i == 5 ? -EBADF : 0);
}

/* Each coroutine has a part of the disk and a model of it. */
static int random_job(void *arg)
{
	const struct job *job = arg;
	char model[CO_BYTES] = { 0 }, buf[CO_BYTES];
	uint64_t base = (uint64_t)job->nr * CO_BYTES;

	for (int i = 0; i < 100; i++) {
		unsigned off = draw(CO_BYTES), len = 1 + draw(CO_BYTES - off);
		struct iovec v[3] = { { buf, len / 3 },
				      { buf + len / 3, 0 },
				      { buf + len / 3, len - len / 3 } };
		struct td_iov iov = { .vec = v, .nr = 3, .len = len };
		int64_t r;

		if (draw(2)) {
			memset(buf, (int)draw(256), len);
			memcpy(model + off, buf, len);
			r = td_io_writev(engine, -1, base + off, &iov);
			if (r < 0)
				return (int)r;
		} else {
			r = td_io_readv(engine, -1, base + off, &iov);
			if (r != len || memcmp(buf, model + off, len))
				return -EILSEQ;
		}
	}
	return 0;
}

static int run_random_jobs(void *arg)
{
	struct job *jobs = arg;
	struct td_join j = { 0 };

	for (unsigned i = 0; i < NR_CO; i++) {
		jobs[i].nr = i;
		td_join_start(&j, random_job, &jobs[i]);
	}
	return td_join_wait(&j);
}

static void nothing_is_lost_over_a_naughty_kernel(void **state)
{
	struct job jobs[NR_CO];

	(void)state;
	fake.naughty = true;
	assert_int_equal(td_loop_call(loop, run_random_jobs, jobs), 0);
	assert_int_equal(fake.nr_pending, 0);
	assert_int_equal(engine->in_flight, 0);
	assert_false(fake.broken);
}

/* ---- making one ---- */

static int failing_open(struct td_engine *e, unsigned depth, struct td_err *ret_err)
{
	(void)e, (void)depth;
	return td_err_set(ret_err, -EPERM, "not here");
}

static void failed_open_is_its_error(void **state)
{
	static const struct td_engine_ops ops = { .name = "none", .state_size = 9, .open = failing_open };
	struct td_engine *e = NULL;
	struct td_err err = { 0 };

	(void)state;
	assert_int_equal(td_engine_new_ops(&ops, loop, NULL, 1, &e, &err), -EPERM);
	assert_string_equal(err.msg, "not here");
	assert_null(e);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(short_transfers_go_on_with_the_rest),
		TEST(read_at_the_end_returns_what_there_is),
		TEST(end_of_a_file_that_is_not_on_a_sector_is_no_error),
		TEST(write_without_progress_is_enospc),
		TEST(more_than_was_asked_for_is_eio),
		TEST(errors_come_back_unchanged),
		TEST(error_after_a_short_transfer_is_an_error),
		TEST(eintr_and_eagain_are_tried_again),
		TEST(refusal_with_nothing_in_flight_is_tried_again),
		TEST(long_vectors_are_cut_to_iov_max),
		TEST(queue_keeps_order_and_depth),
		TEST(short_submits_keep_the_order),
		TEST(completions_inside_submit_are_fine),
		TEST(error_of_submit_is_the_first_requests_alone),
		TEST(nothing_is_lost_over_a_naughty_kernel),
		TEST(failed_open_is_its_error),
	};

	seed = getenv("TD_TEST_SEED") ? (unsigned)strtoul(getenv("TD_TEST_SEED"), NULL, 0)
				      : (unsigned)time(NULL);
	printf("seed %u\n", seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
