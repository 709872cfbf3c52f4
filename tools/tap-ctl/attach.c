// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl attach and detach: a minor to a daemon that has no disk yet, and away from one that has none any more.  A
 * daemon without a minor serves nothing and can be told nothing more by scripts, so detach ends it, as it always has.
 */
#include <blktap/ctl.h>
#include <blktap/log.h>

#include "minor.h"
#include "steps.h"
#include "taps.h"
#include "verbs.h"

struct attach_args {
	struct cli_common common;
	int pid, minor;
};

static int attach_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct attach_args *args = arg;
	pid_t pid;
	int minor, r;

	(void)operands, (void)nr;
	if (args->pid < 0 || args->minor < 0)
		return td_err_set(ret_err, -EINVAL, "say which tapdisk and which minor: -p PID -m MINOR");
	r = tap_resolve(args->pid, -1, &pid, &minor, ret_err);
	if (r < 0)
		return r;
	if (!minor_is_allocated(args->minor))
		return td_err_set(ret_err, -ENOENT, "minor %d is not allocated; tap-ctl allocate takes one",
				  args->minor);
	r = step_attach(pid, args->minor, ret_err);
	return r < 0 ? r : verb_done(&args->common, pid, args->minor);
}

static int detach_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct attach_args *args = arg;
	pid_t pid;
	int minor, r;

	(void)operands, (void)nr;
	r = tap_resolve(args->pid, args->minor, &pid, &minor, ret_err);
	if (r < 0)
		return r;
	r = step_detach(pid, QUICK_TIMEOUT_MS, ret_err);
	if (r < 0)
		return r;
	td_debug("tapdisk %d: terminate", (int)pid);
	r = td_ctl_terminate(pid, QUICK_TIMEOUT_MS, ret_err);
	return r < 0 ? r : verb_done(&args->common, pid, minor);
}

static const struct cli_opt attach_opts[] = {
	OPT_PID(struct attach_args),
	OPT_MINOR(struct attach_args),
};

const struct cli_cmd attach_cmd = {
	.name = "attach",
	.synopsis = "-p PID -m MINOR [--json]",
	.summary = "give a minor to a tapdisk",
	.opts = attach_opts,
	.nr_opts = TD_NELEMS(attach_opts),
	.args_size = sizeof(struct attach_args),
	.run = attach_run,
};

const struct cli_cmd detach_cmd = {
	.name = "detach",
	.synopsis = "[-p PID] [-m MINOR] [--json]",
	.summary = "take the minor from a tapdisk without a disk, and end it",
	.opts = attach_opts,
	.nr_opts = TD_NELEMS(attach_opts),
	.args_size = sizeof(struct attach_args),
	.run = detach_run,
};
