// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img info: what an image is.  Reads only and takes no lock, so that it can be asked of a disk in use; nothing is
 * repaired or written.
 */
#include <stdio.h>

#include "env.h"
#include "facts.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "verbs.h"

#define INFO_FLAGS (TD_OPEN_RDONLY | TD_OPEN_NO_LOCK | TD_OPEN_CHECK)

struct info_args {
	struct cli_common common;
	const char *format, *output;
	bool chain;
};

struct info_job {
	struct img_env env;
	struct td_spec *spec;
	bool chain;
	json_t *list; /* one object an image, the top first */
	struct td_err *err;
};

static int gather(struct info_job *job, struct td_image *top)
{
	json_t *facts;
	int r;

	for (struct td_image *im = top; im; im = td_image_layer(im)->backing) {
		r = facts_of_image(im, &facts, job->err);
		if (r < 0)
			return r;
		if (json_array_append_new(job->list, facts) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int info_co(void *arg)
{
	struct info_job *job = arg;
	struct td_image *im;
	int r;

	r = td_image_open(&job->env.env, job->spec, INFO_FLAGS | (job->chain ? 0 : TD_OPEN_NO_CHAIN), &im,
			  job->err);
	if (r < 0)
		return r;
	r = gather(job, im);
	td_ignore(td_image_close(im)); /* it was opened read-only: there is nothing to lose */
	return r;
}

static int print_list(const json_t *list, bool chain, bool json)
{
	if (json && chain)
		return print_json_indented(json_incref((json_t *)list));
	if (json)
		return print_json_indented(json_incref(json_array_get(list, 0)));
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (i > 0)
			putchar('\n');
		facts_print(json_array_get(list, i));
	}
	return 0;
}

static int info(struct info_job *job, struct td_err *ret_err)
{
	return img_env_run(&job->env, info_co, job, ret_err);
}

static int info_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct info_args *args = arg;
	struct info_job job = { .chain = args->chain, .err = ret_err };
	bool json = false;
	int r;

	(void)nr;
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = operand_parse(operands[0], args->format, true, &job.spec, ret_err);
	if (r < 0)
		return r;
	job.list = json_array();
	r = job.list ? info(&job, ret_err) : -ENOMEM;
	if (r == 0)
		r = print_list(job.list, args->chain, json);
	json_decref(job.list);
	td_spec_free(job.spec);
	return r;
}

static const struct cli_opt info_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct info_args, format), "FMT",
	  "the operand is a plain file in this format; without, a file is probed" },
	{ 0, "output", CLI_TEXT, offsetof(struct info_args, output), "json|human",
	  "what to print (default human)" },
	{ 0, "backing-chain", CLI_FLAG, offsetof(struct info_args, chain), NULL,
	  "the backing images as well" },
};

const struct cli_cmd info_cmd = {
	.name = "info",
	.synopsis = "[-f FMT] [--output=json|human] [--backing-chain] SPEC|FILE",
	.summary = "say what an image is",
	.opts = info_opts,
	.nr_opts = TD_NELEMS(info_opts),
	.args_size = sizeof(struct info_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = info_run,
};
