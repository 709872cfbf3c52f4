// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img resize: another size for a disk that nobody uses.  What is added reads as zeros, also where a backing file
 * has something there.
 */
#include <inttypes.h>
#include <stdio.h>

#include "env.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "verbs.h"

#define SECTOR 512u

struct resize_args {
	struct cli_common common;
	const char *format, *output;
	bool shrink, quiet;
};

struct resize_job {
	struct img_env env;
	struct td_spec *spec;
	char sign; /* '+', '-': size is the difference; 0 */
	uint64_t size, old;
	bool shrink;
	struct td_err *err;
};

/* ---- the size ---- */

static int parse_change(const char *text, struct resize_job *job)
{
	const char *number = text + strspn(text, "+-");
	int r = number - text > 1 ? -EINVAL : td_parse_size(number, &job->size);

	if (r < 0)
		return td_err_set(job->err, r, "%s: not a size (like 512, 64M, +10G, -1G)", text);
	job->sign = number > text ? *text : '\0';
	return 0;
}

/* In whole sectors, as every disk is. */
static int new_size(struct resize_job *job, const struct td_image *im)
{
	uint64_t size = job->size;

	job->old = im->size;
	if (job->sign == '-' && size >= im->size)
		return td_err_set(job->err, -EINVAL, "%s: has only %" PRIu64 " bytes", im->name, im->size);
	if (job->sign == '-')
		size = im->size - size;
	else if (job->sign == '+')
		size += im->size; /* both are below 2^63 */
	if (size == 0)
		return td_err_set(job->err, -EINVAL, "%s: a disk of 0 bytes is none", im->name);
	if (size > INT64_MAX - SECTOR)
		return td_err_set(job->err, -EFBIG, "%s: no image can be larger than 2^63-1 bytes", im->name);
	job->size = td_align_up(size, SECTOR);
	if (job->size < im->size && !job->shrink)
		return td_err_set(job->err, -EINVAL,
				  "%s: has %" PRIu64 " bytes; what is behind the new end of %" PRIu64
				  " would be lost: --shrink allows it (shrink partitions and file systems "
				  "first)",
				  im->name, im->size, job->size);
	return 0;
}

/* ---- the verb ---- */

/* What to do with a format whose images stay as large as they are. */
static int refuse(const struct resize_job *job, const struct td_image *im)
{
	const struct td_image *layer = td_image_layer(im);

	if (job->size < im->size)
		return td_err_set(
			job->err, -ENOTSUP,
			"%s: images of the format %s cannot be resized: tap-img dd with count= makes "
			"a new one of the part that is to be kept",
			layer->name, layer->drv->name);
	return td_err_set(job->err, -ENOTSUP,
			  "%s: images of the format %s cannot be resized: make a new one of %" PRIu64
			  " bytes (tap-img create) and convert this one into it (tap-img convert -n)",
			  layer->name, layer->drv->name, job->size);
}

static int resize(const struct resize_job *job, struct td_image *im)
{
	if (!td_image_layer(im)->drv->resize)
		return refuse(job, im);
	return td_image_resize(im, job->size, job->shrink ? TD_RESIZE_SHRINK : 0, job->err);
}

static int resize_co(void *arg)
{
	struct resize_job *job = arg;
	struct td_image *im;
	int r, r2;

	r = td_image_open(&job->env.env, job->spec, 0, &im, job->err);
	if (r < 0)
		return r;
	r = new_size(job, im);
	if (r == 0 && job->size != im->size)
		r = resize(job, im);
	r2 = td_image_close(im);
	if (r == 0 && r2 < 0)
		r = td_err_set(job->err, r2, "%s: cannot be written: %s", job->spec->path, strerror(-r2));
	return r;
}

static int report(const struct resize_job *job, bool json, bool quiet)
{
	if (json)
		return print_json_indented(
			json_pack("{s:o, s:I, s:I}", "filename", print_name(job->spec->path), "virtual-size",
				  (json_int_t)job->size, "old-virtual-size", (json_int_t)job->old));
	if (!quiet)
		printf("Image resized.\n");
	return 0;
}

static int resize_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct resize_args *args = arg;
	struct resize_job job = { .shrink = args->shrink, .err = ret_err };
	bool json = false;
	int r;

	(void)nr;
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = parse_change(operands[1], &job);
	if (r == 0)
		r = operand_parse(operands[0], args->format, false, &job.spec, ret_err);
	if (r < 0)
		return r;
	r = img_env_run(&job.env, resize_co, &job, ret_err);
	if (r == 0)
		r = report(&job, json, args->quiet);
	td_spec_free(job.spec);
	return r;
}

static const struct cli_opt resize_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct resize_args, format), "FMT",
	  "the operand is a plain file; its format" },
	{ 0, "shrink", CLI_FLAG, offsetof(struct resize_args, shrink), NULL,
	  "it may become smaller; what is behind the new end is lost" },
	{ 'q', "quiet", CLI_FLAG, offsetof(struct resize_args, quiet), NULL, "print nothing" },
	{ 0, "output", CLI_TEXT, offsetof(struct resize_args, output), "json|human",
	  "what to print (default human)" },
};

const struct cli_cmd resize_cmd = {
	.name = "resize",
	.synopsis = "[-f FMT] [--shrink] [-q] SPEC|FILE [+|-]SIZE",
	.summary = "make a disk larger or smaller",
	.opts = resize_opts,
	.nr_opts = TD_NELEMS(resize_opts),
	.args_size = sizeof(struct resize_args),
	.min_operands = 2,
	.max_operands = 2,
	.signed_last = true,
	.run = resize_run,
};
