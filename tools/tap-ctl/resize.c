// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl resize: make a disk larger while it is served.
 */
#include <blktap/opts.h>

#include "steps.h"
#include "taps.h"
#include "verbs.h"

struct resize_args {
	struct cli_common common;
	int pid, minor, timeout;
};

static int resize_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct resize_args *args = arg;
	uint64_t size;
	pid_t pid;
	int minor, r;

	(void)nr;
	if (td_parse_size(operands[0], &size) < 0 || size > INT64_MAX)
		return td_err_set(ret_err, -EINVAL, "%s: not a size (like 512, 64M, 10G)", operands[0]);
	r = tap_resolve(args->pid, args->minor, &pid, &minor, ret_err);
	if (r < 0)
		return r;
	r = step_resize(pid, size, step_timeout_ms(args->timeout, CLOSE_TIMEOUT_MS), ret_err);
	return r < 0 ? r : verb_done(&args->common, pid, minor);
}

static const struct cli_opt resize_opts[] = {
	OPT_PID(struct resize_args),
	OPT_MINOR(struct resize_args),
	OPT_TIMEOUT(struct resize_args),
};

const struct cli_cmd resize_cmd = {
	.name = "resize",
	.synopsis = "[-p PID] [-m MINOR] [-t SECONDS] [--json] SIZE",
	.summary = "make a disk larger while it is served",
	.opts = resize_opts,
	.nr_opts = TD_NELEMS(resize_opts),
	.args_size = sizeof(struct resize_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = resize_run,
};
