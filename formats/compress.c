// SPDX-License-Identifier: BSD-2-Clause
/*
 * Compressed clusters of qcow2: raw deflate (RFC 1951) by zlib, zstd frames by libzstd.
 *
 * A reader knows the end of the compressed bytes only to the sector, and other clusters' bytes may follow in
 * it: what counts is that a whole cluster comes out, not that the input is used up.
 */
#include "config.h"

#include <limits.h>

#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include <blktap/qcow2.h>

#define DEFLATE_WINDOW 12 /* QEMU writes, and for that long could only read, windows of 4 KiB */
#define DEFLATE_MEM    9

/* zlib counts in unsigned int. */
static int check_lengths(size_t in_len, size_t out_len)
{
	return in_len > UINT_MAX || out_len > UINT_MAX ? -EUCLEAN : 0;
}

static int inflate_zlib(const void *in, size_t in_len, void *out, size_t out_len)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)in_len };
	int r;

	z.next_out = out;
	z.avail_out = (uInt)out_len;
	/* The widest window reads every stream. */
	if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
		return -ENOMEM;
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	if (r == Z_MEM_ERROR)
		return -ENOMEM;
	/* Z_BUF_ERROR: the cluster is full and the stream is not at its end. */
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EUCLEAN;
}

static int64_t deflate_zlib(const void *in, size_t in_len, void *out, size_t out_len)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)in_len };
	int r;

	z.next_out = out;
	z.avail_out = (uInt)out_len;
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -DEFLATE_WINDOW, DEFLATE_MEM,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	r = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return r == Z_STREAM_END ? (int64_t)(out_len - z.avail_out) : -ENOSPC;
}

#ifdef HAVE_ZSTD
/*
 * Frame by frame into the whole output: so libzstd needs no window of its own, however large a window the
 * frame's header asks for.
 */
static int inflate_frames(ZSTD_DCtx *ctx, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	while (out_len > 0) {
		size_t frame = ZSTD_findFrameCompressedSize(in, in_len);
		size_t n;

		if (ZSTD_isError(frame))
			return -EUCLEAN;
		n = ZSTD_decompressDCtx(ctx, out, out_len, in, frame);
		if (ZSTD_isError(n))
			return -EUCLEAN;
		in += frame;
		in_len -= frame;
		out += n;
		out_len -= n;
	}
	return 0;
}

static int inflate_zstd(const void *in, size_t in_len, void *out, size_t out_len)
{
	ZSTD_DCtx *ctx = ZSTD_createDCtx();
	int r;

	if (ctx == NULL)
		return -ENOMEM;
	r = inflate_frames(ctx, in, in_len, out, out_len);
	ZSTD_freeDCtx(ctx);
	return r;
}

static int64_t deflate_zstd(const void *in, size_t in_len, void *out, size_t out_len)
{
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	size_t n;

	if (ctx == NULL)
		return -ENOMEM;
	n = ZSTD_compressCCtx(ctx, out, out_len, in, in_len, ZSTD_CLEVEL_DEFAULT);
	ZSTD_freeCCtx(ctx);
	return ZSTD_isError(n) ? -ENOSPC : (int64_t)n;
}
#else
static int inflate_zstd(const void *in, size_t in_len, void *out, size_t out_len)
{
	(void)in, (void)in_len, (void)out, (void)out_len;
	return -ENOTSUP;
}

static int64_t deflate_zstd(const void *in, size_t in_len, void *out, size_t out_len)
{
	(void)in, (void)in_len, (void)out, (void)out_len;
	return -ENOTSUP;
}
#endif

int qcow2_inflate(enum qcow2_compression c, const void *in, size_t in_len, void *out, size_t out_len)
{
	if (check_lengths(in_len, out_len) < 0)
		return -EUCLEAN;
	return c == QCOW2_ZSTD ? inflate_zstd(in, in_len, out, out_len)
			       : inflate_zlib(in, in_len, out, out_len);
}

int64_t qcow2_deflate(enum qcow2_compression c, const void *in, size_t in_len, void *out, size_t out_len)
{
	int64_t n;

	if (check_lengths(in_len, out_len) < 0)
		return -ENOSPC;
	n = c == QCOW2_ZSTD ? deflate_zstd(in, in_len, out, out_len) : deflate_zlib(in, in_len, out, out_len);
	return n >= 0 && (uint64_t)n >= in_len ? -ENOSPC : n;
}
