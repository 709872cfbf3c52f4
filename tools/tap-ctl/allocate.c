// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl allocate and free: a minor by itself, for scripts that make a disk step by step.
 */
#include <stdio.h>

#include "minor.h"
#include "tools/common/print.h"
#include "verbs.h"

struct allocate_args {
	struct cli_common common;
	const char *device;
};

struct free_args {
	struct cli_common common;
	int minor;
};

static int allocate_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct allocate_args *args = arg;
	td_cleanup(free) char *marker = NULL;
	int minor, r;

	(void)operands, (void)nr;
	if (args->device)
		return td_err_set(ret_err, -ENOTSUP, "%s", NO_DEVICE);
	r = minor_alloc(&minor, &marker, ret_err);
	if (r < 0 || !marker)
		return r;
	if (args->common.json)
		return print_json(json_pack("{s:i, s:s}", "minor", minor, "path", marker));
	printf("%s\n", marker);
	return 0;
}

static int free_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct free_args *args = arg;
	int r;

	(void)operands, (void)nr;
	if (args->minor < 0)
		return td_err_set(ret_err, -EINVAL, "say which minor: -m MINOR");
	r = minor_free(args->minor, MINOR_ANYBODYS, ret_err);
	return r < 0 ? r : verb_done(&args->common, -1, args->minor);
}

static const struct cli_opt allocate_opts[] = {
	OPT_DEVICE(struct allocate_args),
};

static const struct cli_opt free_opts[] = {
	OPT_MINOR(struct free_args),
};

const struct cli_cmd allocate_cmd = {
	.name = "allocate",
	.synopsis = "[--json]",
	.summary = "take a minor; print the path of its marker file",
	.opts = allocate_opts,
	.nr_opts = TD_NELEMS(allocate_opts),
	.args_size = sizeof(struct allocate_args),
	.run = allocate_run,
};

const struct cli_cmd free_cmd = {
	.name = "free",
	.synopsis = "-m MINOR [--json]",
	.summary = "give a minor back that no tapdisk has",
	.opts = free_opts,
	.nr_opts = TD_NELEMS(free_opts),
	.args_size = sizeof(struct free_args),
	.run = free_run,
};
