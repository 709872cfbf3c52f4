// SPDX-License-Identifier: BSD-2-Clause
/*
 * The verbs of tap-config.  Each is declared at the foot of its file.
 */
#ifndef TAP_CONFIG_VERBS_H
#define TAP_CONFIG_VERBS_H

#include "tools/common/cli.h"

extern const struct cli_cmd lint_cmd, list_cmd, translate_cmd;

/* What lint found, as an exit code: 0, 2 an error, 3 a warning. */
extern int lint_exit;

#endif
