// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-bench(1): the command line, and what is done with it: one target, or a target and a file in turns.
 */
#include "bench.h"
#include "tools/common/cli.h"
#include "tools/common/print.h"
#include <blktap/blkif.h>
#include <blktap/opts.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define MAX_BS      (1u << 20)
#define MAX_ROUNDS  100
#define MAX_SECONDS 86400.0

struct args {
	struct cli_common common;
	const char *rw, *bs, *runtime, *size, *offset, *seed, *abi, *engine, *compare;
	int mix, depth, queues, flush_every, ring_order, rounds, spin;
	bool verify;
	struct job job; /* filled in by check() */
};

static const struct cli_opt opts[] = {
	{ 0, "rw", CLI_TEXT, offsetof(struct args, rw), "LOAD",
	  "read, write, randread (default), randwrite, rw, randrw" },
	{ 0, "rwmixread", CLI_ID, offsetof(struct args, mix), "PERCENT",
	  "reads of rw and randrw (default: 50)" },
	{ 0, "bs", CLI_TEXT, offsetof(struct args, bs), "SIZE", "bytes of a request (default: 4k)" },
	{ 0, "iodepth", CLI_ID, offsetof(struct args, depth), "N",
	  "requests in flight of each queue (default: 1)" },
	{ 0, "queues", CLI_ID, offsetof(struct args, queues), "N", "queues, a thread each (default: 1)" },
	{ 0, "numjobs", CLI_ID, offsetof(struct args, queues), "N", "the same as --queues" },
	{ 0, "runtime", CLI_TEXT, offsetof(struct args, runtime), "SECONDS",
	  "how long (default: once over the size)" },
	{ 0, "offset", CLI_TEXT, offsetof(struct args, offset), "SIZE", "begin here (default: 0)" },
	{ 0, "size", CLI_TEXT, offsetof(struct args, size), "SIZE", "bytes from there (default: all)" },
	{ 0, "flush-every", CLI_ID, offsetof(struct args, flush_every), "N", "flush after so many writes" },
	{ 0, "verify", CLI_FLAG, offsetof(struct args, verify), NULL,
	  "write stamps, and check what is read" },
	{ 0, "seed", CLI_TEXT, offsetof(struct args, seed), "N", "of positions and stamps (default: 1)" },
	{ 0, "abi", CLI_TEXT, offsetof(struct args, abi), "NAME", "x86_64-abi, x86_32-abi or arm-abi" },
	{ 0, "ring-order", CLI_ID, offsetof(struct args, ring_order), "N", "a ring has 2^N pages" },
	{ 0, "spin", CLI_ID, offsetof(struct args, spin), "MICROSECONDS",
	  "look so long before sleeping (default: 50)" },
	{ 0, "engine", CLI_TEXT, offsetof(struct args, engine), "NAME",
	  "of a tapdisk that is started, and of files" },
	{ 0, "compare-file", CLI_TEXT, offsetof(struct args, compare), "FILE",
	  "do the same on this file too, in turns" },
	{ 0, "rounds", CLI_ID, offsetof(struct args, rounds), "N", "of --compare-file (default: 5)" },
};

/* ---- what the options mean ---- */

static int check_rw(const struct args *a, struct job *job, struct td_err *err)
{
	const char *rw = a->rw ? a->rw : "randread", *kind = rw;
	int mix = a->mix < 0 ? 50 : a->mix;

	job->rw = rw;
	job->random = strncmp(rw, "rand", 4) == 0;
	if (job->random)
		kind += 4;
	if (mix > 100)
		return td_err_set(err, -EINVAL, "--rwmixread %d: should be 0 to 100", mix);
	if (strcmp(kind, "read") == 0)
		job->read_percent = 100;
	else if (strcmp(kind, "write") == 0)
		job->read_percent = 0;
	else if (strcmp(kind, "rw") == 0)
		job->read_percent = (unsigned)mix;
	else
		return td_err_set(err, -EINVAL,
				  "--rw %s: should be read, write, randread, randwrite, rw or randrw", rw);
	return 0;
}

static int check_size(const char *option, const char *text, uint64_t *ret, struct td_err *err)
{
	if (text && (td_parse_size(text, ret) < 0 || *ret > INT64_MAX || *ret % 512))
		return td_err_set(err, -EINVAL, "--%s %s: should be a multiple of 512, as in 4k", option,
				  text);
	return 0;
}

static int check_sizes(const struct args *a, struct job *job, struct td_err *err)
{
	int r = check_size("bs", a->bs, &job->bs, err);

	if (r == 0)
		r = check_size("offset", a->offset, &job->offset, err);
	if (r == 0)
		r = check_size("size", a->size, &job->size, err);
	if (r == 0 && (job->bs == 0 || job->bs > MAX_BS))
		return td_err_set(err, -EINVAL, "--bs %s: should be 512 to 1M", a->bs);
	if (r == 0 && a->size && job->size == 0)
		return td_err_set(err, -EINVAL, "--size %s: nothing to do", a->size);
	return r;
}

static int check_count(const char *option, int value, unsigned preset, unsigned min, unsigned max,
		       unsigned *ret, struct td_err *err)
{
	*ret = value < 0 ? preset : (unsigned)value;
	if (value >= 0 && (*ret < min || *ret > max))
		return td_err_set(err, -EINVAL, "--%s %d: should be %u to %u", option, value, min, max);
	return 0;
}

static int check_counts(const struct args *a, struct job *job, struct td_err *err)
{
	int r = check_count("iodepth", a->depth, 1, 1, BENCH_MAX_DEPTH, &job->depth, err);

	if (r == 0)
		r = check_count("queues", a->queues, 1, 1, BENCH_MAX_LANES, &job->lanes, err);
	if (r == 0)
		r = check_count("flush-every", a->flush_every, 0, 1, 1u << 30, &job->flush_every, err);
	if (r == 0)
		r = check_count("ring-order", a->ring_order, BENCH_ANY_ORDER, 0, TD_BLKIF_MAX_ORDER,
				&job->ring_order, err);
	if (r == 0)
		r = check_count("spin", a->spin, 50, 0, 1000000, &job->spin_us, err);
	if (r == 0)
		r = check_count("rounds", a->rounds, 5, 1, MAX_ROUNDS, &job->rounds, err);
	return r;
}

static int check_words(const struct args *a, struct job *job, struct td_err *err)
{
	enum td_blkif_abi abi = TD_BLKIF_X86_64;
	double seconds = 0;
	char *end;

	if (a->runtime) {
		seconds = strtod(a->runtime, &end);
		if (end == a->runtime || *end || !(seconds > 0 && seconds <= MAX_SECONDS))
			return td_err_set(err, -EINVAL, "--runtime %s: should be seconds, at most a day",
					  a->runtime);
	}
	job->runtime_ns = (uint64_t)(seconds * 1e9);
	if (a->seed) {
		errno = 0;
		job->seed = strtoull(a->seed, &end, 0);
		if (errno || end == a->seed || *end || *a->seed == '-')
			return td_err_set(err, -EINVAL, "--seed %s: should be a number", a->seed);
	}
	if (a->abi && td_blkif_abi_find(a->abi, &abi) < 0)
		return td_err_set(err, -EINVAL, "--abi %s: should be x86_64-abi, x86_32-abi or arm-abi",
				  a->abi);
	job->abi = abi;
	return 0;
}

/* All of the command line is judged before a daemon is started or a byte is written. */
static int check(void *args, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	struct args *a = args;
	struct job *job = &a->job;
	int r;

	(void)nr;
	*job = (struct job){
		.bs = 4096, .seed = 1, .verify = a->verify, .engine = a->engine ? a->engine : "auto"
	};
	r = check_rw(a, job, ret_err);
	if (r == 0)
		r = check_sizes(a, job, ret_err);
	if (r == 0)
		r = check_counts(a, job, ret_err);
	if (r == 0)
		r = check_words(a, job, ret_err);
	if (r == 0 && a->compare && strncmp(operands[0], "file:", 5) == 0)
		return td_err_set(ret_err, -EINVAL,
				  "--compare-file: the target should be a ring or a specification");
	if (r == 0 && a->rounds >= 0 && !a->compare)
		return td_err_set(ret_err, -EINVAL, "--rounds: only with --compare-file");
	return r;
}

/* ---- what is done ---- */

/* A result has histograms of some ten KiB: too large for a stack. */
static int single(const struct args *a, const char *shown, const struct target_ops *ops, const char *address,
		  struct td_err *ret_err)
{
	struct result *res = calloc(1, sizeof(*res));
	int r = res ? bench_run(ops, address, &a->job, res, ret_err) : -ENOMEM;

	if (r == 0 && a->common.json)
		r = print_json(report_json(shown, &a->job, res));
	else if (r == 0)
		report_text(shown, &a->job, res);
	free(res);
	return r;
}

static json_t *reports_json(const char *shown, const struct job *job, const struct result *res, unsigned nr)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < nr; i++)
		json_array_append_new(list, report_json(shown, job, &res[i]));
	return list;
}

/* In turns, so that both see the same of whatever else this machine does. */
static int compare(const struct args *a, const char *shown, const char *address, struct td_err *ret_err)
{
	const struct job *job = &a->job;
	struct result *ring = calloc(job->rounds, sizeof(*ring)), *file = calloc(job->rounds, sizeof(*file));
	int r = ring && file ? 0 : -ENOMEM;

	for (unsigned i = 0; i < job->rounds && r == 0; i++) {
		r = bench_run(&ring_target, address, job, &ring[i], ret_err);
		if (r == 0)
			r = bench_run(&file_target, a->compare, job, &file[i], ret_err);
		if (r == 0 && !a->common.json) {
			report_text(shown, job, &ring[i]);
			report_text(a->compare, job, &file[i]);
		}
	}
	if (r == 0 && a->common.json)
		r = print_json(json_pack("{s:o, s:o, s:o}", "ring",
					 reports_json(shown, job, ring, job->rounds), "file",
					 reports_json(a->compare, job, file, job->rounds), "ratio",
					 report_ratio_json(ring, file, job->rounds)));
	else if (r == 0)
		report_ratio_text(ring, file, job->rounds);
	free(ring);
	free(file);
	return r;
}

static int on_ring(const struct args *a, const char *shown, const char *address, struct td_err *ret_err)
{
	return a->compare ? compare(a, shown, address, ret_err)
			  : single(a, shown, &ring_target, address, ret_err);
}

static int run(const void *args, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct args *a = args;
	const char *target = operands[0];
	struct server server;
	int r, r1;

	(void)nr;
	if (strncmp(target, "unix:", 5) == 0)
		return on_ring(a, target, target, ret_err);
	if (strncmp(target, "file:", 5) == 0)
		return single(a, target, &file_target, target + 5, ret_err);
	r = server_start(&server, target, a->job.engine, a->job.read_percent == 100, ret_err);
	if (r < 0)
		return r;
	r = on_ring(a, target, server.address, ret_err);
	r1 = server_stop(&server, r == 0 ? ret_err : NULL);
	return r < 0 ? r : r1;
}

static const struct cli_cmd cmd = {
	.name = "tap-bench",
	.synopsis = "[OPTION]... unix:PATH | SPEC | file:PATH",
	.summary = "Load a disk through a ring in shared memory and measure it.",
	.opts = opts,
	.nr_opts = TD_NELEMS(opts),
	.args_size = sizeof(struct args),
	.min_operands = 1,
	.max_operands = 1,
	.check = check,
	.run = run,
};

int main(int argc, char **argv)
{
	static const struct cli_prog prog = { .name = "tap-bench", .summary = NULL, .only = &cmd };

	return cli_main(&prog, argc, argv);
}
