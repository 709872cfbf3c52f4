// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl: starts, lists, pauses and ends tapdisks.  This file is the table of its verbs.
 */
#include "verbs.h"

static const struct cli_cmd *const cmds[] = {
	&list_cmd,  &allocate_cmd, &free_cmd,    &spawn_cmd, &attach_cmd,  &detach_cmd, &open_cmd,
	&close_cmd, &create_cmd,   &destroy_cmd, &pause_cmd, &unpause_cmd, &resize_cmd, &stats_cmd,
	&set_cmd,   &throttle_cmd, &policy_cmd,  &check_cmd, &gc_cmd,      NULL,
};

static const struct cli_prog prog = {
	.name = "tap-ctl",
	.summary = "Start, list, pause and end the daemons that serve disk images.",
	.cmds = cmds,
	.exit_errno = true,
};

int main(int argc, char **argv)
{
	return cli_main(&prog, argc, argv);
}
