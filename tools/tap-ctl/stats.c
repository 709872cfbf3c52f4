// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl stats: a disk's counters, as the daemon reports them.
 */
#include <blktap/ctl.h>

#include "steps.h"
#include "taps.h"
#include "tools/common/print.h"
#include "verbs.h"

struct stats_args {
	struct cli_common common;
	int pid, minor;
};

static int stats_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct stats_args *args = arg;
	json_t *stats;
	pid_t pid;
	int minor, r;

	(void)operands, (void)nr;
	r = tap_resolve(args->pid, args->minor, &pid, &minor, ret_err);
	if (r < 0)
		return r;
	r = td_ctl_call(pid, json_pack("{s:s}", "cmd", "stats"), QUICK_TIMEOUT_MS, &stats, ret_err);
	if (r < 0)
		return r;
	td_ignore(json_object_del(stats, "ok")); /* the envelope of the answer; may be absent */
	td_ignore(json_object_del(stats, "id"));
	return print_json(stats);
}

static const struct cli_opt stats_opts[] = {
	OPT_PID(struct stats_args),
	OPT_MINOR(struct stats_args),
};

const struct cli_cmd stats_cmd = {
	.name = "stats",
	.synopsis = "[-p PID] [-m MINOR]",
	.summary = "print a disk's counters as JSON",
	.opts = stats_opts,
	.nr_opts = TD_NELEMS(stats_opts),
	.args_size = sizeof(struct stats_args),
	.run = stats_run,
};
