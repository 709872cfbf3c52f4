// SPDX-License-Identifier: BSD-2-Clause
/*
 * The steps of a disk's life; see fsm.h for when, and device.h.
 *
 * Each is written so that it can be killed at any point: what is needed to go on is in xenstore before it is needed.
 */
#include "device.h"
#include "publish.h"
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#define SECOND      1000000000ull
#define MINUTE      (60 * SECOND)
#define AT_ONCE     10u /* crashes in a row that cost no delay */
#define MAX_CRASHES 20u
#define MAX_DELAY   (30 * SECOND)
#define MAX_QUEUES  FRONTEND_QUEUES
#define MAX_ORDER   FRONTEND_ORDER

void device_log(struct device *d, enum td_log_level level, const char *fmt, ...)
{
	td_cleanup(free) char *text = NULL;
	va_list ap;

	if (!td_log_allowed(&d->limit))
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	td_log(level, "%s: %s", d->dir, text ? text : "no memory to say more");
}

/* ---- trying again ---- */

/* n-th time: at once, then after 1, 2, 4 ... 30 seconds. */
static uint64_t delay_of(unsigned n)
{
	return n == 0 ? 0 : TD_MIN(SECOND << TD_MIN(n - 1, 5u), MAX_DELAY);
}

static void wait_before_next(struct device *d, unsigned n)
{
	d->not_before_ns = td_loop_now(d->env->loop) + delay_of(n);
}

void device_crashed(struct device *d)
{
	uint64_t now = td_loop_now(d->env->loop);

	if (now - d->started_ns > MINUTE)
		d->crashes = 0;
	d->crashes++;
	device_log(d, TD_LOG_WARN, "its tapdisk %d ended unexpectedly, starting another", d->disk.pid);
	wait_before_next(d, d->crashes > AT_ONCE ? d->crashes - AT_ONCE : 0);
	if (d->crashes < MAX_CRASHES)
		return;
	d->given_up = true;
	d->err_code = td_err_set(&d->err, -EIO, "its tapdisk ended %u times in a row; the log says why",
				 d->crashes);
}

/* ---- what there is to announce ---- */

static bool is_set(struct device *d, const char *key, bool otherwise)
{
	uint64_t n = 0;

	return node_number(d->env->xs, d->dir, key, 1, &n) < 0 ? otherwise : n == 1;
}

static uint64_t own_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);

	return pages > 0 ? (uint64_t)pages * 4 : 0;
}

/* KiB; 0: not known. */
static uint64_t guest_memory(struct device *d)
{
	char dir[64];
	uint64_t kib = 0;

	snprintf(dir, sizeof(dir), "/local/domain/%u/memory", d->domid);
	if (node_u64(d->env->xs, dir, "target", &kib) == 0 && kib > 0)
		return kib;
	if (node_u64(d->env->xs, dir, "static-max", &kib) == 0 && kib > 0)
		return kib;
	return d->domid == 0 ? own_memory() : 0; /* nobody need have written it there */
}

static uint64_t budget_of(struct device *d)
{
	return announce_budget(guest_memory(d), d->env->nr_disks(d->env->owner, d->domid));
}

/* The disk's own, and what the toolstack says of it. */
static struct features features_of(struct device *d)
{
	enum { CDROM = 1, REMOVABLE = 2, READ_ONLY = 4 };
	struct features f = d->disk.features;

	if (!is_set(d, "discard-enable", true))
		f.discard = false;
	if (d->source.cdrom)
		f.info |= CDROM;
	if (is_set(d, "removable", false))
		f.info |= REMOVABLE;
	if (d->disk.read_only)
		f.info |= READ_ONLY;
	return f;
}

/* ---- the disk ---- */

/* Tell the script, the error folder and the log why there is no disk. */
static void say_failed(struct device *d, enum xs_state be)
{
	device_log(d, TD_LOG_ERR, "%s", d->err.msg);
	publish_error(d->env->xs, d->dir, d->err_code, d->err.msg);
	if (d->source.by_script)
		td_ignore(publish_hotplug(d->env->xs, d->dir, be, d->err.msg)); /* gone: nobody to tell */
}

static int publish_tapdisk(struct device *d, enum xs_state be)
{
	int r = publish_disk(d->env->xs, d->dir, be, d->disk.pid, d->disk.spec);

	if (r == 0)
		d->shown_pid = d->disk.pid;
	return r;
}

int device_tell(struct device *d, enum xs_state be, enum fsm_disk disk)
{
	int r;

	if (be == XS_NONE)
		return 0;
	if (disk == DISK_FAILED && !d->shown_failed) {
		say_failed(d, be);
		d->shown_failed = true;
	}
	if (disk != DISK_OPEN || d->shown_pid == d->disk.pid)
		return 0;
	if (d->source.by_script) {
		r = publish_hotplug(d->env->xs, d->dir, be, NULL);
		if (r < 0)
			return r;
	}
	return publish_tapdisk(d, be);
}

/* It may have only hung up on us. */
TD_CO static int find_again(struct device *d)
{
	bool borrowed = d->disk.borrowed;
	struct disk_info info = { 0 };
	int r;

	if (d->disk.pid == 0 || d->disk.fd >= 0)
		return -ESRCH;
	r = disk_info(&d->env->disk, d->disk.pid, &info, NULL);
	if (r == 0 && (!info.spec || (!borrowed && strcmp(info.name, d->disk.name) != 0)))
		r = -ESRCH;
	if (r == 0)
		r = disk_adopt(&d->disk, &info, borrowed, NULL);
	free(info.spec);
	return r;
}

/*
 * The old one has to be dead before another opens the image: what the last one had open, which may be another by now
 * than the folder names, or than we have heard of (tap-ctl unpause -a).
 */
TD_CO static int respawn(struct device *d, struct td_err *ret_err)
{
	td_cleanup(free) char *noted = NULL;
	const char *spec;
	int r;

	if (find_again(d) == 0)
		return 0;
	r = disk_bury(&d->disk, ret_err);
	if (r < 0)
		return r;
	noted = disk_noted_spec(&d->disk);
	spec = noted ? noted : d->disk.spec ? d->disk.spec : d->source.spec;
	if (!spec)
		return td_err_set(ret_err, -ENOENT, "nobody knows what its tapdisk had open");
	return disk_start(&d->disk, spec, d->disk.read_only, ret_err);
}

/* A new life: what was noted in another of the same number is nobody's. */
TD_CO static int start_first(struct device *d, struct td_err *ret_err)
{
	disk_forget_spec(&d->disk);
	return disk_start(&d->disk, d->source.spec, d->source.read_only, ret_err);
}

TD_CO static int start(struct device *d, struct td_err *ret_err)
{
	int r;

	if (d->lost)
		r = respawn(d, ret_err);
	else
		r = start_first(d, ret_err);
	if (r < 0)
		return r;
	d->lost = false;
	d->started_ns = td_loop_now(d->env->loop);
	return 0;
}

/* libxl waits 10 seconds for state 2, our script longer: a slow image is announced before it is open, with little. */
static void announce_late(struct td_timer *t)
{
	struct device *d = td_container_of(t, struct device, late);

	if (d->disk.pid || d->life != DEVICE_OURS || d->written != XS_INITIALISING)
		return;
	device_log(d, TD_LOG_WARN, "its image takes long to open");
	if (publish_offer(d->env->xs, d->dir, XS_INITIALISING, NULL) < 0)
		return; /* gone, or changed: the pass will see */
	d->written = XS_INIT_WAIT;
	d->offered_queues = 1;
	d->offered_order = 0;
}

TD_CO static int step_open(struct device *d, const struct fsm_in *in, struct td_err *ret_err)
{
	int r;

	d->late.fn = announce_late;
	if (in->be == XS_INITIALISING)
		td_timer_arm(d->env->loop, &d->late, d->env->late_ns);
	r = start(d, &d->err);
	td_timer_cancel(&d->late);
	if (r < 0 && in->be == XS_INITIALISING && !d->lost) {
		d->failed = true;
		d->err_code = r;
		return 0;
	}
	if (r < 0) {
		*ret_err = d->err;
		return r;
	}
	td_info("%s: tapdisk %d serves %s", d->dir, d->disk.pid, d->disk.spec);
	return 0;
}

TD_CO static int step_close_disk(struct device *d, const struct fsm_in *in, struct td_err *ret_err)
{
	int r = d->lost ? disk_bury(&d->disk, ret_err) : disk_end(&d->disk, ret_err);

	if (r < 0)
		return r;
	d->lost = false;
	d->shown_pid = 0;
	if (in->be == XS_NONE)
		return 0;
	td_info("%s: closed", d->dir);
	return publish_disk(d->env->xs, d->dir, in->be, 0, NULL);
}

/* ---- the ring ---- */

static int step_announce(struct device *d, const struct fsm_in *in)
{
	struct features f = features_of(d);
	bool open = in->disk == DISK_OPEN;
	int r;

	if (open)
		announce_offer(&f, budget_of(d));
	d->offered_queues = open ? f.max_queues : 1;
	d->offered_order = open ? f.max_order : 0;
	r = publish_offer(d->env->xs, d->dir, in->be, open ? &f : NULL);
	if (r == 0)
		d->written = XS_INIT_WAIT;
	return r;
}

/* A failure that is the guest's, or that trying again does not mend: said as Linux' backends do, then closing. */
static int fail(struct device *d, enum xs_state be, int code)
{
	enum xs_state state = be == XS_INITIALISING ? XS_CLOSED : XS_CLOSING;
	int r;

	d->err_code = code;
	if (!d->shown_failed)
		say_failed(d, be);
	r = publish_state(d->env->xs, d->dir, be, state);
	if (r == 0)
		d->written = state;
	return r;
}

static int drop_cookie(struct device *d, enum xs_state be)
{
	d->cookie = 0;
	return be == XS_NONE ? 0 : publish_cookie(d->env->xs, d->dir, be, 0);
}

/* The cookie is in xenstore before the ring is up: whoever finds it knows that there may be one. */
static int new_cookie(struct device *d, enum xs_state be)
{
	uint64_t cookie = 0;
	int r;

	while (cookie == 0) {
		if (getrandom(&cookie, sizeof(cookie), 0) != sizeof(cookie))
			return -EIO;
		cookie &= INT64_MAX;
	}
	r = publish_cookie(d->env->xs, d->dir, be, cookie);
	if (r == 0)
		d->cookie = cookie;
	return r;
}

/* Is it the tapdisk that failed, not what was asked of it? */
static bool is_gone(int r)
{
	return r == -ECONNREFUSED || r == -ENOENT || r == -EPIPE || r == -ECONNRESET || r == -ETIMEDOUT;
}

TD_CO static int connect_ring(struct device *d, enum xs_state be, const struct frontend *f, bool persistent)
{
	int r = new_cookie(d, be), r2;

	if (r < 0)
		return r;
	r = disk_connect(&d->disk, f, persistent, d->cookie, false, &d->err);
	if (r == 0)
		return 0;
	r2 = drop_cookie(d, be);
	if (r2 < 0)
		return r2;
	if (!is_gone(r))
		return fail(d, be, r);
	d->disk.dead = true;
	return 0;
}

TD_CO static int step_connect(struct device *d, const struct fsm_in *in)
{
	struct frontend f = { 0 };
	struct features features;
	int r;

	if (d->offered_queues == 0) { /* an earlier life offered it: what, is in xenstore */
		uint64_t n = 0;

		d->offered_queues =
			node_number(d->env->xs, d->dir, "multi-queue-max-queues", MAX_QUEUES, &n) < 0 ? 1 : n;
		d->offered_order =
			node_number(d->env->xs, d->dir, "max-ring-page-order", MAX_ORDER, &n) < 0 ? 0 : n;
	}
	r = frontend_read(d->env->xs, d->fe, d->offered_queues, d->offered_order, &f, &d->err);
	if (r < 0)
		return fail(d, in->be, r);
	if (!f.protocol[0])
		device_log(d, TD_LOG_INFO, "the guest names no protocol");
	features = features_of(d);
	announce_settle(&features, budget_of(d), f.nr_queues, f.order, f.persistent);
	r = connect_ring(d, in->be, &f, features.persistent);
	if (r < 0 || !d->disk.has_ring)
		return r;
	r = publish_connected(d->env->xs, d->dir, in->be, &features);
	if (r < 0)
		return r;
	d->written = XS_CONNECTED;
	d->shown_sectors = features.sectors;
	td_info("%s: connected: %u queue(s) of %u page(s)%s", d->dir, f.nr_queues, 1u << f.order,
		features.persistent ? ", persistent grants" : "");
	return 0;
}

/* The same ring, cookie and event channel, which the guest has left as they were. */
TD_CO static int step_recover(struct device *d, const struct fsm_in *in, struct td_err *ret_err)
{
	struct frontend f = { 0 };
	int r = 0;

	if (in->disk != DISK_OPEN) {
		r = start(d, ret_err);
		if (r == 0)
			r = publish_tapdisk(d, in->be);
		if (r < 0)
			return r;
	}
	if (d->disk.has_ring)
		return 0;
	r = frontend_read(d->env->xs, d->fe, MAX_QUEUES, MAX_ORDER, &f, ret_err);
	if (r == 0)
		r = disk_connect(&d->disk, &f, f.persistent && is_set(d, "feature-persistent", false),
				 d->cookie, true, ret_err);
	if (r < 0 && !is_gone(r)) {
		d->crashes++; /* a guest whose ring cannot be had again is given up as well */
		d->given_up = d->crashes >= MAX_CRASHES;
		d->err = *ret_err;
		d->err_code = r;
	}
	if (r < 0)
		return r;
	d->disk.resized = true; /* or it may have been, while nobody listened */
	td_warn("%s: tapdisk %d serves the guest's ring again", d->dir, d->disk.pid);
	return 0;
}

TD_CO static int step_disconnect(struct device *d, const struct fsm_in *in, struct td_err *ret_err)
{
	int r = 0;

	if (in->disk == DISK_OPEN)
		r = disk_disconnect(&d->disk, ret_err);
	if (r < 0 && !is_gone(r))
		return r;
	if (r < 0) {
		d->disk.dead = true;
		return 0;
	}
	if (in->ring == RING_LOST)
		disk_drop_journal(&d->disk);
	return drop_cookie(d, in->be);
}

static int step_state(struct device *d, const struct fsm_in *in, enum xs_state state)
{
	int r = publish_state(d->env->xs, d->dir, in->be, state);

	if (r == 0)
		d->written = state;
	return r;
}

/* ---- ends ---- */

static int step_fail(struct device *d, const struct fsm_in *in)
{
	if (d->disk.broken)
		td_err_set(&d->err, 0, "the guest broke the ring's protocol: %s", d->disk.broken);
	else if (in->be == XS_CONNECTED && in->ring == RING_NONE)
		td_err_set(&d->err, 0, "its ring is gone, and nobody knows of which connection it was");
	return fail(d, in->be, d->err_code ? d->err_code : -EPROTO);
}

/* All that belongs to this folder, or did: the ring, then the disk. */
TD_CO static int drop_all(struct device *d, struct td_err *ret_err)
{
	int r = 0;

	if (d->disk.pid && !d->lost && !d->disk.dead && d->disk.has_ring)
		r = disk_disconnect(&d->disk, ret_err);
	if (r < 0 && !is_gone(r))
		return r;
	if (d->cookie)
		disk_drop_journal(&d->disk);
	d->cookie = 0;
	disk_forget_spec(&d->disk);
	r = d->lost || d->disk.dead ? disk_bury(&d->disk, ret_err) : disk_end(&d->disk, ret_err);
	if (r == 0)
		d->lost = false;
	return r;
}

static void unwatch(struct device *d)
{
	char path[NODE_PATH_MAX + 8];

	if (!d->watching)
		return;
	d->watching = false;
	snprintf(path, sizeof(path), "%s/state", d->fe);
	td_xs_unwatch(d->env->xs, path, d->dir);
}

TD_CO static int step_reset(struct device *d, struct td_err *ret_err)
{
	int r = drop_all(d, ret_err);

	if (r < 0)
		return r;
	unwatch(d);
	d->life = DEVICE_NEW;
	d->written = XS_NONE;
	d->failed = d->given_up = d->later = d->shown_failed = false;
	d->shown_pid = 0;
	d->crashes = d->tries = 0;
	d->not_before_ns = 0;
	d->offered_queues = 0;
	return 0;
}

TD_CO static int step_conflict(struct device *d, const struct fsm_in *in, struct td_err *ret_err)
{
	int r;

	if (!d->told) {
		bool taken =
			strcmp(d->class, "vbd") == 0 && autoprobe_taken(d->env->probe, d->domid, d->vdev);

		td_error("%s: %s wrote state %d over ours (%d): two backends serve this disk, so tapback "
			 "stops; %s",
			 d->dir, taken ? "xen-blkback" : "somebody else", in->be, d->written,
			 taken ? "rmmod xen-blkback, and start tapback before it is loaded"
			       : "leave the class to one of them (tapback -n)");
		d->told = true;
	}
	r = drop_all(d, ret_err);
	if (r < 0)
		return r;
	unwatch(d);
	d->life = DEVICE_FOREIGN;
	d->written = in->be;
	return 0;
}

static int step_forget(struct device *d)
{
	unwatch(d);
	d->life = DEVICE_FOREIGN; /* nothing is watched any more */
	publish_no_error(d->env->xs, d->dir);
	d->gone = true;
	return 0;
}

int device_step(struct device *d, enum fsm_step step, const struct fsm_in *in, struct td_err *ret_err)
{
	switch (step) {
	case STEP_OPEN:
		return step_open(d, in, ret_err);
	case STEP_ANNOUNCE:
		return step_announce(d, in);
	case STEP_CONNECT:
		return step_connect(d, in);
	case STEP_RECOVER:
		return step_recover(d, in, ret_err);
	case STEP_CLOSING:
		return step_state(d, in, XS_CLOSING);
	case STEP_DISCONNECT:
		return step_disconnect(d, in, ret_err);
	case STEP_CLOSE_DISK:
		return step_close_disk(d, in, ret_err);
	case STEP_CLOSED:
		return step_state(d, in, XS_CLOSED);
	case STEP_FAIL:
		return step_fail(d, in);
	case STEP_RESET:
		return step_reset(d, ret_err);
	case STEP_CONFLICT:
		return step_conflict(d, in, ret_err);
	case STEP_FORGET:
		return step_forget(d);
	default:
		return 0;
	}
}

int device_refresh(struct device *d, enum xs_state be, struct td_err *ret_err)
{
	struct features f;
	int r = disk_refresh(&d->disk, ret_err);

	if (r == 0)
		r = publish_tapdisk(d, be);
	if (r < 0 || be != XS_CONNECTED)
		return r;
	f = features_of(d);
	if (f.sectors == d->shown_sectors)
		return 0;
	r = publish_size(d->env->xs, d->dir, &f);
	if (r == 0) {
		td_info("%s: now %llu sectors", d->dir, (unsigned long long)f.sectors);
		d->shown_sectors = f.sectors;
	}
	return r;
}
