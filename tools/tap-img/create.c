// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img create: a new, empty image; over a backing file if one is named.  What is already there is not
 * overwritten unless asked for, which the leaf driver sees to.
 */
#include <blktap/image.h>

#include <stdio.h>

#include "env.h"
#include "newimage.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "tools/common/progress.h"
#include "verbs.h"

struct create_args {
	struct cli_common common;
	const char *format, *backing, *backing_format, *output;
	struct cli_list options;
	bool force, progress;
};

struct create_job {
	struct img_env env;
	struct td_spec *spec;
	struct td_opts opts;
	uint64_t size;
	bool has_size, force, progress;
	struct progress bar;
	struct td_progress told;
	struct td_err *err;
};

static void show(const struct td_progress *p, uint64_t done, uint64_t total)
{
	struct create_job *job = td_container_of(p, struct create_job, told);

	progress_total(&job->bar, total);
	progress_add(&job->bar, done - job->bar.done);
}

static int create_co(void *arg)
{
	struct create_job *job = arg;
	uint64_t size;
	int r;

	if (newimage_has_backing(&job->opts)) {
		r = newimage_look_at_backing(&job->env.env, job->spec, &job->opts, &size, job->err);
		if (r < 0)
			return r;
		if (!job->has_size)
			job->size = size;
		job->has_size = true;
	}
	if (!job->has_size)
		return td_err_set(job->err, -EINVAL,
				  "say the size (64M, 10G, ...); only with -b it may be left out");
	progress_begin(&job->bar, job->env.env.loop, progress_how(false, job->progress), 0);
	r = td_image_create_told(&job->env.env, job->spec, job->size, &job->opts, job->force, &job->told,
				 job->err);
	progress_end(&job->bar, r == 0);
	return r;
}

/* ---- the verb ---- */

static int create(struct create_job *job, const struct create_args *args, struct td_err *ret_err)
{
	int r;

	r = newimage_options(&args->options, args->backing, args->backing_format, &job->opts, ret_err);
	if (r == 0)
		r = img_env_run(&job->env, create_co, job, ret_err);
	return r;
}

static int create_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct create_args *args = arg;
	struct create_job job = {
		.force = args->force, .progress = args->progress, .told = { .fn = show }, .err = ret_err
	};
	bool json = false;
	int r;

	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0 && nr > 1) {
		job.has_size = true;
		r = td_parse_size(operands[1], &job.size);
		if (r < 0)
			return td_err_set(ret_err, r, "%s: not a size (like 512, 64M, 10G)", operands[1]);
	}
	if (r == 0)
		r = operand_parse(operands[0], args->format, false, &job.spec, ret_err);
	if (r < 0)
		return r;
	r = create(&job, args, ret_err);
	if (r == 0 && json)
		r = print_json_indented(json_pack("{s:s, s:I}", "filename", job.spec->path, "virtual-size",
						  (json_int_t)job.size));
	td_opts_done(&job.opts);
	td_spec_free(job.spec);
	return r;
}

static const struct cli_opt create_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct create_args, format), "FMT",
	  "the operand is a plain file; its format" },
	{ 'o', "options", CLI_LIST, offsetof(struct create_args, options), "NAME=VALUE,...",
	  "options of the format" },
	{ 'b', "backing", CLI_TEXT, offsetof(struct create_args, backing), "FILE",
	  "what is not in the image is read from there" },
	{ 'F', "backing-format", CLI_TEXT, offsetof(struct create_args, backing_format), "FMT",
	  "the backing file's format; has to be given" },
	{ 0, "force", CLI_FLAG, offsetof(struct create_args, force), NULL, "overwrite what is there" },
	{ 'p', "progress", CLI_FLAG, offsetof(struct create_args, progress), NULL,
	  "show how far it is while zeros are written, not only on a terminal" },
	{ 0, "output", CLI_TEXT, offsetof(struct create_args, output), "json|human",
	  "what to print (default human)" },
};

const struct cli_cmd create_cmd = {
	.name = "create",
	.synopsis = "[-f FMT] [-o NAME=VALUE,...] [-b FILE -F FMT] [--force] [-p] SPEC|FILE [SIZE]",
	.summary = "make a new, empty image",
	.opts = create_opts,
	.nr_opts = TD_NELEMS(create_opts),
	.args_size = sizeof(struct create_args),
	.min_operands = 1,
	.max_operands = 2,
	.run = create_run,
};
