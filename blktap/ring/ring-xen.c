// SPDX-License-Identifier: BSD-2-Clause
/*
 * The export to a Xen guest: connect to what its frontend wrote to xenstore, serve, stop.  Whoever watches xenstore
 * tells us when, by the control socket; nothing here knows of it.
 *
 * A queue that breaks the protocol stops the whole device: its requests in flight are answered, nothing is taken any
 * more, and main is told.  The rings stay mapped, to be looked at, until it is disconnected.
 */
#include "config.h"

#ifdef HAVE_XEN

#include "ring-xen.h"
#include <blktap/ctl.h>
#include <blktap/log.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <xentoollog.h>

#define LAST_POLL_NS 2000000ull

/* ---- the libraries' words ---- */

/* They write a line for each page that a guest does not grant, to standard error if one lets them. */
TD_PRINTF(5, 0)
static void library_says(xentoollog_logger *l, xentoollog_level level, int error, const char *context,
			 const char *fmt, va_list ap)
{
	char line[256];

	(void)l;
	(void)level;
	vsnprintf(line, sizeof(line), fmt, ap);
	td_debug("%s: %s%s%s", context ? context : "xen", line, error > 0 ? ": " : "",
		 error > 0 ? strerror(error) : "");
}

static void library_ends(xentoollog_logger *l)
{
	(void)l;
}

static xentoollog_logger library_log = { .vmessage = library_says, .destroy = library_ends };

/* ---- events ---- */

/*
 * One bell: a second look could block, the library says.  The kernel keeps it quiet until it is unmasked, so a guest
 * that rings all the time costs a turn of the loop each, no more.
 */
static void bell_rang(struct td_watch *w, uint32_t epoll_events)
{
	struct xen_ring *x = td_container_of(w, struct xen_ring, watch);
	xenevtchn_port_or_error_t bell = xenevtchn_pending(x->bells);

	(void)epoll_events;
	if (bell < 0)
		return;
	for (unsigned i = 0; i < x->nr_queues; i++)
		if (x->queue[i].bell == bell)
			ring_kick(x->queue[i].ring);
	if (xenevtchn_unmask(x->bells, (evtchn_port_t)bell) < 0)
		td_error("%s: cannot unmask event channel %d: %s", x->pub.address, bell, strerror(errno));
}

static void stop_rings(struct xen_ring *x, void (*how)(struct ring *r))
{
	td_loop_unwatch(&x->watch);
	for (unsigned i = 0; i < x->nr_queues; i++)
		if (x->queue[i].ring)
			how(x->queue[i].ring);
}

/* From the hook of one ring. */
static void ring_stopped(struct ring *r, const char *reason)
{
	struct xen_queue *q = ring_owner(r);
	struct xen_ring *x = q->x;

	if (x->failed)
		return;
	x->failed = reason;
	stop_rings(x, ring_stop);
	if (!x->stopping && x->pub.ended)
		x->pub.ended(&x->pub);
}

/* ---- the export ---- */

static bool idle(const struct xen_ring *x)
{
	for (unsigned i = 0; i < x->nr_queues; i++)
		if (x->queue[i].ring && !ring_idle(x->queue[i].ring))
			return false;
	return true;
}

/* An unpause is not waited for. */
static void xen_stop(struct td_export *e)
{
	struct xen_ring *x = td_container_of(e, struct xen_ring, pub);

	x->stopping = true;
	stop_rings(x, ring_cancel);
}

static bool xen_stopped(struct td_export *e)
{
	const struct xen_ring *x = td_container_of(e, struct xen_ring, pub);

	return x->stopping && idle(x);
}

static void xen_forget(struct td_export *e)
{
	td_container_of(e, struct xen_ring, pub)->forget = true;
}

static int write_note(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	size_t len = strlen(text);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	(void)close(fd); /* tmpfs: it is there or it is not */
	return n == (ssize_t)len ? 0 : -ENOSPC;
}

/* A whole one at any instant. */
static int xen_note_spec(const struct td_export *e, const char *spec, struct td_err *ret_err)
{
	const struct xen_ring *x = td_container_of(e, struct xen_ring, pub);
	td_cleanup(free) char *path = NULL, *new = NULL;
	int r = td_run_path(&path, ret_err, "spec%u.%u", x->domid, x->devid);

	if (r < 0)
		return r;
	r = td_run_path(&new, ret_err, "spec%u.%u.new", x->domid, x->devid);
	if (r < 0)
		return r;
	r = write_note(new, spec);
	if (r == 0 && rename(new, path) < 0)
		r = -errno;
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot be noted: %s", path, strerrordesc_np(-r)) : 0;
}

static void destroy(struct xen_ring *x)
{
	td_timer_cancel(&x->last);
	td_loop_unwatch(&x->watch);
	for (unsigned i = 0; i < x->nr_queues; i++)
		xen_queue_close(&x->queue[i], x->forget);
	if (x->bells)
		xenevtchn_close(x->bells);
	if (x->grants)
		xengnttab_close(x->grants);
	free(x->pub.address);
	free(x);
}

static void last_look(struct td_timer *t)
{
	struct xen_ring *x = td_container_of(t, struct xen_ring, last);

	if (idle(x))
		destroy(x);
	else
		td_timer_arm(x->loop, &x->last, LAST_POLL_NS);
}

/* Requests in flight are the vbd's; they come back even when nobody waits for them. */
static void destroy_when_idle(struct xen_ring *x)
{
	stop_rings(x, ring_cancel);
	x->last.fn = last_look;
	if (idle(x))
		destroy(x);
	else
		td_timer_arm(x->loop, &x->last, LAST_POLL_NS);
}

static void xen_free(struct td_export *e)
{
	destroy_when_idle(td_container_of(e, struct xen_ring, pub));
}

/* ---- statistics ---- */

static int add_queues(const struct xen_ring *x, json_t *list)
{
	for (unsigned i = 0; i < x->nr_queues; i++) {
		const struct xen_queue *q = &x->queue[i];
		json_t *o = json_pack("{s:i, s:i}", "queue", (int)i, "pages", (int)q->nr_refs);

		if (!o || ring_stats_json(q->ring, o) < 0) {
			json_decref(o);
			return -ENOMEM;
		}
		if (json_array_append_new(list, o) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int xen_stats(const struct td_export *e, json_t *ret_object)
{
	const struct xen_ring *x = td_container_of(e, struct xen_ring, pub);
	json_t *o = json_pack("{s:I, s:I, s:s, s:b, s:[]}", "domid", (json_int_t)x->domid, "devid",
			      (json_int_t)x->devid, "protocol", td_blkif_abi_name(x->abi), "persistent",
			      x->persistent, "queues");
	int r;

	if (!o)
		return -ENOMEM;
	r = add_queues(x, json_object_get(o, "queues"));
	if (r == 0 && x->failed)
		r = json_object_set_new(o, "failed", json_string(x->failed));
	if (r == 0)
		r = json_object_update(ret_object, o);
	json_decref(o);
	return r < 0 ? -ENOMEM : 0;
}

static const struct td_export_ops xen_export = {
	.name = "xen",
	.one_guest = true,
	.stop = xen_stop,
	.forget = xen_forget,
	.note_spec = xen_note_spec,
	.stopped = xen_stopped,
	.free = xen_free,
	.stats = xen_stats,
};

/* ---- connecting ---- */

static int check_setup(const struct td_xen_setup *s, struct td_err *ret_err)
{
	if (s->domid > TD_XEN_MAX_DOMID)
		return td_err_set(ret_err, -EINVAL, "domain %u: there is no such guest", s->domid);
	if (s->nr_queues < 1 || s->nr_queues > TD_XEN_MAX_QUEUES)
		return td_err_set(ret_err, -EINVAL, "domain %u disk %u: %u queues; should be 1 to %d",
				  s->domid, s->devid, s->nr_queues, TD_XEN_MAX_QUEUES);
	for (unsigned i = 0; i < s->nr_queues; i++)
		if (!td_is_pow2(s->queue[i].nr_refs) || s->queue[i].nr_refs > 1u << TD_BLKIF_MAX_ORDER)
			return td_err_set(ret_err, -EINVAL,
					  "domain %u disk %u: a ring of %u pages; should be 1, 2, 4, 8 or 16",
					  s->domid, s->devid, s->queue[i].nr_refs);
	return 0;
}

/* A frontend that says nothing means its own machine's, which we take for ours. */
static int find_abi(struct xen_ring *x, const char *protocol, struct td_err *ret_err)
{
#if defined(__x86_64__)
	x->abi = TD_BLKIF_X86_64;
#elif defined(__i386__)
	x->abi = TD_BLKIF_X86_32;
#else
	x->abi = TD_BLKIF_ARM;
#endif
	if (!protocol) {
		td_info("%s: the frontend names no protocol: taken for %s", x->pub.address,
			td_blkif_abi_name(x->abi));
		return 0;
	}
	if (td_blkif_abi_find(protocol, &x->abi) == 0)
		return 0;
	return td_err_set(
		ret_err, -EINVAL,
		"domain %u disk %u: protocol \"%.32s\": should be x86_64-abi, x86_32-abi or arm-abi",
		x->domid, x->devid, protocol);
}

static int no_xen(struct td_err *ret_err, const char *device)
{
	return td_err_set(ret_err, -ENODEV, "%s: %s; is this a Xen host, with the modules xen-%s loaded?",
			  device, strerror(errno), strrchr(device, '/') + 1);
}

static int open_xen(struct xen_ring *x, struct td_err *ret_err)
{
	int flags, r;

	x->grants = xengnttab_open(&library_log, 0);
	if (!x->grants)
		return no_xen(ret_err, "/dev/xen/gntdev");
	x->bells = xenevtchn_open(&library_log, 0);
	if (!x->bells)
		return no_xen(ret_err, "/dev/xen/evtchn");
	flags = fcntl(xenevtchn_fd(x->bells), F_GETFL);
	if (flags < 0 || fcntl(xenevtchn_fd(x->bells), F_SETFL, flags | O_NONBLOCK) < 0)
		return td_err_set(ret_err, -errno, "/dev/xen/evtchn: fcntl: %s", strerror(errno));
	r = td_loop_watch(x->loop, &x->watch, xenevtchn_fd(x->bells), EPOLLIN);
	return r < 0 ? td_err_set(ret_err, r, "/dev/xen/evtchn: epoll: %s", strerror(-r)) : 0;
}

/* First all that may fail, for each queue; a ring that serves is not so quickly given up. */
static int connect_queues(struct xen_ring *x, const struct td_xen_setup *s, struct td_err *ret_err)
{
	int r = 0;

	x->nr_queues = s->nr_queues;
	for (unsigned i = 0; i < x->nr_queues; i++) {
		x->queue[i].x = x;
		x->queue[i].bell = -1;
	}
	for (unsigned i = 0; i < x->nr_queues && r == 0; i++)
		r = xen_queue_open(&x->queue[i], s, i, ret_err);
	for (unsigned i = 0; i < x->nr_queues && r == 0; i++)
		r = xen_queue_start(&x->queue[i], s, ring_stopped, ret_err);
	return r;
}

int td_xen_ring_start(struct td_loop *loop, struct td_vbd *vbd, const struct td_xen_setup *setup,
		      struct td_export **ret_export, struct td_err *ret_err)
{
	struct xen_ring *x;
	int r = check_setup(setup, ret_err);

	if (r < 0)
		return r;
	x = calloc(1, sizeof(*x));
	if (!x)
		return td_err_set(ret_err, -ENOMEM, "no memory for a ring");
	x->pub = (struct td_export){ .ops = &xen_export, .vbd = vbd, .clients = 1 };
	x->loop = loop;
	x->domid = setup->domid;
	x->devid = setup->devid;
	x->persistent = setup->persistent;
	x->watch.fn = bell_rang;
	if (asprintf(&x->pub.address, "xen:%u.%u", x->domid, x->devid) < 0) {
		x->pub.address = NULL;
		r = td_err_set(ret_err, -ENOMEM, "no memory for a ring");
	}
	if (r == 0)
		r = find_abi(x, setup->protocol, ret_err);
	if (r == 0)
		r = open_xen(x, ret_err);
	if (r == 0)
		r = connect_queues(x, setup, ret_err);
	if (r < 0) {
		x->forget = !setup->recover; /* the guest has asked for nothing yet */
		destroy_when_idle(x);
		return r;
	}
	*ret_export = &x->pub;
	return 0;
}

#endif
