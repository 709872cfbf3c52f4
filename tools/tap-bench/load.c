// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a lane asks next, and what it makes of the answers; the same for each kind of target.
 *
 * With --verify each block is known: how often it was written, and whether it is in flight.  Two requests for the same
 * block at the same time have no order, so the second waits.
 */
#include "bench.h"
#include <inttypes.h>
#include <time.h>

uint64_t load_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* xorshift64: fast, and good enough to pick blocks. */
static uint64_t next_random(struct load *l)
{
	l->rng ^= l->rng << 13;
	l->rng ^= l->rng >> 7;
	l->rng ^= l->rng << 17;
	return l->rng >> 8;
}

int load_init(struct load *l, const struct job *job, unsigned lane, uint64_t base, uint64_t size,
	      atomic_bool *stop, struct td_err *ret_err)
{
	*l = (struct load){ .job = job, .base = base, .blocks = size / job->bs, .stop = stop };
	l->rng = (job->seed + lane + 1) * 0x9e3779b97f4a7c15ull | 1;
	if (l->blocks == 0)
		return td_err_set(ret_err, -EINVAL,
				  "%" PRIu64 " bytes for each lane: less than a block of %" PRIu64, size,
				  job->bs);
	if (!job->verify)
		return 0;
	l->generation = calloc(l->blocks, sizeof(*l->generation));
	l->busy = calloc(l->blocks, sizeof(*l->busy));
	return l->generation && l->busy
		       ? 0
		       : td_err_set(ret_err, -ENOMEM, "no memory for %" PRIu64 " stamps", l->blocks);
}

void load_done(struct load *l)
{
	free(l->generation);
	free(l->busy);
}

/* ---- what comes next ---- */

static bool is_over(const struct load *l, uint64_t now)
{
	if (l->result < 0 || atomic_load_explicit(l->stop, memory_order_relaxed))
		return true;
	if (l->checking)
		return l->next >= l->blocks;
	return l->deadline_ns ? now >= l->deadline_ns : l->issued >= l->blocks;
}

static bool wants_flush(const struct load *l)
{
	return l->job->flush_every && l->writes_since_flush >= l->job->flush_every && !l->checking;
}

static void set_block(struct load *l, struct load_io *io, uint64_t block)
{
	io->block = block;
	io->off = l->base + block * l->job->bs;
	io->len = l->job->bs;
	if (!l->busy)
		return;
	l->busy[block] = 1;
	if (io->op == LOAD_WRITE)
		stamp_fill(io->buf, io->len, io->off, l->job->seed, ++l->generation[block]);
	io->generation = l->generation[block];
}

/* Blocks that were not written in this run are not ours to check, when others were. */
static bool next_check(struct load *l, struct load_io *io)
{
	while (l->next < l->blocks && l->generation[l->next] == 0)
		l->next++;
	if (l->next >= l->blocks)
		return false;
	io->op = LOAD_READ;
	set_block(l, io, l->next++);
	return true;
}

static bool is_read(struct load *l)
{
	unsigned percent = l->job->read_percent;

	return percent == 100 || (percent > 0 && next_random(l) % 100 < percent);
}

/* The first block from there on that is not in flight; blocks if there is none. */
static uint64_t pick_free(const struct load *l, uint64_t block)
{
	for (uint64_t i = 0; l->busy && i < l->blocks; i++, block++) {
		if (block >= l->blocks)
			block = 0;
		if (!l->busy[block])
			return block;
	}
	return l->busy ? l->blocks : block;
}

enum load_next load_next(struct load *l, struct load_io *io)
{
	uint64_t block;

	io->start_ns = load_now();
	io->off = io->len = 0;
	if (is_over(l, io->start_ns))
		return LOAD_END;
	if (l->checking)
		return next_check(l, io) ? LOAD_ONE : LOAD_END;
	if (wants_flush(l)) {
		l->writes_since_flush = 0;
		io->op = LOAD_FLUSH;
		return LOAD_ONE;
	}
	/* Without a time a random load takes each block about once. */
	block = pick_free(l, l->job->random ? next_random(l) % l->blocks : l->next);
	if (block == l->blocks)
		return LOAD_WAIT;
	io->op = is_read(l) ? LOAD_READ : LOAD_WRITE;
	set_block(l, io, block);
	l->next = block + 1 < l->blocks ? block + 1 : 0;
	l->issued++;
	l->writes_since_flush += io->op == LOAD_WRITE;
	return LOAD_ONE;
}

/* ---- what came back ---- */

void load_fail(struct load *l, int result, const char *sentence)
{
	if (l->result == 0) {
		l->result = result;
		td_err_put(&l->err, sentence);
	}
	atomic_store(l->stop, true);
}

static const char *const op_names[] = { "read", "write", "flush" };

static void fail_io(struct load *l, const struct load_io *io, int result)
{
	struct td_err err;

	td_ignore(td_err_set(&err, result, "%s of %" PRIu64 " bytes at %" PRIu64 ": %s", op_names[io->op],
			     io->len, io->off, strerrordesc_np(-result)));
	load_fail(l, result, err.msg);
}

/* A load that only reads checks what an earlier one wrote: then each block has to have a stamp. */
static void verify(struct load *l, const struct load_io *io)
{
	struct td_err err = { "" };

	l->busy[io->block] = 0;
	if (io->op != LOAD_READ || (io->generation == 0 && l->job->read_percent < 100))
		return;
	if (stamp_check(io->buf, io->len, io->off, l->job->seed, io->generation, &err) < 0)
		load_fail(l, -EILSEQ, err.msg);
	else
		l->verified++;
}

void load_finish(struct load *l, const struct load_io *io, int result, uint64_t now_ns)
{
	if (result < 0) {
		fail_io(l, io, result);
		return;
	}
	if (!l->checking)
		td_hist_add(&l->hist[io->op], now_ns - io->start_ns);
	if (l->busy && io->op != LOAD_FLUSH)
		verify(l, io);
}

bool load_check_again(struct load *l)
{
	l->checking = l->generation && l->job->read_percent < 100 && l->result == 0;
	l->next = 0;
	return l->checking;
}
