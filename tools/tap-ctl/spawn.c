// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl spawn: a daemon without a disk.
 */
#include <blktap/ctl.h>

#include <stdio.h>
#include <unistd.h>

#include "steps.h"
#include "tools/common/print.h"
#include "verbs.h"

struct spawn_args {
	struct cli_common common;
	const char *slice;
};

static int spawn_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	static const char *const no_args[] = { NULL };
	const struct spawn_args *args = arg;
	pid_t pid;
	int r;

	(void)operands, (void)nr;
	if (args->slice)
		return td_err_set(ret_err, -ENOTSUP, "%s", NO_SLICE);
	r = td_ctl_spawn(no_args, SPAWN_TIMEOUT_MS, &pid, ret_err);
	if (r < 0)
		return r;
	if (args->common.json)
		return print_json(json_pack("{s:i}", "pid", (int)pid));
	printf(isatty(STDOUT_FILENO) ? "tapdisk spawned with pid %d\n" : "%d\n", (int)pid);
	return 0;
}

static const struct cli_opt spawn_opts[] = {
	OPT_SLICE(struct spawn_args),
};

const struct cli_cmd spawn_cmd = {
	.name = "spawn",
	.synopsis = "[--json]",
	.summary = "start a tapdisk that waits for a disk; print its pid",
	.opts = spawn_opts,
	.nr_opts = TD_NELEMS(spawn_opts),
	.args_size = sizeof(struct spawn_args),
	.run = spawn_run,
};
