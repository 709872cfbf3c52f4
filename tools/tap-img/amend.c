// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img amend: other options for an image that there is, of those that create was told.  Nobody may use it meanwhile.
 */
#include <stdio.h>

#include "env.h"
#include "newimage.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "tools/common/progress.h"
#include "verbs.h"

struct amend_args {
	struct cli_common common;
	const char *format, *output;
	struct cli_list options;
	bool progress, quiet;
};

struct amend_job {
	struct img_env env;
	struct td_spec *spec;
	struct td_opts opts;
	const struct amend_args *args;
	struct progress bar;
	struct td_progress told;
	struct td_err *err;
};

static void show(const struct td_progress *p, uint64_t done, uint64_t total)
{
	struct amend_job *job = td_container_of(p, struct amend_job, told);

	progress_total(&job->bar, total);
	progress_add(&job->bar, TD_MAX(done, job->bar.done) - job->bar.done);
}

static int amend_co(void *arg)
{
	struct amend_job *job = arg;
	struct td_image *im;
	int r, r2;

	r = td_image_open(&job->env.env, job->spec, TD_OPEN_NO_CHAIN, &im, job->err);
	if (r < 0)
		return r;
	progress_begin(&job->bar, job->env.env.loop, progress_how(job->args->quiet, job->args->progress), 0);
	r = td_image_amend(im, &job->opts, &job->told, job->err);
	progress_end(&job->bar, r == 0);
	r2 = td_image_close(im);
	if (r == 0 && r2 < 0)
		r = td_err_set(job->err, r2, "%s: cannot be written: %s", job->spec->path, strerror(-r2));
	return r;
}

/* ---- the verb ---- */

static int amend_check(void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct amend_args *args = arg;

	(void)operands;
	(void)nr;
	return args->options.nr == 0
		       ? td_err_set(ret_err, -EINVAL, "say what is to be changed, with -o NAME=VALUE")
		       : 0;
}

static int amend_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct amend_args *args = arg;
	struct amend_job job = { .args = args, .told = { .fn = show }, .err = ret_err };
	bool json = false;
	int r;

	(void)nr;
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = newimage_options(&args->options, NULL, NULL, &job.opts, ret_err);
	if (r == 0)
		r = operand_parse(operands[0], args->format, false, &job.spec, ret_err);
	if (r == 0)
		r = img_env_run(&job.env, amend_co, &job, ret_err);
	if (r == 0 && json)
		r = print_json_indented(json_pack("{s:o}", "filename", print_name(job.spec->path)));
	td_opts_done(&job.opts);
	td_spec_free(job.spec);
	return r;
}

static const struct cli_opt amend_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct amend_args, format), "FMT",
	  "the operand is a plain file; its format" },
	{ 'o', "options", CLI_LIST, offsetof(struct amend_args, options), "NAME=VALUE,...",
	  "options of the format, as they are to be" },
	{ 'p', "progress", CLI_FLAG, offsetof(struct amend_args, progress), NULL,
	  "show how far it is, not only on a terminal" },
	{ 'q', "quiet", CLI_FLAG, offsetof(struct amend_args, quiet), NULL, "show no progress" },
	{ 0, "output", CLI_TEXT, offsetof(struct amend_args, output), "json|human",
	  "what to print (default human)" },
};

const struct cli_cmd amend_cmd = {
	.name = "amend",
	.synopsis = "[-f FMT] -o NAME=VALUE,... [-p] [-q] SPEC|FILE",
	.summary = "change options that an image was made with",
	.opts = amend_opts,
	.nr_opts = TD_NELEMS(amend_opts),
	.args_size = sizeof(struct amend_args),
	.min_operands = 1,
	.max_operands = 1,
	.check = amend_check,
	.run = amend_run,
};
