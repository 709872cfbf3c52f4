// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk's folders in xenstore: what libxl writes for a disk with a script, and one node more.
 */
#include "ring.h"
#include <inttypes.h>
#include <stdio.h>

#define ORIGIN    "block-attach"
#define SCRIPT    "/etc/xen/scripts/block-tapdisk" /* where libxl looks for it */
#define BACKENDS  "/local/domain/0/backend"
#define TRIES_MAX 100 /* of a transaction: somebody else was faster each time */

void ring_init(struct ring *r, unsigned domid, uint32_t number, const char *class)
{
	*r = (struct ring){ .domid = domid, .number = number };
	td_vdev_name(number, r->vdev, sizeof(r->vdev));
	snprintf(r->class, sizeof(r->class), "%s", class);
	snprintf(r->be, sizeof(r->be), BACKENDS "/%s/%u/%" PRIu32, class, domid, number);
	snprintf(r->fe, sizeof(r->fe), "/local/domain/%u/device/vbd/%" PRIu32, domid, number);
	snprintf(r->libxl, sizeof(r->libxl), "/libxl/%u/device/vbd/%" PRIu32, domid, number);
}

/* ---- reading ---- */

int64_t ring_number(struct td_xs *xs, const char *folder, const char *key)
{
	char path[RING_PATH_MAX + 32];
	uint64_t n;

	snprintf(path, sizeof(path), "%s/%s", folder, key);
	return td_xs_read_u64(xs, path, &n) == 0 && n <= INT64_MAX ? (int64_t)n : -1;
}

char *ring_text(struct td_xs *xs, const char *folder, const char *key)
{
	char path[RING_PATH_MAX + 32];
	char *value = NULL;

	snprintf(path, sizeof(path), "%s/%s", folder, key);
	return td_xs_read(xs, path, &value) == 0 ? value : NULL;
}

enum ring_state ring_state(struct td_xs *xs, const char *folder)
{
	int64_t n = ring_number(xs, folder, "state");

	return n >= RING_INITIALISING && n <= RING_CLOSED ? (enum ring_state)n : RING_GONE;
}

static bool exists(struct td_xs *xs, const char *path)
{
	td_cleanup(free) char **names = NULL;
	unsigned nr;

	return td_xs_list(xs, path, &names, &nr) == 0;
}

static bool is_origin(struct td_xs *xs, const char *folder)
{
	td_cleanup(free) char *origin = ring_text(xs, folder, "origin");

	return origin && strcmp(origin, ORIGIN) == 0;
}

bool ring_is_ours(struct td_xs *xs, const struct ring *r)
{
	return is_origin(xs, r->be) || is_origin(xs, r->libxl);
}

/* In class vbd3 a word that libxl wants stands in front. */
char *ring_spec(struct td_xs *xs, const struct ring *r)
{
	char *spec = ring_text(xs, r->be, "params");
	char *colon;

	if (!spec)
		spec = ring_text(xs, r->libxl, "params");
	colon = spec && strcmp(r->class, "vbd3") == 0 ? strchr(spec, ':') : NULL;
	if (colon)
		memmove(spec, colon + 1, strlen(colon + 1) + 1);
	return spec;
}

int ring_find(struct td_xs *xs, unsigned domid, uint32_t number, struct ring *ret)
{
	td_cleanup(free) char **classes = NULL;
	unsigned nr = 0;
	int r = td_xs_list(xs, BACKENDS, &classes, &nr);

	if (r < 0 && r != -ENOENT)
		return r;
	for (unsigned i = 0; i < nr; i++) {
		ring_init(ret, domid, number, classes[i]);
		/* Other kinds of devices have their numbers for themselves. */
		if ((strncmp(classes[i], "vbd", 3) == 0 || strcmp(classes[i], "qdisk") == 0) &&
		    exists(xs, ret->be))
			return 0;
	}
	ring_init(ret, domid, number, "vbd");
	return exists(xs, ret->fe) || exists(xs, ret->libxl) ? 0 : -ENOENT;
}

/* ---- writing ---- */

/* key=value below a folder; the first failure stays. */
TD_PRINTF(5, 6)
static void put(struct td_xs *xs, const char *folder, const char *key, int *r, const char *fmt, ...)
{
	char path[RING_PATH_MAX + 32];
	td_cleanup(free) char *value = NULL;
	va_list ap;

	if (*r < 0)
		return;
	va_start(ap, fmt);
	if (vasprintf(&value, fmt, ap) < 0)
		value = NULL;
	va_end(ap);
	snprintf(path, sizeof(path), "%s/%s", folder, key);
	*r = value ? td_xs_write(xs, path, "%s", value) : -ENOMEM;
}

/* What the backend reads, and libxl in its copy. */
static int put_backend(struct td_xs *xs, const struct ring *n, const char *folder, const char *spec,
		       bool read_only)
{
	bool vbd3 = strcmp(n->class, "vbd3") == 0;
	int r = 0;

	put(xs, folder, "frontend", &r, "%s", n->fe);
	put(xs, folder, "params", &r, "%s%s", vbd3 ? "aio:" : "", spec);
	put(xs, folder, "script", &r, SCRIPT);
	put(xs, folder, "frontend-id", &r, "%u", n->domid);
	put(xs, folder, "online", &r, "1");
	put(xs, folder, "removable", &r, "0");
	put(xs, folder, "bootable", &r, "1");
	put(xs, folder, "dev", &r, "%s", n->vdev);
	put(xs, folder, "type", &r, "%s", vbd3 ? "tap" : "phy");
	put(xs, folder, "mode", &r, "%s", read_only ? "r" : "w");
	put(xs, folder, "device-type", &r, "disk");
	put(xs, folder, "discard-enable", &r, "%d", !read_only);
	put(xs, folder, "specification", &r, "xen");
	put(xs, folder, "origin", &r, ORIGIN);
	put(xs, folder, "state", &r, "%d", RING_INITIALISING);
	return r;
}

static int put_frontend(struct td_xs *xs, const struct ring *n)
{
	int r = 0;

	put(xs, n->fe, "backend", &r, "%s", n->be);
	put(xs, n->fe, "backend-id", &r, "0");
	put(xs, n->fe, "virtual-device", &r, "%" PRIu32, n->number);
	put(xs, n->fe, "device-type", &r, "disk");
	put(xs, n->fe, "trusted", &r, "1");
	put(xs, n->fe, "state", &r, "%d", RING_INITIALISING);
	return r;
}

static int write_all(struct td_xs *xs, const struct ring *n, const char *spec, bool read_only)
{
	struct ring there;
	int r = ring_find(xs, n->domid, n->number, &there);

	if (r != -ENOENT)
		return r == 0 ? -EEXIST : r;
	r = td_xs_mkdir(xs, n->be, 0, n->domid);
	if (r == 0)
		r = put_backend(xs, n, n->be, spec, read_only);
	if (r == 0)
		r = td_xs_mkdir(xs, n->fe, n->domid, 0);
	if (r == 0)
		r = put_frontend(xs, n);
	if (r == 0)
		r = put_backend(xs, n, n->libxl, spec, read_only);
	if (r == 0)
		put(xs, n->libxl, "backend", &r, "%s", n->be);
	return r;
}

/* The folder, and up to levels above it that are empty without it. */
static int remove_up(struct td_xs *xs, const char *folder, unsigned levels)
{
	char path[RING_PATH_MAX];
	int r = td_xs_remove(xs, folder);

	snprintf(path, sizeof(path), "%s", folder);
	for (unsigned i = 0; r == 0 && i < levels; i++) {
		td_cleanup(free) char **names = NULL;
		unsigned nr = 0;

		*strrchr(path, '/') = '\0';
		if (td_xs_list(xs, path, &names, &nr) < 0 || nr > 0)
			break;
		r = td_xs_remove(xs, path);
	}
	return r;
}

/* As libxl does; but the folder of a guest's devices is the toolstack's. */
static int erase_all(struct td_xs *xs, const struct ring *n)
{
	int r = remove_up(xs, n->fe, n->domid == 0 ? 2 : 1);

	if (r == 0)
		r = remove_up(xs, n->be, 3);
	return r < 0 ? r : remove_up(xs, n->libxl, 4);
}

static int request_close(struct td_xs *xs, const struct ring *n)
{
	enum ring_state state = ring_state(xs, n->be);
	int r = 0;

	if (state == RING_GONE)
		return 0;
	put(xs, n->be, "online", &r, "0");
	if (state != RING_CLOSED)
		put(xs, n->be, "state", &r, "%d", RING_CLOSING);
	return r;
}

/* ---- in one transaction each ---- */

/* After the changes: end it.  1: do it all again. */
static int finish(struct td_xs *xs, int r)
{
	if (r < 0) {
		td_xs_abort(xs);
		return r == -EAGAIN ? 1 : r;
	}
	r = td_xs_commit(xs);
	return r == -EAGAIN ? 1 : r;
}

int ring_write(struct td_xs *xs, const struct ring *r, const char *spec, bool read_only)
{
	int ret = 1;

	for (int i = 0; i < TRIES_MAX && ret == 1; i++) {
		ret = td_xs_begin(xs);
		if (ret == 0)
			ret = finish(xs, write_all(xs, r, spec, read_only));
	}
	return ret == 1 ? -EAGAIN : ret;
}

int ring_erase(struct td_xs *xs, const struct ring *r)
{
	int ret = 1;

	for (int i = 0; i < TRIES_MAX && ret == 1; i++) {
		ret = td_xs_begin(xs);
		if (ret == 0)
			ret = finish(xs, erase_all(xs, r));
	}
	return ret == 1 ? -EAGAIN : ret;
}

int ring_close_request(struct td_xs *xs, const struct ring *r)
{
	int ret = 1;

	for (int i = 0; i < TRIES_MAX && ret == 1; i++) {
		ret = td_xs_begin(xs);
		if (ret == 0)
			ret = finish(xs, request_close(xs, r));
	}
	return ret == 1 ? -EAGAIN : ret;
}
