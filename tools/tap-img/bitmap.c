// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img bitmap: what can be done with the persistent dirty bitmaps of a disk that nobody uses.  Several actions are
 * done in the order in which they stand, each durably before the next.
 */
#include "env.h"
#include "facts.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "verbs.h"

struct bitmap_args {
	struct cli_common common;
	const char *format, *source, *source_format, *output;
	uint64_t granularity;
	struct cli_steps steps;
};

struct bitmap_job {
	struct img_env env;
	const struct bitmap_args *args;
	struct td_spec *spec, *source; /* source NULL: the image itself */
	const char *name;
	json_t *list;
	struct td_err *err;
};

/* ---- one action ---- */

struct action {
	const char *option;
	enum td_bitmap_what what;
};

static enum td_bitmap_what what_of(const struct cli_opt *o)
{
	static const struct action actions[] = {
		{ "remove", TD_BITMAP_REMOVE }, { "clear", TD_BITMAP_CLEAR },
		{ "enable", TD_BITMAP_ENABLE }, { "disable", TD_BITMAP_DISABLE },
		{ "merge", TD_BITMAP_MERGE },
	};

	for (size_t i = 0; i < TD_NELEMS(actions); i++)
		if (strcmp(actions[i].option, o->name) == 0)
			return actions[i].what;
	return TD_BITMAP_ADD;
}

static int act_all(struct bitmap_job *job, struct td_image *im, struct td_image *source)
{
	const struct cli_steps *steps = &job->args->steps;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < steps->nr; i++) {
		const struct td_bitmap_op op = {
			.what = what_of(steps->step[i].opt),
			.name = job->name,
			.granularity = cli_size_or(job->args->granularity, 0),
			.from = source ? source : im,
			.from_name = steps->step[i].value,
		};

		r = td_image_bitmap(im, &op, job->err);
	}
	return r;
}

/* ---- the verb ---- */

static int open_both(struct bitmap_job *job, struct td_image **ret_im, struct td_image **ret_source)
{
	int r = td_image_open(&job->env.env, job->spec, TD_OPEN_NO_CHAIN, ret_im, job->err);

	if (r == 0 && job->source)
		r = td_image_open(&job->env.env, job->source, TD_OPEN_RDONLY | TD_OPEN_NO_CHAIN, ret_source,
				  job->err);
	return r;
}

static int bitmap_co(void *arg)
{
	struct bitmap_job *job = arg;
	struct td_image *im = NULL, *source = NULL;
	int r = open_both(job, &im, &source), r2;

	if (r == 0)
		r = act_all(job, im, source);
	if (r == 0) {
		job->list = facts_bitmaps(im);
		if (!job->list)
			r = td_err_set(job->err, -ENOMEM, "%s: no memory", im->name);
	}
	td_ignore(td_image_close(source)); /* it was opened read-only: there is nothing to lose */
	r2 = td_image_close(im);
	if (r == 0 && r2 < 0)
		r = td_err_set(job->err, r2, "%s: cannot be written: %s", job->spec->path, strerror(-r2));
	return r;
}

static int check_args(void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct bitmap_args *args = arg;
	bool add = false, merge = false;

	(void)operands;
	(void)nr;
	for (unsigned i = 0; i < args->steps.nr; i++) {
		add |= what_of(args->steps.step[i].opt) == TD_BITMAP_ADD;
		merge |= what_of(args->steps.step[i].opt) == TD_BITMAP_MERGE;
	}
	if (args->steps.nr == 0)
		return td_err_set(ret_err, -EINVAL,
				  "say what to do: --add, --remove, --clear, --enable, --disable or --merge");
	if (args->granularity != CLI_SIZE_NONE && !add)
		return td_err_set(ret_err, -EINVAL, "-g is of a new bitmap: it wants --add");
	if (args->source && !merge)
		return td_err_set(ret_err, -EINVAL, "-b is where a bitmap is merged from: it wants --merge");
	if (args->source_format && !args->source)
		return td_err_set(ret_err, -EINVAL, "-F is the format of the file that -b names");
	return 0;
}

static int report(struct bitmap_job *job)
{
	return print_json_indented(
		json_pack("{s:o, s:O}", "filename", print_name(job->spec->path), "bitmaps", job->list));
}

static int bitmap_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct bitmap_args *args = arg;
	struct bitmap_job job = { .args = args, .name = operands[1], .err = ret_err };
	bool json = false;
	int r;

	(void)nr;
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = operand_parse(operands[0], args->format, false, &job.spec, ret_err);
	if (r == 0 && args->source)
		r = operand_parse(args->source, args->source_format, false, &job.source, ret_err);
	if (r == 0)
		r = img_env_run(&job.env, bitmap_co, &job, ret_err);
	if (r == 0 && json)
		r = report(&job);
	json_decref(job.list);
	td_spec_free(job.source);
	td_spec_free(job.spec);
	return r;
}

#define FIELD(f) offsetof(struct bitmap_args, f)

static const struct cli_opt bitmap_opts[] = {
	{ 0, "add", CLI_STEP, FIELD(steps), NULL, "make it: enabled, and empty" },
	{ 0, "remove", CLI_STEP, FIELD(steps), NULL, "delete it" },
	{ 0, "clear", CLI_STEP, FIELD(steps), NULL, "from now on nothing is dirty" },
	{ 0, "enable", CLI_STEP, FIELD(steps), NULL, "from now on it records what is written" },
	{ 0, "disable", CLI_STEP, FIELD(steps), NULL, "it stays as it is" },
	{ 0, "merge", CLI_STEP, FIELD(steps), "SOURCE", "what that bitmap has is dirty in this one too" },
	{ 'b', "source-file", CLI_TEXT, FIELD(source), "SPEC|FILE", "--merge: the image that has SOURCE" },
	{ 'F', "source-format", CLI_TEXT, FIELD(source_format), "FMT", "that is a plain file; its format" },
	{ 'g', "granularity", CLI_SIZE, FIELD(granularity), "SIZE",
	  "--add: bytes of the disk for each bit (default: a cluster)" },
	{ 'f', "format", CLI_TEXT, FIELD(format), "FMT", "the operand is a plain file; its format" },
	{ 0, "output", CLI_TEXT, FIELD(output), "json|human", "json: print the image's bitmaps afterwards" },
};

const struct cli_cmd bitmap_cmd = {
	.name = "bitmap",
	.synopsis = "--add|--remove|--clear|--enable|--disable|--merge SOURCE... [-b SPEC|FILE [-F FMT]] [-g "
		    "SIZE] "
		    "[-f FMT] SPEC|FILE NAME",
	.summary = "change the dirty bitmaps of a disk",
	.opts = bitmap_opts,
	.nr_opts = TD_NELEMS(bitmap_opts),
	.args_size = sizeof(struct bitmap_args),
	.min_operands = 2,
	.max_operands = 2,
	.check = check_args,
	.run = bitmap_run,
};
