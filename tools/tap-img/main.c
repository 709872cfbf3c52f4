// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img: makes and examines disk images.  This file is the table of its verbs.
 */
#include "verbs.h"

static const struct cli_cmd *const cmds[] = {
	&amend_cmd,   &bench_cmd,  &bitmap_cmd,   &check_cmd, &commit_cmd, &compare_cmd,
	&convert_cmd, &create_cmd, &dd_cmd,       &info_cmd,  &map_cmd,    &measure_cmd,
	&rebase_cmd,  &resize_cmd, &snapshot_cmd, NULL,
};

static const struct cli_prog prog = {
	.name = "tap-img",
	.summary = "Make and examine disk images.",
	.cmds = cmds,
};

int output_is_json(const struct cli_common *common, const char *output, bool *ret, struct td_err *ret_err)
{
	if (output && strcmp(output, "json") != 0 && strcmp(output, "human") != 0)
		return td_err_set(ret_err, -EINVAL, "--output=%s: it is json or human", output);
	*ret = output ? output[0] == 'j' : common->json;
	return 0;
}

int main(int argc, char **argv)
{
	return cli_main(&prog, argc, argv);
}
