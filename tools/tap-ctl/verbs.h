// SPDX-License-Identifier: BSD-2-Clause
/*
 * The verbs of tap-ctl.  Each is declared at the foot of its file.
 */
#ifndef TAP_CTL_VERBS_H
#define TAP_CTL_VERBS_H

#include "tools/common/cli.h"

extern const struct cli_cmd list_cmd, spawn_cmd, create_cmd, destroy_cmd, pause_cmd, unpause_cmd, resize_cmd,
	stats_cmd, set_cmd, throttle_cmd;

/* Options that are worded the same everywhere.  The verb's struct is S, with fields of these names. */
#define OPT_PID(S)                                                                                           \
	{                                                                                                    \
		'p', "pid", CLI_ID, offsetof(S, pid), "PID", "the tapdisk's process"                         \
	}
#define OPT_MINOR(S)                                                                                         \
	{                                                                                                    \
		'm', "minor", CLI_ID, offsetof(S, minor), "MINOR", "the disk's minor"                        \
	}
#define OPT_TIMEOUT(S)                                                                                       \
	{                                                                                                    \
		't', "timeout", CLI_ID, offsetof(S, timeout), "SECONDS",                                     \
			"give up after this time (default 120)"                                              \
	}

#endif
