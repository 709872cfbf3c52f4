// SPDX-License-Identifier: BSD-2-Clause
/*
 * A log-linear histogram of times: exact below 32 ns, then 32 steps to each power of two, so that a percentile is at
 * most 3 % too large, and never too small.  10 KiB, of which only the pages are touched where times fall.
 *
 * Debian 12 has no C library for it; HdrHistogram_c, which others use, is not packaged.
 */
#ifndef BLKTAP_HIST_H
#define BLKTAP_HIST_H

#include <blktap/base.h>

#define TD_HIST_BITS    5u
#define TD_HIST_STEPS   (1u << TD_HIST_BITS)
#define TD_HIST_TOP     43u /* times from 2^44 ns (5 hours) on are counted in the last bucket */
#define TD_HIST_BUCKETS ((TD_HIST_TOP - TD_HIST_BITS + 2) * TD_HIST_STEPS)

/* All zero: empty. */
struct td_hist {
	uint64_t nr, sum, max; /* exact */
	uint64_t count[TD_HIST_BUCKETS];
};

/* The bucket of a time, in nanoseconds. */
static inline unsigned td_hist_bucket(uint64_t ns)
{
	unsigned top;

	if (ns < TD_HIST_STEPS)
		return (unsigned)ns;
	top = 63 - (unsigned)__builtin_clzll(ns);
	if (top > TD_HIST_TOP)
		return TD_HIST_BUCKETS - 1;
	/* The bits behind the highest are the step; the highest itself counts as one power more. */
	return (top - TD_HIST_BITS) * TD_HIST_STEPS + (unsigned)(ns >> (top - TD_HIST_BITS));
}

/* In the path of each request: a dozen instructions. */
static inline void td_hist_add(struct td_hist *h, uint64_t ns)
{
	h->nr++;
	h->sum += ns;
	if (ns > h->max)
		h->max = ns;
	h->count[td_hist_bucket(ns)]++;
}

/* As if all of `from` had been added to `to`. */
void td_hist_merge(struct td_hist *to, const struct td_hist *from);

/* The largest time of a bucket. */
uint64_t td_hist_upper(unsigned bucket);

/* So many per cent took no longer than this; 0 if it is empty. */
uint64_t td_hist_percentile(const struct td_hist *h, double percent);

uint64_t td_hist_mean(const struct td_hist *h); /* 0 if it is empty */

#endif
