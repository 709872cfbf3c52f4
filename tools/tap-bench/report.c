// SPDX-License-Identifier: BSD-2-Clause
/* What was measured: as text, as JSON, and two kinds of runs as one number. */
#include "bench.h"
#include <stdio.h>

static const char *const op_names[LOAD_OPS] = { "read", "write", "flush" };
static const double percentiles[] = { 50, 90, 99, 99.9 };

#define NS_PER_S 1e9

uint64_t result_ios(const struct result *r)
{
	return r->hist[LOAD_READ].nr + r->hist[LOAD_WRITE].nr;
}

static double per_second(const struct result *r, uint64_t nr)
{
	return r->elapsed_ns ? (double)nr * NS_PER_S / (double)r->elapsed_ns : 0;
}

double result_iops(const struct result *r)
{
	return per_second(r, result_ios(r));
}

static double mean_ns(const struct td_hist *h)
{
	return h->nr ? (double)h->sum / (double)h->nr : 0;
}

static double cpu_per_io(const struct result *r, uint64_t ns)
{
	uint64_t ios = result_ios(r);

	return ios ? (double)ns / (double)ios : 0;
}

/* ---- text ---- */

static void print_op(const struct job *job, const struct result *r, enum load_op op)
{
	const struct td_hist *h = &r->hist[op];

	if (h->nr == 0)
		return;
	printf("  %-5s %9.0f IOPS", op_names[op], per_second(r, h->nr));
	if (op != LOAD_FLUSH)
		printf(" %8.1f MiB/s", per_second(r, h->nr) * (double)job->bs / (1 << 20));
	printf("   us: mean %.1f", mean_ns(h) / 1000);
	for (unsigned i = 0; i < TD_NELEMS(percentiles); i++)
		printf("  p%g %.1f", percentiles[i], (double)td_hist_percentile(h, percentiles[i]) / 1000);
	printf("  max %.1f\n", (double)h->max / 1000);
}

void report_text(const char *target, const struct job *job, const struct result *r)
{
	printf("%s: %s, blocks of %llu, depth %u, %u queue%s, %.2f s\n", target, job->rw,
	       (unsigned long long)job->bs, job->depth, job->lanes, job->lanes > 1 ? "s" : "",
	       (double)r->elapsed_ns / NS_PER_S);
	for (unsigned op = 0; op < LOAD_OPS; op++)
		print_op(job, r, (enum load_op)op);
	printf("  processor time a request: client %.2f us", cpu_per_io(r, r->client_cpu_ns) / 1000);
	if (r->has_server)
		printf(", server %.2f us", cpu_per_io(r, r->server_cpu_ns) / 1000);
	putchar('\n');
	if (job->verify)
		printf("  verified %llu blocks\n", (unsigned long long)r->verified);
}

/* ---- JSON ---- */

static json_t *op_json(const struct job *job, const struct result *r, const struct td_hist *h)
{
	json_int_t bytes = (json_int_t)h->nr * (json_int_t)job->bs;
	json_t *lat = json_pack("{s:f, s:I}", "mean", mean_ns(h), "max", (json_int_t)h->max);

	for (unsigned i = 0; i < TD_NELEMS(percentiles); i++) {
		char name[16];

		snprintf(name, sizeof(name), "p%g", percentiles[i]);
		json_object_set_new(lat, name, json_integer((json_int_t)td_hist_percentile(h, percentiles[i])));
	}
	return json_pack("{s:I, s:I, s:f, s:f, s:o}", "ios", (json_int_t)h->nr, "bytes", bytes, "iops",
			 per_second(r, h->nr), "bytes_per_s", per_second(r, h->nr) * (double)job->bs,
			 "latency_ns", lat);
}

json_t *report_json(const char *target, const struct job *job, const struct result *r)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:i, s:i, s:f, s:f}", "target", target, "rw", job->rw, "bs",
			      (json_int_t)job->bs, "iodepth", (int)job->depth, "queues", (int)job->lanes,
			      "seconds", (double)r->elapsed_ns / NS_PER_S, "client_cpu_ns",
			      cpu_per_io(r, r->client_cpu_ns));

	for (unsigned op = 0; o && op < LOAD_OPS; op++)
		if (r->hist[op].nr > 0)
			json_object_set_new(o, op_names[op], op_json(job, r, &r->hist[op]));
	if (r->has_server)
		json_object_set_new(o, "server_cpu_ns", json_real(cpu_per_io(r, r->server_cpu_ns)));
	if (job->verify)
		json_object_set_new(o, "verified", json_integer((json_int_t)r->verified));
	return o;
}

/* ---- two kinds of runs ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct ratio {
	double median, min, max;
};

/* Of the ratios within each pair: what else this machine does is much the same in both. */
static struct ratio rate_ratio(const struct result *ring, const struct result *file, unsigned nr)
{
	double *v = calloc(nr, sizeof(*v));
	struct ratio q = { 0 };

	if (!v)
		return q;
	for (unsigned i = 0; i < nr; i++)
		v[i] = result_iops(&file[i]) > 0 ? result_iops(&ring[i]) / result_iops(&file[i]) : 0;
	qsort(v, nr, sizeof(*v), by_value);
	q = (struct ratio){ (v[(nr - 1) / 2] + v[nr / 2]) / 2, v[0], v[nr - 1] };
	free(v);
	return q;
}

void report_ratio_text(const struct result *ring, const struct result *file, unsigned nr)
{
	struct ratio q = rate_ratio(ring, file, nr);

	printf("ring / file: x%.2f (%.2f .. %.2f, %u rounds)\n", q.median, q.min, q.max, nr);
}

json_t *report_ratio_json(const struct result *ring, const struct result *file, unsigned nr)
{
	struct ratio q = rate_ratio(ring, file, nr);

	return json_pack("{s:f, s:f, s:f}", "median", q.median, "min", q.min, "max", q.max);
}
