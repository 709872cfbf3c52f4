// SPDX-License-Identifier: BSD-2-Clause
/*
 * A compressed grain: a stream of zlib's (RFC 1950), whose length the marker in front of it says.
 */
#include <zlib.h>

#include <blktap/qcow2.h>
#include <blktap/vmdk.h>

#define ZLIB_HEAD 2u
#define ZLIB_TAIL 4u

/* Deflate, no dictionary, and the check bits of these two bytes. */
static bool head_is_right(const uint8_t *p)
{
	return (p[0] & 0xf) == 8 && ((unsigned)p[0] << 8 | p[1]) % 31 == 0 && !(p[1] & 0x20);
}

int vmdk_grain_inflate(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	int r;

	if (in_len < ZLIB_HEAD + ZLIB_TAIL || !head_is_right(in))
		return -EUCLEAN;
	r = qcow2_inflate(QCOW2_DEFLATE, in + ZLIB_HEAD, in_len - ZLIB_HEAD - ZLIB_TAIL, out, out_len);
	if (r < 0)
		return r;
	return adler32(adler32(0, NULL, 0), out, (uInt)out_len) == td_get_be32(in + in_len - ZLIB_TAIL)
		       ? 0
		       : -EUCLEAN;
}
