// SPDX-License-Identifier: BSD-2-Clause
/*
 * What `info` and `stats` say.  The fields are documented in blktap-control(7).
 */
#include "control.h"
#include <blktap/co.h>
#include <config.h>
#include <sys/resource.h>
#include <unistd.h>

#define MAX_LAYERS 256 /* a longer chain is cut off in stats */

/* A path may hold bytes that are no UTF-8: those are shown as '?', nothing else is possible in JSON. */
static json_t *text(const char *s)
{
	json_t *v;
	char *copy;

	if (!s)
		return json_null();
	v = json_string(s);
	if (v)
		return v;
	copy = strdup(s);
	for (char *p = copy; p && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	v = copy ? json_string(copy) : NULL;
	free(copy);
	return v;
}

const char *control_state_name(enum td_vbd_state state)
{
	static const char *const names[] = {
		[TD_VBD_CLOSED] = "closed",   [TD_VBD_RUNNING] = "running", [TD_VBD_FULL] = "full",
		[TD_VBD_PAUSING] = "pausing", [TD_VBD_PAUSED] = "paused",
	};

	return names[state];
}

/* Memory for one of several values that are added one by one: the first failure is kept. */
static void put(json_t *o, const char *name, json_t *value, int *r)
{
	if (json_object_set_new(o, name, value) < 0)
		*r = -ENOMEM;
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

/* ---- info ---- */

static json_t *exports_json(const struct daemon *d, bool counters, int *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < d->nr_exports; i++) {
		struct td_export *e = d->exports[i];
		json_t *o;

		if (e->ops->stopped(e)) /* ended, from outside or by a close that is under way */
			continue;
		o = json_object();

		put(o, "type", json_string(e->ops->name), r);
		put(o, "address", text(e->address), r);
		put(o, "clients", number(e->clients), r);
		put(o, "bytes_in", number(e->bytes_in), r);
		put(o, "bytes_out", number(e->bytes_out), r);
		if (counters && e->ops->stats && e->ops->stats(e, o) < 0)
			*r = -ENOMEM;
		if (json_array_append_new(list, o) < 0)
			*r = -ENOMEM;
	}
	return list;
}

/* The file at the bottom of the top layer's stack. */
static const struct td_image *leaf_of(const struct td_image *im)
{
	while (im && im->child)
		im = im->child;
	return im;
}

int control_info(struct daemon *d, json_t *reply)
{
	const struct td_image *im = td_vbd_image(d->vbd), *leaf = leaf_of(im);
	const struct td_vbd_policy *policy = td_vbd_policy(d->vbd);
	int r = 0;

	put(reply, "pid", number((uint64_t)getpid()), &r);
	put(reply, "version", json_string(PACKAGE_VERSION), &r);
	put(reply, "name", text(td_vbd_name(d->vbd)), &r);
	put(reply, "minor", d->minor < 0 ? json_null() : number((uint64_t)d->minor), &r);
	put(reply, "state", json_string(control_state_name(td_vbd_state(d->vbd))), &r);
	put(reply, "spec", text(td_vbd_spec(d->vbd)), &r);
	put(reply, "path", text(leaf ? leaf->path : NULL), &r);
	put(reply, "driver", text(im ? im->drv->name : NULL), &r);
	put(reply, "read_only", json_boolean(td_vbd_read_only(d->vbd)), &r);
	put(reply, "size", number(td_vbd_size(d->vbd)), &r);
	put(reply, "on_enospc", json_string(policy->pause_on_enospc ? "pause" : "report"), &r);
	put(reply, "request_timeout", number(policy->timeout_s), &r);
	put(reply, "engine", json_string(d->env.engine->ops->name), &r);
	put(reply, "sandbox", sandbox_json(&d->sandbox), &r);
	put(reply, "exports", exports_json(d, false, &r), &r);
	return r;
}

/* ---- stats ---- */

/* Those buckets that hold something: the largest time in each, and how many there are. */
static json_t *buckets_json(const struct td_hist *h, int *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < TD_HIST_BUCKETS; i++) {
		uint64_t upper = i < TD_HIST_BUCKETS - 1 ? td_hist_upper(i) : h->max;

		if (h->count[i] > 0 && json_array_append_new(list, json_pack("[I, I]", (json_int_t)upper,
									     (json_int_t)h->count[i])) < 0)
			*r = -ENOMEM;
	}
	return list;
}

static json_t *op_json(const struct td_req_stats *op, int *r)
{
	const struct td_hist *h = op->time;
	json_t *o = json_object();

	put(o, "requests", number(op->requests), r);
	put(o, "bytes", number(op->bytes), r);
	put(o, "errors", number(op->errors), r);
	put(o, "total_ns", number(h->sum), r);
	put(o, "mean_ns", number(td_hist_mean(h)), r);
	put(o, "p50_ns", number(td_hist_percentile(h, 50)), r);
	put(o, "p90_ns", number(td_hist_percentile(h, 90)), r);
	put(o, "p99_ns", number(td_hist_percentile(h, 99)), r);
	put(o, "p99_9_ns", number(td_hist_percentile(h, 99.9)), r);
	put(o, "max_ns", number(h->max), r);
	put(o, "buckets", buckets_json(h, r), r);
	return o;
}

static json_t *vbd_json(const struct td_vbd_stats *s, int *r)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < TD_REQ_OPS; i++)
		put(o, td_req_op_name(i), op_json(&s->op[i], r), r);
	put(o, "in_flight", number(s->in_flight), r);
	put(o, "waiting", number(s->waiting), r);
	put(o, "max_in_flight", number(s->max_in_flight), r);
	put(o, "overdue", number(s->overdue), r);
	put(o, "timed_out", number(s->timed_out), r);
	put(o, "given_up", number(s->given_up), r);
	put(o, "full", number(s->full), r);
	return o;
}

static json_t *counters_json(const struct td_image *im, int *r)
{
	json_t *o = json_object();
	struct td_counters c;

	td_image_counters(im, &c);
	for (unsigned i = 0; i < c.nr; i++)
		put(o, c.counter[i].name, number(c.counter[i].value), r);
	return o;
}

static json_t *layer_json(const struct td_image *im, unsigned layer, int *r)
{
	const struct td_image_stats *s = &im->stats;
	json_t *o = json_object();

	put(o, "layer", number(layer), r);
	put(o, "driver", json_string(im->drv->name), r);
	put(o, "path", text(im->path), r);
	put(o, "size", number(im->size), r);
	put(o, "read_only", json_boolean(im->read_only), r);
	put(o, "frozen", json_boolean(im->frozen), r);
	put(o, "reads", number(s->reads), r);
	put(o, "writes", number(s->writes), r);
	put(o, "zeros", number(s->zeros), r);
	put(o, "trims", number(s->trims), r);
	put(o, "flushes", number(s->flushes), r);
	put(o, "read_bytes", number(s->read_bytes), r);
	put(o, "write_bytes", number(s->write_bytes), r);
	put(o, "errors", number(s->errors), r);
	put(o, "counters", counters_json(im, r), r);
	return o;
}

/* A backing image stands behind one node of a stack, which is not always its top. */
static const struct td_image *backing_of(const struct td_image *im)
{
	while (im && !im->backing)
		im = im->child;
	return im ? im->backing : NULL;
}

/* A flat list: layer 0 is the disk's own stack from top to leaf, layer 1 its backing image's, and so on. */
static json_t *images_json(const struct td_image *top, int *r)
{
	json_t *list = json_array();
	unsigned layer = 0;

	for (; top && layer < MAX_LAYERS; top = backing_of(top), layer++)
		for (const struct td_image *im = top; im; im = im->child)
			if (json_array_append_new(list, layer_json(im, layer, r)) < 0)
				*r = -ENOMEM;
	return list;
}

static json_t *engine_json(const struct td_engine *e, int *r)
{
	json_t *o = json_object();

	put(o, "name", json_string(e->ops->name), r);
	put(o, "depth", number(e->depth), r);
	put(o, "in_flight", number(e->in_flight), r);
	put(o, "submits", number(e->nr_submits), r);
	put(o, "requests", number(e->nr_requests), r);
	put(o, "reaps", number(e->nr_reaps), r);
	return o;
}

static uint64_t ns_of(struct timeval t)
{
	return ((uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec) * 1000;
}

/* Bytes, as of now; 0 if /proc does not say. */
static uint64_t resident(const struct daemon *d)
{
	char line[128], *second;
	ssize_t n = pread(d->statm, line, sizeof(line) - 1, 0);

	line[n > 0 ? n : 0] = '\0';
	second = strchr(line, ' ');
	return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static json_t *process_json(const struct daemon *d, int *r)
{
	json_t *o = json_object();
	struct rusage u = { 0 };
	size_t stack;

	getrusage(RUSAGE_SELF, &u);
	put(o, "user_ns", number(ns_of(u.ru_utime)), r);
	put(o, "system_ns", number(ns_of(u.ru_stime)), r);
	put(o, "rss", number(resident(d)), r);
	put(o, "buffers", number(td_buf_cached()), r);
	put(o, "stacks", number(td_co_stacks(&stack)), r);
	put(o, "stack_size", number(stack), r);
	return o;
}

int control_stats(struct daemon *d, json_t *reply)
{
	int r = 0;

	put(reply, "vbd", vbd_json(td_vbd_stats(d->vbd), &r), &r);
	put(reply, "images", images_json(td_vbd_image(d->vbd), &r), &r);
	put(reply, "engine", engine_json(d->env.engine, &r), &r);
	put(reply, "process", process_json(d, &r), &r);
	put(reply, "sandbox", sandbox_json(&d->sandbox), &r);
	put(reply, "exports", exports_json(d, true, &r), &r);
	return r;
}
