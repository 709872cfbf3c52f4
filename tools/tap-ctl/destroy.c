// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl destroy: close, detach, end the daemon, sweep up after it, free the minor.
 *
 * It rolls forward: a step that fails does not keep the next from being tried, the first failure is reported
 * at the end, and whatever was left can be destroyed again.  The marker goes last, so that as long as
 * anything is left there is a minor to name it by.
 */
#include <blktap/ctl.h>
#include <blktap/log.h>

#include "minor.h"
#include "steps.h"
#include "taps.h"
#include "verbs.h"

#define LATE_MS 1000u

struct destroy_args {
	struct cli_common common;
	int pid, minor, timeout;
};

/* The first failure of several steps. */
struct outcome {
	int r;
	struct td_err err;
};

static void note(struct outcome *o, int r, const struct td_err *err)
{
	if (r < 0 && o->r == 0) {
		o->r = r;
		o->err = *err;
	}
}

/* One time limit for all the steps; even a late one is given a moment. */
static unsigned time_left(uint64_t deadline_ms)
{
	uint64_t now = step_now_ms();

	return now + LATE_MS < deadline_ms ? (unsigned)(deadline_ms - now) : LATE_MS;
}

static int hangs(const struct tap *row, unsigned timeout_ms, struct td_err *ret_err)
{
	return td_err_set(
		ret_err, -ETIMEDOUT,
		"tapdisk %d still runs after %u s; wait and repeat, or give it up: kill -9 %d, then "
		"tap-ctl destroy -p %d (what it answered and did not write is kept for whoever opens "
		"the image next)",
		(int)row->pid, timeout_ms / 1000, (int)row->pid, (int)row->pid);
}

/*
 * Close by message, so that a failing flush is heard of; SIGTERM would only tell the log.  A daemon that does
 * not answer in time gets the signal all the same.
 */
static int end_daemon(const struct tap *row, unsigned timeout_ms, struct outcome *o)
{
	uint64_t deadline = step_now_ms() + timeout_ms;
	struct td_err err = { .msg = "" };
	int r;

	if (row->kind == TAP_LIVE && row->state >= 0 && row->state != TAP_CLOSED)
		note(o, step_close(row->pid, timeout_ms, &err), &err);
	if (row->kind == TAP_LIVE && row->minor >= 0 && o->r != -ETIMEDOUT)
		note(o, step_detach(row->pid, time_left(deadline), &err), &err);
	td_debug("tapdisk %d: terminate", (int)row->pid);
	r = td_ctl_terminate(row->pid, time_left(deadline), &err);
	note(o, r, &err);
	if (r == -ETIMEDOUT)
		o->r = hangs(row, timeout_ms, &o->err);
	return r;
}

/*
 * Freed by somebody else meanwhile, and perhaps taken again: nothing to do.  The marker may have got the daemon's pid
 * after it was looked at.
 */
static int free_minor(const struct tap *row, struct td_err *ret_err)
{
	int r = minor_free(row->minor, row->marked, ret_err);

	if (r == -ENOENT && row->pid > 0)
		r = minor_free(row->minor, row->pid, ret_err);
	return r == -ENOENT ? 0 : r;
}

static int destroy(const struct tap *row, unsigned timeout_ms, struct td_err *ret_err)
{
	struct outcome o = { .r = 0 };
	struct td_err err = { .msg = "" };

	/* A process that does not answer at a socket of ours may be anybody's: it gets no signal. */
	if ((row->kind == TAP_LIVE || row->kind == TAP_MUTE) && end_daemon(row, timeout_ms, &o) < 0) {
		*ret_err = o.err;
		return o.r; /* it still runs: its minor stays taken */
	}
	if (row->pid > 0)
		note(&o, step_sweep(row->pid, &err), &err);
	if (row->minor >= 0)
		note(&o, free_minor(row, &err), &err);
	if (o.r == 0)
		return 0;
	*ret_err = o.err;
	return td_err_prefix(ret_err, o.r, "destroyed, but not without a failure");
}

static int destroy_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct destroy_args *args = arg;
	const struct tap *row = NULL;
	struct taps t;
	int r;

	(void)operands, (void)nr;
	r = taps_read(&t, ret_err);
	if (r < 0)
		return r;
	r = taps_find(&t, args->pid, args->minor, &row, ret_err);
	/* Both are given and the daemon is gone without a trace: the marker may be all there is. */
	if (r == -ENOENT && args->pid >= 0 && args->minor >= 0) {
		r = taps_find(&t, -1, args->minor, &row, ret_err);
		if (r == 0 && row->kind != TAP_MARKER)
			r = td_err_set(ret_err, -EINVAL, "minor %d belongs to tapdisk %d, not %d",
				       args->minor, (int)row->pid, args->pid);
	}
	if (r == 0)
		r = destroy(row, step_timeout_ms(args->timeout, CLOSE_TIMEOUT_MS), ret_err);
	if (r == 0 && row)
		r = verb_done(&args->common, row->pid, row->minor);
	taps_done(&t);
	return r;
}

static const struct cli_opt destroy_opts[] = {
	OPT_PID(struct destroy_args),
	OPT_MINOR(struct destroy_args),
	OPT_TIMEOUT(struct destroy_args),
};

const struct cli_cmd destroy_cmd = {
	.name = "destroy",
	.synopsis = "[-p PID] [-m MINOR] [-t SECONDS] [--json]",
	.summary = "close a disk, end its tapdisk, free its minor",
	.opts = destroy_opts,
	.nr_opts = TD_NELEMS(destroy_opts),
	.args_size = sizeof(struct destroy_args),
	.run = destroy_run,
};
