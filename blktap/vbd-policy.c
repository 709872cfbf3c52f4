// SPDX-License-Identifier: BSD-2-Clause
/*
 * What becomes of requests for which the storage has no room, and of those that take too long.
 *
 * No room.  Where the policy is to wait, vbd.c puts a request that failed at the head of those that wait and lets
 * nothing into the image any more.  So nothing that came later, and was perhaps answered, can be overwritten by an
 * older write that is tried again: what runs beside it has been in flight beside it all the time.  A request is tried
 * again as a whole: it writes the same bytes to the same place, and its memory stays its export's until done().
 *
 * Too late.  One timer, for the request that is next to be late; it is armed by the first request after it fired, and
 * looks at those in flight then, so that a request costs nothing but its place in a list.
 */
#include "vbd-private.h"

#define NS_PER_S 1000000000ull

/* ---- no room ---- */

void vbd_not_full(struct td_vbd *vbd)
{
	if (!vbd->full)
		return;
	vbd->full = false;
	vbd_changed(vbd);
}

/* Those that failed get their answer.  They are the first of the list. */
static void report_failed(struct td_vbd *vbd)
{
	struct td_req *req;

	while ((req = TAILQ_FIRST(&vbd->waiting)) && req->result < 0)
		vbd_fail_one(vbd, req, req->result);
	vbd_not_full(vbd);
	vbd_start_waiting(vbd);
}

/* ---- too late ---- */

static void log_late(struct td_vbd *vbd, const struct td_req *req, unsigned nr, const char *what)
{
	if (nr == 0 || !td_log_allowed(&vbd->log_limit))
		return;
	td_warn("%s: %u %s for more than %u s, the first of them %s 0x%llx+%llu", vbd->name, nr, what,
		vbd->policy.timeout_s, td_req_op_name(req->op), (unsigned long long)req->off,
		(unsigned long long)req->len);
}

/* When is this one late?  The earliest of all that are not yet is kept in *next_ns. */
static bool is_late(const struct td_vbd *vbd, const struct td_req *req, uint64_t *next_ns)
{
	uint64_t at = req->start_ns + vbd->timeout_ns;

	if (at <= td_loop_now(vbd->env->loop))
		return true;
	*next_ns = TD_MIN(*next_ns, at);
	return false;
}

static void look_running(struct td_vbd *vbd, uint64_t *next_ns)
{
	struct td_req *req, *first = NULL;
	unsigned nr = 0;

	TAILQ_FOREACH(req, &vbd->running, link) {
		if (req->late || !is_late(vbd, req, next_ns))
			continue;
		req->late = true;
		first = first ? first : req;
		nr++;
	}
	log_late(vbd, first, nr, "requests have been in the image");
	vbd->stats.overdue += nr;
	vbd->stats.timed_out += nr;
}

static void look_waiting(struct td_vbd *vbd, uint64_t *next_ns)
{
	struct td_req *req, *next;
	unsigned nr = 0;

	for (req = TAILQ_FIRST(&vbd->waiting); req; req = next) {
		next = TAILQ_NEXT(req, link);
		if (!is_late(vbd, req, next_ns))
			continue;
		if (nr == 0)
			log_late(vbd, req, 1, "request or more waited in vain");
		nr++;
		vbd_fail_one(vbd, req, -ETIMEDOUT);
	}
	vbd->stats.timed_out += nr;
	vbd->stats.given_up += nr;
}

static void look(struct td_timer *t)
{
	struct td_vbd *vbd = td_container_of(t, struct td_vbd, timer);
	uint64_t next_ns = UINT64_MAX, told = vbd->stats.timed_out;

	look_running(vbd, &next_ns);
	look_waiting(vbd, &next_ns);
	if (vbd->stats.timed_out != told)
		vbd_changed(vbd);
	if (next_ns != UINT64_MAX)
		td_timer_arm(vbd->env->loop, t, next_ns - td_loop_now(vbd->env->loop));
}

/* ---- the policy ---- */

void td_vbd_set_policy(struct td_vbd *vbd, const struct td_vbd_policy *policy)
{
	vbd->policy = *policy;
	vbd->timeout_ns = policy->timeout_s * NS_PER_S;
	vbd->timer.fn = look;
	td_timer_cancel(&vbd->timer);
	if (vbd->timeout_ns > 0)
		td_timer_arm(vbd->env->loop, &vbd->timer, 0); /* for what is in flight already */
	if (vbd->full && !policy->pause_on_enospc)
		report_failed(vbd);
}

const struct td_vbd_policy *td_vbd_policy(const struct td_vbd *vbd)
{
	return &vbd->policy;
}
