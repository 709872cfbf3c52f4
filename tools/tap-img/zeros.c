// SPDX-License-Identifier: BSD-2-Clause
/*
 * See zeros.h.
 */
#include "zeros.h"

/* Whatever vectors the processor has: the compiler's business.  No alignment is asked for. */
typedef uint64_t vec __attribute__((vector_size(32), aligned(1), may_alias));

#define STEP (4 * sizeof(vec))

static bool step_zero(const uint8_t *p)
{
	const vec *v = (const vec *)p;
	vec all = v[0] | v[1] | v[2] | v[3];

	return (all[0] | all[1] | all[2] | all[3]) == 0;
}

bool zeros_only(const void *buf, size_t len)
{
	const uint8_t *p = buf, *end = p + len;

	/* Data shows itself at its ends mostly: a look there spares the walk. */
	if (len > 0 && (p[0] | p[len - 1] | p[len / 2]))
		return false;
	for (; (size_t)(end - p) >= STEP; p += STEP)
		if (!step_zero(p))
			return false;
	for (; p < end; p++)
		if (*p)
			return false;
	return true;
}

size_t zeros_run(const void *buf, size_t len, size_t unit, size_t min, bool *ret_zero)
{
	const uint8_t *p = buf;
	size_t zeros = 0, n = 0;

	while (zeros < len && zeros_only(p + zeros, TD_MIN(unit, len - zeros)))
		zeros += TD_MIN(unit, len - zeros);
	*ret_zero = zeros > 0 && (zeros >= min || zeros == len);
	if (*ret_zero)
		return zeros;
	/* Data, until enough zeros follow each other. */
	for (n = zeros, zeros = 0; n < len; n += TD_MIN(unit, len - n)) {
		if (!zeros_only(p + n, TD_MIN(unit, len - n)))
			zeros = 0;
		else if ((zeros += TD_MIN(unit, len - n)) >= min)
			return n + TD_MIN(unit, len - n) - zeros;
	}
	return len;
}
