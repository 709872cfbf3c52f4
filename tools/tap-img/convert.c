// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img convert: one image, or several behind each other, into another of any format.
 *
 * Success is said when the target is on stable storage; a target that did not become whole is removed, and never bears
 * the name that was asked for.
 */
#include <blktap/pool.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "bitmaps.h"
#include "copy.h"
#include "env.h"
#include "facts.h"
#include "newimage.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "verbs.h"

#define DEFAULT_WORKERS 8
#define MAX_WORKERS     16
#define DEFAULT_ZEROS   4096

struct convert_args {
	struct cli_common common;
	const char *format, *target_format, *backing, *backing_format, *output, *cache, *source_cache;
	struct cli_list options;
	uint64_t min_zeros, rate, size;
	int workers;
	bool compress, no_create, any_order, progress, quiet, sha256, target_is_zero, no_lock, force;
	bool bitmaps, skip_broken;
};

struct convert_job {
	const struct convert_args *args;
	char *const *operands; /* sources, then the target */
	unsigned nr_sources;
	struct img_env env;
	struct source source;
	struct stream_in in;
	struct target target;
	struct td_opts opts;
	struct copy copy;
	bool from_stream, to_stream;
	struct td_stdout out;
	char sha256[DIGEST_TEXT];
	uint64_t size; /* of the disk, known at the end */
	double seconds;
	const char *format; /* of the target */
	struct td_err *err;
};

static bool is_stream(const char *operand)
{
	return strcmp(operand, "-") == 0;
}

/* ---- the command line ---- */

/* Cache modes as QEMU names them: what matters here is whether the page cache is used. */
static int direct_of(const char *letter, const char *cache, const char **ret, struct td_err *ret_err)
{
	static const struct {
		const char *name, *direct;
	} modes[] = { { "none", "on" },
		      { "directsync", "on" },
		      { "writeback", "off" },
		      { "writethrough", "off" },
		      { "unsafe", "off" } };

	*ret = NULL;
	for (unsigned i = 0; cache && i < TD_NELEMS(modes); i++)
		if (strcmp(cache, modes[i].name) == 0)
			*ret = modes[i].direct;
	if (cache && !*ret)
		return td_err_set(ret_err, -EINVAL,
				  "-%s %s: it is none, directsync, writeback, writethrough or unsafe", letter,
				  cache);
	return 0;
}

struct rule {
	bool broken;
	const char *sentence;
};

static int check_rules(const struct rule *rules, unsigned nr, struct td_err *ret_err)
{
	for (unsigned i = 0; i < nr; i++)
		if (rules[i].broken)
			return td_err_set(ret_err, -EINVAL, "%s", rules[i].sentence);
	return 0;
}

static int convert_check(void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct convert_args *a = arg;
	bool in = false, out = is_stream(operands[nr - 1]), creates = a->backing || a->options.nr > 0;
	const struct td_driver *to = a->target_format ? td_driver_find(a->target_format) : NULL;
	const bool raw = !to || (to->flags & TD_LEAF);
	uint64_t zeros = cli_size_or(a->min_zeros, 0);

	for (unsigned i = 0; i + 1 < nr; i++)
		in = in || is_stream(operands[i]);

	const struct rule rules[] = {
		{ in && nr > 2, "standard input (-) cannot be one of several sources" },
		{ in && a->format && !td_driver_find(a->format), "-f: no such format" },
		{ in && a->format && !(td_driver_find(a->format)->flags & TD_LEAF),
		  "-f: only a raw disk can be read from standard input; this format cannot be read as a "
		  "stream" },
		{ out && a->target_format && !to, "-O: no such format" },
		{ out && !raw && !(to->flags & TD_STREAMS),
		  "-O: images of this format cannot be written as a stream, to standard output" },
		{ out && (a->no_create || a->backing || a->force),
		  "-n, -B and --force make no sense with standard output as the target" },
		{ out && raw && (a->compress || creates),
		  "-c and -o make no sense with a raw disk on standard output" },
		{ !in && a->size != CLI_SIZE_NONE, "--size is for a disk from standard input (-) alone" },
		{ a->no_create && creates, "-n: the target is there already, -o and -B cannot change it" },
		{ a->no_create && a->force,
		  "-n writes into what is there, --force replaces it: say one of them" },
		{ a->bitmaps && (in || out || nr > 2),
		  "--bitmaps wants one source and one target, both images" },
		{ a->skip_broken && !a->bitmaps, "--skip-broken-bitmaps needs --bitmaps" },
		{ a->target_is_zero && !a->no_create, "--target-is-zero needs -n" },
		{ a->backing_format && a->options.nr == 0 && !a->backing, "-F needs -B" },
		{ a->workers == 0 || a->workers > MAX_WORKERS, "-m: 1 to 16" },
		{ zeros % 512 != 0 || zeros > 1u << 30, "-S: a multiple of 512, up to 1G" },
	};

	return check_rules(rules, TD_NELEMS(rules), ret_err);
}

/* ---- signals ---- */

/* The first time: tidily.  The second time: at once. */
static void interrupted(void *arg, int signo)
{
	struct convert_job *job = arg;

	if (job->copy.result != -ECANCELED) {
		copy_cancel(&job->copy);
		return;
	}
	target_unlink(&job->target);
	_exit(128 + signo);
}

/* With standard output as the target there is nothing to be tidied up. */
static int catch_signals(struct convert_job *job)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	int r = 0;

	for (unsigned i = 0; r == 0 && i < TD_NELEMS(signals) && !job->to_stream; i++)
		r = td_loop_signal(job->env.env.loop, signals[i], interrupted, job);
	return r;
}

/* ---- the ends ---- */

static int open_source(struct convert_job *job)
{
	const struct convert_args *a = job->args;
	struct source_how how = { .format = a->format, .no_lock = a->no_lock };
	int r;

	if (!job->from_stream) {
		r = direct_of("T", a->source_cache, &how.direct, job->err);
		if (r == 0)
			r = source_open(&job->source, &job->env.env, job->operands, job->nr_sources, &how,
					job->err);
		job->copy.source = &job->source;
		job->copy.size = job->source.size;
		return r;
	}
	r = stream_in_open(&job->in, job->env.env.loop, job->err);
	job->copy.in = &job->in;
	job->copy.size = cli_size_or(a->size, job->in.size);
	if (r == 0 && job->copy.size != UINT64_MAX && job->copy.size > INT64_MAX - 512)
		r = td_err_set(job->err, -EFBIG, "standard input: no image can be larger than 2^63-1 bytes");
	return r;
}

static int refuse_same_file(struct convert_job *job, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || !source_has_file(&job->source, &st))
		return 0;
	return td_err_set(job->err, -EINVAL, "%s: is what is read, or a backing file of it", path);
}

/* It would be made anew before anything is read. */
static int refuse_data_file(struct convert_job *job)
{
	td_cleanup(free) char *path = NULL;
	int r = newimage_beside(job->target.spec, &job->opts, "data_file", &path);

	return r == 0 && path ? refuse_same_file(job, path) : r;
}

/* What can be refused without the target's file is refused before that is made. */
static int make_target(struct convert_job *job, uint64_t size)
{
	const struct convert_args *a = job->args;
	uint64_t ignored;
	int r = newimage_options(&a->options, a->backing, a->backing_format, &job->opts, job->err);

	if (r == 0)
		r = refuse_data_file(job);
	if (r < 0)
		return r;
	job->copy.over_backing = newimage_has_backing(&job->opts);
	if (job->copy.over_backing)
		r = newimage_look_at_backing(&job->env.env, job->target.spec, &job->opts, &ignored, job->err);
	if (r == 0 && a->compress)
		r = target_check_compress(&job->target, &job->opts, job->err);
	if (r == 0)
		r = target_make(&job->target, size, &job->opts, job->err);
	if (job->copy.over_backing)
		job->target.reads_zero = false;
	return r;
}

/* What is in it is unknown, so zeros are written too, unless somebody knows better (--target-is-zero). */
static int use_target(struct convert_job *job, uint64_t size)
{
	int r = target_use(&job->target, size, job->err);

	job->target.reads_zero = job->args->target_is_zero;
	if (r == 0 && job->args->target_is_zero && job->target.im->backing)
		return td_err_set(job->err, -EINVAL, "--target-is-zero: %s has a backing file",
				  job->target.im->name);
	if (r == 0 && job->args->compress && !job->target.im->limits.compresses)
		return td_err_set(job->err, -ENOTSUP, "-c: %s cannot have compressed clusters",
				  job->target.im->name);
	return r;
}

static bool is_raw(const char *format)
{
	return !format || (td_driver_find(format)->flags & TD_LEAF);
}

/* Only images that are written in one go can be sent; of others nothing has left yet. */
static int open_sent(struct convert_job *job, uint64_t size)
{
	const char *format = job->args->target_format;
	int r;

	job->env.env.out = &job->out;
	r = target_parse_stdout(&job->target, &job->env.env, format, job->err);
	if (r == 0)
		r = make_target(job, size);
	if (r == -ESPIPE || (r == 0 && !job->target.im->limits.once))
		return td_err_set(
			job->err, -ENOTSUP,
			"standard output: %s can be written as a stream, but not with these options: "
			"see -o in tap-img(1)",
			format);
	return r;
}

static int open_target(struct convert_job *job)
{
	const struct convert_args *a = job->args;
	uint64_t size = job->copy.size == UINT64_MAX ? 0 : td_align_up(job->copy.size, 512);
	const char *direct;
	int r = 0;

	job->copy.target = &job->target;
	if (job->to_stream && isatty(STDOUT_FILENO) == 1)
		return td_err_set(job->err, -EINVAL, "standard output is a terminal");
	if (job->to_stream && is_raw(a->target_format))
		return 0;
	if (job->to_stream) {
		r = open_sent(job, size);
		job->format = r == 0 ? facts_format(job->target.im) : NULL;
		return r;
	}
	r = direct_of("t", a->cache, &direct, job->err);
	if (r == 0)
		r = target_parse(&job->target, &job->env.env, job->operands[job->nr_sources],
				 a->target_format, direct, job->err);
	if (r == 0)
		r = refuse_same_file(job, job->target.spec->path);
	job->target.force = a->force;
	if (r == 0)
		r = a->no_create ? use_target(job, size) : make_target(job, size);
	if (r == 0)
		job->format = facts_format(job->target.im);
	return r;
}

/* ---- dirty bitmaps ---- */

typedef int bitmaps_fn(const struct bitmaps *b);

static int with_bitmaps(struct convert_job *job, bitmaps_fn *fn)
{
	struct bitmaps b = { .to = job->target.im, .skip_broken = job->args->skip_broken, .err = job->err };

	if (!job->args->bitmaps)
		return 0;
	b.from = job->source.part[0].im;
	return fn(&b);
}

/* ---- the work ---- */

static int finish(struct convert_job *job)
{
	int r;

	job->size = job->copy.size != UINT64_MAX ? td_align_up(job->copy.size, 512)
						 : td_align_up(job->copy.plan.at, 512);
	if (job->copy.digest.ctx && digest_text(&job->copy.digest, job->sha256) < 0)
		return td_err_set(job->err, -EIO, "the digest cannot be computed");
	if (job->target.im)
		return target_finish(&job->target, job->err);
	r = stream_out_sync(job->env.env.pool);
	return r < 0 ? td_err_set(job->err, r, "standard output: %s", strerror(-r)) : 0;
}

static void set_up_copy(struct convert_job *job)
{
	const struct convert_args *a = job->args;
	struct copy *c = &job->copy;

	c->env = &job->env.env;
	c->min_zeros = cli_size_or(a->min_zeros, DEFAULT_ZEROS);
	c->workers = a->workers > 0 ? (unsigned)a->workers : DEFAULT_WORKERS;
	c->compress = a->compress;
	c->any_order = a->any_order;
	c->rate = (struct rate){ .loop = c->env->loop, .per_second = cli_size_or(a->rate, 0) };
}

static int copy_all(struct convert_job *job)
{
	const struct convert_args *a = job->args;
	struct copy *c = &job->copy;
	int r = a->sha256 ? digest_open(&c->digest, c->env->pool) : 0;

	if (r < 0)
		return r;
	progress_begin(&c->progress, c->env->loop, progress_how(a->quiet, a->progress),
		       c->size == UINT64_MAX ? 0 : c->size);
	job->target.begun = true;
	r = copy_run(c, job->err);
	if (r == 0)
		r = with_bitmaps(job, bitmaps_copy);
	if (r == 0)
		r = finish(job);
	progress_end(&c->progress, r == 0);
	digest_close(&c->digest);
	return r;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Sources first: an error in them must not cost a target.  target_drop() takes away what is not finished. */
static int convert_co(void *arg)
{
	struct convert_job *job = arg;
	double start = now_s();
	int r = catch_signals(job);

	set_up_copy(job);
	if (r == 0)
		r = open_source(job);
	if (r == 0)
		r = open_target(job);
	if (r == 0)
		r = with_bitmaps(job, bitmaps_check);
	if (r == 0)
		r = copy_all(job);
	target_drop(&job->target, job->err);
	source_close(&job->source);
	job->seconds = now_s() - start;
	return r;
}

/* ---- what is said ---- */

static int report_json(const struct convert_job *job)
{
	const struct copy *c = &job->copy;
	const char *name = job->operands[job->nr_sources];
	json_t *o = json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:f}", "filename", print_name(name), "format",
			      job->format ? job->format : "raw", "virtual-size", (json_int_t)job->size,
			      "bytes-read", (json_int_t)c->read_bytes, "bytes-written",
			      (json_int_t)c->written_bytes, "bytes-zero", (json_int_t)c->zero_bytes,
			      "seconds", job->seconds);

	if (o && c->over_backing)
		json_object_set_new(o, "bytes-same", json_integer((json_int_t)c->same_bytes));
	if (o && job->sha256[0])
		json_object_set_new(o, "sha256", json_string(job->sha256));
	if (!job->to_stream)
		return print_json_indented(o);
	if (!o || json_dumpf(o, stderr, JSON_INDENT(4)) < 0 || fputc('\n', stderr) == EOF) {
		json_decref(o);
		return -EIO;
	}
	json_decref(o);
	return 0;
}

static int report(const struct convert_job *job, bool json)
{
	if (json)
		return report_json(job);
	if (job->sha256[0]) /* as sha256sum's lines */
		(void)fprintf(job->to_stream ? stderr : stdout, "%s  %s\n", job->sha256,
			      job->operands[job->nr_sources]);
	return 0;
}

static int convert_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct convert_args *args = arg;
	struct convert_job *job = calloc(1, sizeof(*job));
	bool json = false;
	int r = job ? output_is_json(&args->common, args->output, &json, ret_err) : -ENOMEM;

	if (r == 0) {
		job->args = args;
		job->operands = operands;
		job->nr_sources = nr - 1;
		job->from_stream = is_stream(operands[0]);
		job->to_stream = is_stream(operands[nr - 1]);
		job->err = ret_err;
		r = img_env_run_bulk(&job->env, convert_co, job, ret_err);
		td_opts_done(&job->opts);
	}
	if (r == 0)
		r = report(job, json);
	free(job);
	return r;
}

#define FIELD(name) offsetof(struct convert_args, name)

static const struct cli_opt convert_opts[] = {
	{ 'f', "format", CLI_TEXT, FIELD(format), "FMT", "the sources' format; without, a file is probed" },
	{ 'O', "target-format", CLI_TEXT, FIELD(target_format), "FMT", "the target's format" },
	{ 'o', "options", CLI_LIST, FIELD(options), "NAME=VALUE,...", "options of the target's format" },
	{ 'B', "backing", CLI_TEXT, FIELD(backing), "FILE", "write what differs from this backing file" },
	{ 'F', "backing-format", CLI_TEXT, FIELD(backing_format), "FMT", "the backing file's format" },
	{ 'c', "compress", CLI_FLAG, FIELD(compress), NULL, "compress the target's clusters" },
	{ 'n', "no-create", CLI_FLAG, FIELD(no_create), NULL, "write into the image that is there" },
	{ 0, "target-is-zero", CLI_FLAG, FIELD(target_is_zero), NULL, "with -n: it reads as zeros" },
	{ 0, "force", CLI_FLAG, FIELD(force), NULL, "replace what is there" },
	{ 0, "bitmaps", CLI_FLAG, FIELD(bitmaps), NULL, "copy the source's dirty bitmaps, too" },
	{ 0, "skip-broken-bitmaps", CLI_FLAG, FIELD(skip_broken), NULL,
	  "but for those that are inconsistent" },
	{ 'S', "sparse", CLI_SIZE, FIELD(min_zeros), "SIZE", "shortest run of zeros left out (default 4K)" },
	{ 0, "size", CLI_SIZE, FIELD(size), "SIZE", "of the disk that standard input holds" },
	{ 'm', "coroutines", CLI_ID, FIELD(workers), "N", "pieces at the same time (default 8)" },
	{ 'W', "any-order", CLI_FLAG, FIELD(any_order), NULL, "write in any order" },
	{ 'r', "rate-limit", CLI_SIZE, FIELD(rate), "SIZE", "read so many bytes a second at most" },
	{ 0, "sha256", CLI_FLAG, FIELD(sha256), NULL, "print the SHA-256 of the disk's bytes" },
	{ 't', "cache", CLI_TEXT, FIELD(cache), "MODE", "cache mode of the target" },
	{ 'T', "source-cache", CLI_TEXT, FIELD(source_cache), "MODE", "cache mode of the sources" },
	{ 'U', "force-share", CLI_FLAG, FIELD(no_lock), NULL, "read the sources without locking them" },
	{ 'p', "progress", CLI_FLAG, FIELD(progress), NULL, "show progress, not only on a terminal" },
	{ 'q', "quiet", CLI_FLAG, FIELD(quiet), NULL, "show no progress" },
	{ 0, "output", CLI_TEXT, FIELD(output), "json|human", "what to print (default human)" },
};

const struct cli_cmd convert_cmd = {
	.name = "convert",
	.synopsis = "[-f FMT] [-O FMT] [-c] [-n] [-o NAME=VALUE,...] [-B FILE -F FMT] [OPTION]... SRC... DST",
	.summary = "copy images into another format",
	.opts = convert_opts,
	.nr_opts = TD_NELEMS(convert_opts),
	.args_size = sizeof(struct convert_args),
	.min_operands = 2,
	.max_operands = 64,
	.check = convert_check,
	.run = convert_run,
};
