// SPDX-License-Identifier: BSD-2-Clause
/*
 * What to do next with one disk: a pure function of what xenstore says and of what we have.
 *
 * It is asked again after each step, with everything read anew: there is no state between two calls that could differ
 * from what is really there.  A step that changes nothing is never asked for twice in a row, so a pass ends.
 */
#ifndef TAPBACK_FSM_H
#define TAPBACK_FSM_H

#include <blktap/base.h>

/* States in xenstore.  0 is "no such node"; whatever else a node may hold is XS_OTHER. */
enum xs_state {
	XS_NONE,
	XS_INITIALISING,
	XS_INIT_WAIT,
	XS_INITIALISED,
	XS_CONNECTED,
	XS_CLOSING,
	XS_CLOSED,
	XS_OTHER,
	XS_STATES
};

enum fsm_disk {
	DISK_NONE,
	DISK_LATER, /* a script will bring the tapdisk */
	DISK_OPEN,
	DISK_FAILED, /* could not be opened: nothing to try again */
	DISK_LOST,   /* its tapdisk died */
	DISK_STATES
};

enum fsm_ring {
	RING_NONE,
	RING_UP,
	RING_LOST,   /* the guest is connected, but no tapdisk serves it */
	RING_BROKEN, /* the guest broke the protocol: the tapdisk stopped it */
	RING_STATES
};

struct fsm_in {
	enum xs_state be, fe;
	enum xs_state written; /* what we wrote to be, or found there and took over; XS_NONE: nothing yet */
	bool online;           /* the toolstack wants the device */
	bool plugged;          /* no hotplug script, or it is done */
	bool by_script; /* our script waits for state 2 even if the disk failed, to tell the sentence */
	bool given_up;  /* crashed too often */
	bool wait;      /* a delay before the next try runs */
	enum fsm_disk disk;
	enum fsm_ring ring;
};

enum fsm_step {
	STEP_NONE,
	STEP_OPEN,       /* start the tapdisk, or find it */
	STEP_ANNOUNCE,   /* what the frontend may choose from; state 2 */
	STEP_CONNECT,    /* read what it chose, map the ring; state 4 */
	STEP_RECOVER,    /* the same ring again, by a new tapdisk; no state is written */
	STEP_CLOSING,    /* state 5 */
	STEP_DISCONNECT, /* drain and unmap the ring */
	STEP_CLOSE_DISK, /* end the tapdisk */
	STEP_CLOSED,     /* state 6 */
	STEP_FAIL,       /* write the error; state 5, or 6 if nothing was connected yet */
	STEP_RESET,      /* the folder was made anew: drop all that belonged to the old one */
	STEP_CONFLICT,   /* somebody else writes states here: stop serving it */
	STEP_FORGET,     /* the folder is gone and nothing is left of it */
	STEPS
};

enum fsm_step fsm_next(const struct fsm_in *in);

const char *fsm_step_name(enum fsm_step step);

#endif
