// SPDX-License-Identifier: BSD-2-Clause
/*
 * The first look at a backend folder: whose is it, which disk does it mean, what of it lives already.
 */
#include "device.h"
#include "job.h"
#include "publish.h"
#include "recover.h"
#include <limits.h>
#include <stdio.h>

#define GRACE_NS                                                                                             \
	1500000000ull /* another daemon of the same class would have answered by then; libxl waits 10 s */

/* What source.h wants to see.  Each text is ours to free. */
struct nodes {
	char *script, *params, *mode, *device_type, *phys_path;
};

static void nodes_read(struct device *d, struct nodes *n)
{
	struct td_xs *xs = d->env->xs;

	n->script = node_text(xs, d->dir, "script");
	n->params = node_text(xs, d->dir, "params");
	n->mode = node_text(xs, d->dir, "mode");
	n->device_type = node_text(xs, d->dir, "device-type");
	n->phys_path = node_text(xs, d->dir, "physical-device-path");
}

static void nodes_free(struct nodes *n)
{
	free(n->script);
	free(n->params);
	free(n->mode);
	free(n->device_type);
	free(n->phys_path);
}

TD_CO static enum source_file kind_of(struct device *d, const struct nodes *n)
{
	const char *path = source_path(d->class, n->script, n->params);
	mode_t mode = 0;

	if (!path || job_stat(&d->env->disk, path, &mode) < 0)
		return SOURCE_FILE_NONE;
	return S_ISBLK(mode) ? SOURCE_FILE_BLOCK : S_ISREG(mode) ? SOURCE_FILE_REGULAR : SOURCE_FILE_NONE;
}

static bool blkback_serves(const struct device_env *env)
{
	return env->phy == PHY_AUTO ? autoprobe_blkback(env->probe) : env->phy == PHY_KERNEL;
}

/* The marks of an earlier life, our own writing. */
struct marks {
	uint64_t pid, cookie;
	char *spec; /* ours to free */
};

static bool marks_read(struct device *d, struct marks *m)
{
	struct td_xs *xs = d->env->xs;

	if (node_number(xs, d->dir, "tapdisk-pid", INT_MAX, &m->pid) < 0)
		m->pid = 0;
	if (node_number(xs, d->dir, "ring-cookie", INT64_MAX, &m->cookie) < 0)
		m->cookie = 0;
	m->spec = node_text(xs, d->dir, "tapdisk-spec");
	return m->pid || m->cookie;
}

/* The folder that the toolstack says is the guest's: below that guest's own, or we do not look at it. */
static int find_frontend(struct device *d)
{
	td_cleanup(free) char *fe = node_text(d->env->xs, d->dir, "frontend");
	char own[64];

	snprintf(own, sizeof(own), "/local/domain/%u/", d->domid);
	if (!fe || strncmp(fe, own, strlen(own)) != 0 || strlen(fe) >= sizeof(d->fe) - 32)
		return -ENOENT;
	memcpy(d->fe, fe, strlen(fe) + 1);
	return 0;
}

static int watch_frontend(struct device *d)
{
	char path[NODE_PATH_MAX + 8];
	int r;

	snprintf(path, sizeof(path), "%s/state", d->fe);
	r = td_xs_watch(d->env->xs, path, d->dir);
	d->watching = r == 0;
	if (r < 0)
		d->life = DEVICE_NEW; /* all of it again */
	return r;
}

/* ---- the verdict ---- */

static void be_foreign(struct device *d, enum xs_state be, const char *why)
{
	d->life = DEVICE_FOREIGN;
	d->written = be;
	td_info("%s: not ours: %s", d->dir, why);
	/* Only our own script waits for a word from us. */
	if (d->source.by_script) {
		td_error("%s: %s", d->dir, why);
		td_ignore(publish_hotplug(d->env->xs, d->dir, be, why)); /* the log has it */
	}
}

/* The script's tapdisk is ours if it answers as ours do. */
TD_CO static int borrow(struct device *d)
{
	struct disk_info info = { 0 };
	int r = disk_info(&d->env->disk, d->source.pid, &info, NULL);

	if (r == 0 && info.minor != d->source.minor)
		r = -ESTALE;
	if (r == 0)
		r = disk_adopt(&d->disk, &info, true, NULL);
	free(info.spec);
	return r;
}

/* fresh: nothing of an earlier life is known, so a tapdisk that is named has to be there. */
TD_CO static void decide(struct device *d, enum xs_state be, const struct nodes *n, bool fresh)
{
	struct source_in in = {
		.class = d->class,
		.script = n->script,
		.params = n->params,
		.mode = n->mode,
		.device_type = n->device_type,
		.phys_path = n->phys_path,
		.run_dir = d->env->run_dir,
		.kind = kind_of(d, n),
		.blkback = blkback_serves(d->env),
		.taken = strcmp(d->class, "vbd") == 0 && autoprobe_taken(d->env->probe, d->domid, d->vdev),
		.marked = !fresh,
		.state = be,
	};

	d->later = false;
	source_free(&d->source);
	switch (source_of(&in, &d->source, &d->err)) {
	case SOURCE_FOREIGN:
		be_foreign(d, be, d->source.why);
		return;
	case SOURCE_BORROW:
		if (fresh && borrow(d) < 0) {
			be_foreign(d, be, "its tapdisk does not answer as ours do");
			return;
		}
		break;
	case SOURCE_BAD:
		d->failed = true;
		d->err_code = -EINVAL;
		break;
	case SOURCE_LATER:
		d->later = true;
		d->not_before_ns = td_loop_now(d->env->loop) + GRACE_NS;
		break;
	case SOURCE_OURS:
		break;
	}
	d->life = DEVICE_OURS;
	d->written = be;
}

/* ---- an earlier life ---- */

TD_CO static int adopt(struct device *d, const struct disk_info *info)
{
	td_cleanup(free) char *spec = info->spec ? strdup(info->spec) : NULL;
	struct disk_info copy = *info;
	int r;

	copy.spec = spec; /* the list of the living may be gone when the tapdisk has answered */
	r = disk_adopt(&d->disk, &copy, d->source.pid > 0, NULL);
	if (r == 0)
		td_info("%s: found its tapdisk %d again", d->dir, info->pid);
	return r;
}

/* The one that the folder names, or, if we were killed before we could write that, the one that bears its name. */
TD_CO static void find_tapdisk(struct device *d, const struct marks *m)
{
	const struct disk_info *living = recover_find(d->env->living, d->domid, d->vdev);
	struct disk_info named = { 0 };
	int r = -ENOENT;

	if (d->disk.pid)
		return;
	if (m->pid && disk_info(&d->env->disk, (pid_t)m->pid, &named, NULL) == 0) {
		if (strcmp(named.name, d->disk.name) == 0 || d->source.pid == named.pid)
			r = adopt(d, &named);
		free(named.spec);
	}
	if (r < 0 && living && (uint64_t)living->pid != m->pid)
		r = adopt(d, living);
	if (r == 0 || !m->pid)
		return;
	d->lost = true;
	d->disk.pid = (pid_t)m->pid; /* to be sure that it is dead, before there is another */
	if (m->spec && *m->spec) {
		free(d->disk.spec);
		d->disk.spec = strdup(m->spec);
	}
	d->disk.read_only = d->source.read_only;
	td_warn("%s: its tapdisk %d is gone", d->dir, d->disk.pid);
}

int device_setup(struct device *d, enum xs_state be)
{
	struct nodes n = { 0 };
	struct marks m = { 0 };
	bool marked;

	if (find_frontend(d) < 0) {
		be_foreign(d, be, "it names no frontend");
		return 0;
	}
	nodes_read(d, &n);
	marked = marks_read(d, &m);
	decide(d, be, &n, !marked);
	nodes_free(&n);
	if (d->life == DEVICE_OURS) {
		find_tapdisk(d, &m);
		d->cookie = m.cookie;
	}
	free(m.spec);
	return d->life == DEVICE_OURS ? watch_frontend(d) : 0;
}

void device_setup_later(struct device *d)
{
	struct nodes n = { 0 };

	nodes_read(d, &n);
	if (n.phys_path) {
		enum xs_state written = d->written;

		decide(d, XS_INITIALISING, &n, true);
		d->written = written;
	}
	nodes_free(&n);
}
