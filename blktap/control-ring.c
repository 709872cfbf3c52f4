// SPDX-License-Identifier: BSD-2-Clause
/*
 * The commands of the control socket for Xen guests: what a disk can offer, a ring connected, a ring disconnected.
 * The numbers come from xenstore, where a guest wrote them: nothing here trusts them.
 */
#include "control.h"

/* A number from 0 to max; v may be missing or of another type. */
static int number(const json_t *v, const char *what, uint64_t max, uint64_t *ret, struct td_err *ret_err)
{
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v) || n < 0 || (uint64_t)n > max)
		return td_err_set(ret_err, -EINVAL, "%s: should be a number from 0 to %llu", what,
				  (unsigned long long)max);
	*ret = (uint64_t)n;
	return 0;
}

static int number32(const json_t *v, const char *what, uint32_t max, uint32_t *ret, struct td_err *ret_err)
{
	uint64_t n = 0;
	int r = number(v, what, max, &n, ret_err);

	*ret = (uint32_t)n;
	return r;
}

/* One that may be missing: 0 then. */
static int optional32(const json_t *request, const char *name, uint32_t max, unsigned *ret,
		      struct td_err *ret_err)
{
	const json_t *v = json_object_get(request, name);

	*ret = 0;
	return v ? number32(v, name, max, ret, ret_err) : 0;
}

static int get_ids(const json_t *request, uint32_t *ret_domid, uint32_t *ret_devid, struct td_err *ret_err)
{
	int r = number32(json_object_get(request, "domid"), "domid", TD_XEN_MAX_DOMID, ret_domid, ret_err);

	if (r == 0)
		r = number32(json_object_get(request, "devid"), "devid", INT32_MAX, ret_devid, ret_err);
	return r;
}

static int get_queue(const json_t *o, struct td_xen_queue *ret, struct td_err *ret_err)
{
	const json_t *refs = json_object_get(o, "refs"), *port = json_object_get(o, "port");
	int r;

	if (!json_is_object(o) || json_object_size(o) != 2 || !json_is_array(refs) || !port)
		return td_err_set(ret_err, -EINVAL,
				  "queues: each should be an object with a list \"refs\" and a \"port\"");
	ret->nr_refs = (unsigned)json_array_size(refs);
	if (json_array_size(refs) > TD_NELEMS(ret->refs) || !td_is_pow2(ret->nr_refs))
		return td_err_set(ret_err, -EINVAL, "queues: a ring has 1, 2, 4, 8 or 16 refs, not %zu",
				  json_array_size(refs));
	r = number32(port, "port", UINT32_MAX, &ret->port, ret_err);
	for (unsigned i = 0; i < ret->nr_refs && r == 0; i++)
		r = number32(json_array_get(refs, i), "refs", UINT32_MAX, &ret->refs[i], ret_err);
	return r;
}

static int get_queues(const json_t *request, struct td_xen_setup *s, struct td_err *ret_err)
{
	const json_t *list = json_object_get(request, "queues");
	size_t nr = json_array_size(list);
	int r = 0;

	if (nr < 1 || nr > TD_XEN_MAX_QUEUES)
		return td_err_set(ret_err, -EINVAL, "queues: should be 1 to %d, not %zu", TD_XEN_MAX_QUEUES,
				  nr);
	s->nr_queues = (unsigned)nr;
	for (unsigned i = 0; i < s->nr_queues && r == 0; i++)
		r = get_queue(json_array_get(list, i), &s->queue[i], ret_err);
	return r;
}

/* The protocol's string stays request's. */
static int get_setup(const json_t *request, struct td_xen_setup *s, struct td_err *ret_err)
{
	int r = get_ids(request, &s->domid, &s->devid, ret_err);

	s->protocol = json_string_value(json_object_get(request, "protocol"));
	s->persistent = json_is_true(json_object_get(request, "persistent"));
	s->recover = json_is_true(json_object_get(request, "recover"));
	if (r == 0)
		r = number(json_object_get(request, "cookie"), "cookie", INT64_MAX, &s->cookie, ret_err);
	if (r == 0)
		r = optional32(request, "max_grants", TD_XEN_MAX_GRANTS, &s->max_grants, ret_err);
	if (r == 0)
		r = optional32(request, "poll_us", TD_XEN_MAX_POLL, &s->poll_us, ret_err);
	return r == 0 ? get_queues(request, s, ret_err) : r;
}

int control_ring_connect(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	struct td_xen_setup s = { 0 };
	int r = get_setup(request, &s, ret_err);

	(void)reply;
	return r < 0 ? r : daemon_ring_connect(d, &s, ret_err);
}

int control_ring_disconnect(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	uint32_t domid = 0, devid = 0;
	int r = get_ids(request, &domid, &devid, ret_err);

	(void)reply;
	return r < 0 ? r : daemon_ring_disconnect(d, domid, devid, ret_err);
}

int control_ring_features(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	(void)request;
	if (td_vbd_state(d->vbd) == TD_VBD_CLOSED)
		return td_err_set(ret_err, -ENODEV, "no disk is open");
	if (td_ring_features_json(d->vbd, reply) < 0)
		return td_err_set(ret_err, -ENOMEM, "no memory for an answer");
	return 0;
}
