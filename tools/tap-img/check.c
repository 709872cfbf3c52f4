// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img check: is an image consistent, and can what is not be repaired.  Exit codes and the fields of the JSON are
 * those of qemu-img check, which scripts know.
 */
#include <stdio.h>

#include "env.h"
#include "facts.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "tools/common/progress.h"
#include "verbs.h"

enum {
	EXIT_FAILED = 1,
	EXIT_CORRUPT = 2,
	EXIT_LEAKS = 3,
	EXIT_NO_CHECK = 63,
};

struct check_args {
	struct cli_common common;
	const char *format, *output, *repair;
	bool quiet, share;
};

struct check_job {
	const struct check_args *args;
	struct img_env env;
	struct td_spec *spec;
	unsigned fix;
	struct td_check res;
	struct progress progress;
	uint64_t shown; /* of the progress */
	char *name;     /* of the file, and the format's: the caller's to free */
	const char *format;
	struct td_err *err;
};

/* ---- while it runs ---- */

static void on_finding(void *arg, const char *line)
{
	const struct check_job *job = arg;

	if (!job->args->quiet)
		fprintf(stderr, "%s\n", line);
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct check_job *job = arg;

	progress_total(&job->progress, total);
	if (done > job->shown) /* what is looked at for the second time begins anew */
		progress_add(&job->progress, done - job->shown);
	job->shown = TD_MAX(job->shown, done);
}

static int check_image(struct check_job *job, struct td_image *im)
{
	int r;

	job->res = (struct td_check){ .report = on_finding, .progress = on_progress, .report_arg = job };
	progress_begin(&job->progress, job->env.env.loop, job->args->quiet ? PROGRESS_NEVER : PROGRESS_AUTO,
		       0);
	r = td_image_check(im, job->fix, &job->res);
	progress_end(&job->progress, r == 0);
	if (r == -ENOTSUP)
		return td_err_set(job->err, r, "%s: the format %s has nothing that could be checked",
				  im->path, job->format);
	if (r < 0)
		return td_err_set(job->err, r, "%s: the check failed: %s", im->path, strerror(-r));
	return 0;
}

static int check_co(void *arg)
{
	struct check_job *job = arg;
	unsigned flags = TD_OPEN_CHECK | TD_OPEN_NO_CHAIN;
	struct td_image *im;
	int r, closed;

	if (!job->fix)
		flags |= TD_OPEN_RDONLY;
	if (job->args->share)
		flags |= TD_OPEN_NO_LOCK;
	r = td_image_open(&job->env.env, job->spec, flags, &im, job->err);
	if (r < 0)
		return r;
	job->format = facts_format(im);
	job->name = strdup(im->path);
	r = job->name ? check_image(job, im) : -ENOMEM;
	closed = td_image_close(im);
	if (r == 0 && closed < 0 && job->fix)
		r = td_err_set(job->err, closed, "%s: cannot be closed: %s", job->name, strerror(-closed));
	return r;
}

/* ---- what it says ---- */

/* Fields that are 0 are left out, but for check-errors. */
static json_t *to_json(const struct check_job *job)
{
	const struct td_check *c = &job->res;
	const struct {
		const char *name;
		uint64_t value;
	} fields[] = {
		{ "image-end-offset", c->image_end },
		{ "corruptions", c->corruptions },
		{ "leaks", c->leaks },
		{ "corruptions-fixed", c->corruptions_fixed },
		{ "leaks-fixed", c->leaks_fixed },
		{ "total-clusters", c->clusters },
		{ "allocated-clusters", c->allocated },
		{ "fragmented-clusters", c->fragmented },
		{ "compressed-clusters", c->compressed },
	};
	json_t *o = json_pack("{s:o, s:s, s:I}", "filename", print_name(job->name), "format", job->format,
			      "check-errors", (json_int_t)c->errors);

	for (size_t i = 0; o && i < TD_NELEMS(fields); i++)
		if (fields[i].value > 0)
			json_object_set_new(o, fields[i].name, json_integer((json_int_t)fields[i].value));
	return o;
}

static void print_human(const struct td_check *c)
{
	if (c->leaks_fixed > 0 || c->corruptions_fixed > 0)
		printf("Repaired: %llu leaked clusters, %llu corruptions.\n",
		       (unsigned long long)c->leaks_fixed, (unsigned long long)c->corruptions_fixed);
	if (c->corruptions == 0 && c->leaks == 0 && c->errors == 0)
		printf("No errors were found on the image.\n");
	if (c->corruptions > 0)
		printf("%llu errors were found on the image.\n"
		       "Data may be lost, or be lost by further writes. Copy the image before it is "
		       "repaired.\n",
		       (unsigned long long)c->corruptions);
	if (c->leaks > 0)
		printf("%llu leaked clusters were found on the image.\nThey waste space and do no harm.\n",
		       (unsigned long long)c->leaks);
	if (c->clusters > 0 && c->allocated > 0)
		printf("%llu/%llu = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n",
		       (unsigned long long)c->allocated, (unsigned long long)c->clusters,
		       (double)c->allocated * 100 / (double)c->clusters,
		       (double)c->fragmented * 100 / (double)c->allocated,
		       (double)c->compressed * 100 / (double)c->allocated);
	if (c->image_end > 0)
		printf("Image end offset: %llu\n", (unsigned long long)c->image_end);
}

static int verdict(const struct td_check *c)
{
	if (c->corruptions > 0)
		return EXIT_CORRUPT;
	return c->leaks > 0 ? EXIT_LEAKS : 0;
}

static int tell(const struct check_job *job, bool json)
{
	int r = 0;

	if (job->args->quiet)
		return verdict(&job->res);
	if (json)
		r = print_json_indented(to_json(job));
	else
		print_human(&job->res);
	return r < 0 ? r : verdict(&job->res);
}

/* ---- the verb ---- */

static int parse_repair(const struct check_args *args, unsigned *ret_fix, struct td_err *ret_err)
{
	*ret_fix = 0;
	if (!args->repair)
		return 0;
	if (strcmp(args->repair, "leaks") == 0)
		*ret_fix = TD_FIX_LEAKS;
	else if (strcmp(args->repair, "all") == 0 || args->repair[0] == '\0')
		*ret_fix = TD_FIX_ALL;
	else
		return td_err_set(ret_err, -EINVAL, "--repair=%s: it is leaks or all", args->repair);
	if (args->share)
		return td_err_set(ret_err, -EINVAL, "-U: an image that others use is not repaired");
	return 0;
}

static int check(struct check_job *job, struct td_err *ret_err)
{
	return img_env_run(&job->env, check_co, job, ret_err);
}

static int check_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct check_args *args = arg;
	struct check_job job = { .args = args, .err = ret_err };
	bool json = false;
	int r;

	(void)nr;
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = parse_repair(args, &job.fix, ret_err);
	if (r == 0)
		r = operand_parse(operands[0], args->format, true, &job.spec, ret_err);
	if (r < 0)
		return r;
	r = check(&job, ret_err);
	if (r == 0)
		r = tell(&job, json);
	else
		r = r == -ENOTSUP && job.format ? EXIT_NO_CHECK : EXIT_FAILED;
	td_spec_free(job.spec);
	free(job.name);
	return r;
}

static const struct cli_opt check_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct check_args, format), "FMT",
	  "the operand is a plain file in this format; without, a file is probed" },
	{ 0, "repair", CLI_MAYBE, offsetof(struct check_args, repair), "leaks|all",
	  "repair what was found (default all)" },
	{ 'r', NULL, CLI_TEXT, offsetof(struct check_args, repair), "leaks|all", "the same" },
	{ 0, "output", CLI_TEXT, offsetof(struct check_args, output), "json|human",
	  "what to print (default human)" },
	{ 'q', "quiet", CLI_FLAG, offsetof(struct check_args, quiet), NULL,
	  "the exit code alone; errors are still told" },
	{ 'U', "force-share", CLI_FLAG, offsetof(struct check_args, share), NULL,
	  "look at an image that others write to; what is found may be wrong" },
};

const struct cli_cmd check_cmd = {
	.name = "check",
	.synopsis = "[-f FMT] [--repair[=leaks|all]] [--output=json|human] [-q] [-U] SPEC|FILE",
	.summary = "find what is inconsistent in an image, and repair it",
	.opts = check_opts,
	.nr_opts = TD_NELEMS(check_opts),
	.args_size = sizeof(struct check_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = check_run,
};
