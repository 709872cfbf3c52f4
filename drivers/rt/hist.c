// SPDX-License-Identifier: BSD-2-Clause
/* What a histogram says; how it is filled is inline in the header. */
#include <blktap/hist.h>

uint64_t td_hist_upper(unsigned bucket)
{
	unsigned shift = bucket / TD_HIST_STEPS;

	if (bucket < TD_HIST_STEPS)
		return bucket;
	if (bucket >= TD_HIST_BUCKETS - 1)
		return UINT64_MAX;
	shift--;
	return ((uint64_t)(bucket - shift * TD_HIST_STEPS + 1) << shift) - 1;
}

void td_hist_merge(struct td_hist *to, const struct td_hist *from)
{
	to->nr += from->nr;
	to->sum += from->sum;
	to->max = TD_MAX(to->max, from->max);
	for (unsigned i = 0; i < TD_HIST_BUCKETS; i++)
		to->count[i] += from->count[i];
}

uint64_t td_hist_percentile(const struct td_hist *h, double percent)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < TD_HIST_BUCKETS; i++) {
		sum += h->count[i];
		if (sum > 0 && (double)sum * 100 >= percent * (double)h->nr)
			return TD_MIN(td_hist_upper(i), h->max);
	}
	return h->max;
}

uint64_t td_hist_mean(const struct td_hist *h)
{
	return h->nr ? h->sum / h->nr : 0;
}
