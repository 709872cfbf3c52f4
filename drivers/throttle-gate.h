// SPDX-License-Identifier: BSD-2-Clause
/*
 * When may a request go?  The arithmetic of the throttle filter; it knows no clock, no image and no coroutine.
 *
 * A limit is a leaky bucket, kept as one time: `full_ns`, at which all that was let through would have been paid at
 * the limit's rate.  A request may go when that time is at most `burst_ns` ahead, and moves it by its own cost.  So
 * what was saved while nothing was asked is at most burst_ns worth; a request of any size passes once the debt before
 * it is paid, and those behind it pay for it; and over any time no more passes than rate * time + burst + one request.
 */
#ifndef DRIVERS_THROTTLE_GATE_H
#define DRIVERS_THROTTLE_GATE_H

#include <blktap/base.h>

enum gate_kind { GATE_READ, GATE_WRITE, GATE_KINDS };
enum { GATE_ALL = GATE_KINDS, GATE_ROWS }; /* a limit for one kind, or for both together */
enum gate_unit { GATE_REQUESTS, GATE_BYTES, GATE_UNITS };

struct gate_limit {
	uint64_t rate; /* a second; 0: none */
	uint64_t full_ns;
	uint64_t rest; /* of the last division: nothing is lost to rounding */
};

struct gate {
	uint64_t burst_ns;
	struct gate_limit limit[GATE_ROWS][GATE_UNITS];
};

/* Another rate from now on; what is owed stays owed, in requests or bytes. */
void gate_rate(struct gate_limit *l, uint64_t rate, uint64_t now_ns);

/* The first moment at which a request of this kind may go; in the past: it may go now. */
uint64_t gate_opens(const struct gate *g, enum gate_kind kind);

/* It goes, at this moment. */
void gate_pass(struct gate *g, enum gate_kind kind, uint64_t requests, uint64_t bytes, uint64_t now_ns);

#endif
