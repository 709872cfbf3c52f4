// SPDX-License-Identifier: BSD-2-Clause
/*
 * A filter that lets requests through at a limited rate.
 *
 *	iops=N iops-read=N iops-write=N		requests a second; 0: no limit
 *	bps=SIZE bps-read=SIZE bps-write=SIZE	bytes a second; 0: no limit
 *	burst-ms=N				what was not used is saved for so long (100 if not given)
 *
 * All can be changed while the disk runs (td_image_set).
 *
 * Requests of a kind go in order; where a limit for both kinds holds both back they take turns.  One timer wakes those
 * that are due: by the moment at which each was due, not by that of the timer, so a late timer costs no rate.
 *
 * A flush is never held back: it moves nothing of its own, and who waits for one waits long enough.  Zeroing and trim
 * count as one request that writes, and where zeros have to be written out as the bytes that they are.  While somebody
 * waits for the disk to get empty (td_image_drain) nothing is held back; what passes then is owed afterwards.
 */
#include "drivers.h"
#include "throttle-gate.h"

#include <blktap/co.h>
#include <blktap/loop.h>

#define THROTTLE_BURST_MS 100
#define THROTTLE_PIECE    (1u << 20) /* of zeros that are written out */
#define NS_PER_MS         1000000ull

struct waiter {
	struct td_co *co;
	uint64_t bytes, since_ns;
	TAILQ_ENTRY(waiter) link;
};

TAILQ_HEAD(waiters, waiter);

struct throttle {
	struct td_loop *loop;
	struct gate gate;
	struct waiters waiting[GATE_KINDS];
	enum gate_kind last; /* the kind that went last */
	struct td_timer timer;
	uint64_t armed_ns; /* for this moment, while it is armed */
	bool draining;
	uint64_t delayed, delayed_ns; /* requests that waited, and for how long together */
};

static const char *const limit_names[GATE_ROWS][GATE_UNITS] = {
	[GATE_READ] = { "iops-read", "bps-read" },
	[GATE_WRITE] = { "iops-write", "bps-write" },
	[GATE_ALL] = { "iops", "bps" },
};

/* ---- who goes, and when ---- */

static void let_go(struct throttle *t, enum gate_kind kind, uint64_t at_ns)
{
	struct waiter *w = TAILQ_FIRST(&t->waiting[kind]);

	TAILQ_REMOVE(&t->waiting[kind], w, link);
	gate_pass(&t->gate, kind, 1, w->bytes, at_ns);
	t->last = kind;
	t->delayed++;
	t->delayed_ns += td_loop_now(t->loop) - w->since_ns;
	td_co_wake(w->co);
}

/* The next one, and when it is due; false: nobody waits. */
static bool next_due(const struct throttle *t, enum gate_kind *ret_kind, uint64_t *ret_ns)
{
	bool any = false;

	for (unsigned kind = 0; kind < GATE_KINDS; kind++) {
		const struct waiter *w = TAILQ_FIRST(&t->waiting[kind]);
		uint64_t ns;

		if (!w)
			continue;
		ns = TD_MAX(gate_opens(&t->gate, kind), w->since_ns);
		if (any && (ns > *ret_ns || (ns == *ret_ns && kind == t->last)))
			continue;
		any = true;
		*ret_kind = kind;
		*ret_ns = ns;
	}
	return any;
}

static void let_due_go(struct throttle *t)
{
	uint64_t now = td_loop_now(t->loop), ns = 0;
	enum gate_kind kind = GATE_READ;
	bool any;

	while ((any = next_due(t, &kind, &ns)) && (ns <= now || t->draining))
		let_go(t, kind, TD_MIN(ns, now));
	if (!any) {
		td_timer_cancel(&t->timer);
	} else if (!t->timer.loop || t->armed_ns != ns) {
		t->armed_ns = ns;
		td_timer_arm(t->loop, &t->timer, ns - now);
	}
}

static void due(struct td_timer *timer)
{
	let_due_go(td_container_of(timer, struct throttle, timer));
}

/* Wait for leave to move so many bytes by one request. */
TD_CO static void take_turn(struct td_image *im, enum gate_kind kind, uint64_t bytes)
{
	struct throttle *t = im->state;
	uint64_t now = td_loop_now(t->loop);
	struct waiter w = { .co = td_co_self(), .bytes = bytes, .since_ns = now };

	/* Who is due and was not woken yet comes first.  Afterwards nobody is, so the second call does not wake us. */
	if (t->timer.loop)
		let_due_go(t);
	if (TAILQ_EMPTY(&t->waiting[kind]) && (t->draining || gate_opens(&t->gate, kind) <= now)) {
		gate_pass(&t->gate, kind, 1, bytes, now);
		return;
	}
	TAILQ_INSERT_TAIL(&t->waiting[kind], &w, link);
	let_due_go(t);
	td_co_yield();
}

/* ---- options ---- */

static int set_limits(struct throttle *t, struct td_opts *opts, struct td_err *ret_err)
{
	uint64_t burst_ms = t->gate.burst_ns / NS_PER_MS, now = td_loop_now(t->loop);
	struct gate next = t->gate;
	int r = 0;

	for (unsigned row = 0; row < GATE_ROWS; row++) {
		uint64_t rate[GATE_UNITS] = { next.limit[row][GATE_REQUESTS].rate,
					      next.limit[row][GATE_BYTES].rate };

		if (r == 0)
			r = td_opts_u64(opts, limit_names[row][GATE_REQUESTS], 0, 1000000000,
					&rate[GATE_REQUESTS], ret_err);
		if (r == 0)
			r = td_opts_size(opts, limit_names[row][GATE_BYTES], &rate[GATE_BYTES], ret_err);
		for (unsigned unit = 0; unit < GATE_UNITS; unit++)
			if (rate[unit] != next.limit[row][unit].rate)
				gate_rate(&next.limit[row][unit], rate[unit], now);
	}
	if (r == 0)
		r = td_opts_u64(opts, "burst-ms", 1, 3600000, &burst_ms, ret_err);
	if (r < 0)
		return r;
	next.burst_ns = burst_ms * NS_PER_MS;
	t->gate = next;
	return 0;
}

static int throttle_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct throttle *t = im->state;

	t->loop = im->env->loop;
	t->gate.burst_ns = THROTTLE_BURST_MS * NS_PER_MS;
	t->timer.fn = due;
	for (unsigned kind = 0; kind < GATE_KINDS; kind++)
		TAILQ_INIT(&t->waiting[kind]);
	return set_limits(t, opts, ret_err);
}

static int throttle_set(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct throttle *t = im->state, next = *t;
	int r = set_limits(&next, opts, ret_err);

	if (r == 0)
		r = td_opts_none_unused(opts, im->drv->name, ret_err);
	if (r < 0)
		return r;
	t->gate = next.gate;
	let_due_go(t);
	return 0;
}

static void throttle_drain(struct td_image *im, bool on)
{
	struct throttle *t = im->state;

	t->draining = on;
	let_due_go(t);
}

static void throttle_counters(const struct td_image *im, struct td_counters *ret)
{
	const struct throttle *t = im->state;

	for (unsigned row = 0; row < GATE_ROWS; row++)
		for (unsigned unit = 0; unit < GATE_UNITS; unit++)
			td_counter(ret, limit_names[row][unit], t->gate.limit[row][unit].rate);
	td_counter(ret, "burst-ms", t->gate.burst_ns / NS_PER_MS);
	td_counter(ret, "delayed", t->delayed);
	td_counter(ret, "delayed_ns", t->delayed_ns);
}

/* ---- the calls ---- */

static int throttle_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	take_turn(im, GATE_READ, iov->len);
	return td_image_preadv(im->child, off, iov, flags);
}

static int throttle_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	take_turn(im, GATE_WRITE, iov->len);
	return td_image_pwritev(im->child, off, iov, flags);
}

/* What is not fast is done in pieces: those that are fast after all cost no bytes. */
static int zero_pieces(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	int r = 0;

	for (uint64_t end = off + len, next; r == 0 && off < end; off = next) {
		next = TD_MIN(end, td_align_down(off, THROTTLE_PIECE) + THROTTLE_PIECE);
		r = td_image_zero(im->child, off, next - off, flags | TD_FAST);
		if (r != -ENOTSUP)
			continue;
		take_turn(im, GATE_WRITE, next - off);
		r = td_image_zero(im->child, off, next - off, flags);
	}
	return r;
}

static int throttle_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	int r;

	take_turn(im, GATE_WRITE, 0);
	r = td_image_zero(im->child, off, len, flags | TD_FAST);
	return r == -ENOTSUP && !(flags & TD_FAST) ? zero_pieces(im, off, len, flags) : r;
}

static int throttle_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	take_turn(im, GATE_WRITE, 0);
	return td_image_trim(im->child, off, len);
}

static int throttle_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	return td_image_extent(im->child, off, len, ret);
}

static int throttle_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	return td_image_resize(im->child, size, TD_RESIZE_SHRINK, ret_err);
}

const struct td_driver td_throttle = {
	.name = "throttle",
	.flags = TD_FILTER | TD_KNOWS_FUA,
	.state_size = sizeof(struct throttle),
	.open = throttle_open,
	.preadv = throttle_preadv,
	.pwritev = throttle_pwritev,
	.zero = throttle_zero,
	.trim = throttle_trim,
	.extent = throttle_extent,
	.resize = throttle_resize,
	.set = throttle_set,
	.drain = throttle_drain,
	.counters = throttle_counters,
};
