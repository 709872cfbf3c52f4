// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img commit: what an overlay holds goes into an image below it.
 *
 *	1. the base is made as large as the overlay, if it is smaller
 *	2. all that the layers above the base hold is copied into it
 *	3. the base is flushed
 *	4. the overlay is emptied (unless -d or -b)
 *
 * The guest's view of the overlay is the same at every instant: the base is written only where a layer above it
 * answers, and nothing is dropped from the overlay before the base has it on stable storage.  So whoever is killed runs
 * it again.
 */
#include <inttypes.h>
#include <stdio.h>

#include "env.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "verbs.h"
#include "walk.h"

enum { COMMIT_DATA = 1, COMMIT_ZERO };

struct commit_args {
	struct cli_common common;
	const char *format, *base, *output;
	uint64_t rate;
	bool keep, progress, quiet;
};

struct commit_job {
	struct img_env env;
	struct td_spec *spec;
	const struct commit_args *args;
	struct td_image *top, *base;
	struct walk walk;
	bool empty; /* the overlay, in the end */
	uint64_t copied, zeroed;
	struct td_err *err;
};

/* ---- copying ---- */

static int commit_look(void *arg, struct walk_piece *p)
{
	struct commit_job *job = arg;
	struct td_extent e;
	int r = td_image_extent_above(job->top, job->base, p->off, p->len, &e);

	if (r < 0)
		return td_err_set(job->err, r, "%s: cannot tell what is at %" PRIu64 ": %s", job->top->name,
				  p->off, strerror(-r));
	p->len = e.len;
	if (e.kind == TD_EXTENT_DATA) {
		p->what = COMMIT_DATA;
		p->len = TD_MIN(e.len, (uint64_t)WALK_PIECE);
	} else if (e.kind == TD_EXTENT_ZERO) {
		/* Also where a layer between ends before the others do: there the guest sees zeros, not the base. */
		p->what = COMMIT_ZERO;
	}
	return 0;
}

static int commit_data(struct commit_job *job, const struct walk_piece *p)
{
	int r;

	rate_wait(&job->walk.rate, p->len);
	r = td_image_pread(job->top, p->off, p->buf[0], p->len, 0);
	if (r < 0)
		return td_err_set(job->err, r, "%s: cannot read at %" PRIu64 ": %s (nothing is lost)",
				  job->top->name, p->off, strerror(-r));
	r = td_image_pwrite(job->base, p->off, p->buf[0], p->len, 0);
	if (r < 0)
		return td_err_set(job->err, r, "%s: cannot write at %" PRIu64 ": %s (nothing is lost)",
				  job->base->name, p->off, strerror(-r));
	job->copied += p->len;
	return 0;
}

static int commit_zero(struct commit_job *job, const struct walk_piece *p)
{
	int r = td_image_zero(job->base, p->off, p->len, TD_MAY_UNMAP);

	if (r < 0)
		return td_err_set(job->err, r, "%s: cannot write at %" PRIu64 ": %s (nothing is lost)",
				  job->base->name, p->off, strerror(-r));
	job->zeroed += p->len;
	return 0;
}

static int commit_work(void *arg, const struct walk_piece *p)
{
	return p->what == COMMIT_DATA ? commit_data(arg, p) : commit_zero(arg, p);
}

static int copy_all(struct commit_job *job)
{
	struct walk *w = &job->walk;

	w->arg = job;
	w->size = job->top->size;
	w->look = commit_look;
	w->work = commit_work;
	return walk_shown(w, job->env.env.loop, progress_how(job->args->quiet, job->args->progress),
			  job->args->rate);
}

/* ---- the order ---- */

static int grow_base(struct commit_job *job)
{
	if (job->base->size >= job->top->size)
		return 0;
	return td_image_resize(job->base, job->top->size, 0, job->err);
}

static int check_empty(struct commit_job *job)
{
	const struct td_image *layer = td_image_layer(job->top);

	/* What the layers between hold would show instead, where the overlay has let go of it. */
	job->empty = !job->args->keep && !job->args->base;
	if (job->empty && !layer->drv->empty)
		return td_err_set(job->err, -ENOTSUP, "%s: it cannot be emptied: -d leaves it as it is",
				  layer->name);
	return 0;
}

static int commit_image(struct commit_job *job)
{
	int r = check_empty(job);

	if (r == 0)
		r = grow_base(job);
	if (r == 0)
		r = copy_all(job);
	if (r < 0)
		return r;
	r = td_image_flush(job->base);
	if (r < 0)
		return td_err_set(job->err, r, "%s: cannot be brought to the disk: %s (nothing is lost)",
				  job->base->name, strerror(-r));
	return job->empty ? td_image_empty(job->top, job->err) : 0;
}

static int commit_co(void *arg)
{
	struct commit_job *job = arg;
	int r, r2;

	r = td_image_open_base(&job->env.env, job->spec, job->args->base, 0, &job->top, &job->base, job->err);
	if (r < 0)
		return r;
	r = commit_image(job);
	r2 = td_image_close(job->top);
	if (r == 0 && r2 < 0)
		r = td_err_set(job->err, r2, "%s: cannot be written: %s", job->spec->path, strerror(-r2));
	return r;
}

/* ---- the verb ---- */

static int report(const struct commit_job *job, bool json)
{
	if (json)
		return print_json_indented(json_pack("{s:o, s:I, s:I, s:b}", "filename",
						     print_name(job->spec->path), "copied",
						     (json_int_t)job->copied, "zeroed",
						     (json_int_t)job->zeroed, "emptied", (int)job->empty));
	if (!job->args->quiet)
		printf("Image committed.\n");
	return 0;
}

static int commit_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct commit_args *args = arg;
	struct commit_job job = { .args = args, .err = ret_err };
	bool json = false;
	int r;

	(void)nr;
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = operand_parse(operands[0], args->format, false, &job.spec, ret_err);
	if (r < 0)
		return r;
	r = img_env_run(&job.env, commit_co, &job, ret_err);
	if (r == 0)
		r = report(&job, json);
	td_spec_free(job.spec);
	return r;
}

static const struct cli_opt commit_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct commit_args, format), "FMT",
	  "the operand is a plain file; its format" },
	{ 'b', "base", CLI_TEXT, offsetof(struct commit_args, base), "FILE",
	  "into this image of the chain, with all layers above it; implies -d" },
	{ 'd', "keep", CLI_FLAG, offsetof(struct commit_args, keep), NULL,
	  "leave the overlay as it is, to be deleted" },
	{ 'p', "progress", CLI_FLAG, offsetof(struct commit_args, progress), NULL, "show progress" },
	{ 'q', "quiet", CLI_FLAG, offsetof(struct commit_args, quiet), NULL, "print nothing" },
	{ 'r', "rate-limit", CLI_SIZE, offsetof(struct commit_args, rate), "RATE",
	  "copy no more than so many bytes a second" },
	{ 0, "output", CLI_TEXT, offsetof(struct commit_args, output), "json|human",
	  "what to print (default human)" },
};

const struct cli_cmd commit_cmd = {
	.name = "commit",
	.synopsis = "[-f FMT] [-b FILE] [-d] [-p] [-q] [-r RATE] SPEC|FILE",
	.summary = "merge an overlay into an image below it",
	.opts = commit_opts,
	.nr_opts = TD_NELEMS(commit_opts),
	.args_size = sizeof(struct commit_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = commit_run,
};
