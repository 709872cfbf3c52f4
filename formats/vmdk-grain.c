// SPDX-License-Identifier: BSD-2-Clause
/*
 * A compressed grain: a stream of zlib's (RFC 1950), whose length the marker in front of it says.
 */
#include "config.h"

#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#else
#include <zlib.h>
#endif

#include <blktap/qcow2.h>
#include <blktap/vmdk.h>

#define ZLIB_HEAD  2u
#define ZLIB_TAIL  4u
#define STORED     5u /* bytes before a block that is kept as it is */
#define STORED_MAX 65535u

/* Deflate, no dictionary, and the check bits of these two bytes. */
static bool head_is_right(const uint8_t *p)
{
	return (p[0] & 0xf) == 8 && ((unsigned)p[0] << 8 | p[1]) % 31 == 0 && !(p[1] & 0x20);
}

/* zlib's own takes a fifth of the time that inflating does. */
static uint32_t check_sum(const uint8_t *bytes, size_t len)
{
#ifdef HAVE_LIBDEFLATE
	return libdeflate_adler32(1, bytes, len);
#else
	return (uint32_t)adler32(1, bytes, (uInt)len);
#endif
}

int vmdk_grain_inflate(struct qcow2_codec *k, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	int r;

	if (in_len < ZLIB_HEAD + ZLIB_TAIL || !head_is_right(in))
		return -EUCLEAN;
	r = qcow2_inflate_with(k, QCOW2_DEFLATE, in + ZLIB_HEAD, in_len - ZLIB_HEAD - ZLIB_TAIL, out,
			       out_len);
	if (r < 0)
		return r;
	return check_sum(out, out_len) == td_get_be32(in + in_len - ZLIB_TAIL) ? 0 : -EUCLEAN;
}

/* Blocks that are kept as they are (RFC 1951, 3.2.4). */
static size_t store(const uint8_t *in, size_t in_len, uint8_t *out)
{
	size_t n = 0;

	for (size_t done = 0, len; done < in_len; done += len) {
		len = TD_MIN(in_len - done, (size_t)STORED_MAX);
		out[n] = done + len == in_len; /* the last one */
		td_put_le16(out + n + 1, (uint16_t)len);
		td_put_le16(out + n + 3, (uint16_t)~len);
		memcpy(out + n + STORED, in + done, len);
		n += STORED + len;
	}
	return n;
}

int64_t vmdk_grain_deflate(struct qcow2_codec *k, const uint8_t *in, size_t in_len, uint8_t *out)
{
	int64_t n = qcow2_deflate_with(k, QCOW2_DEFLATE, in, in_len, out + ZLIB_HEAD, in_len);

	if (n == -ENOSPC)
		n = (int64_t)store(in, in_len, out + ZLIB_HEAD);
	if (n < 0)
		return n;
	out[0] = 0x78; /* deflate, a window of 32 KiB */
	out[1] = 0x5e; /* fast */
	td_put_be32(out + ZLIB_HEAD + n, check_sum(in, in_len));
	return (int64_t)ZLIB_HEAD + n + (int64_t)ZLIB_TAIL;
}
