// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img snapshot: the snapshots inside an image that nobody uses: list, create, apply, delete.
 */
#include <stdio.h>

#include "env.h"
#include "snaps.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "tools/common/progress.h"
#include "verbs.h"

struct snapshot_args {
	struct cli_common common;
	const char *format, *output, *create, *apply, *delete;
	bool list, quiet;
};

struct snapshot_job {
	struct img_env env;
	struct td_spec *spec;
	const char *name; /* NULL: list them */
	enum td_snap_op op;
	bool quiet;
	json_t *snaps; /* those that there are afterwards */
	struct progress bar;
	struct td_progress told;
	struct td_err *err;
};

static void show(const struct td_progress *p, uint64_t done, uint64_t total)
{
	struct snapshot_job *job = td_container_of(p, struct snapshot_job, told);

	progress_total(&job->bar, total);
	progress_add(&job->bar, done - job->bar.done);
}

static int change(struct snapshot_job *job, struct td_image *im)
{
	int r;

	progress_begin(&job->bar, job->env.env.loop, progress_how(job->quiet, false), 0);
	r = td_image_snapshot(im, job->op, job->name, &job->told, job->err);
	progress_end(&job->bar, r == 0);
	return r;
}

static int list(struct snapshot_job *job, struct td_image *im)
{
	struct td_snaps snaps;
	int r = td_image_snapshots(im, &snaps, job->err);

	if (r < 0)
		return r;
	job->snaps = snaps_json(&snaps);
	td_snaps_done(&snaps);
	return job->snaps ? 0 : -ENOMEM;
}

/* Without its chain: a snapshot is of this image alone.  Listing takes no lock, so a disk in use can be asked. */
static int snapshot_co(void *arg)
{
	struct snapshot_job *job = arg;
	unsigned flags = TD_OPEN_NO_CHAIN | (job->name ? 0 : TD_OPEN_RDONLY | TD_OPEN_NO_LOCK);
	struct td_image *im;
	int r, r2;

	r = td_image_open(&job->env.env, job->spec, flags, &im, job->err);
	if (r < 0)
		return r;
	if (job->name)
		r = change(job, im);
	if (r == 0)
		r = list(job, im);
	r2 = td_image_close(im);
	if (r == 0 && r2 < 0 && job->name)
		r = td_err_set(job->err, r2, "%s: cannot be written: %s", job->spec->path, strerror(-r2));
	return r;
}

/* ---- the verb ---- */

static int snapshot_check(void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct snapshot_args *args = arg;

	(void)operands;
	(void)nr;
	if (!!args->create + !!args->apply + !!args->delete + args->list > 1)
		return td_err_set(ret_err, -EINVAL, "one of -l, -c, -a and -d at a time");
	return 0;
}

static void set_op(struct snapshot_job *job, const struct snapshot_args *args)
{
	job->op = args->create ? TD_SNAP_CREATE : args->apply ? TD_SNAP_APPLY : TD_SNAP_DELETE;
	job->name = args->create ? args->create : args->apply ? args->apply : args->delete;
}

static int report(const struct snapshot_job *job, bool json)
{
	if (json)
		return print_json_indented(json_pack("{s:o, s:O}", "filename", print_name(job->spec->path),
						     "snapshots", job->snaps));
	if (!job->name)
		snaps_print(job->snaps);
	return 0;
}

static int snapshot_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct snapshot_args *args = arg;
	struct snapshot_job job = { .quiet = args->quiet, .told = { .fn = show }, .err = ret_err };
	bool json = false;
	int r;

	(void)nr;
	set_op(&job, args);
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = operand_parse(operands[0], args->format, !job.name, &job.spec, ret_err);
	if (r < 0)
		return r;
	r = img_env_run(&job.env, snapshot_co, &job, ret_err);
	if (r == 0)
		r = report(&job, json);
	json_decref(job.snaps);
	td_spec_free(job.spec);
	return r;
}

static const struct cli_opt snapshot_opts[] = {
	{ 'l', "list", CLI_FLAG, offsetof(struct snapshot_args, list), NULL,
	  "list the snapshots; so it is without an option, too" },
	{ 'c', "create", CLI_TEXT, offsetof(struct snapshot_args, create), "NAME",
	  "make a snapshot of what the disk holds now" },
	{ 'a', "apply", CLI_TEXT, offsetof(struct snapshot_args, apply), "NAME|ID",
	  "the disk becomes what it was; what it holds now is lost" },
	{ 'd', "delete", CLI_TEXT, offsetof(struct snapshot_args, delete), "NAME|ID",
	  "drop a snapshot and give its space back" },
	{ 'f', "format", CLI_TEXT, offsetof(struct snapshot_args, format), "FMT",
	  "the operand is a plain file; its format" },
	{ 'q', "quiet", CLI_FLAG, offsetof(struct snapshot_args, quiet), NULL, "show no progress" },
	{ 0, "output", CLI_TEXT, offsetof(struct snapshot_args, output), "json|human",
	  "what to print (default human)" },
};

const struct cli_cmd snapshot_cmd = {
	.name = "snapshot",
	.synopsis = "[-l | -c NAME | -a NAME|ID | -d NAME|ID] [-f FMT] [-q] SPEC|FILE",
	.summary = "list, make, apply and delete snapshots inside an image",
	.opts = snapshot_opts,
	.nr_opts = TD_NELEMS(snapshot_opts),
	.args_size = sizeof(struct snapshot_args),
	.min_operands = 1,
	.max_operands = 1,
	.check = snapshot_check,
	.run = snapshot_run,
};
