// SPDX-License-Identifier: BSD-2-Clause
/*
 * Small things every file needs: attributes, cleanup scopes, overflow-safe arithmetic, big-endian bytes.
 *
 * Conventions of the whole tree: 0 or a positive value is success, a negative errno is failure; offsets and
 * lengths are bytes in uint64_t; an out-parameter is last, is called ret_x and is written only on success.
 */
#ifndef BLKTAP_BASE_H
#define BLKTAP_BASE_H

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The result must be looked at.  Ignoring one is spelled td_ignore(call), with the reason beside it. */
#define TD_CHECK __attribute__((warn_unused_result))

/* May yield: call it from a coroutine only, and hold nothing across it that another request could need. */
#define TD_CO

#define TD_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#define td_ignore(call)                                                                                      \
	do {                                                                                                 \
		int td_ignored_ = (call);                                                                    \
		(void)td_ignored_;                                                                           \
	} while (0)

#define TD_PASTE_(a, b) a##b
#define TD_PASTE(a, b)  TD_PASTE_(a, b)

/* Each argument is evaluated once: it may be a call.  The names are unique so that they may nest. */
/* NOLINTBEGIN(bugprone-macro-parentheses): x, y and op are a name, a name and an operator. */
#define TD_MINMAX_(a, op, b, x, y)                                                                           \
	__extension__({                                                                                      \
		__auto_type x = (a);                                                                         \
		__auto_type y = (b);                                                                         \
		x op y ? x : y;                                                                              \
	})
/* NOLINTEND(bugprone-macro-parentheses) */
#define TD_MIN(a, b) TD_MINMAX_(a, <, b, TD_PASTE(td_x_, __COUNTER__), TD_PASTE(td_y_, __COUNTER__))
#define TD_MAX(a, b) TD_MINMAX_(a, >, b, TD_PASTE(td_x_, __COUNTER__), TD_PASTE(td_y_, __COUNTER__))
#define TD_NELEMS(a) (sizeof(a) / sizeof((a)[0]))

#define td_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* td_cleanup(free) char *s = NULL;  frees s when its scope ends. */
#define td_cleanup(fn) __attribute__((cleanup(td_cleanup_##fn)))

static inline void td_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline bool td_is_pow2(uint64_t x)
{
	return x != 0 && (x & (x - 1)) == 0;
}

/* to: a power of two.  td_align_up wraps near 2^64: bound x first. */
static inline uint64_t td_align_down(uint64_t x, uint64_t to)
{
	return x & ~(to - 1);
}

static inline uint64_t td_align_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) & ~(to - 1);
}

static inline uint64_t td_div_up(uint64_t x, uint64_t by)
{
	return x / by + (x % by != 0);
}

/* Does [off, off + len) lie inside [0, size)?  An empty range at the end does. */
static inline bool td_in_range(uint64_t off, uint64_t len, uint64_t size)
{
	return len <= size && off <= size - len;
}

/* Do [a, a + alen) and [b, b + blen) share a byte?  Neither may wrap. */
static inline bool td_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return alen > 0 && blen > 0 && a < b + blen && b < a + alen;
}

static inline uint16_t td_get_be16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

static inline uint32_t td_get_be32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline uint64_t td_get_be64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

static inline void td_put_be16(void *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void td_put_be32(void *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void td_put_be64(void *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint16_t td_get_le16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t td_get_le32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t td_get_le64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void td_put_le16(void *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void td_put_le32(void *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void td_put_le64(void *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

#endif
