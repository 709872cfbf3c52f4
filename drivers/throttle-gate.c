// SPDX-License-Identifier: BSD-2-Clause
/* The leaky buckets of the throttle filter: when a request may go, and what it pays.  See throttle-gate.h. */
#include "throttle-gate.h"

#define NS_PER_S 1000000000ull

static uint64_t limit_opens(const struct gate *g, const struct gate_limit *l)
{
	return l->rate > 0 && l->full_ns > g->burst_ns ? l->full_ns - g->burst_ns : 0;
}

static uint64_t row_opens(const struct gate *g, unsigned row)
{
	return TD_MAX(limit_opens(g, &g->limit[row][GATE_REQUESTS]),
		      limit_opens(g, &g->limit[row][GATE_BYTES]));
}

uint64_t gate_opens(const struct gate *g, enum gate_kind kind)
{
	return TD_MAX(row_opens(g, kind), row_opens(g, GATE_ALL));
}

void gate_rate(struct gate_limit *l, uint64_t rate, uint64_t now_ns)
{
	uint64_t owed_ns = l->rate > 0 && l->full_ns > now_ns ? l->full_ns - now_ns : 0;
	unsigned __int128 ns = rate > 0 ? (unsigned __int128)owed_ns * l->rate / rate : 0;

	*l = (struct gate_limit){ .rate = rate };
	if (owed_ns > 0)
		l->full_ns = ns > INT64_MAX - now_ns ? (uint64_t)INT64_MAX : now_ns + (uint64_t)ns;
}

/* A debt beyond 2^63 ns (centuries) is cut off there. */
static void pay(struct gate_limit *l, uint64_t cost, uint64_t now_ns)
{
	unsigned __int128 num, ns;

	if (l->rate == 0 || cost == 0)
		return;
	if (l->full_ns < now_ns) {
		l->full_ns = now_ns;
		l->rest = 0;
	}
	num = (unsigned __int128)cost * NS_PER_S + l->rest;
	ns = l->full_ns + num / l->rate;
	l->rest = (uint64_t)(num % l->rate);
	l->full_ns = ns > INT64_MAX ? (uint64_t)INT64_MAX : (uint64_t)ns;
}

void gate_pass(struct gate *g, enum gate_kind kind, uint64_t requests, uint64_t bytes, uint64_t now_ns)
{
	const unsigned rows[] = { kind, GATE_ALL };

	for (unsigned i = 0; i < TD_NELEMS(rows); i++) {
		pay(&g->limit[rows[i]][GATE_REQUESTS], requests, now_ns);
		pay(&g->limit[rows[i]][GATE_BYTES], bytes, now_ns);
	}
}
