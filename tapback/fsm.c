// SPDX-License-Identifier: BSD-2-Clause
/*
 * The states of one disk; see fsm.h.  A function for each state of the backend's node.
 *
 * Who writes what into it: libxl makes the node with 1, and writes 5 when it wants the disk away (and 6, where the
 * guest is dead).  All else is ours.
 */
#include "fsm.h"

/* A ring is in the way: before anything is said to the frontend, it goes. */
static enum fsm_step without_ring(const struct fsm_in *in, enum fsm_step then)
{
	return in->ring != RING_NONE ? STEP_DISCONNECT : then;
}

static enum fsm_step open_unless(const struct fsm_in *in, enum fsm_step when_open)
{
	switch (in->disk) {
	case DISK_OPEN:
		return when_open;
	case DISK_NONE:
	case DISK_LOST:
		return in->wait ? STEP_NONE : STEP_OPEN;
	default:
		return STEP_NONE;
	}
}

static enum fsm_step at_none(const struct fsm_in *in)
{
	if (in->ring != RING_NONE)
		return STEP_DISCONNECT;
	return in->disk == DISK_OPEN || in->disk == DISK_LOST ? STEP_CLOSE_DISK : STEP_FORGET;
}

static enum fsm_step at_initialising(const struct fsm_in *in)
{
	if (in->ring != RING_NONE)
		return STEP_DISCONNECT;
	if (in->given_up)
		return STEP_FAIL;
	if (in->disk == DISK_FAILED)
		return in->by_script ? STEP_ANNOUNCE : STEP_FAIL;
	if (in->disk == DISK_LATER)
		return in->wait ? STEP_NONE : STEP_ANNOUNCE;
	return open_unless(in, STEP_ANNOUNCE);
}

static enum fsm_step at_init_wait(const struct fsm_in *in)
{
	switch (in->fe) {
	case XS_CLOSING:
		return STEP_CLOSING;
	case XS_CLOSED:
		return without_ring(in, STEP_CLOSED);
	case XS_NONE:
		return in->online ? STEP_NONE : without_ring(in, STEP_CLOSED);
	default:
		break;
	}
	/* A ring without state 4: we were killed while we connected it.  The guest has not used it yet. */
	if (in->ring != RING_NONE)
		return STEP_DISCONNECT;
	if (in->given_up)
		return STEP_FAIL;
	if (in->fe == XS_INITIALISED || in->fe == XS_CONNECTED)
		return open_unless(in, in->plugged ? STEP_CONNECT : STEP_NONE);
	return open_unless(in, STEP_NONE);
}

static enum fsm_step at_connected(const struct fsm_in *in)
{
	switch (in->fe) {
	case XS_NONE:
	case XS_CLOSED:
		return without_ring(in, STEP_CLOSED);
	case XS_CLOSING:
		return STEP_CLOSING;
	case XS_INITIALISING:
	case XS_INIT_WAIT: /* the guest began anew without closing */
		return without_ring(in, open_unless(in, STEP_ANNOUNCE));
	default:
		break;
	}
	if (in->given_up || in->ring == RING_BROKEN || in->ring == RING_NONE)
		return STEP_FAIL;
	if (in->ring == RING_LOST)
		return in->wait ? STEP_NONE : STEP_RECOVER;
	return STEP_NONE;
}

static enum fsm_step at_closing(const struct fsm_in *in)
{
	bool never = in->fe == XS_INITIALISING || in->fe == XS_INIT_WAIT;

	if (in->ring == RING_BROKEN)
		return STEP_DISCONNECT;
	if (in->fe == XS_NONE || in->fe == XS_CLOSED)
		return without_ring(in, STEP_CLOSED);
	if (never && !in->online) /* no frontend was ever there: nobody would answer */
		return without_ring(in, STEP_CLOSED);
	/* The guest still waits for what is in flight. */
	if (in->ring == RING_LOST)
		return in->given_up ? STEP_DISCONNECT : in->wait ? STEP_NONE : STEP_RECOVER;
	return STEP_NONE;
}

static enum fsm_step at_closed(const struct fsm_in *in)
{
	if (in->ring != RING_NONE)
		return STEP_DISCONNECT;
	if (!in->online)
		return in->disk == DISK_OPEN || in->disk == DISK_LOST ? STEP_CLOSE_DISK : STEP_NONE;
	if (in->fe == XS_INITIALISING && !in->given_up)
		return open_unless(in, STEP_ANNOUNCE);
	return STEP_NONE;
}

/* Only the toolstack may have changed it, and only as it does: to 5 or 6, or by making the folder anew with 1. */
static bool is_conflict(const struct fsm_in *in)
{
	if (in->be == in->written)
		return false;
	return in->be == XS_INIT_WAIT || in->be == XS_INITIALISED || in->be == XS_CONNECTED ||
	       in->be == XS_OTHER;
}

enum fsm_step fsm_next(const struct fsm_in *in)
{
	if (in->be != XS_NONE && is_conflict(in))
		return STEP_CONFLICT;
	switch (in->be) {
	case XS_NONE:
		return at_none(in);
	case XS_INITIALISING:
		return in->written > XS_INITIALISING ? STEP_RESET : at_initialising(in);
	case XS_INIT_WAIT:
		return at_init_wait(in);
	case XS_CONNECTED:
		return at_connected(in);
	case XS_CLOSING:
		return at_closing(in);
	case XS_CLOSED:
		return at_closed(in);
	default:
		return STEP_CONFLICT; /* 3 and the others are nothing that we write */
	}
}

const char *fsm_step_name(enum fsm_step step)
{
	static const char *const names[] = {
		[STEP_NONE] = "none",
		[STEP_OPEN] = "open",
		[STEP_ANNOUNCE] = "announce",
		[STEP_CONNECT] = "connect",
		[STEP_RECOVER] = "recover",
		[STEP_CLOSING] = "closing",
		[STEP_DISCONNECT] = "disconnect",
		[STEP_CLOSE_DISK] = "close the disk",
		[STEP_CLOSED] = "closed",
		[STEP_FAIL] = "fail",
		[STEP_RESET] = "reset",
		[STEP_CONFLICT] = "conflict",
		[STEP_FORGET] = "forget",
	};

	return names[step];
}
