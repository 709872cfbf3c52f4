// SPDX-License-Identifier: BSD-2-Clause
/*
 * The virtual block device: requests from exports in, coroutines down the image out.
 *
 * A request waits (paused, or too many in flight), runs as a coroutine, and is then kept in `finished` until the hook
 * calls its done().  So done() always runs outside coroutines and never inside td_vbd_submit(), and an export may
 * submit, free or send from it.  The hook stands behind the engine's in the turn of the loop, and in front of the
 * exports', which send what was answered in this turn.
 *
 * Opening, closing, pausing is vbd-state.c; what has no room or takes too long is vbd-policy.c.
 */
#include "vbd-private.h"
#include <blktap/log.h>
#include <sys/mman.h>

/* ---- one request ---- */

/* A hint: a driver that cannot give space back has done all that was asked. */
static int run_trim(struct td_image *im, const struct td_req *req)
{
	int r = td_image_trim(im, req->off, req->len);

	if (r < 0 && r != -ENOTSUP)
		return r;
	return req->flags & TD_FUA ? td_image_flush(im) : 0;
}

/* What was answered and could not be brought to the disk before the image was closed, somebody has to be told of. */
static int run_flush(struct td_vbd *vbd, struct td_image *im)
{
	int r = im->read_only ? 0 : td_image_flush(im);

	if (r == 0 && vbd->flush_owed < 0) {
		r = vbd->flush_owed;
		vbd->flush_owed = 0;
	}
	return r;
}

static const char *const op_names[TD_REQ_OPS] = { "read", "write", "flush", "trim", "zero", "extent" };

const char *td_req_op_name(enum td_req_op op)
{
	return (unsigned)op < TD_REQ_OPS ? op_names[op] : "unknown";
}

/* The one log line of a failed request. */
static void log_failure(struct td_vbd *vbd, const struct td_req *req, int result)
{
	uint64_t held_back = vbd->log_limit.held_back;

	if (!td_log_allowed(&vbd->log_limit))
		return;
	if (held_back)
		td_error("%s: %llu more failed requests were not logged", vbd->name,
			 (unsigned long long)held_back);
	vbd->log_limit.held_back = 0;
	td_error("%s: %s 0x%llx+%llu: %s: %s", vbd->image ? vbd->image->name : vbd->name,
		 td_req_op_name(req->op), (unsigned long long)req->off, (unsigned long long)req->len,
		 strerrorname_np(-result), strerrordesc_np(-result));
}

static void count(struct td_vbd *vbd, const struct td_req *req, int result)
{
	struct td_req_stats *s = &vbd->stats.op[req->op];

	s->requests++;
	td_hist_add(&vbd->hist[req->op], td_loop_now(vbd->env->loop) - req->start_ns);
	if (result == 0) {
		s->bytes += req->len;
		return;
	}
	if (result == -ENOTSUP && req->flags & TD_FAST)
		return; /* an answer, not a failure: "not fast" */
	s->errors++;
	if (result != -ESHUTDOWN && result != -ECANCELED) /* closing and cancelling are said elsewhere */
		log_failure(vbd, req, result);
}

static void finish(struct td_vbd *vbd, struct td_req *req, int result)
{
	req->result = result;
	count(vbd, req, result);
	TAILQ_INSERT_TAIL(&vbd->finished, req, link);
}

/* ---- which one runs ---- */

static bool may_run(const struct td_vbd *vbd)
{
	return vbd->state == TD_VBD_RUNNING && !vbd->held && !vbd->full &&
	       vbd->stats.in_flight < VBD_MAX_IN_FLIGHT;
}

static void put_waiting(struct td_vbd *vbd, struct td_req *req)
{
	TAILQ_INSERT_TAIL(&vbd->waiting, req, link);
	req->waiting = true;
	vbd->stats.waiting++;
}

static void unput_waiting(struct td_vbd *vbd, struct td_req *req)
{
	TAILQ_REMOVE(&vbd->waiting, req, link);
	req->waiting = false;
	vbd->stats.waiting--;
}

static struct td_req *take_waiting(struct td_vbd *vbd)
{
	struct td_req *req = TAILQ_FIRST(&vbd->waiting);

	if (!req || !may_run(vbd))
		return NULL;
	unput_waiting(vbd, req);
	req->result = 0; /* tried again: what happened before is not its answer */
	return req;
}

static void begin(struct td_vbd *vbd, struct td_req *req)
{
	TAILQ_INSERT_TAIL(&vbd->running, req, link);
	vbd->stats.in_flight++;
	vbd->stats.max_in_flight = TD_MAX(vbd->stats.max_in_flight, vbd->stats.in_flight);
}

/* It is in the image no more. */
static void end(struct td_vbd *vbd, struct td_req *req)
{
	TAILQ_REMOVE(&vbd->running, req, link);
	vbd->stats.in_flight--;
	if (req->late) {
		vbd->stats.overdue--;
		req->late = false;
	}
}

/*
 * It failed for want of space: it waits in front of all others, and nothing goes into the image, until there is room
 * (see vbd-policy.c).  False: that is not what happened, or not what is wanted.
 */
static bool hold(struct td_vbd *vbd, struct td_req *req, int result)
{
	if (!vbd->policy.pause_on_enospc || (result != -ENOSPC && result != -EDQUOT))
		return false;
	req->result = result;
	req->waiting = true;
	TAILQ_INSERT_HEAD(&vbd->waiting, req, link);
	vbd->stats.waiting++;
	if (vbd->full)
		return true;
	vbd->full = true;
	vbd->stats.full++;
	vbd->stats.full_error = result;
	vbd_changed(vbd);
	td_warn("%s: %s 0x%llx+%llu: %s; requests wait until there is room and the disk is unpaused",
		vbd->image->name, td_req_op_name(req->op), (unsigned long long)req->off,
		(unsigned long long)req->len, strerrordesc_np(-result));
	return true;
}

/* The request is answered; the next one for this coroutine, so that no new stack is needed and their order is kept. */
static struct td_req *next_after(struct td_req *req, int result)
{
	struct td_vbd *vbd = req->vbd;

	end(vbd, req);
	if (result >= 0 || !hold(vbd, req, result))
		finish(vbd, req, result);
	req = take_waiting(vbd);
	if (req)
		begin(vbd, req);
	else if (vbd->stats.in_flight == 0)
		td_waitq_wake_all(&vbd->drained);
	return req;
}

/* Nothing to transfer: fine anywhere up to the end, but there is no answer to "what is there?". */
static int serve_empty(const struct td_image *im, const struct td_req *req)
{
	return req->op == TD_REQ_EXTENT || req->off > im->size ? -EINVAL : 0;
}

static int run_extent(struct td_image *im, struct td_req *req)
{
	if (!req->bitmap)
		return td_image_extent(im, req->off, req->len, &req->extent);
	return td_image_bitmap_extent(im, req->bitmap, req->off, req->len, &req->dirty, &req->extent.len);
}

/* The body of a request's coroutine. */
static void serve(void *arg)
{
	for (struct td_req *req = arg; req;) {
		struct td_image *im = req->vbd->image;
		int r = -EINVAL;

		if (req->len == 0 && req->op != TD_REQ_FLUSH) {
			req = next_after(req, serve_empty(im, req));
			continue;
		}
		switch (req->op) {
		case TD_REQ_READ:
			r = td_image_preadv(im, req->off, &req->iov, 0);
			break;
		case TD_REQ_WRITE:
			r = td_image_pwritev(im, req->off, &req->iov, req->flags & TD_FUA);
			break;
		case TD_REQ_FLUSH:
			r = run_flush(req->vbd, im);
			break;
		case TD_REQ_TRIM:
			r = run_trim(im, req);
			break;
		case TD_REQ_ZERO:
			r = td_image_zero(im, req->off, req->len,
					  req->flags & (TD_FUA | TD_MAY_UNMAP | TD_FAST));
			break;
		case TD_REQ_EXTENT:
			r = run_extent(im, req);
			break;
		case TD_REQ_OPS:
			break;
		}
		req = next_after(req, r);
	}
}

/* Without a stack the request waits for one of those in flight to go on with it. */
static void no_stack(struct td_vbd *vbd, struct td_req *req)
{
	end(vbd, req);
	if (vbd->stats.in_flight > 0)
		put_waiting(vbd, req);
	else
		finish(vbd, req, -ENOMEM);
}

void vbd_start_waiting(struct td_vbd *vbd)
{
	unsigned nr = vbd->stats.waiting; /* once each, even if they have to wait again */
	struct td_req *req;

	while (nr-- > 0 && (req = take_waiting(vbd))) {
		begin(vbd, req);
		if (td_co_start(serve, req) < 0)
			no_stack(vbd, req);
	}
}

void vbd_fail_one(struct td_vbd *vbd, struct td_req *req, int result)
{
	unput_waiting(vbd, req);
	finish(vbd, req, result);
}

void vbd_fail_waiting(struct td_vbd *vbd, int result)
{
	struct td_req *req;

	while ((req = TAILQ_FIRST(&vbd->waiting)))
		vbd_fail_one(vbd, req, req->result < 0 ? req->result : result);
}

bool td_vbd_cancel(struct td_vbd *vbd, struct td_req *req)
{
	if (!req->waiting)
		return false;
	vbd_fail_one(vbd, req, -ECANCELED);
	return true;
}

void td_vbd_cancel_all(struct td_vbd *vbd, const void *owner)
{
	struct td_req *req, *next;

	for (req = TAILQ_FIRST(&vbd->waiting); req; req = next) {
		next = TAILQ_NEXT(req, link);
		if (req->owner == owner)
			vbd_fail_one(vbd, req, -ECANCELED);
	}
}

void td_vbd_submit(struct td_vbd *vbd, struct td_req *req)
{
	req->vbd = vbd;
	req->waiting = req->late = false;
	req->result = 0;
	req->start_ns = td_loop_now(vbd->env->loop);
	if (vbd->timeout_ns > 0 && !vbd->timer.loop)
		td_timer_arm(vbd->env->loop, &vbd->timer, vbd->timeout_ns);
	if (req->op == TD_REQ_READ || req->op == TD_REQ_WRITE)
		req->len = req->iov.len;

	if (vbd->state == TD_VBD_CLOSED) {
		finish(vbd, req, -ESHUTDOWN);
	} else if (!may_run(vbd) || !TAILQ_EMPTY(&vbd->waiting)) {
		put_waiting(vbd, req);
	} else {
		begin(vbd, req);
		if (td_co_start(serve, req) < 0)
			no_stack(vbd, req);
	}
}

/* ---- who watches ---- */

void td_vbd_watch(struct td_vbd *vbd, struct td_vbd_watch *w)
{
	TAILQ_INSERT_TAIL(&vbd->watches, w, link);
}

void td_vbd_unwatch(struct td_vbd *vbd, struct td_vbd_watch *w)
{
	if (vbd->next_watch == w)
		vbd->next_watch = TAILQ_NEXT(w, link);
	TAILQ_REMOVE(&vbd->watches, w, link);
}

static void tell_watches(struct td_vbd *vbd)
{
	struct td_vbd_watch *w;

	vbd->changed = false;
	vbd->next_watch = TAILQ_FIRST(&vbd->watches);
	while ((w = vbd->next_watch)) {
		vbd->next_watch = TAILQ_NEXT(w, link);
		w->fn(w);
	}
}

/* ---- the hook ---- */

/* Only what is there now: done() may submit requests that finish at once, and others want their turn. */
static unsigned deliver(struct td_hook *h)
{
	struct td_vbd *vbd = td_container_of(h, struct td_vbd, hook);
	struct td_req *req, *last = TAILQ_LAST(&vbd->finished, td_req_list);
	unsigned nr = 0;

	while (last && (req = TAILQ_FIRST(&vbd->finished))) {
		TAILQ_REMOVE(&vbd->finished, req, link);
		if (req == last)
			last = NULL;
		nr++;
		req->done(req, req->result);
	}
	if (vbd->changed) {
		tell_watches(vbd);
		nr++;
	}
	return nr;
}

/* ---- the object ---- */

#define HIST_BYTES (TD_REQ_OPS * sizeof(struct td_hist))

struct td_vbd *td_vbd_new(struct td_env *env, const char *name)
{
	struct td_vbd *vbd = calloc(1, sizeof(*vbd));

	if (!vbd)
		return NULL;
	vbd->name = strdup(name);
	vbd->hist = mmap(NULL, HIST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!vbd->name || vbd->hist == MAP_FAILED) {
		if (vbd->hist != MAP_FAILED)
			munmap(vbd->hist, HIST_BYTES);
		free(vbd->name);
		free(vbd);
		return NULL;
	}
	for (unsigned i = 0; i < TD_REQ_OPS; i++)
		vbd->stats.op[i].time = &vbd->hist[i];
	vbd->env = env;
	TAILQ_INIT(&vbd->waiting);
	TAILQ_INIT(&vbd->running);
	TAILQ_INIT(&vbd->finished);
	TAILQ_INIT(&vbd->watches);
	vbd->hook.fn = deliver;
	td_loop_hook(env->loop, &vbd->hook);
	return vbd;
}

void td_vbd_free(struct td_vbd *vbd)
{
	if (!vbd)
		return;
	td_timer_cancel(&vbd->timer);
	td_loop_unhook(vbd->env->loop, &vbd->hook);
	munmap(vbd->hist, HIST_BYTES);
	free(vbd->spec);
	free(vbd->name);
	free(vbd);
}

bool td_vbd_idle(const struct td_vbd *vbd)
{
	return vbd->stats.in_flight == 0 && vbd->stats.waiting == 0 && TAILQ_EMPTY(&vbd->finished);
}

enum td_vbd_state td_vbd_state(const struct td_vbd *vbd)
{
	return vbd->state == TD_VBD_RUNNING && vbd->full ? TD_VBD_FULL : vbd->state;
}

const char *td_vbd_name(const struct td_vbd *vbd)
{
	return vbd->name;
}

const char *td_vbd_spec(const struct td_vbd *vbd)
{
	return vbd->spec;
}

const struct td_image *td_vbd_image(const struct td_vbd *vbd)
{
	return vbd->image;
}

uint64_t td_vbd_size(const struct td_vbd *vbd)
{
	return vbd->image ? vbd->image->size : vbd->size;
}

bool td_vbd_read_only(const struct td_vbd *vbd)
{
	return vbd->image ? vbd->image->read_only : vbd->read_only;
}

const struct td_limits *td_vbd_limits(const struct td_vbd *vbd)
{
	return vbd->image ? &vbd->image->limits : &vbd->limits;
}

const struct td_vbd_stats *td_vbd_stats(const struct td_vbd *vbd)
{
	return &vbd->stats;
}
