// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img compare: do two images show the same disk?  Exit codes as qemu-img's: 0 yes, 1 no, 2 one cannot be opened,
 * 3 it cannot be told where it has data, 4 it cannot be read.
 */
#include <blktap/iov.h>

#include <inttypes.h>
#include <stdio.h>

#include "env.h"
#include "source.h"
#include "tools/common/print.h"
#include "verbs.h"
#include "walk.h"
#include "zeros.h"

#define LONG_HOLE (64u << 10)  /* shorter ones are read: a cut costs more */
#define PIECE     (256u << 10) /* those of all workers together stay in the processor's cache */

enum { SAME = 0, DIFFERENT = 1, NOT_OPENED = 2, NOT_MAPPED = 3, NOT_READ = 4 };

struct compare_args {
	struct cli_common common;
	const char *format[2], *output;
	bool strict, quiet, progress, no_lock;
};

struct compare_job {
	const struct compare_args *args;
	char *const *operands;
	struct img_env env;
	struct source disk[2];
	struct walk walk;
	struct td_extent known[2]; /* what each said last, and where: asking may take long */
	uint64_t known_off[2];
	uint64_t at; /* where it was decided: the lowest place at which something was found */
	int code;
	bool sizes_differ;
	const char *strictly; /* what differs beside the bytes; NULL: nothing */
	struct td_err *err;
};

/* What several pieces find at the same time: that at the lowest place counts.  -ECANCELED ends the walk. */
static int found(struct compare_job *job, uint64_t at, int code)
{
	if (job->code == SAME || at < job->at) {
		job->at = at;
		job->code = code;
	}
	return -ECANCELED;
}

static int failed(struct compare_job *job, unsigned i, uint64_t at, int code, int r)
{
	if (job->code == SAME || at < job->at)
		td_err_set(job->err, r, "%s: %s at byte %" PRIu64 ": %s", job->disk[i].part[0].im->name,
			   code == NOT_READ ? "cannot be read" : "does not tell what is there", at,
			   strerror(-r));
	return found(job, at, code);
}

/* ---- the walk ---- */

/* Behind the end of the shorter one are zeros. */
static int extent(struct compare_job *job, unsigned i, uint64_t off, uint64_t len, struct td_extent *ret)
{
	const struct source *s = &job->disk[i];
	uint64_t in;
	int r;

	if (off >= s->size) {
		*ret = (struct td_extent){ .kind = TD_EXTENT_ZERO, .len = len };
		return 0;
	}
	in = off - job->known_off[i];
	if (off < job->known_off[i] || in >= job->known[i].len) {
		r = source_extent(s, off, s->size - off, &job->known[i]);
		if (r < 0) {
			job->known[i].len = 0;
			return failed(job, i, off, NOT_MAPPED, r);
		}
		job->known_off[i] = off;
		in = 0;
	}
	*ret = job->known[i];
	ret->len = TD_MIN(ret->len - in, len);
	return 0;
}

/* what: bit i, disk i has to be read. */
static int look(void *arg, struct walk_piece *p)
{
	struct compare_job *job = arg;
	struct td_extent e[2];

	for (unsigned i = 0; i < 2; i++) {
		int r = extent(job, i, p->off, p->len, &e[i]);

		if (r < 0)
			return r;
	}
	if (e[0].kind == TD_EXTENT_ZERO && e[1].kind == TD_EXTENT_ZERO) {
		p->len = TD_MIN(e[0].len, e[1].len);
		return 0;
	}
	p->len = TD_MIN(p->len, (uint64_t)PIECE);
	for (unsigned i = 0; i < 2; i++) {
		bool hole = e[i].kind == TD_EXTENT_ZERO && e[i].len >= TD_MIN(p->len, (uint64_t)LONG_HOLE);

		if (hole)
			p->len = TD_MIN(p->len, e[i].len);
		else
			p->what |= 1 << i;
	}
	/* Of the shorter one only what it has. */
	for (unsigned i = 0; i < 2; i++)
		if (p->off < job->disk[i].size)
			p->len = TD_MIN(p->len, job->disk[i].size - p->off);
	return 0;
}

static uint64_t first_difference(const char *a, const char *b, uint64_t len)
{
	uint64_t n = 0;

	while (n < len && a[n] == b[n])
		n++;
	return n;
}

static uint64_t first_byte(const char *buf, uint64_t len)
{
	uint64_t n = 0;

	while (n < len && buf[n] == 0)
		n++;
	return n;
}

static int work(void *arg, const struct walk_piece *p)
{
	struct compare_job *job = arg;

	for (unsigned i = 0; i < 2; i++) {
		struct iovec v;
		struct td_iov iov = td_iov_buf(&v, p->buf[i], p->len);
		int r = p->what & 1 << i ? source_read(&job->disk[i], p->off, &iov) : 0;

		if (r < 0)
			return failed(job, i, p->off, NOT_READ, r);
	}
	if (p->what == 3) {
		if (memcmp(p->buf[0], p->buf[1], p->len) == 0)
			return 0;
		return found(job, p->off + first_difference(p->buf[0], p->buf[1], p->len), DIFFERENT);
	}
	if (td_is_zero(p->buf[p->what - 1], p->len))
		return 0;
	return found(job, p->off + first_byte(p->buf[p->what - 1], p->len), DIFFERENT);
}

/* ---- strictly: where there is data, and where space is taken ---- */

static int compare_extents(struct compare_job *job)
{
	uint64_t size = job->disk[0].size, len;

	if (size != job->disk[1].size) {
		job->strictly = "Image size mismatch!";
		return found(job, TD_MIN(size, job->disk[1].size), DIFFERENT);
	}
	for (uint64_t off = 0; off < size; off += len) {
		struct td_extent e[2];

		for (unsigned i = 0; i < 2; i++) {
			int r = extent(job, i, off, size - off, &e[i]);

			if (r < 0)
				return r;
		}
		if (e[0].kind != e[1].kind || e[0].held != e[1].held) {
			job->strictly = "block status mismatch!";
			return found(job, off, DIFFERENT);
		}
		len = TD_MIN(e[0].len, e[1].len);
	}
	return 0;
}

static int open_both(struct compare_job *job)
{
	const struct compare_args *a = job->args;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < 2; i++) {
		struct source_how how = { .format = a->format[i], .no_lock = a->no_lock };

		r = source_open(&job->disk[i], &job->env.env, &job->operands[i], 1, &how, job->err);
	}
	if (r < 0)
		job->code = NOT_OPENED;
	return r;
}

static int compare_co(void *arg)
{
	struct compare_job *job = arg;
	const struct compare_args *a = job->args;
	struct walk *w = &job->walk;
	int r = open_both(job);

	w->arg = job;
	w->look = look;
	w->work = work;
	w->size = TD_MAX(job->disk[0].size, job->disk[1].size);
	job->sizes_differ = job->disk[0].size != job->disk[1].size;
	progress_begin(&w->progress, job->env.env.loop, progress_how(a->quiet, a->progress), w->size);
	if (r == 0 && a->strict)
		r = compare_extents(job);
	if (r == 0)
		r = walk_run(w);
	progress_end(&w->progress, r == 0);
	/* A difference before the place of an error is the answer. */
	if (job->code == DIFFERENT)
		job->err->msg[0] = '\0';
	for (unsigned i = 0; i < 2; i++)
		source_close(&job->disk[i]);
	return r;
}

/* ---- what is said ---- */

static int report_json(const struct compare_job *job)
{
	json_t *o =
		json_pack("{s:b, s:b}", "identical", job->code == SAME, "size-mismatch", job->sizes_differ);

	if (o && job->code == DIFFERENT)
		json_object_set_new(o, "offset", json_integer((json_int_t)job->at));
	return print_json_indented(o);
}

/* In qemu-img's words, which scripts look for. */
static int report(const struct compare_job *job, bool json)
{
	if (json)
		return report_json(job);
	if (job->args->quiet)
		return 0;
	if (job->sizes_differ && !job->strictly)
		puts("Warning: Image size mismatch!");
	if (job->code == SAME)
		puts("Images are identical.");
	else if (job->strictly && job->sizes_differ)
		printf("Strict mode: %s\n", job->strictly);
	else if (job->strictly)
		printf("Strict mode: Offset %" PRIu64 " %s\n", job->at, job->strictly);
	else
		printf("Content mismatch at offset %" PRIu64 "!\n", job->at);
	return 0;
}

static int compare(struct compare_job *job, struct td_err *ret_err)
{
	return img_env_run_bulk(&job->env, compare_co, job, ret_err);
}

static int compare_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct compare_args *args = arg;
	struct compare_job job = { .args = args, .operands = operands, .err = ret_err };
	bool json = false;
	int r = output_is_json(&args->common, args->output, &json, ret_err);

	(void)nr;
	if (r == 0)
		r = compare(&job, ret_err);
	/* Whatever went wrong is no difference. */
	if (r < 0 && job.code == SAME)
		job.code = NOT_OPENED;
	if (job.code > DIFFERENT) {
		if (!ret_err->msg[0])
			td_err_set(ret_err, r, "%s", strerror(-r));
		return job.code;
	}
	r = report(&job, json);
	return r < 0 ? r : job.code;
}

#define FIELD(name) offsetof(struct compare_args, name)

static const struct cli_opt compare_opts[] = {
	{ 'f', "format", CLI_TEXT, FIELD(format[0]), "FMT",
	  "the first image's format; without, it is probed" },
	{ 'F', "second-format", CLI_TEXT, FIELD(format[1]), "FMT", "the second image's" },
	{ 's', "strict", CLI_FLAG, FIELD(strict), NULL, "sizes and holes have to be the same too" },
	{ 'U', "force-share", CLI_FLAG, FIELD(no_lock), NULL, "read them without locking them" },
	{ 'p', "progress", CLI_FLAG, FIELD(progress), NULL, "show progress, not only on a terminal" },
	{ 'q', "quiet", CLI_FLAG, FIELD(quiet), NULL, "print nothing but errors" },
	{ 0, "output", CLI_TEXT, FIELD(output), "json|human", "what to print (default human)" },
};

const struct cli_cmd compare_cmd = {
	.name = "compare",
	.synopsis = "[-f FMT] [-F FMT] [-spqU] [--output=json|human] SPEC|FILE SPEC|FILE",
	.summary = "say whether two images show the same disk",
	.opts = compare_opts,
	.nr_opts = TD_NELEMS(compare_opts),
	.args_size = sizeof(struct compare_args),
	.min_operands = 2,
	.max_operands = 2,
	.run = compare_run,
};
