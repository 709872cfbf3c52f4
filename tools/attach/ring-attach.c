// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-attach on Xen: write the disk's folders, then watch tapback and the domain's frontend bring it up.
 *
 * A failure, a timeout or a signal on the way takes everything back; a SIGKILL leaves what block-detach takes away.
 */
#include "ring.h"
#include <blktap/log.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define NAME        "block-attach"
#define ROLLBACK_MS 5000u

/* What stands in xenstore now. */
struct view {
	enum ring_state be, fe;
	bool opened, failed;
	char disk[ATTACH_DISK_MAX]; /* domain 0: "" until it is there */
};

static void look(struct td_xs *xs, const struct ring *n, struct view *v)
{
	td_cleanup(free) char *status = ring_text(xs, n->be, "hotplug-status");

	*v = (struct view){ .be = ring_state(xs, n->be), .fe = ring_state(xs, n->fe) };
	v->opened = status && strcmp(status, "connected") == 0;
	v->failed = status && strcmp(status, "error") == 0;
	if (n->domid == 0 && !ring_disk(n->number, v->disk))
		v->disk[0] = '\0';
	td_debug("%s: backend %d, frontend %d, hotplug-status %s, device %s", n->vdev, v->be, v->fe,
		 status ? status : "-", *v->disk ? v->disk : "-");
}

/*
 * The node follows the device in sysfs, by devtmpfs or by udev.  Once it can be opened the kernel has read the
 * partition table: the first open waits for that, or does it.
 */
static bool can_be_opened(const char *disk)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", disk);
	fd = *disk ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* ---- before ---- */

static int refuse_if_there(struct td_xs *xs, const struct ring *n, struct td_err *ret_err)
{
	td_cleanup(free) char *spec = NULL;
	struct ring there;
	int r = ring_find(xs, n->domid, n->number, &there);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return td_err_set(ret_err, r, "xenstore: %s: %s", n->libxl, strerror(-r));
	spec = ring_spec(xs, &there);
	return td_err_set(ret_err, -EBUSY, "%s: in use in domain %u: %s (class %s); %s %u %s frees it",
			  n->vdev, n->domid, spec ? spec : "what is left of a disk", there.class,
			  ring_is_ours(xs, &there) ? "block-detach" : "xl block-detach", n->domid, n->vdev);
}

static int need_tapback(unsigned domid, char ret_class[RING_CLASS_MAX], struct td_err *ret_err)
{
	const char *way_out = domid == 0 ? "; or use --via loop, which does without" : "";

	if (!ring_tapback(ret_class))
		return td_err_set(
			ret_err, -ESRCH,
			"tapback is not running, so nobody would serve the disk: systemctl start tapback%s",
			way_out);
	if (!*ret_class)
		return td_err_set(ret_err, -ENOTSUP,
				  "tapback serves neither class vbd nor vbd3: see its option -n%s", way_out);
	return 0;
}

static int need_frontend(const struct ring_domain *dom, struct td_err *ret_err)
{
	if (!dom->runs)
		return td_err_set(ret_err, -ENOENT,
				  "domain %u: it does not run (xl list shows those that do)", dom->id);
	if (dom->id == 0 && access("/sys/bus/xen/drivers/vbd", F_OK) < 0)
		return td_err_set(
			ret_err, -ENODEV,
			"domain 0 has no driver for the disk: modprobe xen-blkfront, or use --via loop");
	return 0;
}

static int prepare(const struct ring_domain *dom, const struct attach_request *q, struct ring *n,
		   struct td_err *ret_err)
{
	char class[RING_CLASS_MAX];
	uint32_t number;
	int r = 0;

	if (td_vdev_parse(q->vdev, &number) < 0)
		return td_err_set(ret_err, -EINVAL,
				  "%s: Xen has no such disk; use a name like xvda, sda or hda", q->vdev);
	ring_init(n, dom->id, number, "vbd");
	if (dom->id == 0)
		r = attach_refuse_twice(q->vdev, ret_err);
	if (r == 0)
		r = need_frontend(dom, ret_err);
	if (r == 0)
		r = refuse_if_there(dom->xs, n, ret_err);
	if (r == 0)
		r = need_tapback(dom->id, class, ret_err);
	if (r == 0)
		ring_init(n, dom->id, number, class);
	return r;
}

/* ---- waiting ---- */

/* Frontends leave a sentence beside their folder. */
static int say_refused(struct td_xs *xs, const struct ring *n, const struct view *v, struct td_err *ret_err)
{
	td_cleanup(free) char *text = ring_text(xs, n->be, "error");
	char path[RING_PATH_MAX + 32];

	snprintf(path, sizeof(path), "/local/domain/%u/error/device/vbd/%u", n->domid, (unsigned)n->number);
	if (!text)
		text = ring_text(xs, path, "error");
	return td_err_set(ret_err, -EIO,
			  "%s: domain %u and tapback did not come together (states %d and %d)%s%s", n->vdev,
			  n->domid, v->fe, v->be, text ? ": " : "", text ? text : "");
}

static int say_not_opened(struct td_xs *xs, const struct ring *n, struct td_err *ret_err)
{
	td_cleanup(free) char *text = ring_text(xs, n->be, "hotplug-error");

	return td_err_set(ret_err, -EIO, "%s",
			  text ? text : "tapback could not open the image; its log says why");
}

static int say_late(const struct ring *n, const struct attach_request *q, const struct view *v,
		    struct td_err *ret_err)
{
	unsigned s = q->timeout_ms / 1000;

	if (!v->opened)
		return td_err_set(ret_err, -ETIMEDOUT,
				  "%s: tapback did not open it within %u s; its log may say why", q->spec, s);
	if (v->fe < RING_INITIALISED)
		return td_err_set(
			ret_err, -ETIMEDOUT,
			"%s: domain %u does not take it within %u s: is there a driver for Xen's disks in it?"
			" (--no-wait leaves the disk there for when it does)",
			n->vdev, n->domid, s);
	if (v->be == RING_CONNECTED && v->fe == RING_CONNECTED)
		return td_err_set(ret_err, -ETIMEDOUT,
				  "%s: connected, but no /dev/%s appears: is udev at work?", n->vdev,
				  *v->disk ? v->disk : n->vdev);
	return td_err_set(ret_err, -ETIMEDOUT,
			  "%s: not connected within %u s (frontend's state %d, backend's %d)", n->vdev, s,
			  v->fe, v->be);
}

static bool is_up(const struct ring *n, const struct attach_request *q, const struct view *v)
{
	if (q->no_wait)
		return v->opened;
	if (v->be != RING_CONNECTED || v->fe != RING_CONNECTED)
		return false;
	return n->domid != 0 || can_be_opened(v->disk);
}

static int wait_up(struct td_xs *xs, const struct ring *n, const struct attach_request *q, struct view *v,
		   struct td_err *ret_err)
{
	uint64_t deadline = attach_now_ms() + q->timeout_ms;
	int r;

	for (;;) {
		look(xs, n, v);
		if (v->failed)
			return say_not_opened(xs, n, ret_err);
		if (v->be == RING_GONE)
			return td_err_set(ret_err, -ENOENT, "%s: somebody else detached it meanwhile",
					  n->vdev);
		if (v->be >= RING_CLOSING || v->fe >= RING_CLOSING)
			return say_refused(xs, n, v, ret_err);
		if (is_up(n, q, v))
			return 0;
		r = ring_pause(xs, deadline);
		if (r == -ETIMEDOUT)
			return say_late(n, q, v, ret_err);
		if (r == -EINTR)
			return td_err_set(ret_err, r, "%s: interrupted; it is not attached", n->vdev);
		if (r < 0)
			return td_err_set(ret_err, r, "xenstore: %s", strerror(-r));
	}
}

/* ---- the end ---- */

static void print(struct td_xs *xs, const struct ring *n, const struct attach_request *q,
		  const struct view *v)
{
	char device[64] = "";
	json_t *o;

	if (*v->disk)
		ring_device(n, v->disk, device, sizeof(device));
	if (!q->json) {
		puts(*device ? device : n->vdev);
		return;
	}
	o = json_pack("{s:s,s:i,s:s*,s:s,s:I,s:s,s:o}", "vdev", n->vdev, "domain", (int)n->domid, "device",
		      *device ? device : NULL, "mode", q->read_only ? "r" : "w", "pid",
		      (json_int_t)TD_MAX(ring_number(xs, n->be, "tapdisk-pid"), (int64_t)0), "class",
		      n->class, "partitions", *device ? attach_partitions(v->disk, device) : json_array());
	if (o && json_dumpf(o, stdout, JSON_COMPACT) == 0)
		putchar('\n');
	json_decref(o);
}

/* A damaged table is the user's to repair, on the device. */
static int make_links(const struct ring *n, const struct view *v, struct td_err *ret_err)
{
	int r;

	if (!*v->disk)
		return 0;
	attach_settle();
	r = attach_count_partitions(v->disk) > 0 ? 0 : attach_add_partitions(v->disk);
	if (r < 0 && r != -ENOTSUP)
		attach_complain(NAME, "%s: not all of its partitions could be added: %s", n->vdev,
				strerror(-r));
	attach_settle();
	return attach_make_links(n->vdev, v->disk, ret_err);
}

static void roll_back(struct td_xs *xs, const struct ring *n)
{
	const struct ring_release rel = { .force = true, .timeout_ms = ROLLBACK_MS };
	struct td_err err = { .msg = "" };

	if (ring_release(xs, n, &rel, &err) < 0)
		attach_complain(NAME, "%s: undoing it: %s; run: block-detach %u %s", n->vdev, err.msg,
				n->domid, n->vdev);
}

static int attach(const struct ring_domain *dom, const struct attach_request *q, struct td_err *ret_err)
{
	struct view v = { .disk = "" };
	struct ring n = { 0 };
	int r;

	r = prepare(dom, q, &n, ret_err);
	if (r < 0)
		return r;
	ring_catch_signals();
	r = ring_write(dom->xs, &n, q->spec, q->read_only);
	if (r == -EEXIST)
		return refuse_if_there(dom->xs, &n, ret_err);
	if (r < 0)
		return td_err_set(ret_err, r, "xenstore: %s cannot be written: %s", n.be, strerror(-r));
	td_debug("%s: written", n.be);
	r = ring_watch(dom->xs, &n);
	if (r == 0)
		r = wait_up(dom->xs, &n, q, &v, ret_err);
	if (r == 0)
		r = make_links(&n, &v, ret_err);
	if (r < 0)
		roll_back(dom->xs, &n);
	else
		print(dom->xs, &n, q, &v);
	return r;
}

int ring_refuse_twice(const char *vdev, struct td_err *ret_err)
{
	struct ring_domain dom = { 0 };
	struct ring n;
	uint32_t number;
	int r;

	if (td_vdev_parse(vdev, &number) < 0)
		return 0;
	r = ring_domain_open(&dom, "0", ret_err);
	if (r < 0 || !dom.xs)
		return r;
	ring_init(&n, 0, number, "vbd");
	r = refuse_if_there(dom.xs, &n, ret_err);
	ring_domain_close(&dom);
	return r;
}

int ring_attach(const struct attach_request *q, struct td_err *ret_err)
{
	char name[ATTACH_LOCK_MAX];
	struct ring_domain dom = { 0 };
	int lock = -1, r;

	r = ring_domain_open(&dom, q->domain, ret_err);
	if (r < 0)
		return r;
	ring_lock_name(dom.id, q->vdev, name);
	r = attach_lock(name, 0, &lock, ret_err);
	if (r == 0) {
		r = attach(&dom, q, ret_err);
		attach_lock_drop(name); /* xenstore is the record */
		close(lock);
	}
	ring_domain_close(&dom);
	return r;
}
