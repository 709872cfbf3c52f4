// SPDX-License-Identifier: BSD-2-Clause
/*
 * What is told to clients that asked for `events`.  Documented in blktap-control(7).
 */
#include "control.h"

static void remember_counts(struct control_events *e, const struct td_vbd_stats *s)
{
	e->full = s->full;
	e->timed_out = s->timed_out;
	e->given_up = s->given_up;
}

/* Each stop for want of space is told, also one whose state lasted too short to be. */
static void tell_counts(struct control_events *e, const struct td_vbd_stats *s)
{
	if (s->full != e->full)
		e->tell(e, json_pack("{s:s,s:s,s:i}", "event", "enospc", "errno",
				     strerrorname_np(-s->full_error), "waiting", (int)s->waiting));
	if (s->timed_out != e->timed_out)
		e->tell(e, json_pack("{s:s,s:I,s:I}", "event", "timeout", "requests",
				     (json_int_t)(s->timed_out - e->timed_out), "given_up",
				     (json_int_t)(s->given_up - e->given_up)));
	remember_counts(e, s);
}

static void disk_changed(struct td_vbd_watch *w)
{
	struct control_events *e = td_container_of(w, struct control_events, disk);
	uint64_t size = td_vbd_size(e->d->vbd);
	enum td_vbd_state state = td_vbd_state(e->d->vbd);

	if (size != e->size)
		e->tell(e, json_pack("{s:s,s:I}", "event", "size", "size", (json_int_t)size));
	if (state != e->state)
		e->tell(e, json_pack("{s:s,s:s}", "event", "state", "state", control_state_name(state)));
	e->size = size;
	e->state = state;
	tell_counts(e, td_vbd_stats(e->d->vbd));
}

/* The export says who it is and why in its statistics. */
static void guest_stopped(void *arg, const struct td_export *export)
{
	struct control_events *e = arg;
	json_t *o = json_object(), *event = NULL;

	if (o && export->ops->stats(export, o) == 0)
		event = json_pack("{s:s, s:O, s:O, s:O}", "event", "ring-stopped", "domid",
				  json_object_get(o, "domid"), "devid", json_object_get(o, "devid"), "reason",
				  json_object_get(o, "failed"));
	json_decref(o);
	e->tell(e, event);
}

void control_events_start(struct control_events *e)
{
	e->size = td_vbd_size(e->d->vbd);
	e->state = td_vbd_state(e->d->vbd);
	remember_counts(e, td_vbd_stats(e->d->vbd));
	e->disk.fn = disk_changed;
	td_vbd_watch(e->d->vbd, &e->disk);
	e->d->guest_stopped = guest_stopped;
	e->d->guest_stopped_arg = e;
}

void control_events_stop(struct control_events *e)
{
	td_vbd_unwatch(e->d->vbd, &e->disk);
	e->d->guest_stopped = NULL;
}
