// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-detach on Xen.  The order: nobody uses the disk (domain 0), the frontend closes, tapback closes the image, the
 * folders go.
 *
 * blkfront gives a disk up at once, mounted or not.  In domain 0 we look first, and hold the device alone until it is
 * gone; what a guest does with its own we cannot see.
 *
 * Where no tapback runs its part is done here: the frontend closes by itself, then the tapdisk is ended.
 */
#include "ring.h"
#include <blktap/log.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define NODE_MS   2000u /* what devtmpfs or udev takes */
#define UNUSED_MS 2000u /* for a frontend that has not taken the disk */

struct release {
	struct td_xs *xs;
	const struct ring *n;
	const struct ring_release *how;
	uint64_t deadline;
	char disk[ATTACH_DISK_MAX]; /* domain 0; "": none */
	int fd;                     /* of it, ours alone; -1 */
	pid_t pid;                  /* of its tapdisk; 0 */
	uint64_t pid_start;
	bool tapback, taken;
};

TD_PRINTF(2, 3) static void report(const struct release *rel, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (!rel->how->report)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	rel->how->report(line);
}

/* ---- domain 0's own ---- */

/* Alone with it, so that nobody mounts it between the look and the end. */
static int open_alone(struct release *rel, struct td_err *ret_err)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", rel->disk);
	while ((rel->fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC)) < 0) {
		if (errno == ENOENT || errno == ENXIO || errno == ENODEV)
			return 0; /* it goes already */
		if (errno != EBUSY)
			return td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
		if (attach_now_ms() >= rel->deadline)
			return td_err_set(
				ret_err, -EBUSY,
				"%s: in use: mounted in another mount namespace, or held by the kernel",
				path);
		attach_nap();
	}
	return 0;
}

static int take(struct release *rel, struct td_err *ret_err)
{
	int r = attach_check_free(rel->n->vdev, rel->disk, ret_err);

	if (r == 0)
		r = open_alone(rel, ret_err);
	if (r < 0 || rel->fd < 0)
		return r;
	r = attach_write_back(rel->fd, rel->deadline);
	if (r == -ETIMEDOUT)
		return td_err_set(ret_err, r,
				  "/dev/%s: not written back in time; is the daemon paused (tap-ctl list)?",
				  rel->disk);
	return r < 0 ? td_err_set(ret_err, r, "/dev/%s: what is not written yet cannot be written: %s",
				  rel->disk, strerror(-r))
		     : 0;
}

/*
 * What will be lost is said before it is.  A file system that was unmounted lazily goes on until its last file closes.
 */
static void evict(struct release *rel)
{
	char path[64], what[256];

	attach_evict(rel->disk, rel->how->report);
	attach_holder(rel->disk, what, sizeof(what));
	snprintf(path, sizeof(path), "/dev/%s", rel->disk);
	rel->fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (*what)
		report(rel, "it is %s: what that has not written yet is lost", what);
	else if (rel->fd < 0 && errno == EBUSY)
		report(rel, "files on it are still open: what they have not written yet is lost");
	if (rel->fd < 0)
		rel->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (rel->fd >= 0 && attach_write_back(rel->fd, rel->deadline) < 0)
		report(rel, "the image does not take what is not written yet: it is lost");
}

/* ---- both sides close ---- */

/* With tapback it is the backend that closes last; without one, or with no backend at all, the frontend has to. */
static bool is_closed(const struct release *rel)
{
	enum ring_state be = ring_state(rel->xs, rel->n->be), fe = ring_state(rel->xs, rel->n->fe);

	if (be == RING_GONE)
		return true;
	if (rel->tapback)
		return be == RING_CLOSED;
	return fe == RING_CLOSED || fe == RING_GONE;
}

/* *ret_closed is false where there is nothing to wait for, or no use in it. */
static int wait_closed(struct release *rel, bool *ret_closed, struct td_err *ret_err)
{
	uint64_t deadline = attach_now_ms() +
			    (rel->taken ? rel->how->timeout_ms : TD_MIN(rel->how->timeout_ms, UNUSED_MS));
	int r = 0;

	while (r == 0 && !is_closed(rel))
		r = ring_pause(rel->xs, deadline);
	*ret_closed = r == 0;
	if (r == 0 || (r == -ETIMEDOUT && !rel->taken))
		return 0;
	if (r == -ETIMEDOUT && rel->how->force) {
		report(rel, "domain %u did not let go; it loses the disk at once", rel->n->domid);
		return 0;
	}
	if (r == -ETIMEDOUT)
		return td_err_set(
			ret_err, -EBUSY,
			"%s: domain %u holds it, and was told to let go; repeat block-detach later, or use "
			"--force, by which it loses the disk at once",
			rel->n->vdev, rel->n->domid);
	return td_err_set(ret_err, r, "%s: %s", rel->n->vdev, r == -EINTR ? "interrupted" : strerror(-r));
}

/* ---- the image closes ---- */

/* The number alone says nothing: the daemon has to answer by the name that tapback gave it. */
static bool is_its_tapdisk(const struct ring *n, pid_t pid)
{
	json_t *info = NULL;
	char name[48];
	bool is;

	snprintf(name, sizeof(name), "vbd-%u-%" PRIu32, n->domid, n->number);
	if (td_ctl_call(pid, json_pack("{s:s}", "cmd", "info"), 2000, &info, NULL) < 0)
		return false;
	is = strcmp(name, json_string_value(json_object_get(info, "name")) ?: "") == 0;
	json_decref(info);
	return is;
}

/* tapback takes the number away when the image is closed. */
static int wait_image(struct release *rel, struct td_err *ret_err)
{
	uint64_t deadline = attach_now_ms() + rel->how->timeout_ms;

	while (ring_number(rel->xs, rel->n->be, "tapdisk-pid") > 0 && attach_now_ms() < deadline)
		attach_nap();
	if (ring_number(rel->xs, rel->n->be, "tapdisk-pid") < 0 || rel->how->force)
		return 0;
	return td_err_set(ret_err, -ETIMEDOUT, "%s: tapback still has the image open; its log may say why",
			  rel->n->vdev);
}

/* Whatever happened, no daemon of its stays. */
static int wait_daemon(const struct release *rel, struct td_err *ret_err)
{
	uint64_t deadline = attach_now_ms() + rel->how->timeout_ms;

	if (rel->pid == 0)
		return 0;
	while (rel->tapback && attach_pid_start(rel->pid) == rel->pid_start && attach_now_ms() < deadline)
		attach_nap();
	if (attach_pid_start(rel->pid) != rel->pid_start)
		return 0;
	return td_ctl_terminate(rel->pid, rel->how->timeout_ms, ret_err);
}

/* The device goes a moment after its folder, and its node a moment later; a node that somebody made by hand stays. */
static int wait_device(const struct release *rel, struct td_err *ret_err)
{
	uint64_t now = attach_now_ms(), deadline = now + rel->how->timeout_ms, node_deadline = now + NODE_MS;
	char disk[ATTACH_DISK_MAX], path[64];

	while (rel->n->domid == 0 && ring_disk(rel->n->number, disk)) {
		if (attach_now_ms() >= deadline)
			return td_err_set(ret_err, -EBUSY, "/dev/%s: the kernel does not give it up", disk);
		attach_nap();
	}
	snprintf(path, sizeof(path), "/dev/%s", rel->disk);
	while (*rel->disk && access(path, F_OK) == 0 && attach_now_ms() < node_deadline)
		attach_nap();
	return 0;
}

/* ---- all of it ---- */

static void begin(struct release *rel)
{
	int64_t pid = ring_number(rel->xs, rel->n->be, "tapdisk-pid");
	char class[RING_CLASS_MAX];

	rel->deadline = attach_now_ms() + rel->how->timeout_ms;
	rel->tapback = ring_tapback(class);
	rel->taken = ring_state(rel->xs, rel->n->fe) >= RING_INITIALISED;
	if (pid > 0 && pid <= INT32_MAX && is_its_tapdisk(rel->n, (pid_t)pid)) {
		rel->pid = (pid_t)pid;
		rel->pid_start = attach_pid_start(rel->pid);
	}
	if (rel->n->domid != 0 || !ring_disk(rel->n->number, rel->disk))
		rel->disk[0] = '\0';
}

static int steps(struct release *rel, struct td_err *ret_err)
{
	bool closed;
	int r = 0;

	if (*rel->disk && rel->how->force)
		evict(rel);
	else if (*rel->disk)
		r = take(rel, ret_err);
	if (r < 0)
		return r;
	r = ring_watch(rel->xs, rel->n);
	if (r == 0)
		r = ring_close_request(rel->xs, rel->n);
	if (r < 0)
		return td_err_set(ret_err, r, "xenstore: %s: %s", rel->n->be, strerror(-r));
	r = wait_closed(rel, &closed, ret_err);
	if (r == 0 && closed && rel->tapback)
		r = wait_image(rel, ret_err);
	else if (r == 0 && closed)
		r = wait_daemon(rel, ret_err);
	if (r < 0)
		return r;
	td_debug("%s: %s", rel->n->be, closed ? "closed" : "not closed");
	r = ring_erase(rel->xs, rel->n);
	if (r < 0)
		return td_err_set(ret_err, r, "xenstore: %s: %s", rel->n->be, strerror(-r));
	return wait_daemon(rel, ret_err);
}

int ring_release(struct td_xs *xs, const struct ring *n, const struct ring_release *how,
		 struct td_err *ret_err)
{
	struct release rel = { .xs = xs, .n = n, .how = how, .fd = -1 };
	int r;

	begin(&rel);
	td_debug("%s: device %s, tapdisk %d, tapback %s", n->be, *rel.disk ? rel.disk : "-", (int)rel.pid,
		 rel.tapback ? "runs" : "does not run");
	r = steps(&rel, ret_err);
	if (rel.fd >= 0)
		close(rel.fd);
	if (r == 0)
		r = wait_device(&rel, ret_err);
	if (r == 0 && n->domid == 0)
		attach_drop_links(n->vdev, *rel.disk ? rel.disk : NULL);
	return r;
}

int ring_detach(const struct ring_domain *dom, const char *vdev, const struct ring_release *how,
		bool *ret_was, struct td_err *ret_err)
{
	uint32_t number;
	struct ring n;
	int r;

	if (td_vdev_parse(vdev, &number) < 0)
		return 0; /* a name that only loop devices have */
	r = ring_find(dom->xs, dom->id, number, &n);
	if (r == -ENOENT) {
		if (dom->id == 0)
			attach_drop_links(vdev, NULL);
		return 0;
	}
	if (r < 0)
		return td_err_set(ret_err, r, "xenstore: %s", strerror(-r));
	if (!ring_is_ours(dom->xs, &n))
		return td_err_set(ret_err, -EPERM,
				  "%s of domain %u was not attached by block-attach: xl block-detach %u %s",
				  vdev, dom->id, dom->id, vdev);
	*ret_was = true;
	return ring_release(dom->xs, &n, how, ret_err);
}
