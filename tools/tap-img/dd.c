// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img dd: a part of a disk as a new image, said the way dd(1) and qemu-img dd have it said.  What reads as zeros is
 * not written.
 */
#include <blktap/iov.h>

#include <inttypes.h>
#include <stdio.h>

#include "env.h"
#include "source.h"
#include "target.h"
#include "tools/common/print.h"
#include "tools/common/progress.h"
#include "verbs.h"

#define SECTOR   512u
#define COPY_MAX (1u << 20)
#define BS_MAX   (INT64_MAX / 2)

struct dd_args {
	struct cli_common common;
	const char *format, *target_format, *output;
	bool force, no_lock, progress, quiet;

	const char *from, *to; /* if=, of= */
	uint64_t bs, skip, count;
	bool has_count;
};

struct dd_job {
	struct img_env env;
	const struct dd_args *args;
	struct source source;
	struct target target;
	struct progress bar;
	uint64_t start, len; /* of the source */
	struct td_err *err;
};

/* ---- what is copied ---- */

/* In bytes; without wrapping, for bs, skip and count are anybody's. */
static int choose_part(struct dd_job *job)
{
	const struct dd_args *a = job->args;
	uint64_t size = job->source.size;

	if (a->skip > (size - 1) / a->bs)
		return td_err_set(job->err, -EINVAL,
				  "%s: has %" PRIu64 " bytes: nothing is left behind skip=%" PRIu64, a->from,
				  size, a->skip);
	job->start = a->skip * a->bs;
	job->len = size - job->start;
	if (a->has_count && a->count < job->len / a->bs + 1)
		job->len = TD_MIN(job->len, a->count * a->bs);
	return 0;
}

static int copy_piece(struct dd_job *job, uint64_t at, size_t len, void *buf)
{
	struct iovec v = { .iov_base = buf, .iov_len = len };
	struct td_iov iov = { .vec = &v, .nr = 1, .len = len };
	int r = source_read(&job->source, job->start + at, &iov);

	if (r < 0)
		return td_err_set(job->err, r, "%s: read at %" PRIu64 ": %s", job->args->from,
				  job->start + at, strerror(-r));
	if (td_is_zero(buf, len))
		return 0;
	r = td_image_pwrite(job->target.im, at, buf, len, 0);
	return r < 0 ? td_err_set(job->err, r, "%s: write at %" PRIu64 ": %s", job->args->to, at,
				  strerror(-r))
		     : 0;
}

static int copy(struct dd_job *job, void *buf)
{
	uint64_t n;
	int r = 0;

	progress_begin(&job->bar, job->env.env.loop, progress_how(job->args->quiet, job->args->progress),
		       job->len);
	for (uint64_t at = 0; r == 0 && at < job->len; at += n) {
		struct td_extent e;

		r = source_extent(&job->source, job->start + at, job->len - at, &e);
		if (r < 0) {
			td_err_set(job->err, r, "%s: %s", job->args->from, strerror(-r));
			break;
		}
		n = e.kind == TD_EXTENT_ZERO ? e.len : TD_MIN(e.len, (uint64_t)COPY_MAX);
		if (e.kind != TD_EXTENT_ZERO)
			r = copy_piece(job, at, n, buf);
		if (r == 0)
			progress_add(&job->bar, n);
	}
	progress_end(&job->bar, r == 0);
	return r;
}

/* The target is whole sectors; what is behind the last byte that is copied is zeros. */
static int dd(struct dd_job *job)
{
	const struct dd_args *a = job->args;
	struct td_opts none = { 0 };
	void *buf;
	int r;

	job->target.force = a->force;
	r = target_parse(&job->target, &job->env.env, a->to, a->target_format, NULL, job->err);
	if (r == 0)
		r = target_make(&job->target, td_align_up(job->len, SECTOR), &none, job->err);
	td_opts_done(&none);
	if (r == 0 && !job->target.reads_zero)
		r = target_zero(&job->target, 0, td_align_up(job->len, SECTOR));
	if (r < 0)
		return r;
	buf = td_buf_alloc(COPY_MAX);
	r = buf ? copy(job, buf) : -ENOMEM;
	if (buf)
		td_buf_free(buf, COPY_MAX);
	return r == 0 ? target_finish(&job->target, job->err) : r;
}

static int dd_co(void *arg)
{
	struct dd_job *job = arg;
	const struct source_how how = { .format = job->args->format, .no_lock = job->args->no_lock };
	char *const from[] = { (char *)(uintptr_t)job->args->from };
	int r = source_open(&job->source, &job->env.env, from, 1, &how, job->err);

	if (r == 0)
		r = choose_part(job);
	if (r == 0)
		r = dd(job);
	target_drop(&job->target, job->err);
	source_close(&job->source);
	return r;
}

/* ---- the verb ---- */

static bool is_arg(const char *operand, const char *name, const char **ret)
{
	size_t len = strlen(name);

	if (strncmp(operand, name, len) != 0 || operand[len] != '=')
		return false;
	*ret = operand + len + 1;
	return true;
}

static int read_number(const char *name, const char *text, uint64_t least, uint64_t *ret,
		       struct td_err *ret_err)
{
	int r = td_parse_size(text, ret);

	if (r == 0 && (*ret < least || *ret > BS_MAX))
		r = -ERANGE;
	return r < 0 ? td_err_set(ret_err, -EINVAL, "%s=%s: not a number that it can be", name, text) : 0;
}

static int read_operand(struct dd_args *args, const char *operand, struct td_err *ret_err)
{
	const char *value;

	if (is_arg(operand, "if", &args->from) || is_arg(operand, "of", &args->to))
		return 0;
	if (is_arg(operand, "bs", &value))
		return read_number("bs", value, 1, &args->bs, ret_err);
	if (is_arg(operand, "skip", &value))
		return read_number("skip", value, 0, &args->skip, ret_err);
	args->has_count = is_arg(operand, "count", &value);
	if (args->has_count)
		return read_number("count", value, 1, &args->count, ret_err);
	return td_err_set(ret_err, -EINVAL, "%s: it is if=, of=, bs=, count= or skip=", operand);
}

static int dd_check(void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	struct dd_args *args = arg;
	bool has_count = false;
	int r = 0;

	args->bs = SECTOR;
	for (unsigned i = 0; r == 0 && i < nr; i++) {
		r = read_operand(args, operands[i], ret_err);
		has_count |= args->has_count;
	}
	args->has_count = has_count;
	if (r == 0 && (!args->from || !args->to))
		r = td_err_set(ret_err, -EINVAL, "say if= and of=");
	return r;
}

static int dd_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct dd_args *args = arg;
	struct dd_job *job = calloc(1, sizeof(*job));
	bool json = false;
	int r = job ? output_is_json(&args->common, args->output, &json, ret_err) : -ENOMEM;

	(void)operands;
	(void)nr;
	if (r == 0) {
		job->args = args;
		job->err = ret_err;
		r = img_env_run_bulk(&job->env, dd_co, job, ret_err);
	}
	if (r == 0 && json)
		r = print_json_indented(json_pack("{s:o, s:I}", "filename", print_name(args->to), "bytes",
						  (json_int_t)job->len));
	free(job);
	return r;
}

#define FIELD(name) offsetof(struct dd_args, name)

static const struct cli_opt dd_opts[] = {
	{ 'f', "format", CLI_TEXT, FIELD(format), "FMT", "the source's format; without, a file is probed" },
	{ 'O', "target-format", CLI_TEXT, FIELD(target_format), "FMT", "the target's format" },
	{ 0, "force", CLI_FLAG, FIELD(force), NULL, "replace what is there" },
	{ 'U', "force-share", CLI_FLAG, FIELD(no_lock), NULL, "read the source without locking it" },
	{ 'p', "progress", CLI_FLAG, FIELD(progress), NULL, "show progress, not only on a terminal" },
	{ 'q', "quiet", CLI_FLAG, FIELD(quiet), NULL, "show no progress" },
	{ 0, "output", CLI_TEXT, FIELD(output), "json|human", "what to print (default human)" },
};

const struct cli_cmd dd_cmd = {
	.name = "dd",
	.synopsis = "[-f FMT] [-O FMT] [OPTION]... if=SRC of=DST [bs=SIZE] [count=N] [skip=N]",
	.summary = "copy a part of a disk into a new image",
	.opts = dd_opts,
	.nr_opts = TD_NELEMS(dd_opts),
	.args_size = sizeof(struct dd_args),
	.min_operands = 2,
	.max_operands = 5,
	.check = dd_check,
	.run = dd_run,
};
