// SPDX-License-Identifier: BSD-2-Clause
/* Deadlines of the blocking calls in libctl. */
#ifndef BLKTAP_CTL_TIME_H
#define BLKTAP_CTL_TIME_H

#include <limits.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t ctl_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* As poll() wants it; 0 when the deadline is over. */
static inline int ctl_ms_left(uint64_t deadline_ms)
{
	uint64_t now = ctl_now_ms();
	uint64_t left = now < deadline_ms ? deadline_ms - now : 0;

	return left > INT_MAX ? INT_MAX : (int)left;
}

#endif
