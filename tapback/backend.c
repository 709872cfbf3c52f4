// SPDX-License-Identifier: BSD-2-Clause
/*
 * The classes that we serve: watches of xenstore become kicks of devices.
 *
 * One watch is on each class's folder, one on each frontend's state; beside a kernel that has backends of its own, one
 * on all backends, since devices of every type are then offered by us (autoprobe.h).
 */
#include "backend.h"
#include "number.h"
#include <stdio.h>

#define ROOT       "/local/domain/0/backend"
#define PROBE_WORD "probe"
#define BATCH      64 /* watches in a turn: everything else has its turn too */

/* ---- the table ---- */

static struct device_list *bucket(struct backend *b, uint32_t domid, uint32_t vdev)
{
	return &b->devices[(domid * 31 + vdev + (vdev >> 4)) % BACKEND_BUCKETS];
}

struct device *backend_find(struct backend *b, const char *class, uint32_t domid, uint32_t vdev)
{
	struct device *d;

	LIST_FOREACH(d, bucket(b, domid, vdev), link)
	if (d->domid == domid && d->vdev == vdev && strcmp(d->class, class) == 0)
		return d;
	return NULL;
}

static void kick_device(struct backend *b, const char *class, uint32_t domid, uint32_t vdev)
{
	struct device *d = backend_find(b, class, domid, vdev);

	if (!d) {
		d = device_new(&b->env, class, domid, vdev);
		if (!d) {
			td_error("no memory for " ROOT "/%s/%u/%u", class, domid, vdev);
			return;
		}
		LIST_INSERT_HEAD(bucket(b, domid, vdev), d, link);
		b->nr_devices++;
	}
	device_kick(d);
}

static void forget(struct device *d)
{
	struct backend *b = d->env->owner;

	LIST_REMOVE(d, link);
	b->nr_devices--;
	device_free(d);
}

static unsigned nr_disks(void *owner, uint32_t domid)
{
	struct backend *b = owner;
	struct device *d;
	unsigned nr = 0;

	for (unsigned i = 0; i < BACKEND_BUCKETS; i++)
		LIST_FOREACH(d, &b->devices[i], link)
	nr += d->domid == domid && d->life == DEVICE_OURS;
	return nr;
}

/* ---- names ---- */

/* Of ours, the class's name that lives as long as we do. */
static const char *find_class(const struct backend *b, const char *name, size_t len)
{
	for (unsigned i = 0; i < b->nr_classes; i++)
		if (strlen(b->classes[i]) == len && strncmp(b->classes[i], name, len) == 0)
			return b->classes[i];
	return NULL;
}

/* Below ROOT: CLASS, CLASS/DOMID, CLASS/DOMID/VDEV or CLASS/DOMID/VDEV/KEY.  What is not there: depth says. */
struct place {
	const char *class;
	unsigned depth; /* 0: none of ours; 1 to 4 */
	uint32_t domid, vdev;
	const char *key;
};

static struct place parse_place(const struct backend *b, const char *path)
{
	struct place p = { 0 };
	const char *s, *end;

	if (strncmp(path, ROOT "/", strlen(ROOT "/")) != 0)
		return p;
	s = path + strlen(ROOT "/");
	end = strchrnul(s, '/');
	p.class = find_class(b, s, (size_t)(end - s));
	if (!p.class)
		return p;
	p.depth = 1;
	s = end;
	if (*s++ != '/' || !number_take(&s, &p.domid))
		return p;
	p.depth = 2;
	if (*s++ != '/' || !number_take(&s, &p.vdev))
		return p;
	p.depth = 3;
	if (*s == '/') {
		p.depth = 4;
		p.key = s + 1;
	}
	return p;
}

/* ---- looking at whole folders ---- */

static void kick_known(struct backend *b, const char *class, bool any_domain, uint32_t domid)
{
	struct device *d;

	for (unsigned i = 0; i < BACKEND_BUCKETS; i++)
		LIST_FOREACH(d, &b->devices[i], link)
	if (strcmp(d->class, class) == 0 && (any_domain || d->domid == domid))
		device_kick(d);
}

/* fn for each name in the folder that is a number. */
static void for_numbers(struct backend *b, const char *path, const char *class, uint32_t domid,
			void (*fn)(struct backend *b, const char *class, uint32_t domid, uint32_t n))
{
	char **names = NULL;
	unsigned nr = 0;

	if (td_xs_list(b->env.xs, path, &names, &nr) < 0)
		return; /* not there: nothing in it */
	for (unsigned i = 0; i < nr; i++) {
		const char *s = names[i];
		uint32_t n = 0;

		if (number_take(&s, &n) && *s == '\0')
			fn(b, class, domid, n);
	}
	free(names);
}

static void look_at_domain(struct backend *b, const char *class, uint32_t unused, uint32_t domid)
{
	char path[NODE_PATH_MAX];

	(void)unused;
	snprintf(path, sizeof(path), ROOT "/%s/%u", class, domid);
	for_numbers(b, path, class, domid, kick_device);
}

static void look_at_class(struct backend *b, const char *class)
{
	char path[NODE_PATH_MAX];

	snprintf(path, sizeof(path), ROOT "/%s", class);
	for_numbers(b, path, class, 0, look_at_domain);
}

/* ---- watches ---- */

/* Our own writing fires the watch as well: what cannot matter starts no pass. */
static bool matters(const char *key)
{
	static const char *const keys[] = { "state", "online", "hotplug-status", "physical-device-path",
					    "frontend" };

	for (unsigned i = 0; i < TD_NELEMS(keys); i++)
		if (strcmp(key, keys[i]) == 0)
			return true;
	return false;
}

static void on_backend(struct backend *b, const char *path)
{
	struct place p = parse_place(b, path);
	struct device *d;

	switch (p.depth) {
	case 1:
		kick_known(b, p.class, true, 0);
		look_at_class(b, p.class);
		break;
	case 2:
		kick_known(b, p.class, false, p.domid);
		look_at_domain(b, p.class, 0, p.domid);
		break;
	case 3:
		kick_device(b, p.class, p.domid, p.vdev);
		break;
	case 4:
		d = backend_find(b, p.class, p.domid, p.vdev);
		if (matters(p.key) || !d)
			kick_device(b, p.class, p.domid, p.vdev);
		break;
	default:
		break;
	}
}

/* Any type's folder: a device may have come.  It need not be made by itself, so its state counts as well. */
static void on_any_backend(struct backend *b, const char *path)
{
	struct place p = parse_place(b, path);
	unsigned depth = 0;

	if (p.class && strcmp(p.class, "vbd") != 0)
		return;
	for (const char *s = path + TD_MIN(strlen(ROOT), strlen(path)); *s; s++)
		depth += *s == '/';
	if (depth <= 3 || (depth == 4 && strcmp(strrchr(path, '/'), "/state") == 0))
		autoprobe_kick(&b->probe);
}

/* A token is the word for all backends, the folder of a device whose frontend changed, or empty: a class. */
static void on_change(struct backend *b, const char *path, const char *token)
{
	struct place p;
	struct device *d;

	if (strcmp(token, PROBE_WORD) == 0) {
		on_any_backend(b, path);
	} else if (token[0] == '/') {
		p = parse_place(b, token);
		d = p.depth == 3 ? backend_find(b, p.class, p.domid, p.vdev) : NULL;
		if (d)
			device_kick(d);
	} else {
		on_backend(b, path);
	}
}

static void on_xenstore(struct td_watch *w, uint32_t epoll_events)
{
	struct backend *b = td_container_of(w, struct backend, watch);
	const char *token = NULL;
	char *path = NULL;
	int r = 1;

	(void)epoll_events;
	for (unsigned i = 0; i < BATCH && r > 0; i++) {
		r = td_xs_next(b->env.xs, &path, &token);
		if (r <= 0)
			break;
		on_change(b, path, token);
		free(path);
	}
	if (r < 0) {
		td_loop_unwatch(&b->watch);
		b->lost(b, r);
	}
}

/* ---- the kernel's own backends ---- */

static bool keep(void *owner, const char *type, uint32_t domid, uint32_t devid)
{
	struct backend *b = owner;
	struct device *d;

	if (!find_class(b, type, strlen(type)))
		return false;
	if (strcmp(type, "vbd") != 0)
		return true; /* no driver wants it, and if one did it is ours */
	d = backend_find(b, type, domid, devid);
	return !d || d->life != DEVICE_FOREIGN;
}

static void decided(struct device *d)
{
	struct backend *b = d->env->owner;

	if (d->life == DEVICE_FOREIGN && strcmp(d->class, "vbd") == 0)
		autoprobe_kick(&b->probe);
}

static bool any_live(struct backend *b)
{
	struct device *d;

	for (unsigned i = 0; i < BACKEND_BUCKETS; i++)
		LIST_FOREACH(d, &b->devices[i], link)
	if (strcmp(d->class, "vbd") == 0 && device_live(d))
		return true;
	return false;
}

/* ---- begin and end ---- */

static int watch_all(struct backend *b, bool probing, struct td_err *ret_err)
{
	char path[NODE_PATH_MAX];
	int r = 0;

	for (unsigned i = 0; i < b->nr_classes && r == 0; i++) {
		snprintf(path, sizeof(path), ROOT "/%s", b->classes[i]);
		r = td_xs_watch(b->env.xs, path, "");
	}
	if (r == 0 && probing)
		r = td_xs_watch(b->env.xs, ROOT, PROBE_WORD);
	if (r == 0)
		r = td_loop_watch(b->env.loop, &b->watch, td_xs_fd(b->env.xs), EPOLLIN);
	return r < 0 ? td_err_set(ret_err, r, "cannot watch xenstore: %s", strerror(-r)) : 0;
}

int backend_start(struct backend *b, struct td_err *ret_err)
{
	bool probing = false;
	int r;

	b->env.owner = b;
	b->env.probe = &b->probe;
	b->env.living = &b->living;
	b->env.forget = forget;
	b->env.decided = decided;
	b->env.nr_disks = nr_disks;
	b->env.disk.loop = b->probe.loop = b->env.loop;
	b->probe.owner = b;
	b->probe.keep = keep;
	b->watch.fn = on_xenstore;
	if (find_class(b, "vbd", 3))
		probing = autoprobe_start(&b->probe);
	r = recover_scan(&b->living, &b->env.disk, ret_err);
	if (r < 0)
		return r;
	recover_orphans(&b->living, &b->env.disk, b->env.xs);
	return watch_all(b, probing, ret_err);
}

void backend_stop(struct backend *b)
{
	td_loop_unwatch(&b->watch);
	autoprobe_stop(&b->probe, any_live(b));
	b->env.stopping = true;
}

bool backend_idle(const struct backend *b)
{
	return b->env.nr_running == 0;
}

void backend_free(struct backend *b)
{
	struct device *d;

	td_timer_cancel(&b->probe.timer);
	for (unsigned i = 0; i < BACKEND_BUCKETS; i++) {
		while ((d = LIST_FIRST(&b->devices[i]))) {
			LIST_REMOVE(d, link);
			device_free(d);
		}
	}
	recover_free(&b->living);
}
