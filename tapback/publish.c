// SPDX-License-Identifier: BSD-2-Clause
/*
 * What we write to a backend folder; see publish.h.
 */
#include "publish.h"
#include <stdio.h>

#define ROOT "/local/domain/0/"

/* Several writes, of which the first failure counts. */
struct pen {
	struct td_xs *xs;
	const char *dir;
	int r;
};

static void put(struct pen *p, const char *key, uint64_t n)
{
	if (p->r == 0)
		p->r = node_write(p->xs, p->dir, key, "%llu", (unsigned long long)n);
}

static void put_text(struct pen *p, const char *key, const char *text)
{
	if (p->r == 0)
		p->r = node_write(p->xs, p->dir, key, "%s", text);
}

static void drop(struct pen *p, const char *key)
{
	if (p->r == 0)
		p->r = node_remove(p->xs, p->dir, key);
}

/* What both state 2 and state 4 say.  No is said too: it may have been yes before the frontend came back. */
static void put_features(struct pen *p, const struct features *f)
{
	if (f->max_segs > 0)
		put(p, "feature-max-indirect-segments", f->max_segs);
	put(p, "feature-persistent", f->persistent);
	put(p, "feature-flush-cache", f->flush);
	put(p, "feature-barrier", f->barrier);
	put(p, "feature-discard", f->discard);
	if (f->discard) {
		put(p, "discard-granularity", f->discard_granularity);
		put(p, "discard-alignment", f->discard_alignment);
		put(p, "discard-secure", 0);
	}
}

static void put_size(struct pen *p, const struct features *f)
{
	put(p, "sectors", f->sectors);
	put(p, "sector-size", f->sector_size);
	put(p, "physical-sector-size", f->physical_sector_size);
}

static int offer(struct td_xs *xs, const char *dir, void *arg)
{
	const struct features *f = arg;
	struct pen p = { .xs = xs, .dir = dir };

	put(&p, "max-ring-page-order", f ? f->max_order : 0);
	put(&p, "max-ring-pages", 1u << (f ? f->max_order : 0));
	put(&p, "multi-queue-max-queues", f ? f->max_queues : 1);
	if (f)
		put_features(&p, f);
	put(&p, "state", XS_INIT_WAIT);
	return p.r;
}

int publish_offer(struct td_xs *xs, const char *dir, enum xs_state be, const struct features *f)
{
	return node_change(xs, dir, be, offer, (void *)f);
}

static int connected(struct td_xs *xs, const char *dir, void *arg)
{
	const struct features *f = arg;
	struct pen p = { .xs = xs, .dir = dir };

	put_size(&p, f);
	put(&p, "info", f->info);
	put_features(&p, f);
	put(&p, "state", XS_CONNECTED);
	return p.r;
}

int publish_connected(struct td_xs *xs, const char *dir, enum xs_state be, const struct features *f)
{
	return node_change(xs, dir, be, connected, (void *)f);
}

static int size(struct td_xs *xs, const char *dir, void *arg)
{
	struct pen p = { .xs = xs, .dir = dir };

	put_size(&p, arg);
	put(&p, "state", XS_CONNECTED);
	return p.r;
}

int publish_size(struct td_xs *xs, const char *dir, const struct features *f)
{
	return node_change(xs, dir, XS_CONNECTED, size, (void *)f);
}

static int state_only(struct td_xs *xs, const char *dir, void *arg)
{
	struct pen p = { .xs = xs, .dir = dir };

	put(&p, "state", *(enum xs_state *)arg);
	return p.r;
}

int publish_state(struct td_xs *xs, const char *dir, enum xs_state be, enum xs_state state)
{
	return node_change(xs, dir, be, state_only, &state);
}

struct disk_nodes {
	pid_t pid;
	const char *spec;
};

static int disk_nodes(struct td_xs *xs, const char *dir, void *arg)
{
	const struct disk_nodes *n = arg;
	struct pen p = { .xs = xs, .dir = dir };

	if (n->pid > 0) {
		put(&p, "tapdisk-pid", (uint64_t)n->pid);
		put_text(&p, "tapdisk-spec", n->spec);
	} else {
		drop(&p, "tapdisk-spec");
		drop(&p, "tapdisk-pid");
	}
	return p.r;
}

int publish_disk(struct td_xs *xs, const char *dir, enum xs_state be, pid_t pid, const char *spec)
{
	struct disk_nodes n = { pid, spec };

	return node_change(xs, dir, be, disk_nodes, &n);
}

static int cookie_node(struct td_xs *xs, const char *dir, void *arg)
{
	struct pen p = { .xs = xs, .dir = dir };
	uint64_t cookie = *(uint64_t *)arg;

	if (cookie)
		put(&p, "ring-cookie", cookie);
	else
		drop(&p, "ring-cookie");
	return p.r;
}

int publish_cookie(struct td_xs *xs, const char *dir, enum xs_state be, uint64_t cookie)
{
	return node_change(xs, dir, be, cookie_node, &cookie);
}

static int hotplug(struct td_xs *xs, const char *dir, void *arg)
{
	struct pen p = { .xs = xs, .dir = dir };
	const char *sentence = arg;

	if (sentence)
		put_text(&p, "hotplug-error", sentence);
	put_text(&p, "hotplug-status", sentence ? "error" : "connected");
	return p.r;
}

int publish_hotplug(struct td_xs *xs, const char *dir, enum xs_state be, const char *sentence)
{
	return node_change(xs, dir, be, hotplug, (void *)sentence);
}

/* ---- the error node ---- */

/* /local/domain/0/backend/vbd/3/51712 to /local/domain/0/error/backend/vbd/3/51712 */
static int error_dir(char path[NODE_PATH_MAX], const char *dir)
{
	int n = snprintf(path, NODE_PATH_MAX, ROOT "error/%s", dir + strlen(ROOT));

	return n < 0 || n >= NODE_PATH_MAX ? -ENAMETOOLONG : 0;
}

void publish_error(struct td_xs *xs, const char *dir, int code, const char *sentence)
{
	char path[NODE_PATH_MAX];

	/* For people who look there; the log has it as well. */
	if (error_dir(path, dir) == 0)
		td_ignore(node_write(xs, path, "error", "%d %s", -code, sentence));
}

static bool is_empty(struct td_xs *xs, const char *path)
{
	char **names = NULL;
	unsigned nr = 0;

	if (td_xs_list(xs, path, &names, &nr) < 0)
		return false;
	free(names);
	return nr == 0;
}

/* And the folders above it, as far as nobody else's error is there: libxl does not know them, nothing is to be left. */
void publish_no_error(struct td_xs *xs, const char *dir)
{
	char path[NODE_PATH_MAX], *slash;

	if (error_dir(path, dir) < 0 || node_remove(xs, path, "error") < 0)
		return;
	while (strlen(path) > strlen(ROOT "error/") && is_empty(xs, path)) {
		if (td_xs_remove(xs, path) < 0)
			return;
		slash = strrchr(path, '/');
		*slash = '\0';
	}
}
