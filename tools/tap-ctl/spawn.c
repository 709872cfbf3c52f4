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

static int spawn_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	static const char *const no_args[] = { NULL };
	const struct cli_common *args = arg;
	pid_t pid;
	int r;

	(void)operands, (void)nr;
	r = td_ctl_spawn(no_args, SPAWN_TIMEOUT_MS, &pid, ret_err);
	if (r < 0)
		return r;
	if (args->json)
		return print_json(json_pack("{s:i}", "pid", (int)pid));
	printf(isatty(STDOUT_FILENO) ? "tapdisk spawned with pid %d\n" : "%d\n", (int)pid);
	return 0;
}

const struct cli_cmd spawn_cmd = {
	.name = "spawn",
	.synopsis = "[--json]",
	.summary = "start a tapdisk that waits for a disk; print its pid",
	.args_size = sizeof(struct cli_common),
	.run = spawn_run,
};
