// SPDX-License-Identifier: BSD-2-Clause
/*
 * The control socket: control.c reads and writes lines, control-cmd.c knows the commands, control-ring.c those for Xen
 * guests, control-info.c the answers of info and stats, control-events.c what is told unasked.  All of it stands above
 * the daemon, which does not know that it is there.
 */
#ifndef BLKTAP_CONTROL_H
#define BLKTAP_CONTROL_H

#include "daemon.h"
#include <jansson.h>

struct control;

/* Lines that nobody asked for one by one: control-events.c says what happened, control.c to whom. */
struct control_events {
	struct daemon *d;
	struct td_vbd_watch disk;
	uint64_t size; /* told last */
	enum td_vbd_state state;
	uint64_t full, timed_out, given_up;
	void (*tell)(struct control_events *e,
		     json_t *event); /* takes the reference; NULL: no memory for it */
};

/* d and tell are set.  Until control_events_stop. */
void control_events_start(struct control_events *e);
void control_events_stop(struct control_events *e);

/* *ret_control is the caller's: control_free, when the loop turns no more and before daemon_free. */
TD_CHECK int control_start(struct daemon *d, struct control **ret_control, struct td_err *ret_err);
void control_free(struct control *c);

struct control_cmd;

/* Does a client that gave this command become one that is told of events, and takes no more requests? */
bool control_wants_events(const struct control_cmd *cmd);

/* "running" and so on. */
const char *control_state_name(enum td_vbd_state state);

/* The command of this message, with its fields checked.  -EINVAL names what is wrong. */
TD_CHECK int control_find(const json_t *request, const struct control_cmd **ret_cmd, struct td_err *ret_err);

/* Adds its answer to reply. */
TD_CO TD_CHECK int control_run(struct daemon *d, const struct control_cmd *cmd, const json_t *request,
			       json_t *reply, struct td_err *ret_err);

/* The commands of control-ring.c, as control-cmd.c's table has them. */
TD_CO TD_CHECK int control_ring_features(struct daemon *d, const json_t *request, json_t *reply,
					 struct td_err *ret_err);
TD_CO TD_CHECK int control_ring_connect(struct daemon *d, const json_t *request, json_t *reply,
					struct td_err *ret_err);
TD_CO TD_CHECK int control_ring_disconnect(struct daemon *d, const json_t *request, json_t *reply,
					   struct td_err *ret_err);

TD_CHECK int control_info(struct daemon *d, json_t *reply);
TD_CHECK int control_stats(struct daemon *d, json_t *reply);

#endif
