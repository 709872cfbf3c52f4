// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk's string, read as libxl reads it.  See disk.h.
 *
 * libxl's parser is a lexer: at each place of the text the rule that matches the most characters wins, the
 * first one of several that match equally many; characters that a rule only looks at ahead count for that.  The rules
 * stand here in libxl's order, so that a text means the same here and there, in the odd cases too.
 */
#include "disk.h"

#include <stdio.h>

struct parse {
	struct disk *d;
	struct td_err *err;
	bool had_prefix; /* tap:, file:, qcow2: ... */
	bool access_set; /* by position */
};

typedef int action_fn(struct parse *p, char *value);

/* ---- values ---- */

static int refuse(struct parse *p, const char *what, const char *near)
{
	return td_err_set(p->err, -EINVAL, "%s: near '%s'", what, near);
}

static int save(struct parse *p, char **field, const char *name, const char *value)
{
	char *copy;

	if (*field && **field)
		return td_err_set(p->err, -EINVAL, "%s is given twice: near '%s'", name, value);
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static const char *const formats[] = {
	[FORMAT_UNKNOWN] = "", [FORMAT_RAW] = "raw",     [FORMAT_QCOW] = "qcow", [FORMAT_QCOW2] = "qcow2",
	[FORMAT_VHD] = "vhd",  [FORMAT_EMPTY] = "empty", [FORMAT_QED] = "qed",
};

static const char *const backends[] = {
	[BACKEND_UNKNOWN] = "",
	[BACKEND_PHY] = "phy",
	[BACKEND_TAP] = "tap",
	[BACKEND_QDISK] = "qdisk",
	[BACKEND_STANDALONE] = "standalone",
};

/* The index of value among the nr names; 0: it is none. */
static unsigned lookup(const char *const *names, size_t nr, const char *value)
{
	for (unsigned i = 1; i < nr; i++)
		if (strcmp(names[i], value) == 0)
			return i;
	return 0;
}

static bool is_name(const char *value)
{
	return strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789") == strlen(value);
}

static int set_format(struct parse *p, char *value)
{
	enum disk_format f = *value ? lookup(formats, TD_NELEMS(formats), value) : FORMAT_RAW;

	if (f == FORMAT_UNKNOWN && p->d->wide && p->d->format == FORMAT_UNKNOWN && is_name(value)) {
		p->d->format = FORMAT_RAW;
		return save(p, &p->d->driver, "format", value);
	}
	if (f == FORMAT_UNKNOWN)
		return refuse(p, "unknown format", value);
	if (p->d->format != FORMAT_UNKNOWN && p->d->format != f)
		return refuse(p, "the format is given twice", value);
	p->d->format = f;
	return 0;
}

static int set_backend(struct parse *p, char *value)
{
	enum disk_backend b = lookup(backends, TD_NELEMS(backends), value);

	if (b == BACKEND_UNKNOWN)
		return refuse(p, "unknown backendtype", value);
	if (p->d->backend != BACKEND_UNKNOWN && p->d->backend != b)
		return refuse(p, "the backendtype is given twice", value);
	p->d->backend = b;
	return 0;
}

static int set_access(struct parse *p, char *value)
{
	if (strcmp(value, "r") == 0 || strcmp(value, "ro") == 0)
		p->d->writable = false;
	else if (strcmp(value, "rw") == 0 || strcmp(value, "w") == 0 || !*value)
		p->d->writable = true;
	else
		return refuse(p, "unknown access", value);
	return 0;
}

static int set_specification(struct parse *p, char *value)
{
	bool virtio = strcmp(value, "virtio") == 0;

	if (!virtio && strcmp(value, "xen") != 0)
		return refuse(p, "unknown specification", value);
	if (virtio ? p->d->xen_given : p->d->virtio)
		return refuse(p, "the specification is given twice", value);
	p->d->virtio = virtio;
	p->d->xen_given = !virtio;
	return 0;
}

static int set_cdrom(struct parse *p, char *value)
{
	(void)value;
	p->d->cdrom = true;
	return 0;
}

static int set_disk(struct parse *p, char *value)
{
	(void)value;
	p->d->cdrom = false;
	return 0;
}

static int bad_devtype(struct parse *p, char *value)
{
	return refuse(p, "unknown devtype", value);
}

static int set_domain(struct parse *p, char *value)
{
	return save(p, &p->d->backend_domain, "backend", value);
}

static int set_vdev(struct parse *p, char *value)
{
	return save(p, &p->d->vdev, "vdev", value);
}

static int set_script(struct parse *p, char *value)
{
	return save(p, &p->d->script, "script", value);
}

static int set_target(struct parse *p, char *value)
{
	return save(p, &p->d->target, "target", value);
}

static int set_direct(struct parse *p, char *value)
{
	(void)value;
	p->d->direct_io_safe = true;
	return 0;
}

static int set_discard(struct parse *p, char *value)
{
	(void)value;
	p->d->discard = BOOL_YES;
	return 0;
}

static int set_no_discard(struct parse *p, char *value)
{
	(void)value;
	p->d->discard = BOOL_NO;
	return 0;
}

static int set_trusted(struct parse *p, char *value)
{
	(void)value;
	p->d->trusted = BOOL_YES;
	return 0;
}

static int set_untrusted(struct parse *p, char *value)
{
	(void)value;
	p->d->trusted = BOOL_NO;
	return 0;
}

static int set_grant_1(struct parse *p, char *value)
{
	(void)value;
	p->d->grant_usage = BOOL_YES;
	return 0;
}

static int set_grant_0(struct parse *p, char *value)
{
	(void)value;
	p->d->grant_usage = BOOL_NO;
	return 0;
}

static int set_colo(struct parse *p, char *value)
{
	(void)value;
	p->d->colo = true;
	return 0;
}

/* libxl keeps these strings for itself; here only what it would refuse counts. */
static int set_colo_port(struct parse *p, char *value)
{
	p->d->colo = true;
	return strtol(value, NULL, 10) != 0 ? 0 : refuse(p, "unknown colo-port", value);
}

static int unknown_param(struct parse *p, char *value)
{
	return refuse(p, "unknown parameter", value);
}

/* ---- by position ---- */

/* VDEV:cdrom or VDEV:disk: 1, and *ret says how it went.  0: there is no colon. */
static bool vdev_and_devtype(struct parse *p, char *text, int *ret)
{
	char *colon = strrchr(text, ':');

	if (!colon)
		return false;
	*colon++ = '\0';
	*ret = save(p, &p->d->vdev, "vdev", text);
	if (*ret == 0 && strcmp(colon, "cdrom") != 0 && strcmp(colon, "disk") != 0)
		*ret = refuse(p, "unknown kind of device", colon);
	p->d->cdrom = strcmp(colon, "cdrom") == 0;
	return true;
}

static int positional_format(struct parse *p, char *text)
{
	int r;

	if (*p->d->target || !vdev_and_devtype(p, text, &r))
		return set_format(p, text);
	p->d->format = FORMAT_EMPTY;
	return r;
}

static int positional(struct parse *p, char *text)
{
	int r;

	if (!p->d->target)
		return save(p, &p->d->target, "target", text);
	if (!p->had_prefix && p->d->format == FORMAT_UNKNOWN)
		return positional_format(p, text);
	if (!p->d->vdev)
		return vdev_and_devtype(p, text, &r) ? r : save(p, &p->d->vdev, "vdev", text);
	if (p->access_set)
		return refuse(p, "too many parameters", text);
	p->access_set = true;
	return set_access(p, text);
}

/* ---- prefixes ---- */

static int format_prefix(struct parse *p, char *name)
{
	p->had_prefix = true;
	return set_format(p, name);
}

static int script_prefix(struct parse *p, char *name)
{
	char script[32];

	p->had_prefix = true;
	snprintf(script, sizeof(script), "block-%s", name);
	return save(p, &p->d->script, "script", script);
}

static int ignored_prefix(struct parse *p, char *name)
{
	(void)name;
	p->had_prefix = true;
	return 0;
}

static int unknown_prefix(struct parse *p, char *name)
{
	return td_err_set(p->err, -EINVAL, "%s: is a prefix that xl does not know", name);
}

/* ---- the rules ---- */

/* A match: all that counts for the choice, and how much of it is taken. */
struct match {
	size_t counted, taken;
};

struct rule {
	enum { SKIP, KEYWORD, VALUE, REST, PARAM, PREFIX, ANY_PREFIX, POSITIONAL } kind;
	const char *name;
	action_fn *act;
};

static const struct rule rules[] = {
	{ SKIP, NULL, NULL }, /* blanks before a parameter */
	{ VALUE, "format=", set_format },
	{ KEYWORD, "cdrom", set_cdrom },
	{ KEYWORD, "devtype=cdrom", set_cdrom },
	{ KEYWORD, "devtype=disk", set_disk },
	{ VALUE, "devtype=", bad_devtype },
	{ VALUE, "access=", set_access },
	{ VALUE, "backend=", set_domain },
	{ VALUE, "backendtype=", set_backend },
	{ VALUE, "specification=", set_specification },
	{ VALUE, "vdev=", set_vdev },
	{ VALUE, "script=", set_script },
	{ KEYWORD, "direct-io-safe", set_direct },
	{ KEYWORD, "discard", set_discard },
	{ KEYWORD, "no-discard", set_no_discard },
	{ KEYWORD, "colo", set_colo },
	{ KEYWORD, "no-colo", set_colo },
	{ VALUE, "colo-host=", set_colo },
	{ VALUE, "colo-port=", set_colo_port },
	{ VALUE, "colo-export=", set_colo },
	{ VALUE, "active-disk=", set_colo },
	{ VALUE, "hidden-disk=", set_colo },
	{ KEYWORD, "trusted", set_trusted },
	{ KEYWORD, "untrusted", set_untrusted },
	{ KEYWORD, "grant_usage=1", set_grant_1 }, /* Xen 4.19 */
	{ KEYWORD, "grant_usage=0", set_grant_0 },
	{ REST, "target=", set_target },
	{ PARAM, NULL, unknown_param },
	{ PREFIX, "raw:", format_prefix },
	{ PREFIX, "qcow:", format_prefix },
	{ PREFIX, "qcow2:", format_prefix },
	{ PREFIX, "vhd:", format_prefix },
	{ PREFIX, "iscsi:", script_prefix },
	{ PREFIX, "nbd:", script_prefix },
	{ PREFIX, "enbd:", script_prefix },
	{ PREFIX, "drbd:", script_prefix },
	{ PREFIX, "tapdisk:", ignored_prefix },
	{ PREFIX, "tap:", ignored_prefix },
	{ PREFIX, "tap2:", ignored_prefix },
	{ PREFIX, "aio:", ignored_prefix },
	{ PREFIX, "ioemu:", ignored_prefix },
	{ PREFIX, "file:", ignored_prefix },
	{ PREFIX, "phy:", ignored_prefix },
	{ ANY_PREFIX, NULL, unknown_prefix },
	{ POSITIONAL, NULL, positional },
};

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

static bool begins(const char *s, const char *name)
{
	return strncmp(s, name, strlen(name)) == 0;
}

/* n characters, and a comma behind them if there is one. */
static struct match with_comma(const char *s, size_t n)
{
	n += s[n] == ',';
	return (struct match){ n, n };
}

/* [ \t\n]+ before anything else of the line */
static struct match match_skip(const char *s)
{
	size_t n = 0;

	while (is_blank(s[n]))
		n++;
	return n ? (struct match){ n + strcspn(s + n, "\n"), n } : (struct match){ 0 };
}

/* [a-z][-a-z0-9]*=[^,],? */
static struct match match_param(const char *s)
{
	size_t n = 0;

	while (is_lower(s[n]) || (n > 0 && (s[n] == '-' || is_digit(s[n]))))
		n++;
	if (n == 0 || s[n] != '=' || !s[n + 1] || s[n + 1] == ',')
		return (struct match){ 0 };
	return with_comma(s, n + 2);
}

/* [a-z][a-z0-9]*: before something that is no letter or digit, or on its own */
static struct match match_any_prefix(const char *s)
{
	size_t n = 0;

	while (is_lower(s[n]) || (n > 0 && is_digit(s[n])))
		n++;
	if (n == 0 || s[n] != ':')
		return (struct match){ 0 };
	n++;
	if (is_lower(s[n]) || is_digit(s[n]) || !s[n])
		return (struct match){ n, n };
	return (struct match){ n + 1 + strcspn(s + n + 1, "\n"), n };
}

/* [^=,]*, or [^=,]+ */
static struct match match_positional(const char *s)
{
	return with_comma(s, strcspn(s, "=,"));
}

static struct match match_named(const struct rule *r, const char *s)
{
	size_t n = strlen(r->name);

	if (!begins(s, r->name))
		return (struct match){ 0 };
	if (r->kind == PREFIX)
		return (struct match){ n + strcspn(s + n, "\n"), n };
	if (r->kind == REST)
		return (struct match){ n + strcspn(s + n, "\n"), n + strcspn(s + n, "\n") };
	return with_comma(s, r->kind == VALUE ? n + strcspn(s + n, ",") : n);
}

static struct match match(const struct rule *r, const char *s)
{
	switch (r->kind) {
	case SKIP:
		return match_skip(s);
	case PARAM:
		return match_param(s);
	case ANY_PREFIX:
		return match_any_prefix(s);
	case POSITIONAL:
		return match_positional(s);
	default:
		return match_named(r, s);
	}
}

static int act(struct parse *p, const struct rule *rule, const char *s, size_t n)
{
	size_t from = rule->kind == VALUE || rule->kind == REST ? strlen(rule->name) : 0;
	bool prefix = rule->kind == PREFIX || rule->kind == ANY_PREFIX;
	char *value;
	int r;

	if (!rule->act)
		return 0;
	if (n > from && s[n - 1] == (prefix ? ':' : ','))
		n--; /* the delimiter */
	value = strndup(s + from, n - from);
	if (!value)
		return -ENOMEM;
	r = rule->act(p, value);
	free(value);
	return r;
}

static int parse_one(struct parse *p, const char **s)
{
	const struct rule *best = NULL;
	struct match m = { 0 };
	int r;

	for (size_t i = 0; i < TD_NELEMS(rules); i++) {
		struct match this = match(&rules[i], *s);

		if (this.counted > m.counted) {
			m = this;
			best = &rules[i];
		}
	}
	if (!best && strcmp(*s, "=") == 0) {
		(*s)++; /* at the very end libxl's lexer misses it */
		return 0;
	}
	if (!best)
		return refuse(p, "bad syntax", *s);
	r = act(p, best, *s, m.taken);
	*s += m.taken;
	return r;
}

/* ---- the whole ---- */

static int finish(struct disk *d, struct td_err *ret_err)
{
	if (d->format == FORMAT_UNKNOWN)
		d->format = FORMAT_RAW;
	if (d->cdrom) {
		d->removable = true;
		d->writable = false;
		if (!d->target || !*d->target)
			d->format = FORMAT_EMPTY;
	}
	if (!d->vdev)
		return td_err_set(ret_err, -EINVAL, "no vdev, the name of the disk in the guest");
	if (!d->target && !d->removable)
		return td_err_set(ret_err, -EINVAL, "no target, what the disk is");
	return 0;
}

int disk_parse(const char *text, struct disk *d, struct td_err *ret_err)
{
	struct parse p = { .d = d, .err = ret_err };
	int r = 0;

	if (strlen(text) > DISK_TEXT_MAX)
		return td_err_set(ret_err, -EINVAL, "longer than %d bytes", DISK_TEXT_MAX);
	d->writable = true;
	while (*text && r == 0)
		r = parse_one(&p, &text);
	return r < 0 ? r : finish(d, ret_err);
}

void disk_done(struct disk *d)
{
	free(d->target);
	free(d->vdev);
	free(d->script);
	free(d->backend_domain);
	free(d->driver);
	*d = (struct disk){ 0 };
}

const char *disk_format_name(enum disk_format f)
{
	return formats[f];
}

const char *disk_backend_name(enum disk_backend b)
{
	return backends[b];
}
