// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img map: which layer of the chain holds what, and where in its file.  The fields are those of qemu-img map
 * (QEMU 7.2, and "compressed" of 8.2), and neighbours with the same answer are one entry as they are there.
 *
 * Entries are printed as they are found: a map may be longer than memory.
 */
#include <inttypes.h>
#include <stdio.h>

#include "env.h"
#include "tools/common/operand.h"
#include "tools/common/print.h"
#include "verbs.h"
#include "walk.h"

#define MAP_FLAGS (TD_OPEN_RDONLY | TD_OPEN_CHECK)

struct map_args {
	struct cli_common common;
	const char *format, *output;
	uint64_t start, length; /* CLI_SIZE_NONE: not given */
	bool share;
};

struct map_job {
	struct img_env env;
	struct td_spec *spec;
	uint64_t start, length;
	bool json, share;
	struct td_err *err;
};

struct entry {
	uint64_t start;
	struct td_extent e;
};

/* ---- printing ---- */

static const char *truth(bool b)
{
	return b ? "true" : "false";
}

static void print_json_entry(const struct entry *n, bool last)
{
	printf("{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, \"present\": %s, "
	       "\"zero\": %s, \"data\": %s, \"compressed\": %s",
	       n->start, n->e.len, n->e.depth, truth(n->e.held), truth(n->e.kind == TD_EXTENT_ZERO),
	       truth(n->e.kind == TD_EXTENT_DATA), truth(n->e.packed));
	if (n->e.has_host)
		printf(", \"offset\": %" PRIu64, n->e.host_off);
	printf("}%s\n", last ? "]" : ",");
}

static const char *file_at(struct td_image *im, const struct td_extent *e)
{
	unsigned depth = e->depth;

	if (e->path)
		return e->path;
	im = td_image_layer(im);
	while (depth-- > 0 && im->backing)
		im = td_image_layer(im->backing);
	return im->path;
}

/* Only what holds data, as qemu-img does. */
static void print_line(struct td_image *im, const struct entry *n)
{
	if (n->e.kind != TD_EXTENT_DATA)
		return;
	printf("%#-16" PRIx64 "%#-16" PRIx64, n->start, n->e.len);
	if (n->e.packed)
		printf("%-16s", "compressed");
	else if (n->e.has_host)
		printf("%#-16" PRIx64, n->e.host_off);
	else
		printf("%-16s", "unknown");
	print_safe(file_at(im, &n->e));
	putchar('\n');
}

static void print_entry(const struct map_job *job, struct td_image *im, const struct entry *n, bool last)
{
	if (n->e.len == 0)
		return;
	if (job->json)
		print_json_entry(n, last);
	else
		print_line(im, n);
}

/* ---- walking ---- */

static bool continues(const struct entry *a, const struct td_extent *e)
{
	if (a->e.kind != e->kind || a->e.held != e->held || a->e.depth != e->depth ||
	    a->e.packed != e->packed || a->e.has_host != e->has_host || a->e.path != e->path)
		return false;
	return !e->has_host || a->e.host_off + a->e.len == e->host_off;
}

static int map_image(const struct map_job *job, struct td_image *im)
{
	uint64_t at = TD_MIN(job->start, im->size), end = at + TD_MIN(job->length, im->size - at);
	struct entry now = { .start = at };
	uint64_t ask = WALK_ASK;

	printf(job->json ? "[" : "%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	while (at < end) {
		struct td_extent e;
		uint64_t most = TD_MIN(ask, end - at);
		int r = td_image_extent(im, at, most, &e);

		if (r < 0)
			return td_err_set(job->err, r, "%s: cannot tell what is at %" PRIu64 ": %s", im->name,
					  at, strerror(-r));
		if (now.e.len > 0 && continues(&now, &e)) {
			now.e.len += e.len;
		} else {
			print_entry(job, im, &now, false);
			now = (struct entry){ at, e };
		}
		at += e.len;
		ask = walk_ask_next(most, e.len);
	}
	print_entry(job, im, &now, true);
	if (job->json && now.e.len == 0)
		printf("]\n");
	return 0;
}

static int map_co(void *arg)
{
	struct map_job *job = arg;
	struct td_image *im;
	int r;

	r = td_image_open(&job->env.env, job->spec, MAP_FLAGS | (job->share ? TD_OPEN_NO_LOCK : 0), &im,
			  job->err);
	if (r < 0)
		return r;
	r = map_image(job, im);
	td_ignore(td_image_close(im)); /* it was opened read-only: there is nothing to lose */
	return r;
}

/* ---- the verb ---- */

static int map_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct map_args *args = arg;
	struct map_job job = { .length = args->length, .share = args->share, .err = ret_err };
	int r;

	(void)nr;
	job.start = cli_size_or(args->start, 0);
	r = output_is_json(&args->common, args->output, &job.json, ret_err);
	if (r == 0)
		r = operand_parse(operands[0], args->format, true, &job.spec, ret_err);
	if (r < 0)
		return r;
	r = img_env_run(&job.env, map_co, &job, ret_err);
	td_spec_free(job.spec);
	return r;
}

static const struct cli_opt map_opts[] = {
	{ 'f', "format", CLI_TEXT, offsetof(struct map_args, format), "FMT",
	  "the operand is a plain file in this format; without, a file is probed" },
	{ 0, "output", CLI_TEXT, offsetof(struct map_args, output), "json|human",
	  "what to print (default human)" },
	{ 's', "start-offset", CLI_SIZE, offsetof(struct map_args, start), "OFF", "begin there" },
	{ 'l', "max-length", CLI_SIZE, offsetof(struct map_args, length), "LEN",
	  "no more than so many bytes" },
	{ 'U', "force-share", CLI_FLAG, offsetof(struct map_args, share), NULL,
	  "also of a disk in use, which may change meanwhile" },
};

const struct cli_cmd map_cmd = {
	.name = "map",
	.synopsis = "[-f FMT] [--output=json|human] [-s OFF] [-l LEN] [-U] SPEC|FILE",
	.summary = "say which layer holds what, and where",
	.opts = map_opts,
	.nr_opts = TD_NELEMS(map_opts),
	.args_size = sizeof(struct map_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = map_run,
};
