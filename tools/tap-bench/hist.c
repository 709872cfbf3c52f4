// SPDX-License-Identifier: BSD-2-Clause
/*
 * Latencies in a log-linear histogram: exact below 32 ns, then 32 steps to each power of two.  (Debian 12 has no C
 * library for it.)
 */
#include "bench.h"

static unsigned bucket_of(uint64_t ns)
{
	unsigned top;

	if (ns < HIST_STEPS)
		return (unsigned)ns;
	top = 63 - (unsigned)__builtin_clzll(ns);
	return (top - 4) * HIST_STEPS + (unsigned)((ns >> (top - 5)) & (HIST_STEPS - 1));
}

/* The bucket's upper end: a percentile is never told too small. */
static uint64_t value_of(unsigned bucket)
{
	unsigned top = bucket / HIST_STEPS + 4;

	if (bucket < HIST_STEPS)
		return bucket;
	return ((uint64_t)(HIST_STEPS + bucket % HIST_STEPS + 1) << (top - 5)) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
	h->nr++;
	h->sum += ns;
	h->max = TD_MAX(h->max, ns);
	h->count[bucket_of(ns)]++;
}

void hist_merge(struct hist *to, const struct hist *from)
{
	to->nr += from->nr;
	to->sum += from->sum;
	to->max = TD_MAX(to->max, from->max);
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		to->count[i] += from->count[i];
}

uint64_t hist_percentile(const struct hist *h, double percent)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		sum += h->count[i];
		if (sum > 0 && (double)sum * 100 >= percent * (double)h->nr)
			return TD_MIN(value_of(i), h->max);
	}
	return h->max;
}
