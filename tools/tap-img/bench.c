// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img bench: so many requests, so many at a time, straight to the drivers: what an image costs without a daemon.
 * (tap-bench loads a running disk.)
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include <blktap/hist.h>
#include <blktap/lock.h>

#include "env.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "verbs.h"

#define BENCH_COUNT 75000
#define BENCH_DEPTH 64
#define BENCH_SIZE  4096u
#define DEPTH_MAX   4096
#define BUFFERS_MAX (1ull << 30)

struct bench_args {
	struct cli_common common;
	const char *format, *output;
	int count, depth, flush_interval, pattern; /* -1: not given */
	uint64_t size, offset, step;
	bool write, share;
};

struct bench_job {
	struct img_env env;
	struct td_spec *spec;
	struct bench_args args;
	struct td_image *im;
	int issued, since_flush; /* requests; writes since the last flush */
	uint64_t off;            /* of the next one */
	unsigned in_flight;
	bool flushing;
	struct td_waitq idle, flushed; /* who is going to flush; who waits until he has */
	struct td_hist hist;
	double seconds;
	int result;
	struct td_err *err;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- the load ---- */

/* With all that was written before it done, and nothing new begun. */
static int flush_drained(struct bench_job *job)
{
	int r;

	job->flushing = true;
	while (job->in_flight > 0)
		td_waitq_wait(&job->idle);
	r = td_image_flush(job->im);
	job->since_flush = 0;
	job->flushing = false;
	td_waitq_wake_all(&job->flushed);
	if (r < 0)
		return td_err_set(job->err, r, "%s: flush: %s", job->im->name, strerror(-r));
	return 0;
}

/* Where the next request goes, from the start again at the end of the disk.  0: there is none. */
static int next_request(struct bench_job *job, uint64_t *ret_off)
{
	const struct bench_args *a = &job->args;
	int r = 0;

	while (job->flushing)
		td_waitq_wait(&job->flushed);
	if (job->issued < a->count && a->flush_interval > 0 && job->since_flush == a->flush_interval)
		r = flush_drained(job);
	if (r < 0 || job->result < 0 || job->issued == a->count)
		return r;
	*ret_off = job->off;
	job->issued++;
	job->since_flush++;
	job->off = (job->off + a->step) % job->im->size;
	if (job->off > job->im->size - a->size)
		job->off = 0;
	return 1;
}

static int one_request(struct bench_job *job, uint64_t off, void *buf)
{
	size_t size = job->args.size;
	uint64_t start = now_ns();
	int r;

	job->in_flight++;
	r = job->args.write ? td_image_pwrite(job->im, off, buf, size, 0)
			    : td_image_pread(job->im, off, buf, size, 0);
	if (--job->in_flight == 0)
		td_waitq_wake_all(&job->idle);
	td_hist_add(&job->hist, now_ns() - start);
	if (r < 0)
		return td_err_set(job->err, r, "%s: %s at %" PRIu64 ": %s", job->im->name,
				  job->args.write ? "write" : "read", off, strerror(-r));
	return 0;
}

static int lane(void *arg)
{
	struct bench_job *job = arg;
	void *buf = td_buf_alloc(job->args.size);
	uint64_t off = 0;
	int r = buf ? 1 : -ENOMEM;

	if (buf)
		memset(buf, job->args.pattern, job->args.size);
	while (r > 0) {
		r = next_request(job, &off);
		if (r > 0)
			r = one_request(job, off, buf) < 0 ? -EIO : 1;
	}
	if (r < 0)
		job->result = r; /* the others end too */
	if (buf)
		td_buf_free(buf, job->args.size);
	return r;
}

static int load(struct bench_job *job)
{
	struct td_join j = { 0 };
	uint64_t start = now_ns();
	int r;

	for (int i = 0; i < TD_MIN(job->args.depth, job->args.count); i++)
		td_join_start(&j, lane, job);
	r = td_join_wait(&j);
	job->seconds = (double)(now_ns() - start) / 1e9;
	return r;
}

/* ---- the options ---- */

static int number(const char *name, int value, int otherwise, int min, int max, int *ret,
		  struct td_err *ret_err)
{
	*ret = value < 0 ? otherwise : value;
	if (*ret < min || *ret > max)
		return td_err_set(ret_err, -EINVAL, "%s %d: %d to %d is possible", name, *ret, min, max);
	return 0;
}

static int read_args(struct bench_args *a, struct td_err *ret_err)
{
	int r = number("-c", a->count, BENCH_COUNT, 1, INT32_MAX, &a->count, ret_err);

	if (r == 0)
		r = number("-d", a->depth, BENCH_DEPTH, 1, DEPTH_MAX, &a->depth, ret_err);
	if (r == 0)
		r = number("--pattern", a->pattern, 0, 0, 255, &a->pattern, ret_err);
	if (r == 0)
		r = number("--flush-interval", a->flush_interval, 0, 0, INT32_MAX, &a->flush_interval,
			   ret_err);
	if (r < 0)
		return r;
	a->size = cli_size_or(a->size, BENCH_SIZE);
	a->step = a->step == CLI_SIZE_NONE || a->step == 0 ? a->size : a->step;
	a->offset = cli_size_or(a->offset, 0);
	if (a->size == 0 || a->size > BUFFERS_MAX / (uint64_t)a->depth)
		return td_err_set(ret_err, -EINVAL,
				  "-s %" PRIu64 ", %d at a time: 1 GiB of buffers is the most", a->size,
				  a->depth);
	if (a->flush_interval > 0 && !a->write)
		return td_err_set(ret_err, -EINVAL, "--flush-interval is for writing (-w)");
	if (a->write && a->share)
		return td_err_set(ret_err, -EINVAL, "-U: a disk in use must not be written");
	return 0;
}

static int check_place(const struct bench_job *job)
{
	const struct bench_args *a = &job->args;

	if (!td_in_range(a->offset, a->size, job->im->size))
		return td_err_set(job->err, -EINVAL,
				  "%s: %" PRIu64 " bytes at %" PRIu64 " are not inside its %" PRIu64,
				  job->im->name, a->size, a->offset, job->im->size);
	return 0;
}

/* ---- the verb ---- */

static void print_plan(const struct bench_args *a)
{
	printf("Sending %d %s requests, %" PRIu64 " bytes each, %d in parallel (starting at offset %" PRIu64
	       ", step size %" PRIu64 ")\n",
	       a->count, a->write ? "write" : "read", a->size, a->depth, a->offset, a->step);
	if (a->flush_interval > 0)
		printf("Sending flush every %d requests\n", a->flush_interval);
}

static double usec(uint64_t ns)
{
	return (double)ns / 1e3;
}

static int report(const struct bench_job *job, bool json)
{
	const struct td_hist *h = &job->hist;
	double iops = job->args.count / TD_MAX(job->seconds, 1e-9);
	double bytes = iops * (double)job->args.size;
	uint64_t p50 = td_hist_percentile(h, 50), p99 = td_hist_percentile(h, 99);
	uint64_t p999 = td_hist_percentile(h, 99.9);
	char rate[PRINT_SIZE_LEN];

	if (json)
		return print_json_indented(json_pack(
			"{s:o, s:i, s:I, s:i, s:b, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:f, s:f}}", "filename",
			print_name(job->spec->path), "requests", job->args.count, "request-size",
			(json_int_t)job->args.size, "depth", job->args.depth, "write", (int)job->args.write,
			"seconds", job->seconds, "iops", iops, "bytes-per-second", bytes, "latency-us",
			"mean", usec(td_hist_mean(h)), "p50", usec(p50), "p99", usec(p99), "p99.9",
			usec(p999), "max", usec(h->max)));
	printf("Run completed in %3.3f seconds.\n", job->seconds);
	printf("%.0f requests/s, %s/s; latency in us: 50 %% %.1f, 99 %% %.1f, 99.9 %% %.1f, max %.1f\n", iops,
	       print_size((uint64_t)bytes, rate), usec(p50), usec(p99), usec(p999), usec(h->max));
	return 0;
}

static int bench_co(void *arg)
{
	struct bench_job *job = arg;
	unsigned flags = job->args.write ? 0 : TD_OPEN_RDONLY;
	int r, r2;

	r = td_image_open(&job->env.env, job->spec, flags | (job->args.share ? TD_OPEN_NO_LOCK : 0), &job->im,
			  job->err);
	if (r < 0)
		return r;
	job->off = job->args.offset;
	r = check_place(job);
	if (r == 0)
		r = load(job);
	r2 = td_image_close(job->im);
	if (r == 0 && r2 < 0)
		r = td_err_set(job->err, r2, "%s: cannot be written: %s", job->spec->path, strerror(-r2));
	return r;
}

static int bench(struct bench_job *job, bool json)
{
	int r;

	if (!json)
		print_plan(&job->args);
	r = img_env_run(&job->env, bench_co, job, job->err);
	return r == 0 ? report(job, json) : r;
}

static int bench_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct bench_args *args = arg;
	struct bench_job *job = calloc(1, sizeof(*job)); /* the histogram is large */
	bool json = false;
	int r;

	(void)nr;
	if (!job)
		return -ENOMEM;
	job->args = *args;
	job->err = ret_err;
	r = output_is_json(&args->common, args->output, &json, ret_err);
	if (r == 0)
		r = read_args(&job->args, ret_err);
	if (r == 0)
		r = operand_parse(operands[0], args->format, !args->write, &job->spec, ret_err);
	if (r == 0)
		r = bench(job, json);
	if (job->spec)
		td_spec_free(job->spec);
	free(job);
	return r;
}

static const struct cli_opt bench_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct bench_args, format), "FMT",
	  "the operand is a plain file; its format" },
	{ 'c', "count", CLI_ID, offsetof(struct bench_args, count), "N", "requests in all (default 75000)" },
	{ 'd', "depth", CLI_ID, offsetof(struct bench_args, depth), "N", "so many at a time (default 64)" },
	{ 's', "size", CLI_SIZE, offsetof(struct bench_args, size), "SIZE", "bytes of each (default 4096)" },
	{ 'o', "offset", CLI_SIZE, offsetof(struct bench_args, offset), "OFF", "of the first (default 0)" },
	{ 'S', "step", CLI_SIZE, offsetof(struct bench_args, step), "STEP",
	  "from one to the next (default: their size)" },
	{ 'w', "write", CLI_FLAG, offsetof(struct bench_args, write), NULL,
	  "write, which destroys what is there" },
	{ 0, "pattern", CLI_ID, offsetof(struct bench_args, pattern), "BYTE", "what is written (default 0)" },
	{ 0, "flush-interval", CLI_ID, offsetof(struct bench_args, flush_interval), "N",
	  "a flush after so many writes (default 0: none)" },
	{ 'U', "force-share", CLI_FLAG, offsetof(struct bench_args, share), NULL, "also of a disk in use" },
	{ 0, "output", CLI_TEXT, offsetof(struct bench_args, output), "json|human",
	  "what to print (default human)" },
};

const struct cli_cmd bench_cmd = {
	.name = "bench",
	.synopsis = "[-f FMT] [-c N] [-d N] [-s SIZE] [-o OFF] [-S STEP] [-w] SPEC|FILE",
	.summary = "measure how fast an image is read or written",
	.opts = bench_opts,
	.nr_opts = TD_NELEMS(bench_opts),
	.args_size = sizeof(struct bench_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = bench_run,
};
