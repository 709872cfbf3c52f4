// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl policy: what becomes of a running disk's requests for which there is no room, or which take too long.
 */
#include "steps.h"
#include "taps.h"
#include "verbs.h"

struct policy_args {
	struct cli_common common;
	int pid, minor, request_timeout;
	const char *on_enospc;
};

static int policy_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct policy_args *args = arg;
	const struct policy_request q = { args->on_enospc, args->request_timeout };
	pid_t pid;
	int minor, r;

	(void)operands, (void)nr;
	if (!q.on_enospc && q.request_timeout < 0)
		return td_err_set(ret_err, -EINVAL, "say what: --on-enospc DO or --request-timeout SECONDS");
	r = tap_resolve(args->pid, args->minor, &pid, &minor, ret_err);
	if (r == 0)
		r = step_policy(pid, &q, ret_err);
	return r < 0 ? r : verb_done(&args->common, pid, minor);
}

static const struct cli_opt policy_opts[] = {
	OPT_PID(struct policy_args),
	OPT_MINOR(struct policy_args),
	{ 0, "on-enospc", CLI_TEXT, offsetof(struct policy_args, on_enospc), "DO",
	  "report, or pause until there is room" },
	{ 't', "request-timeout", CLI_ID, offsetof(struct policy_args, request_timeout), "SECONDS",
	  "tell of requests that take longer, 0: never" },
};

const struct cli_cmd policy_cmd = {
	.name = "policy",
	.synopsis = "[-p PID] [-m MINOR] [--on-enospc DO] [-t SECONDS] [--json]",
	.summary = "what becomes of requests without room, or too late",
	.opts = policy_opts,
	.nr_opts = TD_NELEMS(policy_opts),
	.args_size = sizeof(struct policy_args),
	.run = policy_run,
};
