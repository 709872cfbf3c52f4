// SPDX-License-Identifier: BSD-2-Clause
/*
 * The verbs of tap-img.  Each is declared at the foot of its file.
 */
#ifndef TAP_IMG_VERBS_H
#define TAP_IMG_VERBS_H

#include "tools/common/cli.h"

extern const struct cli_cmd amend_cmd, bench_cmd, bitmap_cmd, check_cmd, commit_cmd, compare_cmd, convert_cmd,
	create_cmd, dd_cmd, info_cmd, map_cmd, measure_cmd, rebase_cmd, resize_cmd, snapshot_cmd;

/* --output=json|human, and --json for the first. */
TD_CHECK int output_is_json(const struct cli_common *common, const char *output, bool *ret,
			    struct td_err *ret_err);

#endif
