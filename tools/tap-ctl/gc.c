// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl gc: finds what dead processes left, and removes it.
 */
#include <stdio.h>

#include "gc.h"
#include "tools/common/print.h"
#include "verbs.h"

struct gc_args {
	struct cli_common common;
	bool dry_run, force;
};

/* From above to below: a loop device before the mount that it is on, the disk of an attachment before its sockets. */
static int find_all(struct gc *gc, struct td_err *ret_err)
{
	static int (*const finders[])(struct gc * gc, struct td_err * ret_err) = { gc_attached, gc_mounts,
										   gc_daemons, gc_run_dir };
	int r = 0;

	for (unsigned i = 0; i < TD_NELEMS(finders) && r == 0; i++)
		r = finders[i](gc, ret_err);
	if (r == 0 && gc->failed > 0)
		r = td_err_set(ret_err, -EBUSY, "%u could not be removed", gc->failed);
	return r;
}

static int gc_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct gc_args *args = arg;
	struct gc gc = { .dry_run = args->dry_run,
			 .force = args->force,
			 .list = args->common.json ? json_array() : NULL };
	int r;

	(void)operands, (void)nr;
	r = find_all(&gc, ret_err);
	if (args->common.json && print_json(gc.list) < 0 && r == 0)
		r = -EIO;
	return r;
}

static const struct cli_opt gc_opts[] = {
	{ 'n', "dry-run", CLI_FLAG, offsetof(struct gc_args, dry_run), NULL,
	  "say what is left over, remove nothing" },
	{ 0, "force", CLI_FLAG, offsetof(struct gc_args, force), NULL,
	  "give up writes that killed tapdisks answered and did not finish" },
};

const struct cli_cmd gc_cmd = {
	.name = "gc",
	.synopsis = "[-n] [--force] [--json]",
	.summary = "remove what dead tapdisks left: sockets, minors, mounts, devices, files",
	.opts = gc_opts,
	.nr_opts = TD_NELEMS(gc_opts),
	.args_size = sizeof(struct gc_args),
	.run = gc_run,
};
