// SPDX-License-Identifier: BSD-2-Clause
/*
 * The life of one tapdisk: from its event loop to the last flush.
 *
 * Ending: the exports take nothing new and answer what they have; then the disk is drained, flushed and closed; then
 * the loop stops.  A client that does not read its answers is given some seconds by its export.  What the disk itself
 * needs is waited for without a limit: an exit before the flush would lose what was acknowledged.
 */
#include "daemon.h"
#include "config.h"
#include <blktap/ctl.h>
#include <blktap/log.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define POOL_THREADS 4
#define RUN_PATH_MAX 108 /* of a socket */
#define STOP_POLL_NS 2000000ull
#define STOP_NS (15ull * 1000000000) /* for exports; each bounds itself well below */

/* ---- exports ---- */

/*
 * An export without which nobody reaches the disk was taken away from outside: that is the end.  A guest's is not: it
 * stays in the list, to be looked at, until it is disconnected.
 */
static void export_ended(struct td_export *e)
{
	struct daemon *d = e->owner;
	bool others = false;

	if (e->ops->one_guest) {
		if (d->guest_stopped)
			d->guest_stopped(d->guest_stopped_arg, e);
		return;
	}
	for (unsigned i = 0; i < d->nr_exports; i++)
		others |= d->exports[i] != e && !d->exports[i]->ops->stopped(d->exports[i]);
	e->ops->stop(e);
	if (!others)
		daemon_end(d);
}

int daemon_add_export(struct daemon *d, struct td_export *e)
{
	if (d->nr_exports == DAEMON_MAX_EXPORTS)
		return -E2BIG;
	e->owner = d;
	e->ended = export_ended;
	d->exports[d->nr_exports++] = e;
	return 0;
}

void daemon_drop_export(struct daemon *d, struct td_export *e)
{
	for (unsigned i = 0; i < d->nr_exports; i++) {
		if (d->exports[i] != e)
			continue;
		memmove(&d->exports[i], &d->exports[i + 1], (--d->nr_exports - i) * sizeof(d->exports[0]));
		e->ops->free(e);
		return;
	}
}

static int export_start(struct daemon *d, const struct export_request *q, struct td_err *ret_err)
{
	struct td_export *e;
	int r;

	if (d->nr_exports == DAEMON_MAX_EXPORTS)
		return td_err_set(ret_err, -E2BIG, "at most %d exports", DAEMON_MAX_EXPORTS);
	r = q->ops->start(d->env.loop, d->vbd, q->address, &e, ret_err);
	return r < 0 ? r : daemon_add_export(d, e);
}

static int export_start_all(struct daemon *d, const struct export_request *q, unsigned nr,
			    struct td_err *ret_err)
{
	int r = 0;

	for (unsigned i = 0; i < nr && r == 0; i++)
		r = export_start(d, &q[i], ret_err);
	return r;
}

/* Where existing scripts look for it. */
static int export_start_default(struct daemon *d, struct td_err *ret_err)
{
	int minor = d->minor < 0 ? 0 : d->minor;
	td_cleanup(free) char *path = NULL;
	char address[sizeof("unix:") + RUN_PATH_MAX];
	struct export_request q = { &td_nbd_export, address };
	int r;

	r = td_run_path(&path, ret_err, "nbd%d.%d", getpid(), minor);
	if (r < 0)
		return r;
	if (snprintf(address, sizeof(address), "unix:%s", path) >= (int)sizeof(address))
		return td_err_set(ret_err, -ENAMETOOLONG,
				  "%s: too long for a socket; set BLKTAP_RUN_DIR shorter", path);
	return export_start(d, &q, ret_err);
}

static bool exports_stopped(const struct daemon *d)
{
	for (unsigned i = 0; i < d->nr_exports; i++)
		if (!d->exports[i]->ops->stopped(d->exports[i]))
			return false;
	return true;
}

static void exports_stop(struct daemon *d)
{
	for (unsigned i = 0; i < d->nr_exports; i++)
		d->exports[i]->ops->stop(d->exports[i]);
}

TD_CO static void exports_wait(struct daemon *d)
{
	uint64_t end = td_loop_now(d->env.loop) + STOP_NS;

	while (!exports_stopped(d) && td_loop_now(d->env.loop) < end)
		td_loop_sleep(d->env.loop, STOP_POLL_NS);
}

/* The disk has answered everything, so nothing of an export is in flight any more. */
static void exports_free(struct daemon *d)
{
	while (d->nr_exports > 0) {
		struct td_export *e = d->exports[--d->nr_exports];

		e->ops->free(e);
	}
}

/* ---- open and close ---- */

/*
 * Exports are started and freed outside coroutines: a resolver or a mount needs more stack than those have.  A timer
 * is the way out of the coroutine that waits.
 */
struct outside {
	struct td_timer timer;
	struct td_co *co;
	int (*fn)(void *arg);
	void *arg;
	int result;
};

static void outside_run(struct td_timer *t)
{
	struct outside *o = td_container_of(t, struct outside, timer);

	o->result = o->fn(o->arg);
	td_co_wake(o->co);
}

int daemon_outside(struct daemon *d, int (*fn)(void *arg), void *arg)
{
	struct outside o = { .timer.fn = outside_run, .co = td_co_self(), .fn = fn, .arg = arg };

	td_timer_arm(d->env.loop, &o.timer, 0);
	td_co_yield();
	return o.result;
}

struct start_call {
	struct daemon *d;
	const struct export_request *exports;
	unsigned nr; /* 0: the default */
	struct td_err *err;
};

static int start_outside(void *arg)
{
	const struct start_call *c = arg;
	int r = c->nr > 0 ? export_start_all(c->d, c->exports, c->nr, c->err)
			  : export_start_default(c->d, c->err);

	return r == 0 && c->d->sandbox.waits ? daemon_sandbox(c->d, c->err) : r;
}

static int free_outside(void *arg)
{
	exports_free(arg);
	return 0;
}

static int close_disk(struct daemon *d)
{
	int r;

	exports_stop(d);
	/*
	 * Requests that wait for an unpause would hold up their exports.  Those of a Xen guest were given up by its
	 * export just now, and are served by the next tapdisk; the others are answered with an error.
	 */
	if (td_vbd_state(d->vbd) == TD_VBD_PAUSED)
		td_ignore(td_vbd_close(d->vbd)); /* the image is closed already: cannot fail */
	else
		td_vbd_set_policy(d->vbd, &(struct td_vbd_policy){ .pause_on_enospc = false });
	exports_wait(d);
	r = td_vbd_close(d->vbd);
	while (!td_vbd_idle(d->vbd))
		td_loop_sleep(d->env.loop, STOP_POLL_NS);
	return r;
}

/* Under the lock. */
static int close_all(struct daemon *d, struct td_err *ret_err)
{
	int r;

	if (td_vbd_state(d->vbd) == TD_VBD_CLOSED)
		return td_err_set(ret_err, -ENODEV, "no disk is open");
	r = close_disk(d);
	if (r < 0)
		td_err_set(ret_err, r, "closed, but the last flush or close failed: %s; check the image",
			   strerrordesc_np(-r));
	td_ignore(daemon_outside(d, free_outside, d));
	return r;
}

int daemon_close(struct daemon *d, struct td_err *ret_err)
{
	td_co_guard(&d->lock);

	return close_all(d, ret_err);
}

int daemon_open(struct daemon *d, const char *spec, unsigned open_flags, const struct td_vbd_policy *policy,
		const struct export_request *exports, unsigned nr, struct td_err *ret_err)
{
	struct start_call c = { d, exports, nr, ret_err };
	td_co_guard(&d->lock);
	int r;

	if (d->ending)
		return td_err_set(ret_err, -ESHUTDOWN, "this tapdisk is ending");
	r = daemon_may_open(d, spec, (open_flags & TD_OPEN_RDONLY) != 0, ret_err);
	for (unsigned i = 0; i < nr && r == 0; i++)
		r = daemon_may_listen(d, exports[i].address, ret_err);
	if (r == 0)
		r = td_vbd_open(d->vbd, spec, open_flags, ret_err);
	if (r < 0)
		return r;
	td_vbd_set_policy(d->vbd, policy ? policy : &d->defaults);
	r = daemon_outside(d, start_outside, &c);
	if (r < 0)
		td_ignore(close_all(d, NULL)); /* the error that counts is that of the export */
	return r;
}

/* ---- start ---- */

static void on_notice(const char *line)
{
	td_warn("%s", line);
}

static int start_policy(struct daemon *d, const struct daemon_options *o, struct td_err *ret_err)
{
	int r = td_policy_read(&d->policy, NULL, ret_err);

	for (unsigned i = 0; i < o->nr_allow && r == 0; i++)
		r = o->allow_write[i] ? td_policy_allow_write(&d->policy, o->allow[i], ret_err)
				      : td_policy_allow(&d->policy, o->allow[i], ret_err);
	d->env.policy = &d->policy;
	d->defaults.pause_on_enospc = o->on_enospc < 0 ? d->policy.pause_on_enospc : o->on_enospc > 0;
	d->defaults.timeout_s =
		o->request_timeout < 0 ? d->policy.request_timeout : (unsigned)o->request_timeout;
	d->env.notice = on_notice;
	return r;
}

static int start_sandbox(struct daemon *d, const struct daemon_options *o, struct td_err *ret_err)
{
	struct sandbox *s = &d->sandbox;
	int r;

	s->off = d->policy.no_sandbox || DAEMON_SANDBOX_OFF;
	if (o->sandbox)
		s->off = strcmp(o->sandbox, "off") == 0;
	s->waits = !o->spec && !s->off;
	if (!o->user)
		return 0;
	if (s->off)
		return td_err_set(ret_err, -EINVAL, "--user %s: is part of the sandbox, which is off",
				  o->user);
	r = sandbox_user(s, o->user, ret_err);
	if (r == 0)
		td_run_dir_of(s->uid);
	return r;
}

/* Without a place for it a killed process loses what was not flushed. */
static void start_keeping(struct daemon *d)
{
	if (td_run_dir(&d->env.keep_dir, NULL) < 0)
		d->env.keep_dir = NULL;
}

static void on_signal(void *arg, int signo)
{
	(void)signo;
	daemon_end(arg);
}

/* Signals before the pool and the engine: their threads are to inherit the mask. */
static int start_runtime(struct daemon *d, const struct daemon_options *o, struct td_err *ret_err)
{
	int r;

	d->env.loop = td_loop_new();
	if (!d->env.loop)
		return td_err_set(ret_err, -errno, "cannot make an event loop: %s", strerror(errno));
	r = td_loop_signal(d->env.loop, SIGTERM, on_signal, d);
	if (r == 0)
		r = td_loop_signal(d->env.loop, SIGINT, on_signal, d);
	if (r < 0)
		return td_err_set(ret_err, r, "cannot take signals: %s", strerrordesc_np(-r));
	d->env.pool = td_pool_new(d->env.loop, POOL_THREADS);
	if (!d->env.pool)
		return td_err_set(ret_err, -errno, "cannot make a worker pool: %s", strerror(errno));
	return td_engine_new(o->engine, d->env.loop, d->env.pool, o->depth, &d->env.engine, ret_err);
}

struct open_call {
	struct daemon *d;
	const struct daemon_options *o;
	struct td_err *err;
};

static int open_first(void *arg)
{
	const struct open_call *c = arg;

	return daemon_open(c->d, c->o->spec, c->o->read_only ? TD_OPEN_RDONLY : 0, NULL, c->o->exports,
			   c->o->nr_exports, c->err);
}

int daemon_start(struct daemon *d, const struct daemon_options *o, struct td_err *ret_err)
{
	struct open_call c;
	int r;

	*d = (struct daemon){
		.minor = o->minor,
		.marker = -1,
		.statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC),
	};
	r = start_policy(d, o, ret_err);
	if (r == 0)
		r = start_sandbox(d, o, ret_err);
	start_keeping(d);
	if (r == 0)
		r = start_runtime(d, o, ret_err);
	if (r < 0)
		return r;
	d->vbd = td_vbd_new(&d->env, o->name);
	if (!d->vbd)
		return td_err_set(ret_err, -ENOMEM, "no memory for a disk");
	c = (struct open_call){ d, o, ret_err };
	return o->spec ? td_loop_call(d->env.loop, open_first, &c) : 0;
}

/* ---- end ---- */

static int end_disk(struct daemon *d)
{
	td_co_guard(&d->lock);

	return close_disk(d);
}

static void end_main(void *arg)
{
	struct daemon *d = arg;

	d->end_result = end_disk(d);
	while (d->commands > 0)
		td_loop_sleep(d->env.loop, STOP_POLL_NS);
	td_loop_stop(d->env.loop);
}

void daemon_end(struct daemon *d)
{
	if (d->ending)
		return;
	d->ending = true;
	if (td_co_start(end_main, d) < 0) {
		td_error("no memory to end in order; trying again at the next signal");
		d->ending = false;
	}
}

int daemon_run(struct daemon *d)
{
	td_loop_run(d->env.loop);
	return d->end_result;
}

static int close_leftover(void *arg)
{
	return close_disk(arg);
}

void daemon_free(struct daemon *d)
{
	/* Open after a failed start only: what failed is known already. */
	if (d->vbd && td_vbd_state(d->vbd) != TD_VBD_CLOSED)
		td_ignore(td_loop_call(d->env.loop, close_leftover, d));
	exports_free(d);
	td_vbd_free(d->vbd);
	if (d->env.engine)
		td_engine_free(d->env.engine);
	if (d->env.pool)
		td_pool_free(d->env.pool);
	td_loop_free(d->env.loop);
	td_policy_done(&d->policy);
	sandbox_done(&d->sandbox);
	if (d->statm >= 0)
		close(d->statm);
	td_co_thread_done();
}
