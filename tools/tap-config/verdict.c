// SPDX-License-Identifier: BSD-2-Clause
/*
 * What libxl does with a disk, and who serves it.  See verdict.h.
 *
 * First libxl's choice of a backend (libxl_device.c of Xen 4.14 to 4.20: phy, then qdisk, then tap, the
 * first one that takes the disk), then who is behind that on this host, then whether the file is what the line says.
 */
#include "verdict.h"

#include <stdarg.h>
#include <stdio.h>

#define FIRST_WITH_TAP 419

void verdict_say(struct verdict *v, enum severity s, const char *fmt, ...)
{
	va_list ap;

	if (s > v->severity)
		v->severity = s;
	if (v->nr == VERDICT_REASONS)
		return;
	va_start(ap, fmt);
	vsnprintf(v->reason[v->nr++], sizeof(v->reason[0]), fmt, ap);
	va_end(ap);
}

const char *severity_name(enum severity s)
{
	static const char *const names[] = { "ok", "warning", "error" };

	return names[s];
}

struct look {
	const struct disk *d;
	const struct guest *g;
	const struct host *h;
	const struct target *t;
	struct verdict *v;
};

static bool has_domain(const struct disk *d)
{
	return d->backend_domain && *d->backend_domain && strcmp(d->backend_domain, "0") != 0;
}

static bool has_script(const struct disk *d)
{
	return d->script && *d->script;
}

static bool tapback_serves(const struct host *h, const char *class)
{
	for (unsigned i = 0; i < h->nr_classes && h->tapback; i++)
		if (strcmp(h->classes[i], class) == 0)
			return true;
	return false;
}

/* ---- libxl's choice ---- */

/* Why phy does not take it; NULL: it does. */
static const char *not_phy(const struct look *k)
{
	if (k->d->virtio)
		return "it is specification=virtio";
	if (k->d->colo)
		return "it is replicated (colo)";
	if (k->d->format != FORMAT_RAW)
		return "phy takes nothing but raw";
	if (has_domain(k->d) || has_script(k->d) || k->t->kind == TARGET_FILE || k->t->kind == TARGET_DEVICE)
		return NULL;
	return "it is neither a file nor a block device";
}

static const char *not_qdisk(const struct look *k)
{
	if (k->d->virtio)
		return "it is specification=virtio";
	return has_script(k->d) ? "qdisk takes no script" : NULL;
}

static const char *not_tap(const struct look *k)
{
	if (k->h->version && k->h->version < FIRST_WITH_TAP)
		return "libxl has a backend tap from Xen 4.19 on";
	if (k->d->virtio)
		return "it is specification=virtio";
	if (k->d->format != FORMAT_RAW && k->d->format != FORMAT_VHD)
		return "tap takes raw and vhd only";
	return k->d->colo ? "it is replicated (colo)" : NULL;
}

static const char *not_standalone(const struct look *k)
{
	if (!k->d->virtio)
		return "standalone wants specification=virtio";
	if (k->d->format != FORMAT_RAW)
		return "standalone takes nothing but raw";
	return has_script(k->d) ? "standalone takes no script" : NULL;
}

static const struct {
	enum disk_backend backend;
	const char *(*why_not)(const struct look *k);
	const char *class;
} order[] = {
	{ BACKEND_PHY, not_phy, "vbd" },
	{ BACKEND_QDISK, not_qdisk, "qdisk" },
	{ BACKEND_TAP, not_tap, "vbd3" },
	{ BACKEND_STANDALONE, not_standalone, "virtio_disk" },
};

/* What libxl refuses before it looks for a backend. */
static bool refused_at_once(const struct look *k, enum disk_backend asked)
{
	bool stats = (asked == BACKEND_UNKNOWN || asked == BACKEND_PHY || asked == BACKEND_STANDALONE) &&
		     k->d->format != FORMAT_EMPTY && !has_domain(k->d) && !has_script(k->d);

	if (k->d->format == FORMAT_EMPTY && !k->d->cdrom)
		verdict_say(k->v, SEVERITY_ERROR, "xl refuses it: empty, and no CD-ROM");
	else if (k->d->format == FORMAT_EMPTY && k->d->target && *k->d->target)
		verdict_say(k->v, SEVERITY_ERROR, "xl refuses it: format=empty, and a target");
	else if (k->g->hvm && k->d->cdrom && k->d->backend != BACKEND_UNKNOWN &&
		 k->d->backend != BACKEND_QDISK)
		verdict_say(k->v, SEVERITY_ERROR, "xl refuses it: a CD-ROM of an HVM guest is qdisk's");
	else if (stats && k->t->kind == TARGET_NONE)
		verdict_say(k->v, SEVERITY_ERROR, "xl refuses it: %s: %s",
			    k->d->target ? k->d->target : "(no target)", strerror(k->t->error));
	else
		return false;
	return true;
}

/* Fills in backend and class.  False: libxl has none. */
static bool choose(const struct look *k)
{
	enum disk_backend asked = k->g->hvm && k->d->cdrom ? BACKEND_QDISK : k->d->backend;
	const char *first = NULL;

	if (refused_at_once(k, asked))
		return false;
	for (size_t i = 0; i < TD_NELEMS(order); i++) {
		const char *why = order[i].why_not(k);

		if (asked != BACKEND_UNKNOWN && asked != order[i].backend)
			continue;
		if (!why) {
			k->v->backend = disk_backend_name(order[i].backend);
			k->v->class = order[i].class;
			return true;
		}
		first = first ? first : why;
	}
	verdict_say(k->v, SEVERITY_ERROR, "xl refuses it, for it has no backend for it: %s", first);
	return false;
}

/* ---- who serves it ---- */

static void served_by(struct verdict *v, const char *who)
{
	snprintf(v->served, sizeof(v->served), "%s", who);
}

static void by_tapback(const struct look *k)
{
	served_by(k->v, "tapback");
	if (k->t->spec_error[0])
		verdict_say(k->v, SEVERITY_ERROR, "tapback cannot open it: %s", k->t->spec_error);
	else if (k->t->driver[0] && !k->t->has_driver)
		verdict_say(k->v, SEVERITY_ERROR, "this blktap has no driver %s", k->t->driver);
}

static void nobody(const struct look *k, const char *what)
{
	served_by(k->v, "nobody");
	if (!k->h->tapback)
		verdict_say(k->v, SEVERITY_ERROR, "nobody serves it: tapback is not running%s", what);
	else
		verdict_say(k->v, SEVERITY_ERROR,
			    "nobody serves it: tapback does not serve class %s (its option -n)%s",
			    k->v->class, what);
}

/* Class vbd with Xen's own script: the kernel's, where it is; regular files are ours where we are. */
static void look_at_block(const struct look *k)
{
	bool us = tapback_serves(k->h, "vbd");

	if (us && (k->t->kind == TARGET_FILE || !k->h->blkback)) {
		by_tapback(k);
	} else if (k->h->blkback) {
		served_by(k->v, "xen-blkback");
	} else {
		served_by(k->v, "nobody");
		verdict_say(k->v, SEVERITY_WARNING,
			    "neither tapback serves class vbd nor is xen-blkback loaded: it is served if one "
			    "of them "
			    "comes");
	}
}

static void look_at_script(const struct look *k)
{
	if (!k->t->has_script) {
		served_by(k->v, "nobody");
		verdict_say(k->v, SEVERITY_ERROR, "there is no script %s", k->t->script);
	} else if (!has_script(k->d) && strcmp(k->v->class, "vbd") == 0) {
		look_at_block(k);
	} else if (disk_is_ours(k->d) || strcmp(k->v->class, "vbd3") == 0) {
		if (tapback_serves(k->h, k->v->class))
			by_tapback(k);
		else
			nobody(k, "");
	} else {
		served_by(k->v, k->h->blkback ? "xen-blkback, on what the script makes" : "nobody");
		if (!k->h->blkback)
			verdict_say(k->v, SEVERITY_WARNING,
				    "its script makes a block device for xen-blkback, which is not loaded");
	}
}

static void look_at_qemu(const struct look *k, bool us)
{
	snprintf(k->v->served, sizeof(k->v->served), "QEMU");
	if (us && !k->g->hvm)
		verdict_say(k->v, SEVERITY_WARNING,
			    "%.120s is the real QEMU, and tapback serves class qdisk too: both take the "
			    "disk; use tap-dm or "
			    "script=block-tapdisk",
			    k->h->dm_path);
	else
		verdict_say(k->v, SEVERITY_OK, "libxl starts %.160s for it", k->h->dm_path);
}

/* libxl starts a device model for the domain; which one decides. */
static void look_at_qdisk(const struct look *k)
{
	bool us = tapback_serves(k->h, "qdisk");

	if (k->d->format == FORMAT_EMPTY && !k->g->hvm)
		verdict_say(k->v, SEVERITY_WARNING,
			    "an empty drive, which in a PV guest needs the real QEMU");
	if (k->h->dm == DM_MISSING) {
		served_by(k->v, "nobody");
		verdict_say(k->v, SEVERITY_ERROR,
			    "libxl wants to start a device model for it, and there is no %.120s%s",
			    k->h->dm_path,
			    k->g->hvm ? "" : ": put tap-dm there, or use script=block-tapdisk");
	} else if (k->h->dm == DM_QEMU) {
		look_at_qemu(k, us);
	} else if (k->g->hvm || k->g->framebuffer) {
		served_by(k->v, "nobody");
		verdict_say(k->v, SEVERITY_ERROR, "%.160s is tap-dm, and this guest needs the real QEMU",
			    k->h->dm_path);
	} else if (us) {
		by_tapback(k);
	} else {
		nobody(k, ", and the device model is tap-dm, which has no disks");
	}
}

static void look_at_server(const struct look *k)
{
	if (has_domain(k->d)) {
		snprintf(k->v->served, sizeof(k->v->served), "domain %.100s", k->d->backend_domain);
		verdict_say(k->v, SEVERITY_OK, "what domain %.100s does with it cannot be seen from here",
			    k->d->backend_domain);
	} else if (strcmp(k->v->class, "qdisk") == 0) {
		look_at_qdisk(k);
	} else if (strcmp(k->v->class, "virtio_disk") == 0) {
		served_by(k->v, "a virtio backend");
	} else {
		look_at_script(k);
	}
}

/* ---- the file ---- */

static void look_at_file(const struct look *k)
{
	const struct target *t = k->t;
	bool raw = strcmp(t->driver, "aio") == 0;

	if (!t->driver[0] || t->spec_error[0] || has_domain(k->d))
		return;
	if (t->kind == TARGET_NONE)
		verdict_say(k->v, SEVERITY_ERROR, "its file: %s", strerror(t->error));
	else if (t->kind == TARGET_OTHER)
		verdict_say(k->v, SEVERITY_ERROR, "its file is neither a regular file nor a block device");
	else if (raw && t->format && strcmp(t->format, "luks") != 0) /* which guests write themselves */
		verdict_say(k->v, SEVERITY_WARNING,
			    "the file is %s, and the guest gets its bytes as they are, header and all",
			    t->format);
	else if (!raw && !t->format)
		verdict_say(k->v, SEVERITY_ERROR, "the file is no %s: it has no format's mark, so it is raw",
			    t->driver);
	else if (!raw && strcmp(t->driver, t->format) != 0)
		verdict_say(k->v, SEVERITY_ERROR, "the file is %s, not %s", t->format, t->driver);
	if ((t->kind == TARGET_FILE || t->kind == TARGET_DEVICE) && k->d->writable && !t->writable)
		verdict_say(k->v, SEVERITY_WARNING, "the file is not writable, and the disk is to be");
}

void disk_verdict(const struct disk *d, const struct guest *g, const struct host *h, const struct target *t,
		  struct verdict *ret)
{
	const struct look k = { d, g, h, t, ret };

	*ret = (struct verdict){ .severity = SEVERITY_OK };
	if (!choose(&k))
		return;
	look_at_server(&k);
	look_at_file(&k);
}
