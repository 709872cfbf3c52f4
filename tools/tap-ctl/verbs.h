// SPDX-License-Identifier: BSD-2-Clause
/*
 * The verbs of tap-ctl.  Each is declared at the foot of its file.
 */
#ifndef TAP_CTL_VERBS_H
#define TAP_CTL_VERBS_H

#include "tools/common/cli.h"

extern const struct cli_cmd list_cmd, allocate_cmd, free_cmd, spawn_cmd, attach_cmd, detach_cmd, open_cmd,
	close_cmd, create_cmd, destroy_cmd, pause_cmd, unpause_cmd, resize_cmd, stats_cmd, set_cmd,
	policy_cmd, throttle_cmd, check_cmd,
	gc_cmd;

/* What a verb prints that has nothing to say but that it is done: nothing, or which disk it was as JSON.  -1: none. */
TD_CHECK int verb_done(const struct cli_common *args, int pid, int minor);

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

/* Of tapdisks that had a kernel module under them, or a service that put them into cgroups. */
#define OPT_DEVICE(S)                                                                                        \
	{                                                                                                    \
		'd', NULL, CLI_TEXT, offsetof(S, device), "NAME", "not possible here"                        \
	}
#define OPT_SLICE(S)                                                                                         \
	{                                                                                                    \
		'c', NULL, CLI_TEXT, offsetof(S, slice), "SLICE", "not possible here"                        \
	}
#define NO_DEVICE "-d: there is no device node to name; the disk is a socket (or see block-attach)"
#define NO_SLICE                                                                                             \
	"-c: tap-ctl puts no tapdisk into a slice; start it from a unit of that slice (systemd-run --slice)"

#endif
