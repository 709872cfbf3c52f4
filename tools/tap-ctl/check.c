// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl check: can disks be served here?  Scripts of older Xens ask before they begin.  It asked for a kernel module
 * once; what it has to be now is a run-time directory and a tapdisk that starts.
 */
#include <blktap/ctl.h>

#include <stdio.h>

#include "steps.h"
#include "tools/common/print.h"
#include "verbs.h"

static int check_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	static const char *const no_args[] = { NULL };
	const struct cli_common *args = arg;
	const char *dir = NULL;
	pid_t pid;
	int r;

	(void)operands, (void)nr;
	r = td_run_dir(&dir, ret_err);
	if (r == 0)
		r = td_ctl_spawn(no_args, SPAWN_TIMEOUT_MS, &pid, ret_err);
	if (r == 0)
		r = td_ctl_terminate(pid, QUICK_TIMEOUT_MS, ret_err);
	if (r < 0)
		return r;
	if (args->json)
		return print_json(json_pack("{s:b, s:s}", "ok", 1, "run_dir", dir));
	puts("ok");
	return 0;
}

const struct cli_cmd check_cmd = {
	.name = "check",
	.synopsis = "[--json]",
	.summary = "can disks be served here?  Print ok, or say why not",
	.args_size = sizeof(struct cli_common),
	.run = check_run,
};
