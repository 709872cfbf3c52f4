// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img rebase: another backing file for an overlay.
 *
 * Safely: what the overlay does not hold, and what would read otherwise through the new chain, is copied into the
 * overlay first, flushed, and then the name is switched.  The guest's view is the same at every instant, so whoever is
 * killed runs it again.  Unsafely (-u): the name alone, for a backing file that was moved.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "env.h"
#include "meet.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "verbs.h"
#include "walk.h"

#define COMPARE_MIN (256u << 10) /* bytes read at a time, also where they are islands between zeros */

struct rebase_args {
	struct cli_common common;
	const char *format, *backing, *backing_format, *output;
	uint64_t rate;
	bool unsafe, progress, quiet;
};

struct rebase_job {
	struct img_env env;
	struct td_spec *spec;
	const struct rebase_args *args;
	struct td_image *top, *layer, *below;      /* below: through which it will be read; NULL: nothing */
	struct td_image *meet_before, *meet_after; /* from where on the chains are the same; NULL: nowhere */
	const char *path, *format;                 /* as they will be recorded */
	uint64_t unit;                             /* bytes that the overlay holds as a whole */
	struct walk walk;
	uint64_t copied;
	struct td_err *err;
};

/* ---- what has to be copied ---- */

static int extent_below(struct rebase_job *job, uint64_t off, uint64_t len, struct td_extent *ret)
{
	const struct td_image *im = job->below;

	*ret = (struct td_extent){ .kind = TD_EXTENT_ZERO, .len = len };
	if (!im || off >= im->size)
		return 0;
	return td_image_extent(job->below, off, TD_MIN(len, im->size - off), ret);
}

/* For how long do both chains go on as at off?  *ret_zero: neither has anything there. */
static int run_below(struct rebase_job *job, uint64_t off, uint64_t len, bool *ret_zero, uint64_t *ret_len)
{
	struct td_extent before = { 0 }, after = { 0 };
	int r = td_chain_extent(job->layer, off, len, &before);

	if (r == 0)
		r = extent_below(job, off, len, &after);
	*ret_zero = before.kind == TD_EXTENT_ZERO && after.kind == TD_EXTENT_ZERO;
	*ret_len = TD_MIN(before.len, after.len);
	return r;
}

/* No layer of im's chain above `meet` has a word to say for *ret bytes. */
static int silent_above(struct td_image *im, const struct td_image *meet, uint64_t off, uint64_t len,
			uint64_t *ret)
{
	struct td_extent e = { 0 };
	int r = 0;

	*ret = 0;
	if (off < im->size)
		r = td_image_extent_above(im, meet, off, TD_MIN(len, im->size - off), &e);
	if (r == 0 && e.kind == TD_EXTENT_BACKING)
		*ret = e.len;
	return r;
}

/* Both chains read the same file there: nothing has to be compared. */
static int same_file(struct rebase_job *job, uint64_t off, uint64_t len, uint64_t *ret)
{
	uint64_t before = 0, after = 0;
	int r = 0;

	if (job->meet_before)
		r = silent_above(job->layer->backing, job->meet_before, off, len, &before);
	if (r == 0 && before > 0)
		r = silent_above(job->below, job->meet_after, off, before, &after);
	*ret = after;
	return r;
}

/* What the overlay does not hold.  *ret_compare: the chains may differ in *ret_len bytes; else they do not. */
static int look_below(struct rebase_job *job, uint64_t off, uint64_t len, bool *ret_compare,
		      uint64_t *ret_len)
{
	uint64_t n = 0;
	bool same;
	int r = same_file(job, off, len, &n);

	same = n > 0;
	if (r == 0 && !same)
		r = run_below(job, off, len, &same, &n);
	if (r < 0)
		return r;
	if (same && n < len) /* what comes next begins with a unit */
		n = td_align_down(n, job->unit);
	*ret_compare = !same || n == 0;
	if (*ret_compare) {
		n = TD_MIN(TD_MAX(n, (uint64_t)COMPARE_MIN), (uint64_t)WALK_PIECE);
		n = TD_MIN(td_align_up(n, job->unit), TD_MIN(len, (uint64_t)WALK_PIECE));
	}
	*ret_len = n;
	return 0;
}

static int rebase_look(void *arg, struct walk_piece *p)
{
	struct rebase_job *job = arg;
	struct td_extent e = { 0 };
	bool compare = false;
	int r = td_image_extent_above(job->top, job->layer->backing, p->off, p->len, &e);

	p->len = e.len;
	if (r == 0 && !e.held)
		r = look_below(job, p->off, e.len, &compare, &p->len);
	if (r < 0)
		return td_err_set(job->err, r, "%s: cannot tell what is at %" PRIu64 ": %s", job->top->name,
				  p->off, strerror(-r));
	p->what = compare;
	return 0;
}

/* ---- copying ---- */

static int read_below(struct rebase_job *job, const struct walk_piece *p, char *buf)
{
	uint64_t inside =
		job->below && p->off < job->below->size ? TD_MIN(p->len, job->below->size - p->off) : 0;
	int r = 0;

	memset(buf + inside, 0, p->len - inside);
	if (inside > 0)
		r = td_image_pread(job->below, p->off, buf, inside, 0);
	return r < 0 ? td_err_set(job->err, r, "%s: cannot read at %" PRIu64 ": %s (nothing is changed)",
				  job->below->name, p->off, strerror(-r))
		     : 0;
}

/* Zeros too have to be the overlay's own word: below there will be something else. */
static int own(struct rebase_job *job, uint64_t off, const char *buf, uint64_t len)
{
	int r = td_is_zero(buf, len) ? td_image_zero(job->top, off, len, TD_MAY_UNMAP | TD_OWN)
				     : td_image_pwrite(job->top, off, buf, len, 0);

	if (r < 0)
		return td_err_set(job->err, r, "%s: cannot write at %" PRIu64 ": %s (nothing is lost)",
				  job->top->name, off, strerror(-r));
	job->copied += len;
	return 0;
}

/* Units that differ, and are zeros or are not, in one write. */
static int copy_different(struct rebase_job *job, const struct walk_piece *p)
{
	const char *before = p->buf[0], *after = p->buf[1];
	uint64_t from = 0, at = 0, n;
	int kind = 0, r = 0; /* 0: the same, 1: data, 2: zeros */

	for (; r == 0 && at < p->len; at += n) {
		int k = 0;

		n = TD_MIN(job->unit, p->len - at);
		if (memcmp(before + at, after + at, n) != 0)
			k = 1 + td_is_zero(before + at, n);
		if (k == kind)
			continue;
		if (kind != 0)
			r = own(job, p->off + from, before + from, at - from);
		kind = k;
		from = at;
	}
	if (r == 0 && kind != 0)
		r = own(job, p->off + from, before + from, at - from);
	return r;
}

static int rebase_work(void *arg, const struct walk_piece *p)
{
	struct rebase_job *job = arg;
	int r;

	rate_wait(&job->walk.rate, p->len);
	r = td_image_pread(job->top, p->off, p->buf[0], p->len, 0);
	if (r < 0)
		return td_err_set(job->err, r, "%s: cannot read at %" PRIu64 ": %s (nothing is changed)",
				  job->top->name, p->off, strerror(-r));
	r = read_below(job, p, p->buf[1]);
	return r < 0 ? r : copy_different(job, p);
}

static int copy_all(struct rebase_job *job)
{
	struct walk *w = &job->walk;
	int r;

	chains_meet(job->layer->backing, job->below, &job->meet_before, &job->meet_after);
	job->unit = TD_MIN(TD_MAX(job->layer->limits.cluster_size, 512u), WALK_PIECE);
	w->arg = job;
	w->size = job->top->size;
	w->look = rebase_look;
	w->work = rebase_work;
	r = walk_shown(w, job->env.env.loop, progress_how(job->args->quiet, job->args->progress),
		       job->args->rate);
	if (r < 0)
		return r;
	r = td_image_flush(job->top);
	return r < 0 ? td_err_set(job->err, r, "%s: cannot be brought to the disk: %s (nothing is changed)",
				  job->top->name, strerror(-r))
		     : 0;
}

/* ---- which file, which format ---- */

static int check_format(struct rebase_job *job)
{
	const struct td_driver *drv;

	if (!job->format)
		return td_err_set(
			job->err, -EINVAL,
			"%s: say the format of '%s' with -F; it is never guessed, since a guest could have "
			"written any header into a raw disk",
			job->layer->name, job->path);
	drv = td_driver_find(job->format);
	if (!drv || !(drv->flags & (TD_FORMAT | TD_LEAF)))
		return td_err_set(job->err, -EINVAL, "-F %s: no such format", job->format);
	return 0;
}

/* -b "": none.  Without -b: the one that is recorded.  Without -F: the format that is recorded. */
static int find_names(struct rebase_job *job)
{
	const struct rebase_args *args = job->args;
	const struct td_image *im = job->layer;

	job->path = args->backing ? args->backing : im->backing_path;
	if (!job->path)
		return td_err_set(job->err, -EINVAL, "%s: it has no backing file: name one with -b",
				  im->name);
	if (!*job->path) {
		job->path = NULL;
		return args->backing_format ? td_err_set(job->err, -EINVAL, "-F has no file to speak of") : 0;
	}
	job->format = args->backing_format ? args->backing_format : im->backing_format;
	return check_format(job);
}

static int check_not_itself(struct rebase_job *job, const char *path)
{
	struct stat a, b;

	if (stat(path, &a) == 0 && stat(job->layer->path, &b) == 0 && a.st_dev == b.st_dev &&
	    a.st_ino == b.st_ino)
		return td_err_set(job->err, -ELOOP, "%s: it cannot be its own backing file",
				  job->layer->name);
	return 0;
}

/* The new chain, where there is to be one; -u looks at the name alone. */
static int open_below(struct rebase_job *job)
{
	td_cleanup(free) char *path = NULL;
	td_cleanup(free) char *text = NULL;
	int r;

	if (!job->path)
		return 0;
	r = td_image_backing_path(job->layer, job->path, &path, job->err);
	if (r == 0)
		r = check_not_itself(job, path);
	if (r < 0 || job->args->unsafe)
		return r;
	if (asprintf(&text, "%s:%s", job->format, path) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	r = td_image_open_text(&job->env.env, text, TD_OPEN_BACKING, &job->below, job->err);
	return r < 0 ? td_err_prefix(job->err, r, "new backing file") : 0;
}

/* ---- the verb ---- */

static int rebase_image(struct rebase_job *job)
{
	int r;

	job->layer = td_image_layer(job->top);
	if (!job->layer->drv->set_backing)
		return td_err_set(job->err, -ENOTSUP, "%s: images of this format have no backing file",
				  job->layer->name);
	r = find_names(job);
	if (r == 0)
		r = open_below(job);
	if (r == 0 && !job->args->unsafe)
		r = copy_all(job);
	return r == 0 ? td_image_set_backing(job->top, job->path, job->format, job->err) : r;
}

static int rebase_co(void *arg)
{
	struct rebase_job *job = arg;
	int r, r2;

	r = td_image_open(&job->env.env, job->spec, job->args->unsafe ? TD_OPEN_NO_CHAIN : 0, &job->top,
			  job->err);
	if (r < 0)
		return r;
	r = rebase_image(job);
	td_ignore(td_image_close(job->below)); /* read-only */
	r2 = td_image_close(job->top);
	if (r == 0 && r2 < 0)
		r = td_err_set(job->err, r2, "%s: cannot be written: %s", job->spec->path, strerror(-r2));
	return r;
}

static int report(const struct rebase_job *job, bool json)
{
	if (!json)
		return 0;
	return print_json_indented(json_pack("{s:o, s:I}", "filename", print_name(job->spec->path), "copied",
					     (json_int_t)job->copied));
}

static int rebase_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct rebase_args *args = arg;
	struct rebase_job job = { .args = args, .err = ret_err };
	bool json = false;
	int r;

	(void)nr;
	if (!args->backing && !(args->unsafe && args->backing_format))
		return td_err_set(
			ret_err, -EINVAL,
			"name the new backing file with -b (-b \"\": none); -u -F FMT alone records "
			"the format of the old one");
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = operand_parse(operands[0], args->format, false, &job.spec, ret_err);
	if (r < 0)
		return r;
	r = img_env_run(&job.env, rebase_co, &job, ret_err);
	if (r == 0)
		r = report(&job, json);
	td_spec_free(job.spec);
	return r;
}

static const struct cli_opt rebase_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct rebase_args, format), "FMT",
	  "the operand is a plain file; its format" },
	{ 'b', "backing", CLI_TEXT, offsetof(struct rebase_args, backing), "FILE",
	  "the new backing file; \"\": none, the image will hold everything itself" },
	{ 'F', "backing-format", CLI_TEXT, offsetof(struct rebase_args, backing_format), "FMT",
	  "its format; without, the recorded one" },
	{ 'u', "unsafe", CLI_FLAG, offsetof(struct rebase_args, unsafe), NULL,
	  "change the name alone: the new file holds the same as the old one" },
	{ 'p', "progress", CLI_FLAG, offsetof(struct rebase_args, progress), NULL, "show progress" },
	{ 'q', "quiet", CLI_FLAG, offsetof(struct rebase_args, quiet), NULL, "no progress bar" },
	{ 'r', "rate-limit", CLI_SIZE, offsetof(struct rebase_args, rate), "RATE",
	  "read no more than so many bytes a second" },
	{ 0, "output", CLI_TEXT, offsetof(struct rebase_args, output), "json|human",
	  "what to print (default human: nothing)" },
};

const struct cli_cmd rebase_cmd = {
	.name = "rebase",
	.synopsis = "[-f FMT] [-u] -b FILE [-F FMT] [-p] [-q] [-r RATE] SPEC|FILE",
	.summary = "give an overlay another backing file",
	.opts = rebase_opts,
	.nr_opts = TD_NELEMS(rebase_opts),
	.args_size = sizeof(struct rebase_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = rebase_run,
};
