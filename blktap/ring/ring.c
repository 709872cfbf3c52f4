// SPDX-License-Identifier: BSD-2-Clause
/*
 * The ring: indices, batches, events.
 *
 * Everything happens in the hook, once a turn of the loop: publish what was answered, take what the guest produced (at
 * most take_max), and only when there was nothing of either ask for the next bell.  The vbd's hook, which calls done(),
 * and the engine's stand in front: what is taken in one turn is submitted to the kernel in one call in the next, and
 * all that the call completes is published by one store, with one bell at most.
 *
 * The guest rings its bell when its index passes req_event.  While we are at work that stays behind, so the guest is
 * quiet; before sleeping it is set to the next index, and then the producer index is looked at once more.  We do the
 * same for the guest with rsp_event.
 *
 * After work the ring may be looked at for a while before that (poll_us).  How long adapts: a bell that comes soon
 * after we had gone to sleep doubles it, one that comes late halves it.
 */
#include "ring-private.h"

#define POLL_MIN_NS UINT64_C(2000)

/* ---- the end of it ---- */

/* Of all rings: a guest may connect again as often as it likes. */
static struct td_log_limit stops;

static void stop_failed(struct ring *r, const char *reason)
{
	r->failed = reason;
	r->stopping = true;
	if (td_log_allowed(&stops))
		td_error("%s: stopped: %s", r->name, reason);
	if (r->stopped)
		r->stopped(r, reason);
}

/* ---- answers ---- */

static bool wants_bell(struct ring *r, uint64_t old)
{
	uint32_t now = (uint32_t)r->published, event;

	/* Either the guest sees rsp_prod, or we see its event index. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = ring_load(r->shared, TD_BLKIF_RSP_EVENT);
	return now - event < now - (uint32_t)old;
}

static void bell(struct ring *r)
{
	r->notify = false;
	r->stats.notifies++;
	r->port->ops->notify(r->port);
}

static unsigned publish(struct ring *r)
{
	uint64_t old = r->published;
	struct ring_job *job;

	if (r->answered == old) {
		if (r->notify)
			bell(r);
		return 0;
	}
	ring_store(r->shared, TD_BLKIF_RSP_PROD, (uint32_t)r->answered);
	r->published = r->answered;
	if (r->journal)
		ring_journal_publish(r->journal, r->published);
	while ((job = STAILQ_FIRST(&r->answers))) {
		STAILQ_REMOVE_HEAD(&r->answers, link);
		job->state = RING_JOB_FREE;
		if (r->journal)
			ring_journal_free(r->journal, job->entry);
		STAILQ_INSERT_HEAD(&r->free, job, link);
	}
	if (wants_bell(r, old) || r->notify)
		bell(r);
	else
		r->stats.notifies_saved++;
	return (unsigned)(r->published - old);
}

/* ---- requests ---- */

static void take_one(struct ring *r)
{
	struct ring_job *job = STAILQ_FIRST(&r->free);
	struct ring_slot slot;

	STAILQ_REMOVE_HEAD(&r->free, link);
	ring_copy_in(slot.bytes,
		     (char *)r->shared + td_blkif_slot_offset(r->abi, r->nr_slots, (uint32_t)r->taken),
		     r->slot_size);
	if (r->journal)
		ring_journal_take(r->journal, job->entry, r->taken, slot.bytes, r->slot_size);
	r->taken++;
	ring_request_begin(job, &slot);
}

/* What the last process had taken. */
static unsigned take_waiting(struct ring *r)
{
	struct ring_job *job;
	struct ring_slot slot;
	unsigned nr = 0;

	while (!r->barrier && (job = STAILQ_FIRST(&r->waiting))) {
		STAILQ_REMOVE_HEAD(&r->waiting, link);
		memcpy(slot.bytes, ring_journal_slot(r->journal, job->entry), r->slot_size);
		ring_request_begin(job, &slot);
		nr++;
	}
	return nr;
}

/*
 * All that is there, or as much of it as a turn may take.  No honest guest is more than a ring ahead of the answers it
 * can see, and none goes back; either would be a distance that does not fit.
 */
static unsigned take(struct ring *r)
{
	unsigned nr = take_waiting(r), ready, room = r->nr_slots - (unsigned)(r->taken - r->published);
	unsigned in_flight;

	if (r->barrier)
		return nr;
	ready = ring_load(r->shared, TD_BLKIF_REQ_PROD) - (uint32_t)r->taken;
	if (ready > room) {
		stop_failed(r, "the guest's producer index is not within the ring");
		return nr;
	}
	for (ready = TD_MIN(ready, r->take_max); ready > 0 && !r->barrier; ready--, nr++)
		take_one(r);
	in_flight = (unsigned)(r->taken - r->answered);
	r->stats.max_in_flight = TD_MAX(r->stats.max_in_flight, in_flight);
	r->stats.batches += nr > 0;
	return nr;
}

/* ---- sleeping ---- */

static void active(struct ring *r)
{
	uint64_t now = td_loop_now(r->loop);

	if (r->polling)
		r->stats.poll_hits++;
	if (r->woken && r->poll_max_ns > 0) {
		if (now - r->slept_ns <= r->poll_max_ns)
			r->poll_ns = TD_MIN(r->poll_max_ns, TD_MAX(r->poll_ns * 2, POLL_MIN_NS));
		else
			r->poll_ns = r->poll_ns / 2 < POLL_MIN_NS ? 0 : r->poll_ns / 2;
	}
	r->polling = r->woken = r->armed = false;
	r->active_ns = now;
}

/* Look again instead of sleeping? */
static bool poll_on(struct ring *r)
{
	if (r->armed || r->poll_ns == 0 || td_loop_now(r->loop) - r->active_ns >= r->poll_ns) {
		r->polling = false;
		return false;
	}
	if (!r->polling)
		r->stats.polls++;
	r->polling = true;
	return true;
}

/* False: the guest produced something meanwhile. */
static bool arm(struct ring *r)
{
	if (r->armed)
		return true;
	ring_store(r->shared, TD_BLKIF_REQ_EVENT, (uint32_t)r->taken + 1);
	/* Either the guest sees req_event, or we see its index. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (ring_load(r->shared, TD_BLKIF_REQ_PROD) != (uint32_t)r->taken)
		return false;
	r->armed = true;
	r->slept_ns = td_loop_now(r->loop);
	return true;
}

/* Nothing is taken any more.  What waits for the end of a pause may be given up. */
static void stop_turn(struct ring *r)
{
	if (r->cancelled && r->running > 0 && td_vbd_state(r->vbd) != TD_VBD_RUNNING)
		ring_requests_cancel(r);
}

/* Not 0: there is, or may be, more to do. */
static unsigned run(struct ring *r)
{
	unsigned published = publish(r), taken;

	if (r->stopping) {
		stop_turn(r);
		return published;
	}
	taken = take(r);
	if (taken > 0 || published > 0)
		active(r);
	if (taken > 0 || r->stopping)
		return 1;
	if (r->barrier)
		return 0; /* its end is a turn of the loop */
	return poll_on(r) || !arm(r);
}

static unsigned turn(struct td_hook *h)
{
	struct ring *r = td_container_of(h, struct ring, hook);
	unsigned busy = run(r);

	r->woken = false;
	return busy;
}

void ring_kick(struct ring *r)
{
	r->stats.kicks++;
	r->woken = r->armed;
}

/* ---- the object ---- */

static int make_jobs(struct ring *r)
{
	r->jobs = calloc(r->nr_slots, sizeof(*r->jobs));
	if (!r->jobs)
		return -ENOMEM;
	for (unsigned i = 0; i < r->nr_slots; i++) {
		r->jobs[i].r = r;
		r->jobs[i].entry = (uint16_t)i;
		STAILQ_INSERT_TAIL(&r->free, &r->jobs[i], link);
	}
	return 0;
}

static void take_back(struct ring *r, const struct ring_recovery *rec)
{
	r->taken = rec->taken;
	r->answered = r->published = rec->published;
	for (unsigned i = 0; i < rec->nr; i++) {
		struct ring_job *job = &r->jobs[rec->entry[i]];

		STAILQ_REMOVE(&r->free, job, ring_job, link);
		job->state = RING_JOB_WAITING;
		STAILQ_INSERT_TAIL(&r->waiting, job, link);
	}
	r->stats.recovered = rec->nr;
	/* The last process may have been killed between an answer and its bell. */
	ring_store(r->shared, TD_BLKIF_RSP_PROD, (uint32_t)r->published);
	r->notify = true;
}

/* Where to go on: by the journal, else by the ring itself. */
static int find_place(struct ring *r, struct td_err *ret_err)
{
	uint32_t rsp_prod = ring_load(r->shared, TD_BLKIF_RSP_PROD);
	struct ring_recovery rec;
	int err;

	if (!r->journal || !ring_journal_begin(r->journal, rsp_prod)) {
		r->taken = r->answered = r->published = rsp_prod;
		return 0;
	}
	err = ring_journal_recover(r->journal, rsp_prod, &rec, ret_err);
	if (err == 0)
		take_back(r, &rec);
	return err;
}

static int check_setup(const struct ring_setup *s, struct td_err *ret_err)
{
	if ((unsigned)s->abi > TD_BLKIF_ARM || s->order > TD_BLKIF_MAX_ORDER)
		return td_err_set(ret_err, -EINVAL, "%s: no such ring", s->name);
	if (s->journal && ring_journal_entries(s->journal) != td_blkif_entries(s->abi, s->order))
		return td_err_set(ret_err, -EINVAL, "%s: the journal is of another ring", s->name);
	return 0;
}

static void destroy(struct ring *r)
{
	struct ring_big *big;

	while ((big = SLIST_FIRST(&r->bigs))) {
		SLIST_REMOVE_HEAD(&r->bigs, link);
		free(big);
	}
	free(r->jobs);
	free(r->name);
	free(r);
}

static int set_up(struct ring *r, const struct ring_setup *s, struct td_err *ret_err)
{
	int err;

	r->name = strdup(s->name);
	if (!r->name || make_jobs(r) < 0 ||
	    ring_grants_init(&r->grants, s->port, s->persistent, &r->stats) < 0)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory for a ring", s->name);
	err = find_place(r, ret_err);
	if (err < 0)
		ring_grants_done(&r->grants);
	return err;
}

int ring_new(struct td_loop *loop, struct td_vbd *vbd, const struct ring_setup *setup, struct ring **ret_ring,
	     struct td_err *ret_err)
{
	int err = check_setup(setup, ret_err);
	struct ring *r;

	if (err < 0)
		return err;
	r = calloc(1, sizeof(*r));
	if (!r)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory for a ring", setup->name);
	r->loop = loop;
	r->vbd = vbd;
	r->abi = setup->abi;
	r->nr_slots = td_blkif_entries(setup->abi, setup->order);
	r->slot_size = td_blkif_slot_size(setup->abi);
	r->shared = setup->shared;
	r->port = setup->port;
	r->journal = setup->journal;
	r->stopped = setup->stopped;
	r->owner = setup->owner;
	r->export = setup->export;
	r->take_max = setup->take_max > 0 ? setup->take_max : r->nr_slots;
	r->poll_max_ns = setup->poll_us * UINT64_C(1000);
	STAILQ_INIT(&r->free);
	STAILQ_INIT(&r->waiting);
	STAILQ_INIT(&r->answers);
	SLIST_INIT(&r->bigs);
	err = set_up(r, setup, ret_err);
	if (err < 0) {
		destroy(r);
		return err;
	}
	r->hook.fn = turn;
	td_loop_hook(loop, &r->hook);
	*ret_ring = r;
	return 0;
}

void ring_stop(struct ring *r)
{
	r->stopping = true;
}

void ring_cancel(struct ring *r)
{
	r->stopping = r->cancelled = true;
	stop_turn(r);
}

bool ring_idle(const struct ring *r)
{
	return r->running == 0 && !r->barrier && r->answered == r->published;
}

unsigned ring_in_flight(const struct ring *r)
{
	return (unsigned)(r->taken - r->published);
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	td_loop_unhook(r->loop, &r->hook);
	ring_grants_done(&r->grants);
	destroy(r);
}

const char *ring_failed(const struct ring *r)
{
	return r->failed;
}

void *ring_owner(const struct ring *r)
{
	return r->owner;
}

const struct ring_stats *ring_stats(const struct ring *r)
{
	return &r->stats;
}
