// SPDX-License-Identifier: BSD-2-Clause
/*
 * Decimal numbers inside names, as strict as xenstore's folders are: digits only, no leading zero, 32 bits.
 */
#ifndef TAPBACK_NUMBER_H
#define TAPBACK_NUMBER_H

#include <blktap/base.h>

/* The one at *p; *p goes behind it. False: there is none. */
static inline bool number_take(const char **p, uint32_t *ret)
{
	const char *s = *p;
	uint64_t n = 0;

	if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9'))
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		n = n * 10 + (uint64_t)(*s - '0');
		if (n > UINT32_MAX)
			return false;
	}
	*p = s;
	*ret = (uint32_t)n;
	return true;
}

/* Two of them with sep between, and nothing behind. */
static inline bool number_pair(const char *s, char sep, uint32_t *ret_a, uint32_t *ret_b)
{
	return number_take(&s, ret_a) && *s++ == sep && number_take(&s, ret_b) && *s == '\0';
}

#endif
