// SPDX-License-Identifier: BSD-2-Clause
/*
 * Nodes below a folder of xenstore; see node.h.
 */
#include "node.h"
#include <stdarg.h>
#include <stdio.h>

#define KEY_MAX    64
#define PATH_SIZE  (NODE_PATH_MAX + KEY_MAX)
#define MAX_ROUNDS 100 /* of a transaction that others get in the way of */

/* All folders and keys are bounded where they come in: what does not fit is nothing of ours. */
static int join(char path[PATH_SIZE], const char *dir, const char *key)
{
	int n = snprintf(path, PATH_SIZE, "%s/%s", dir, key);

	return n < 0 || n >= PATH_SIZE ? -ENAMETOOLONG : 0;
}

int node_read(struct td_xs *xs, const char *dir, const char *key, char **ret)
{
	char path[PATH_SIZE];
	int r = join(path, dir, key);

	return r < 0 ? r : td_xs_read(xs, path, ret);
}

int node_u64(struct td_xs *xs, const char *dir, const char *key, uint64_t *ret)
{
	char path[PATH_SIZE];
	int r = join(path, dir, key);

	return r < 0 ? r : td_xs_read_u64(xs, path, ret);
}

int node_number(struct td_xs *xs, const char *dir, const char *key, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;
	int r = node_u64(xs, dir, key, &n);

	if (r < 0)
		return r;
	if (n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

int node_write(struct td_xs *xs, const char *dir, const char *key, const char *fmt, ...)
{
	td_cleanup(free) char *value = NULL;
	char path[PATH_SIZE];
	va_list ap;
	int r = join(path, dir, key);

	if (r < 0)
		return r;
	va_start(ap, fmt);
	r = vasprintf(&value, fmt, ap);
	va_end(ap);
	if (r < 0) {
		value = NULL;
		return -ENOMEM;
	}
	return td_xs_write(xs, path, "%s", value);
}

int node_remove(struct td_xs *xs, const char *dir, const char *key)
{
	char path[PATH_SIZE];
	int r = join(path, dir, key);

	return r < 0 ? r : td_xs_remove(xs, path);
}

enum xs_state node_state(struct td_xs *xs, const char *dir)
{
	uint64_t n = 0;
	int r = node_u64(xs, dir, "state", &n);

	if (r == -EINVAL)
		return XS_OTHER;
	if (r < 0)
		return XS_NONE;
	return n < XS_OTHER ? (enum xs_state)n : XS_OTHER;
}

char *node_text(struct td_xs *xs, const char *dir, const char *key)
{
	char *text = NULL;

	if (node_read(xs, dir, key, &text) < 0)
		return NULL;
	if (strlen(text) <= TD_XS_VALUE_MAX)
		return text;
	free(text);
	return NULL;
}

static int change_once(struct td_xs *xs, const char *dir, enum xs_state expect,
		       int (*fn)(struct td_xs *xs, const char *dir, void *arg), void *arg)
{
	enum xs_state state;
	int r;

	r = td_xs_begin(xs);
	if (r < 0)
		return r;
	state = node_state(xs, dir);
	r = state == expect ? fn(xs, dir, arg) : state == XS_NONE ? -ENOENT : -ESTALE;
	if (r == 0)
		return td_xs_commit(xs);
	td_xs_abort(xs);
	return r == -EAGAIN ? -EIO : r;
}

int node_change(struct td_xs *xs, const char *dir, enum xs_state expect,
		int (*fn)(struct td_xs *xs, const char *dir, void *arg), void *arg)
{
	int r = -EAGAIN;

	for (unsigned i = 0; i < MAX_ROUNDS && r == -EAGAIN; i++)
		r = change_once(xs, dir, expect, fn, arg);
	return r;
}
