// SPDX-License-Identifier: BSD-2-Clause
/* What verbs share; see verbs.h. */
#include "verbs.h"
#include "tools/common/print.h"

int verb_done(const struct cli_common *args, int pid, int minor)
{
	if (!args->json)
		return 0;
	return print_json(json_pack("{s:o, s:o}", "pid", pid < 0 ? json_null() : json_integer(pid), "minor",
				    minor < 0 ? json_null() : json_integer(minor)));
}
