// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img measure: how large a file or a device has to be for a new image, empty or made from another one.
 */
#include <inttypes.h>
#include <stdio.h>

#include "env.h"
#include "newimage.h"
#include "source.h"
#include "tools/common/print.h"
#include "verbs.h"

struct measure_args {
	struct cli_common common;
	const char *format, *target_format, *output;
	struct cli_list options;
	uint64_t size;
	bool no_lock;
};

struct measure_job {
	const struct measure_args *args;
	struct img_env env;
	const struct td_driver *drv; /* of the new image */
	char *const *operands;
	unsigned nr_sources; /* 0 or 1 */
	struct source source;
	struct td_measure m;
	struct td_err *err;
};

static int measure_co(void *arg)
{
	struct measure_job *job = arg;
	struct source_how how = { .format = job->args->format, .no_lock = job->args->no_lock };
	int r = 0;

	if (job->nr_sources > 0) {
		r = source_open(&job->source, &job->env.env, job->operands, 1, &how, job->err);
		if (r == 0)
			job->m.source = job->source.part[0].im;
		job->m.size = job->source.size;
	}
	if (r == 0) {
		r = td_image_measure(job->drv, &job->m, job->err);
		if (r < 0 && job->nr_sources > 0)
			r = td_err_prefix(job->err, r, "%s: no %s can be made of it", job->operands[0],
					  job->drv->name);
	}
	source_close(&job->source);
	return r;
}

static int report(const struct measure_job *job, bool json)
{
	const struct td_measure *m = &job->m;

	if (json)
		return print_json_indented(json_pack("{s:I, s:I}", "required", (json_int_t)m->required,
						     "fully-allocated", (json_int_t)m->fully_allocated));
	printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", m->required,
	       m->fully_allocated);
	return 0;
}

static int measure(struct measure_job *job, struct td_err *ret_err)
{
	return img_env_run(&job->env, measure_co, job, ret_err);
}

static int measure_check(void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct measure_args *a = arg;

	(void)operands;
	if (!a->target_format || !td_driver_find(a->target_format))
		return td_err_set(ret_err, -EINVAL,
				  a->target_format ? "-O %s: no such format"
						   : "say the new image's format, with -O FMT",
				  a->target_format);
	if ((nr > 0) == (a->size != CLI_SIZE_NONE))
		return td_err_set(ret_err, -EINVAL, "say an image, or --size for an empty one");
	return 0;
}

static int measure_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct measure_args *args = arg;
	struct measure_job job = { .args = args, .operands = operands, .nr_sources = nr, .err = ret_err };
	struct td_opts opts = { 0 };
	bool json = false;
	int r;

	job.drv = td_driver_find(args->target_format);
	job.m.size = args->size;
	job.m.opts = &opts;
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = newimage_options(&args->options, NULL, NULL, &opts, ret_err);
	if (r == 0)
		r = measure(&job, ret_err);
	if (r == 0)
		r = report(&job, json);
	td_opts_done(&opts);
	return r;
}

static const struct cli_opt measure_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct measure_args, format), "FMT",
	  "the source's format; without, a file is probed" },
	{ 'O', "target-format", CLI_TEXT, offsetof(struct measure_args, target_format), "FMT",
	  "the new image's format" },
	{ 'o', "options", CLI_LIST, offsetof(struct measure_args, options), "NAME=VALUE,...",
	  "options of the new image's format" },
	{ 0, "size", CLI_SIZE, offsetof(struct measure_args, size), "SIZE", "of a new, empty image" },
	{ 'U', "force-share", CLI_FLAG, offsetof(struct measure_args, no_lock), NULL,
	  "read the source without locking it" },
	{ 0, "output", CLI_TEXT, offsetof(struct measure_args, output), "json|human",
	  "what to print (default human)" },
};

const struct cli_cmd measure_cmd = {
	.name = "measure",
	.synopsis = "-O FMT [-o NAME=VALUE,...] [-U] [--output=json|human] --size SIZE | [-f FMT] SPEC|FILE",
	.summary = "say how large the file of a new image will be",
	.opts = measure_opts,
	.nr_opts = TD_NELEMS(measure_opts),
	.args_size = sizeof(struct measure_args),
	.min_operands = 0,
	.max_operands = 1,
	.check = measure_check,
	.run = measure_run,
};
