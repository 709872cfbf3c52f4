// SPDX-License-Identifier: BSD-2-Clause
/*
 * Finding zeros among bytes.  See zeros.h.
 */
#include "zeros.h"

#include <blktap/image.h>

size_t zeros_run(const void *buf, size_t len, size_t unit, size_t min, bool *ret_zero)
{
	const uint8_t *p = buf;
	size_t zeros = 0, n = 0;

	while (zeros < len && td_is_zero(p + zeros, TD_MIN(unit, len - zeros)))
		zeros += TD_MIN(unit, len - zeros);
	*ret_zero = zeros > 0 && (zeros >= min || zeros == len);
	if (*ret_zero)
		return zeros;
	/* Data, until enough zeros follow each other. */
	for (n = zeros, zeros = 0; n < len; n += TD_MIN(unit, len - n)) {
		if (!td_is_zero(p + n, TD_MIN(unit, len - n)))
			zeros = 0;
		else if ((zeros += TD_MIN(unit, len - n)) >= min)
			return n + TD_MIN(unit, len - n) - zeros;
	}
	return len;
}
