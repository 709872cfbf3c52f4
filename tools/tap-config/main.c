// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-config: the disks of a guest's configuration.  This file is the table of its verbs; without one it lists.
 */
#include "verbs.h"

static const struct cli_cmd *const cmds[] = { &list_cmd, &lint_cmd, &translate_cmd, NULL };

static const struct cli_prog prog = {
	.name = "tap-config",
	.summary = "Read the disks of an xm or xl guest configuration. Without a command: list.",
	.cmds = cmds,
};

static bool is_verb(const char *word)
{
	static const char *const answered[] = { "-h", "--help", "-V", "--version" };

	for (size_t i = 0; i < TD_NELEMS(answered); i++)
		if (strcmp(word, answered[i]) == 0)
			return true;
	for (const struct cli_cmd *const *c = cmds; *c; c++)
		if (strcmp((*c)->name, word) == 0)
			return true;
	return false;
}

/* `tap-config FILE`: a file of a verb's name is reached as ./list. */
static int list(int argc, char **argv)
{
	char **more = calloc((size_t)argc + 2, sizeof(*more));
	char verb[] = "list";
	int r;

	if (!more)
		return 1;
	more[0] = argv[0];
	more[1] = verb;
	memcpy(more + 2, argv + 1, (size_t)(argc - 1) * sizeof(*more));
	r = cli_main(&prog, argc + 1, more);
	free(more);
	return r;
}

int main(int argc, char **argv)
{
	int r;

	if (argc > 1 && !is_verb(argv[1]))
		return list(argc, argv);
	r = cli_main(&prog, argc, argv);
	return r == 0 ? lint_exit : r;
}
