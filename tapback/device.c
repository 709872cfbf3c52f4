// SPDX-License-Identifier: BSD-2-Clause
/*
 * One backend folder: kicks in, passes out; see device.h.
 *
 * What one guest can make us do is bounded: kicks are counted as one while a pass runs or waits, there are at most
 * max_passes of those in a second, and at most MAX_STEPS steps in one.
 */
#include "device.h"
#include <blktap/co.h>
#include <stdio.h>

#define SECOND    1000000000ull
#define MAX_STEPS 32u
#define MAX_DELAY 30u

/* ---- what is there ---- */

static enum fsm_disk disk_state(const struct device *d)
{
	if (d->failed)
		return DISK_FAILED;
	if (d->lost)
		return DISK_LOST;
	if (d->disk.pid)
		return DISK_OPEN;
	return d->later ? DISK_LATER : DISK_NONE;
}

static enum fsm_ring ring_state(const struct device *d, enum fsm_disk disk)
{
	if (disk == DISK_OPEN && d->disk.has_ring)
		return d->disk.broken ? RING_BROKEN : RING_UP;
	return d->cookie ? RING_LOST : RING_NONE;
}

static bool is_plugged(struct device *d)
{
	td_cleanup(free) char *status = NULL;

	if (!d->source.needs_plug)
		return true;
	status = node_text(d->env->xs, d->dir, "hotplug-status");
	return status && strcmp(status, "connected") == 0;
}

static void look(struct device *d, struct fsm_in *in)
{
	struct td_xs *xs = d->env->xs;
	uint64_t online = 0;

	memset(in, 0, sizeof(*in));
	in->be = node_state(xs, d->dir);
	in->fe = node_state(xs, d->fe);
	if (in->be != XS_NONE) {
		in->online = node_u64(xs, d->dir, "online", &online) == 0 && online == 1;
		in->plugged = is_plugged(d);
	}
	in->written = d->written;
	in->by_script = d->source.by_script;
	in->given_up = d->given_up;
	in->wait = td_loop_now(d->env->loop) < d->not_before_ns;
	in->disk = disk_state(d);
	in->ring = ring_state(d, in->disk);
}

/* ---- one step ---- */

/* A foreign folder is only looked at: is it gone, or made anew? */
static enum fsm_step next_of_foreign(struct device *d, enum xs_state be)
{
	enum xs_state seen = d->written;

	d->written = be;
	if (be == XS_NONE)
		return STEP_FORGET;
	return be == XS_INITIALISING && seen > XS_INITIALISING ? STEP_RESET : STEP_NONE;
}

TD_CO static int first_look(struct device *d)
{
	enum xs_state be = node_state(d->env->xs, d->dir);
	int r;

	if (be == XS_NONE) { /* nothing was written yet, or it is gone already */
		d->gone = true;
		return 0;
	}
	r = device_setup(d, be);
	d->env->decided(d);
	return r;
}

static void note_death(struct device *d)
{
	if (!d->disk.dead || d->lost)
		return;
	d->lost = true;
	d->disk.has_ring = false;
	device_crashed(d);
}

/* 1: something was done, look again; 0: there is nothing to do; else try again later. */
TD_CO static int do_one(struct device *d, struct td_err *ret_err)
{
	struct fsm_in in;
	enum fsm_step step;
	int r = 0;

	if (d->life == DEVICE_NEW) {
		r = first_look(d);
		return r < 0 ? r : 1;
	}
	note_death(d);
	if (d->life == DEVICE_OURS && d->later)
		device_setup_later(d);
	look(d, &in);
	if (d->life == DEVICE_OURS)
		r = device_tell(d, in.be, in.disk);
	if (r < 0)
		return r == -ENOENT || r == -ESTALE ? 1 : r;
	step = d->life == DEVICE_FOREIGN ? next_of_foreign(d, in.be) : fsm_next(&in);
	if (step != STEP_NONE) {
		td_debug("%s: be %d fe %d disk %d ring %d: %s", d->dir, in.be, in.fe, in.disk, in.ring,
			 fsm_step_name(step));
		r = device_step(d, step, &in, ret_err);
		if (r == 0)
			d->tries = 0;
		return r < 0 && r != -ENOENT && r != -ESTALE ? r : 1;
	}
	if (d->life == DEVICE_OURS && in.disk == DISK_OPEN && (d->disk.resized || d->disk.respec))
		r = device_refresh(d, in.be, ret_err);
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

/* ---- passes ---- */

static void arm(struct device *d, uint64_t after_ns)
{
	td_timer_arm(d->env->loop, &d->timer, after_ns);
}

static void failed_pass(struct device *d, const struct td_err *err, int r)
{
	unsigned delay = TD_MIN(1u << TD_MIN(d->tries, 5u), MAX_DELAY);

	d->tries++;
	device_log(d, TD_LOG_ERR, "%s; trying again in %u s", err->msg[0] ? err->msg : strerror(-r), delay);
	d->not_before_ns = td_loop_now(d->env->loop) + delay * SECOND;
}

TD_CO static void pass(struct device *d)
{
	struct td_err err = { "" };
	unsigned steps = 0;
	int r = 1;

	while (r > 0 && !d->gone && !d->env->stopping && steps++ < MAX_STEPS) {
		d->kicked = false;
		r = do_one(d, &err);
	}
	if (r < 0) {
		failed_pass(d, &err, r);
	} else if (r > 0 && steps > MAX_STEPS) {
		device_log(d, TD_LOG_WARN, "its states change faster than they can be followed");
		d->not_before_ns = td_loop_now(d->env->loop) + SECOND;
	}
}

/* Called when a pass has ended: by then its coroutine may be gone, and so may d. */
static void ended(struct device *d)
{
	uint64_t now = td_loop_now(d->env->loop);

	d->running = false;
	d->env->nr_running--;
	if (d->gone)
		d->env->forget(d);
	else if (d->env->stopping)
		return;
	else if (d->not_before_ns > now)
		arm(d, d->not_before_ns - now);
	else if (d->kicked)
		arm(d, 0);
}

static void pass_main(void *arg)
{
	struct device *d = arg;

	pass(d);
	ended(d);
}

static void start_pass(struct device *d)
{
	d->running = true;
	d->env->nr_running++;
	if (td_co_start(pass_main, d) == 0)
		return;
	d->running = false;
	d->env->nr_running--;
	arm(d, SECOND); /* no memory for a stack */
}

/* How long until this pass may be: 0 as long as there were few. */
static uint64_t hold_back(struct device *d)
{
	uint64_t now = td_loop_now(d->env->loop);

	if (now - d->window_ns >= SECOND) {
		d->window_ns = now;
		d->in_window = 0;
	}
	return d->in_window++ < d->env->max_passes ? 0 : d->window_ns + SECOND - now;
}

static void on_timer(struct td_timer *t)
{
	struct device *d = td_container_of(t, struct device, timer);

	d->kicked = false;
	if (!d->running)
		start_pass(d);
}

void device_kick(struct device *d)
{
	bool waits = d->kicked;

	d->kicked = true;
	if (!waits && !d->running && !d->env->stopping)
		arm(d, hold_back(d));
}

/* ---- the object ---- */

static void disk_changed(struct disk *disk)
{
	device_kick(td_container_of(disk, struct device, disk));
}

struct device *device_new(struct device_env *env, const char *class, uint32_t domid, uint32_t vdev)
{
	struct device *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->env = env;
	d->class = class;
	d->domid = domid;
	d->vdev = vdev;
	snprintf(d->dir, sizeof(d->dir), "/local/domain/0/backend/%s/%u/%u", class, domid, vdev);
	disk_init(&d->disk, &env->disk, domid, vdev);
	d->disk.changed = disk_changed;
	d->timer.fn = on_timer;
	return d;
}

void device_free(struct device *d)
{
	td_timer_cancel(&d->timer);
	td_timer_cancel(&d->late);
	disk_fini(&d->disk);
	source_free(&d->source);
	free(d);
}

bool device_live(const struct device *d)
{
	return d->life == DEVICE_OURS && (d->disk.pid || d->lost);
}
