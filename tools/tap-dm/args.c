// SPDX-License-Identifier: BSD-2-Clause
/*
 * QEMU's command line, as libxl writes it.  See args.h.
 *
 * A table of QEMU's options: what libxl passes for every domain is taken, what asks for something that
 * this program does not do is refused by name, and so is everything that is not in the table.
 */
#include <limits.h>
#include <stdio.h>

#include "args.h"

enum kind {
	IGNORE,     /* of no meaning here */
	IGNORE_ARG, /* the same, with a value */
	ONLY_NONE,  /* a value that has to be none, null or /dev/null */
	TAKE,       /* take() */
	TAKE_ARG,
};

struct option {
	const char *name;
	enum kind kind;
	int (*take)(struct dm_args *a, const char *value, struct td_err *ret_err);
};

#define NEEDS_QEMU "that needs the real QEMU (device_model_override= in the guest's configuration)"

/* ---- values ---- */

static int take_domid(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	char *end;
	long v = strtol(value, &end, 10);

	/* 0x7ff0 is the first number that Xen keeps for itself. */
	if (end == value || *end || v < 0 || v >= 0x7ff0)
		return td_err_set(ret_err, -EINVAL, "-xen-domid %s: not the number of a domain", value);
	a->domid = (int)v;
	return 0;
}

static int take_machine(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	size_t n = strcspn(value, ",");

	if (strncmp(value, "type=", 5) == 0) {
		value += 5;
		n -= 5;
	}
	if (n == 0 || n >= sizeof(a->machine))
		return td_err_set(ret_err, -EINVAL, "-machine %s: not the name of a machine", value);
	memcpy(a->machine, value, n);
	a->machine[n] = '\0';
	return 0;
}

static int take_paused(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	(void)value, (void)ret_err;
	a->paused = true;
	return 0;
}

static int take_daemonize(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	(void)value, (void)ret_err;
	a->daemonize = true;
	return 0;
}

static int take_no_xenstore(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	(void)value, (void)ret_err;
	a->no_xenstore = true;
	return 0;
}

static int take_help(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	(void)value, (void)ret_err;
	a->help = true;
	return 0;
}

static int take_version(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	(void)value, (void)ret_err;
	a->version = true;
	return 0;
}

static int take_pidfile(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	(void)ret_err;
	a->pidfile = value;
	return 0;
}

/* ---- chardevs: KIND,name=value,... where a comma in a value is written twice ---- */

/* One NAME=VALUE or NAME from *text, which is moved behind it; both NUL-terminated in buf. */
static bool next_prop(const char **text, char *buf, size_t size, char **ret_value)
{
	const char *p = *text;
	size_t n = 0;

	if (!*p)
		return false;
	for (; *p && !(p[0] == ',' && p[1] != ','); p++) {
		if (*p == ',')
			p++;
		if (n + 1 < size)
			buf[n++] = *p;
	}
	buf[n] = '\0';
	*text = *p ? p + 1 : p;
	*ret_value = strchr(buf, '=');
	if (*ret_value)
		*(*ret_value)++ = '\0';
	return true;
}

static bool is_on(const char *value)
{
	return !value || strcmp(value, "on") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "true") == 0;
}

static int set_path(struct dm_socket *s, const char *path, struct td_err *ret_err)
{
	if (strlen(path) >= sizeof(s->path) || !*path)
		return td_err_set(ret_err, -EINVAL, "%s: too long or too short for a socket's path", path);
	snprintf(s->path, sizeof(s->path), "%s", path);
	return 0;
}

static int set_fd(struct dm_socket *s, const char *text, struct td_err *ret_err)
{
	char *end;
	long v = strtol(text, &end, 10);

	if (end == text || *end || v < 0 || v > INT_MAX)
		return td_err_set(ret_err, -EINVAL, "fd=%s: not a file descriptor's number", text);
	s->fd = (int)v;
	return 0;
}

static int set_prop(struct dm_socket *s, const char *name, const char *value, bool *server,
		    struct td_err *ret_err)
{
	if (strcmp(name, "server") == 0) {
		*server = is_on(value);
		return 0;
	}
	if (strcmp(name, "wait") == 0 || strcmp(name, "nowait") == 0)
		return 0; /* this one never waits */
	if (value && strcmp(name, "id") == 0 && strlen(value) < sizeof(s->id)) {
		snprintf(s->id, sizeof(s->id), "%s", value);
		return 0;
	}
	if (value && strcmp(name, "path") == 0)
		return set_path(s, value, ret_err);
	if (value && strcmp(name, "fd") == 0)
		return set_fd(s, value, ret_err);
	return td_err_set(ret_err, -ENOTSUP, "a socket with %s%s%s: " NEEDS_QEMU, name, value ? "=" : "",
			  value ? value : "");
}

/* The properties of a listening unix socket, after its kind. */
static int add_socket(struct dm_args *a, const char *props, const char *whole, struct td_err *ret_err)
{
	struct dm_socket *s = &a->socket[a->nr_sockets];
	char buf[256], *value;
	bool server = false;
	int r = 0;

	if (a->nr_sockets == DM_SOCKETS)
		return td_err_set(ret_err, -EINVAL, "%s: more sockets than the %d that libxl uses", whole,
				  DM_SOCKETS);
	*s = (struct dm_socket){ .fd = -1 };
	while (r == 0 && next_prop(&props, buf, sizeof(buf), &value))
		r = set_prop(s, buf, value, &server, ret_err);
	if (r < 0)
		return r;
	if (!server || (s->fd < 0) == (s->path[0] == '\0'))
		return td_err_set(ret_err, -EINVAL, "%s: wants server and one of path= and fd=", whole);
	a->nr_sockets++;
	return 0;
}

static int take_chardev(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	static const char kind[] = "socket,";
	int r;

	if (strncmp(value, kind, sizeof(kind) - 1) != 0)
		return td_err_set(ret_err, -ENOTSUP, "-chardev %s: a channel; " NEEDS_QEMU, value);
	r = add_socket(a, value + sizeof(kind) - 1, value, ret_err);
	if (r == 0 && strncmp(a->socket[a->nr_sockets - 1].id, "libxl-channel", 13) == 0)
		return td_err_set(ret_err, -ENOTSUP, "-chardev %s: a channel; " NEEDS_QEMU, value);
	return r;
}

/* -mon chardev=ID,mode=control */
static int take_mon(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	const char *text = value;
	char buf[256], id[sizeof(buf)] = "", *v;
	bool control = false;

	while (next_prop(&text, buf, sizeof(buf), &v)) {
		if (strcmp(buf, "chardev") == 0 && v)
			snprintf(id, sizeof(id), "%s", v);
		else if (strcmp(buf, "mode") == 0 && v)
			control = strcmp(v, "control") == 0;
	}
	if (!control)
		return td_err_set(ret_err, -ENOTSUP, "-mon %s: not mode=control; " NEEDS_QEMU, value);
	for (unsigned i = 0; i < a->nr_sockets; i++) {
		if (strcmp(a->socket[i].id, id) != 0)
			continue;
		a->socket[i].control = true;
		return 0;
	}
	return td_err_set(ret_err, -EINVAL, "-mon %s: no -chardev of that name before it", value);
}

/* -qmp unix:PATH,server=on,wait=off: both in one */
static int take_qmp(struct dm_args *a, const char *value, struct td_err *ret_err)
{
	char props[256];
	int r;

	if (strncmp(value, "unix:", 5) != 0 || strlen(value) >= sizeof(props))
		return td_err_set(ret_err, -ENOTSUP, "-qmp %s: only unix:PATH,server", value);
	snprintf(props, sizeof(props), "path=%s", value + 5);
	r = add_socket(a, props, value, ret_err);
	if (r == 0) {
		snprintf(a->socket[a->nr_sockets - 1].id, sizeof(a->socket->id), "qmp%u", a->nr_sockets);
		a->socket[a->nr_sockets - 1].control = true;
	}
	return r;
}

/* ---- the table ---- */

static const struct option options[] = {
	{ "xen-domid", TAKE_ARG, take_domid },
	{ "M", TAKE_ARG, take_machine },
	{ "machine", TAKE_ARG, take_machine },
	{ "chardev", TAKE_ARG, take_chardev },
	{ "mon", TAKE_ARG, take_mon },
	{ "qmp", TAKE_ARG, take_qmp },
	{ "S", TAKE, take_paused },
	{ "daemonize", TAKE, take_daemonize },
	{ "pidfile", TAKE_ARG, take_pidfile },
	{ "no-xenstore", TAKE, take_no_xenstore },
	{ "h", TAKE, take_help },
	{ "help", TAKE, take_help },
	{ "V", TAKE, take_version },
	{ "version", TAKE, take_version },
	{ "xen-attach", IGNORE, NULL },
	{ "no-shutdown", IGNORE, NULL },
	{ "nodefaults", IGNORE, NULL },
	{ "no-user-config", IGNORE, NULL },
	{ "nographic", IGNORE, NULL },
	{ "name", IGNORE_ARG, NULL },
	{ "m", IGNORE_ARG, NULL },
	{ "smp", IGNORE_ARG, NULL },
	{ "k", IGNORE_ARG, NULL },
	{ "vnc", ONLY_NONE, NULL },
	{ "display", ONLY_NONE, NULL },
	{ "monitor", ONLY_NONE, NULL },
	{ "serial", ONLY_NONE, NULL },
	{ "parallel", ONLY_NONE, NULL },
	{ NULL, IGNORE, NULL },
};

static const struct option *find(const char *arg)
{
	const char *name = arg + 1 + (arg[0] == '-' && arg[1] == '-');
	const struct option *o = options;

	if (arg[0] != '-')
		return NULL;
	while (o->name && strcmp(o->name, name) != 0)
		o++;
	return o->name ? o : NULL;
}

static bool is_none(const char *value)
{
	return strcmp(value, "none") == 0 || strcmp(value, "null") == 0 || strcmp(value, "/dev/null") == 0;
}

static int take(struct dm_args *a, const struct option *o, const char *value, struct td_err *ret_err)
{
	if (o->kind == ONLY_NONE && value && !is_none(value))
		return td_err_set(ret_err, -ENOTSUP,
				  "-%s %s: a framebuffer, console or port of the guest; " NEEDS_QEMU, o->name,
				  value);
	return o->take ? o->take(a, value, ret_err) : 0;
}

/* ---- the whole line ---- */

static int parse_one(struct dm_args *a, int argc, char *const *argv, int *i, struct td_err *ret_err)
{
	const struct option *o = find(argv[*i]);
	bool has_value;

	if (!o)
		return td_err_set(ret_err, -ENOTSUP,
				  "%s: not for a PV domain without devices of its own; " NEEDS_QEMU,
				  argv[*i]);
	has_value = o->kind == IGNORE_ARG || o->kind == ONLY_NONE || o->kind == TAKE_ARG;
	if (!has_value)
		return take(a, o, NULL, ret_err);
	if (++*i >= argc)
		return td_err_set(ret_err, -EINVAL, "-%s wants a value", o->name);
	return take(a, o, argv[*i], ret_err);
}

/*
 * libxl writes the machine at the end.  Where it is one of the emulated ones, that is the reason, not the first of the
 * many options before it.
 */
static int blame_machine(int argc, char *const *argv, int r, struct td_err *ret_err)
{
	for (int i = 1; i + 1 < argc; i++)
		if ((strcmp(argv[i], "-machine") == 0 || strcmp(argv[i], "-M") == 0) &&
		    strncmp(argv[i + 1], "xenpv", 5) != 0)
			return td_err_set(ret_err, -ENOTSUP, "machine %s: no PV domain; " NEEDS_QEMU,
					  argv[i + 1]);
	return r;
}

/* What libxl starts to learn QEMU's options; no domain is served. */
static bool is_probe(const struct dm_args *a)
{
	return strcmp(a->machine, "none") == 0;
}

static int check(const struct dm_args *a, struct td_err *ret_err)
{
	if (is_probe(a))
		return 0;
	if (strcmp(a->machine, "xenpv") != 0)
		return td_err_set(ret_err, -ENOTSUP, "machine %s: no PV domain; " NEEDS_QEMU,
				  a->machine[0] ? a->machine : "(none named)");
	if (a->domid < 0)
		return td_err_set(ret_err, -EINVAL, "which domain? -xen-domid is missing");
	return 0;
}

int dm_args_parse(int argc, char *const *argv, struct dm_args *ret_args, struct td_err *ret_err)
{
	struct dm_args a = { .domid = -1 };
	int r = 0;

	for (int i = 1; i < argc && r == 0; i++) {
		r = parse_one(&a, argc, argv, &i, ret_err);
		if (a.help || a.version) {
			*ret_args = a;
			return 0;
		}
	}
	if (r == 0)
		r = check(&a, ret_err);
	if (r < 0)
		return blame_machine(argc, argv, r, ret_err);
	*ret_args = a;
	return 0;
}
