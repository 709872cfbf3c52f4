// SPDX-License-Identifier: BSD-2-Clause
/* A lane's requests through a queue of a ring, by the client library. */
#include "bench.h"
#include <blktap-client.h>
#include <stdio.h>

/* Few at a time, and new requests behind them: the server gets work while the rest is looked at. */
#define REAP_AT_ONCE 8

struct ring {
	struct target t;
	struct blktap *b;
	const struct job *job;
};

static struct blktap *client_of(const struct target *t)
{
	return td_container_of(t, const struct ring, t)->b;
}

/* Buffers for every request of every lane at once, so that a lane never waits for memory. */
static int ring_open(const char *address, const struct job *job, struct target **ret, uint64_t *ret_size,
		     struct td_err *ret_err)
{
	struct blktap_options o = { .size = sizeof(o),
				    .queues = job->lanes,
				    .spin_us = job->spin_us,
				    .abi = (enum blktap_abi)job->abi };
	struct ring *r = calloc(1, sizeof(*r));
	struct blktap_info info;
	char sentence[384];
	int error;

	if (!r)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r->t.ops = &ring_target;
	r->job = job;
	o.ring_pages = job->ring_order == BENCH_ANY_ORDER ? 0 : 1u << job->ring_order;
	o.buffer_bytes = td_align_up(job->bs, 4096) * job->depth * job->lanes;
	error = blktap_connect(address, &o, &r->b, sentence, sizeof(sentence));
	if (error < 0) {
		free(r);
		return td_err_set(ret_err, error, "%s", sentence);
	}
	blktap_get_info(r->b, &info);
	if (job->bs > info.max_io) {
		blktap_disconnect(r->b);
		free(r);
		return td_err_set(ret_err, -EINVAL, "--bs: the ring takes at most %zu bytes in one request",
				  info.max_io);
	}
	*ret = &r->t;
	*ret_size = info.size;
	return 0;
}

static void ring_close(struct target *t)
{
	blktap_disconnect(client_of(t));
	free(td_container_of(t, struct ring, t));
}

static pid_t ring_server(const struct target *t)
{
	struct blktap_info info;

	blktap_get_info(client_of(t), &info);
	return info.server;
}

/* ---- a lane ---- */

struct lane {
	struct blktap *b;
	unsigned queue, nr_spare, in_flight;
	bool failed; /* what is in flight will not come back */
	struct load *load;
	struct load_io **spare; /* a stack */
};

static void lane_failed(struct lane *ln, int error)
{
	const char *why = blktap_failure(ln->b);

	load_fail(ln->load, error, why ? why : strerrordesc_np(-error));
	ln->failed = true;
}

/* As many as may be; false: there will be no more. */
static bool fill(struct lane *ln)
{
	static const enum blktap_op ops[] = { BLKTAP_READ, BLKTAP_WRITE, BLKTAP_FLUSH };

	while (ln->nr_spare > 0) {
		struct load_io *io = ln->spare[ln->nr_spare - 1];
		enum load_next next = load_next(ln->load, io);
		struct blktap_request q;
		int r;

		if (next != LOAD_ONE)
			return next == LOAD_WAIT;
		q = (struct blktap_request){ ops[io->op], io->off, io->len, io->buf, io };
		r = blktap_submit(ln->b, ln->queue, &q);
		if (r < 0) {
			lane_failed(ln, r);
			return false;
		}
		ln->nr_spare--;
		ln->in_flight++;
	}
	return true;
}

static void reap(struct lane *ln)
{
	struct blktap_completion done[REAP_AT_ONCE];
	int n = blktap_reap(ln->b, ln->queue, done, REAP_AT_ONCE, -1);
	uint64_t now = load_now();

	if (n < 0)
		lane_failed(ln, n);
	for (int i = 0; i < n; i++) {
		load_finish(ln->load, done[i].user, done[i].result, now);
		ln->spare[ln->nr_spare++] = done[i].user;
		ln->in_flight--;
	}
}

static void lane_loop(struct lane *ln)
{
	while (!ln->failed && (fill(ln) || ln->in_flight > 0)) {
		blktap_kick(ln->b, ln->queue);
		reap(ln);
	}
}

static void ring_lane(struct target *t, unsigned lane, struct load *l)
{
	const struct ring *r = td_container_of(t, struct ring, t);
	struct lane ln = { .b = r->b, .queue = lane, .load = l };
	struct load_io *ios = calloc(r->job->depth, sizeof(*ios));

	ln.spare = calloc(r->job->depth, sizeof(struct load_io *));
	while (ios && ln.spare && ln.nr_spare < r->job->depth) {
		struct load_io *io = &ios[ln.nr_spare];

		io->buf = blktap_alloc(r->b, r->job->bs);
		if (!io->buf)
			break;
		memset(io->buf, (int)(0x55 + ln.nr_spare), r->job->bs);
		ln.spare[ln.nr_spare++] = io;
	}
	if (ln.nr_spare == r->job->depth)
		lane_loop(&ln);
	else
		load_fail(l, -ENOMEM, "no memory for the requests");
	for (unsigned i = 0; ios && i < r->job->depth; i++)
		blktap_free(r->b, ios[i].buf);
	free(ln.spare);
	free(ios);
}

const struct target_ops ring_target = {
	.open = ring_open,
	.lane = ring_lane,
	.server = ring_server,
	.close = ring_close,
};
