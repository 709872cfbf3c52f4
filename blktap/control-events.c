// SPDX-License-Identifier: BSD-2-Clause
/*
 * What is told to clients that asked for `events`.  Documented in blktap-control(7).
 */
#include "control.h"

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
}

void control_events_start(struct control_events *e)
{
	e->size = td_vbd_size(e->d->vbd);
	e->state = td_vbd_state(e->d->vbd);
	e->disk.fn = disk_changed;
	td_vbd_watch(e->d->vbd, &e->disk);
}

void control_events_stop(struct control_events *e)
{
	td_vbd_unwatch(e->d->vbd, &e->disk);
}
