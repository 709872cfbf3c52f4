// SPDX-License-Identifier: BSD-2-Clause
/*
 * The commands of the control socket, and what each may be told.  A field that a command does not know, or of another
 * type, is refused by name: a typing error in a script must not pass for a request.
 */
#include "control.h"
#include "marker.h"
#include <blktap/log.h>
#include <blktap/spec.h>

struct field {
	const char *name;
	json_type type; /* JSON_TRUE stands for either boolean */
	bool needed;
};

struct control_cmd {
	const char *name;
	const struct field *fields; /* ends with a NULL name; NULL: none */
	int (*run)(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err);
};

/* ---- what the fields say ---- */

/* NULL: it is not there; of another type it would have been refused. */
static const char *get_string(const json_t *request, const char *name)
{
	return json_string_value(json_object_get(request, name));
}

static bool get_bool(const json_t *request, const char *name, bool otherwise)
{
	const json_t *v = json_object_get(request, name);

	return v ? json_is_true(v) : otherwise;
}

/* The words as they were given, unless an option is added: that is what info shows, and what an unpause opens. */
static int spec_text(const json_t *request, char **ret_text, struct td_err *ret_err)
{
	bool direct = get_bool(request, "direct", true);
	struct td_spec *spec;
	int r = td_spec_parse(get_string(request, "spec"), &spec, ret_err);

	if (r < 0)
		return r;
	/* The last node shares its options with the leaf. */
	if (!direct)
		r = td_opts_replace(&spec->node[spec->nr - 1].opts, "direct", "off", ret_err);
	if (r == 0) {
		*ret_text = direct ? strdup(spec->text) : td_spec_format(spec);
		if (!*ret_text)
			r = td_err_set(ret_err, -ENOMEM, "no memory for a disk");
	}
	td_spec_free(spec);
	return r;
}

/* ---- the commands ---- */

static int cmd_info(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	(void)request;
	return control_info(d, reply) < 0 ? td_err_set(ret_err, -ENOMEM, "no memory for an answer") : 0;
}

static int cmd_stats(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	(void)request;
	return control_stats(d, reply) < 0 ? td_err_set(ret_err, -ENOMEM, "no memory for an answer") : 0;
}

/* The marker stays locked for as long as we live, so nobody else takes the minor. */
static int cmd_attach(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	json_int_t minor = json_integer_value(json_object_get(request, "minor"));
	int r;

	(void)reply;
	if (minor < 0 || minor > INT32_MAX)
		return td_err_set(ret_err, -EINVAL, "minor: should be a number from 0 to %d", INT32_MAX);
	if (d->minor >= 0 && d->minor != minor)
		return td_err_set(ret_err, -EBUSY, "minor %d is attached; detach it first", d->minor);
	r = d->marker < 0 ? marker_take((int)minor, &d->marker, ret_err) : 0;
	if (r == 0)
		d->minor = (int)minor;
	return r;
}

/* A disk without a minor could not be asked to close: tap-ctl finds it by that. */
static int cmd_detach(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	(void)request;
	(void)reply;
	if (td_vbd_state(d->vbd) != TD_VBD_CLOSED)
		return td_err_set(ret_err, -EBUSY, "a disk is open; close it first");
	if (d->minor < 0)
		return td_err_set(ret_err, -ENODEV, "no minor is attached");
	marker_drop(&d->marker);
	d->minor = -1;
	return 0;
}

/* "nbd" is a list of addresses. The strings stay request's. */
static int nbd_addresses(const json_t *request, struct export_request *q, unsigned *ret_nr,
			 struct td_err *ret_err)
{
	const json_t *list = json_object_get(request, "nbd");
	size_t nr = json_array_size(list);

	if (nr > DAEMON_MAX_EXPORTS)
		return td_err_set(ret_err, -EINVAL, "nbd: at most %d addresses", DAEMON_MAX_EXPORTS);
	for (size_t i = 0; i < nr; i++) {
		const char *address = json_string_value(json_array_get(list, i));

		if (!address)
			return td_err_set(ret_err, -EINVAL, "nbd: should be a list of strings");
		q[i] = (struct export_request){ &td_nbd_export, address };
	}
	*ret_nr = (unsigned)nr;
	return 0;
}

/* *policy: what it is without the two fields. */
static int get_policy(const json_t *request, struct td_vbd_policy *policy, struct td_err *ret_err)
{
	const char *on_enospc = get_string(request, "on_enospc");
	const json_t *timeout = json_object_get(request, "request_timeout");
	json_int_t s = timeout ? json_integer_value(timeout) : (json_int_t)policy->timeout_s;

	if (on_enospc && strcmp(on_enospc, "pause") != 0 && strcmp(on_enospc, "report") != 0)
		return td_err_set(ret_err, -EINVAL, "on_enospc: should be \"report\" or \"pause\"");
	if (s < 0 || s > TD_REQUEST_TIMEOUT_MAX)
		return td_err_set(ret_err, -EINVAL, "request_timeout: should be 0 to %u seconds",
				  TD_REQUEST_TIMEOUT_MAX);
	if (on_enospc)
		policy->pause_on_enospc = strcmp(on_enospc, "pause") == 0;
	policy->timeout_s = (unsigned)s;
	return 0;
}

static int cmd_open(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	struct td_vbd_policy policy = d->defaults;
	unsigned flags = get_bool(request, "read_only", false) ? TD_OPEN_RDONLY : 0, nr = 0;
	struct export_request q[DAEMON_MAX_EXPORTS];
	td_cleanup(free) char *spec = NULL;
	int r;

	(void)reply;
	r = nbd_addresses(request, q, &nr, ret_err);
	if (r == 0)
		r = get_policy(request, &policy, ret_err);
	if (r == 0)
		r = spec_text(request, &spec, ret_err);
	return r < 0 ? r : daemon_open(d, spec, flags, &policy, q, nr, ret_err);
}

/* A disk that is closed has the daemon's defaults when it is opened: there is nothing to change. */
static int cmd_policy(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	struct td_vbd_policy policy = *td_vbd_policy(d->vbd);
	int r = get_policy(request, &policy, ret_err);

	(void)reply;
	if (r < 0)
		return r;
	if (td_vbd_state(d->vbd) == TD_VBD_CLOSED)
		return td_err_set(ret_err, -ENODEV, "no disk is open");
	td_vbd_set_policy(d->vbd, &policy);
	return 0;
}

static int cmd_close(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	(void)request;
	(void)reply;
	return daemon_close(d, ret_err);
}

static int cmd_pause(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	(void)request;
	(void)reply;
	return td_vbd_pause(d->vbd, ret_err);
}

/* Rings alone have a place to note it: what is served over a socket ends with us. */
static int note_spec(const struct daemon *d, const char *spec, struct td_err *ret_err)
{
	int r = 0;

	for (unsigned i = 0; i < d->nr_exports && r == 0; i++)
		if (d->exports[i]->ops->note_spec)
			r = d->exports[i]->ops->note_spec(d->exports[i], spec, ret_err);
	return r;
}

/* Noted before it is so: the guest's requests go on at once, and a kill may come with the first answer. */
static int unpause_onto(struct daemon *d, const char *spec, struct td_err *ret_err)
{
	td_cleanup(free) char *before = strdup(td_vbd_spec(d->vbd));
	int r = before ? note_spec(d, spec, ret_err) : td_err_set(ret_err, -ENOMEM, "no memory");

	if (r < 0)
		return r;
	r = td_vbd_unpause(d->vbd, spec, ret_err);
	if (r < 0 && note_spec(d, before, NULL) < 0)
		td_error("%s: what is noted of it in the run-time directory is wrong", before);
	return r;
}

static int cmd_unpause(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	const char *spec = get_string(request, "spec");
	int r = spec ? daemon_may_open(d, spec, td_vbd_read_only(d->vbd), ret_err) : 0;

	(void)reply;
	if (r < 0)
		return r;
	return spec && td_vbd_spec(d->vbd) ? unpause_onto(d, spec, ret_err)
					   : td_vbd_unpause(d->vbd, spec, ret_err);
}

/* That it is a multiple of sectors, and no smaller, is for the disk to say. */
static int cmd_resize(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	json_int_t size = json_integer_value(json_object_get(request, "size"));

	(void)reply;
	if (size < 0)
		return td_err_set(ret_err, -EINVAL, "size: should be a number of bytes");
	return td_vbd_resize(d->vbd, (uint64_t)size, ret_err);
}

static int cmd_set(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	(void)reply;
	return td_vbd_set(d->vbd, get_string(request, "driver"), get_string(request, "options"), ret_err);
}

/* The client's connection becomes one for events when this is answered: see control_wants_events. */
static int cmd_events(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	(void)d;
	(void)request;
	(void)reply;
	(void)ret_err;
	return 0;
}

static int cmd_shutdown(struct daemon *d, const json_t *request, json_t *reply, struct td_err *ret_err)
{
	(void)request;
	(void)reply;
	(void)ret_err;
	daemon_end(d);
	return 0;
}

/* ---- the tables ---- */

static const struct field attach_fields[] = { { "minor", JSON_INTEGER, true }, { 0 } };

static const struct field open_fields[] = {
	{ "spec", JSON_STRING, true },
	{ "read_only", JSON_TRUE, false },
	{ "direct", JSON_TRUE, false },
	{ "nbd", JSON_ARRAY, false },
	{ "on_enospc", JSON_STRING, false },
	{ "request_timeout", JSON_INTEGER, false },
	{ 0 },
};

static const struct field policy_fields[] = {
	{ "on_enospc", JSON_STRING, false },
	{ "request_timeout", JSON_INTEGER, false },
	{ 0 },
};

static const struct field unpause_fields[] = { { "spec", JSON_STRING, false }, { 0 } };

/* tapback's.  "recover": another tapdisk had this ring, and its journal says what is still to be answered. */
static const struct field connect_fields[] = {
	{ "domid", JSON_INTEGER, true },       { "devid", JSON_INTEGER, true },
	{ "protocol", JSON_STRING, false },    { "persistent", JSON_TRUE, true },
	{ "max_grants", JSON_INTEGER, false }, { "poll_us", JSON_INTEGER, false },
	{ "cookie", JSON_INTEGER, true },      { "recover", JSON_TRUE, true },
	{ "queues", JSON_ARRAY, true },        { 0 },
};

static const struct field disconnect_fields[] = {
	{ "domid", JSON_INTEGER, true },
	{ "devid", JSON_INTEGER, true },
	{ 0 },
};

static const struct field resize_fields[] = { { "size", JSON_INTEGER, true }, { 0 } };

static const struct field set_fields[] = {
	{ "driver", JSON_STRING, true },
	{ "options", JSON_STRING, true },
	{ 0 },
};

static const struct control_cmd commands[] = {
	{ "info", NULL, cmd_info },
	{ "stats", NULL, cmd_stats },
	{ "attach", attach_fields, cmd_attach },
	{ "detach", NULL, cmd_detach },
	{ "open", open_fields, cmd_open },
	{ "close", NULL, cmd_close },
	{ "pause", NULL, cmd_pause },
	{ "unpause", unpause_fields, cmd_unpause },
	{ "resize", resize_fields, cmd_resize },
	{ "set", set_fields, cmd_set },
	{ "policy", policy_fields, cmd_policy },
	{ "events", NULL, cmd_events },
	{ "ring-features", NULL, control_ring_features },
	{ "ring-connect", connect_fields, control_ring_connect },
	{ "ring-disconnect", disconnect_fields, control_ring_disconnect },
	{ "shutdown", NULL, cmd_shutdown },
};

/* "id" and "cmd" are fields of each. */
static const struct control_cmd *find_command(const char *name)
{
	for (size_t i = 0; i < TD_NELEMS(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static const struct field *find_field(const struct control_cmd *cmd, const char *name)
{
	for (const struct field *f = cmd->fields; f && f->name; f++)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

static const char *type_name(json_type type)
{
	switch (type) {
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_ARRAY:
		return "a list";
	default:
		return "true or false";
	}
}

static int check_fields(const json_t *request, const struct control_cmd *cmd, struct td_err *ret_err)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)request, name, value)
	{
		const struct field *f = find_field(cmd, name);

		if (strcmp(name, "id") == 0 || strcmp(name, "cmd") == 0)
			continue;
		if (!f)
			return td_err_set(ret_err, -EINVAL, "%s: does not know the field \"%s\"", cmd->name,
					  name);
		/* The library has a type for each of the two booleans. */
		if (f->type == JSON_TRUE ? !json_is_boolean(value) : json_typeof(value) != f->type)
			return td_err_set(ret_err, -EINVAL, "%s: \"%s\" should be %s", cmd->name, name,
					  type_name(f->type));
	}
	for (const struct field *f = cmd->fields; f && f->name; f++)
		if (f->needed && !json_object_get(request, f->name))
			return td_err_set(ret_err, -EINVAL, "%s: needs \"%s\", %s", cmd->name, f->name,
					  type_name(f->type));
	return 0;
}

int control_find(const json_t *request, const struct control_cmd **ret_cmd, struct td_err *ret_err)
{
	const char *name = json_string_value(json_object_get(request, "cmd"));
	const struct control_cmd *cmd;
	int r;

	if (!json_is_object(request) || !name)
		return td_err_set(ret_err, -EINVAL, "a request is an object with a string \"cmd\"");
	cmd = find_command(name);
	if (!cmd)
		return td_err_set(ret_err, -ENOSYS, "there is no command \"%s\"", name);
	r = check_fields(request, cmd, ret_err);
	if (r == 0)
		*ret_cmd = cmd;
	return r;
}

bool control_wants_events(const struct control_cmd *cmd)
{
	return cmd->run == cmd_events;
}

int control_run(struct daemon *d, const struct control_cmd *cmd, const json_t *request, json_t *reply,
		struct td_err *ret_err)
{
	int r = cmd->run(d, request, reply, ret_err);

	if (r < 0)
		td_info("%s: %s", cmd->name, ret_err->msg);
	return r;
}
