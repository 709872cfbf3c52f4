// SPDX-License-Identifier: BSD-2-Clause
/*
 * A xenstore in memory; see fake-xs.h.  The nodes are one flat JSON object, a transaction is a copy of it.
 */
#include "fake-xs.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

struct change {
	char *path; /* and the token behind its zero */
	STAILQ_ENTRY(change) link;
};

struct watch {
	char *path, *token;
	LIST_ENTRY(watch) link;
};

struct td_xs {
	int unused;
};

static json_t *nodes, *before; /* before: as it was when the transaction began */
static json_t *written;        /* paths changed in the transaction, in order */
static json_t *perms;          /* of folders, kept also where a transaction fails */
static int fd = -1;
static STAILQ_HEAD(, change) changes = STAILQ_HEAD_INITIALIZER(changes);
static LIST_HEAD(, watch) watches = LIST_HEAD_INITIALIZER(watches);
static struct td_xs the_one;

void (*fake_on_write)(const char *path, const char *value);
unsigned fake_conflicts;
unsigned long fake_calls;

/* ---- watches ---- */

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static void fire_one(const struct watch *w, const char *path)
{
	struct change *c = calloc(1, sizeof(*c));
	size_t len = strlen(path) + 1;

	c->path = malloc(len + strlen(w->token) + 1);
	memcpy(c->path, path, len);
	strcpy(c->path + len, w->token);
	if (STAILQ_EMPTY(&changes))
		eventfd_write(fd, 1);
	STAILQ_INSERT_TAIL(&changes, c, link);
}

static void fire(const char *path, bool removed)
{
	struct watch *w;

	LIST_FOREACH(w, &watches, link)
	{
		if (is_below(path, w->path))
			fire_one(w, path);
		else if (removed && is_below(w->path, path))
			fire_one(w, w->path);
	}
}

static void fire_or_keep(const char *path, bool removed)
{
	if (before)
		json_array_append_new(written, json_pack("{s:s,s:b}", "path", path, "removed", removed));
	else
		fire(path, removed);
}

/* ---- changes ---- */

static void make_parents(const char *path)
{
	char parent[1024];

	snprintf(parent, sizeof(parent), "%s", path);
	for (char *slash = strrchr(parent, '/'); slash && slash > parent; slash = strrchr(parent, '/')) {
		*slash = '\0';
		if (json_object_get(nodes, parent))
			return;
		json_object_set_new(nodes, parent, json_string(""));
	}
}

static void set(const char *path, const char *value)
{
	make_parents(path);
	json_object_set_new(nodes, path, json_string(value));
	fire_or_keep(path, false);
}

static bool rm(const char *path)
{
	const char *key;
	json_t *value;
	void *tmp;

	if (!json_object_get(nodes, path))
		return false;
	json_object_foreach_safe(nodes, tmp, key, value) if (is_below(key, path) && strcmp(key, path) != 0)
		json_object_del(nodes, key);
	json_object_del(nodes, path);
	fire_or_keep(path, true);
	return true;
}

void fake_set(const char *path, const char *fmt, ...)
{
	td_cleanup(free) char *value = NULL;
	va_list ap;

	va_start(ap, fmt);
	td_ignore(vasprintf(&value, fmt, ap));
	va_end(ap);
	set(path, value);
}

void fake_rm(const char *path)
{
	rm(path);
}

const char *fake_get(const char *path)
{
	return json_string_value(json_object_get(nodes, path));
}

const char *fake_perms(const char *path)
{
	return json_string_value(json_object_get(perms, path));
}

unsigned fake_nr_below(const char *path)
{
	const char *key;
	json_t *value;
	unsigned nr = 0;

	json_object_foreach(nodes, key, value) nr += is_below(key, path);
	return nr;
}

void fake_xs_reset(void)
{
	json_decref(nodes);
	json_decref(before);
	json_decref(written);
	json_decref(perms);
	nodes = json_object();
	perms = json_object();
	before = written = NULL;
	fake_on_write = NULL;
	fake_conflicts = 0;
	fake_calls = 0;
}

unsigned fake_nr_watches(void)
{
	struct watch *w;
	unsigned nr = 0;

	LIST_FOREACH(w, &watches, link)
	nr++;
	return nr;
}

bool fake_pending(void)
{
	return !STAILQ_EMPTY(&changes);
}

/* ---- include/blktap/xs.h ---- */

int td_xs_connect(struct td_xs **ret_xs, struct td_err *ret_err)
{
	(void)ret_err;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	*ret_xs = &the_one;
	return 0;
}

void td_xs_close(struct td_xs *xs)
{
	struct change *c;
	struct watch *w;

	(void)xs;
	while ((c = STAILQ_FIRST(&changes))) {
		STAILQ_REMOVE_HEAD(&changes, link);
		free(c->path);
		free(c);
	}
	while ((w = LIST_FIRST(&watches))) {
		LIST_REMOVE(w, link);
		free(w->path);
		free(w->token);
		free(w);
	}
	close(fd);
	fd = -1;
}

int td_xs_read(struct td_xs *xs, const char *path, char **ret_value)
{
	const char *value = fake_get(path);

	(void)xs;
	fake_calls++;
	if (!value)
		return -ENOENT;
	*ret_value = strdup(value);
	return 0;
}

int td_xs_read_u64(struct td_xs *xs, const char *path, uint64_t *ret)
{
	td_cleanup(free) char *value = NULL;
	unsigned long long n;
	char *end;
	int r = td_xs_read(xs, path, &value);

	if (r < 0)
		return r;
	errno = 0;
	n = strtoull(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || errno)
		return -EINVAL;
	*ret = n;
	return 0;
}

int td_xs_write(struct td_xs *xs, const char *path, const char *fmt, ...)
{
	td_cleanup(free) char *value = NULL;
	va_list ap;

	(void)xs;
	fake_calls++;
	va_start(ap, fmt);
	td_ignore(vasprintf(&value, fmt, ap));
	va_end(ap);
	if (strlen(value) > TD_XS_VALUE_MAX)
		return -E2BIG;
	set(path, value);
	if (!before && fake_on_write)
		fake_on_write(path, value);
	return 0;
}

int td_xs_remove(struct td_xs *xs, const char *path)
{
	(void)xs;
	fake_calls++;
	if (rm(path) && !before && fake_on_write)
		fake_on_write(path, NULL);
	return 0;
}

int td_xs_list(struct td_xs *xs, const char *path, char ***ret_names, unsigned *ret_nr)
{
	size_t len = strlen(path), room = 0;
	unsigned nr = 0;
	const char *key;
	json_t *value;
	char **names, *text;

	(void)xs;
	fake_calls++;
	if (!json_object_get(nodes, path))
		return -ENOENT;
	json_object_foreach(nodes, key,
			    value) if (is_below(key, path) && key[len] == '/' && !strchr(key + len + 1, '/'))
	{
		nr++;
		room += strlen(key + len + 1) + 1;
	}
	names = malloc(nr * sizeof(*names) + room + 1);
	text = (char *)(names + nr);
	nr = 0;
	json_object_foreach(nodes, key,
			    value) if (is_below(key, path) && key[len] == '/' && !strchr(key + len + 1, '/'))
	{
		names[nr++] = text;
		text = stpcpy(text, key + len + 1) + 1;
	}
	*ret_names = names;
	*ret_nr = nr;
	return 0;
}

int td_xs_mkdir(struct td_xs *xs, const char *path, unsigned owner, unsigned reader)
{
	(void)xs;
	fake_calls++;
	if (!json_object_get(nodes, path))
		set(path, "");
	json_object_set_new(perms, path, json_sprintf("%u %u", owner, reader));
	return 0;
}

int td_xs_begin(struct td_xs *xs)
{
	(void)xs;
	fake_calls++;
	if (before)
		return -EBUSY;
	before = json_copy(nodes);
	written = json_array();
	return 0;
}

int td_xs_commit(struct td_xs *xs)
{
	json_t *done = written, *one;
	size_t i;

	if (!before)
		return -EINVAL;
	if (fake_conflicts > 0) {
		fake_conflicts--;
		td_xs_abort(xs);
		return -EAGAIN;
	}
	fake_calls++;
	json_decref(before);
	before = written = NULL;
	json_array_foreach(done, i, one)
	{
		const char *path = json_string_value(json_object_get(one, "path"));

		fire(path, json_is_true(json_object_get(one, "removed")));
		if (fake_on_write)
			fake_on_write(path, fake_get(path));
	}
	json_decref(done);
	return 0;
}

void td_xs_abort(struct td_xs *xs)
{
	(void)xs;
	if (!before)
		return;
	json_decref(nodes);
	json_decref(written);
	nodes = before;
	before = written = NULL;
}

int td_xs_watch(struct td_xs *xs, const char *path, const char *token)
{
	struct watch *w;

	(void)xs;
	LIST_FOREACH(w, &watches, link)
	if (strcmp(w->path, path) == 0 && strcmp(w->token, token) == 0)
		return -EEXIST;
	fake_calls++;
	w = calloc(1, sizeof(*w));
	w->path = strdup(path);
	w->token = strdup(token);
	LIST_INSERT_HEAD(&watches, w, link);
	fire_one(w, path);
	return 0;
}

void td_xs_unwatch(struct td_xs *xs, const char *path, const char *token)
{
	struct watch *w;

	(void)xs;
	LIST_FOREACH(w, &watches, link)
	{
		if (strcmp(w->path, path) == 0 && strcmp(w->token, token) == 0) {
			LIST_REMOVE(w, link);
			free(w->path);
			free(w->token);
			free(w);
			return;
		}
	}
}

int td_xs_fd(const struct td_xs *xs)
{
	(void)xs;
	return fd;
}

int td_xs_next(struct td_xs *xs, char **ret_path, const char **ret_token)
{
	struct change *c = STAILQ_FIRST(&changes);
	eventfd_t n;

	(void)xs;
	if (!c)
		return 0;
	STAILQ_REMOVE_HEAD(&changes, link);
	if (STAILQ_EMPTY(&changes))
		eventfd_read(fd, &n);
	*ret_path = c->path;
	*ret_token = c->path + strlen(c->path) + 1;
	free(c);
	return 1;
}
