// SPDX-License-Identifier: BSD-2-Clause
/*
 * Compressed clusters of qcow2: raw deflate (RFC 1951) by libdeflate and zlib, zstd frames by libzstd.
 *
 * A reader knows the end of the compressed bytes only to the sector, and other clusters' bytes may follow in
 * it: what counts is that a whole cluster comes out, not that the input is used up.
 *
 * libdeflate inflates twice as fast as zlib, but only streams that end where the cluster does.  What it refuses zlib
 * gets to judge, as QEMU would.  zlib can stop in the middle, where enough is there for a read: libdeflate cannot, nor
 * does it help with libzstd, whose blocks are larger than most clusters and come out whole.
 *
 * It deflates nearly three times as fast as zlib with QEMU's settings, to 3 % less: 88 and 31 MB/s on clusters of
 * 64 KiB.  What it makes looks back up to 32 KiB, as RFC 1951 has it, which is all that the format's specification says
 * of these streams; QEMU writes 4 KiB.  Whoever inflates a cluster in one piece, as QEMU does, reads either whatever
 * window it asks zlib for, because zlib then looks back in the output.  zlib deflates where there is no libdeflate,
 * like QEMU.
 */
#include "config.h"

#include <limits.h>
#include <stdlib.h>

#include <zlib.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include <blktap/qcow2.h>

#define DEFLATE_WINDOW 12
#define DEFLATE_MEM    9
#define FAST_LEVEL     4 /* of libdeflate's: 5 takes a quarter more time for 2 % */

/* zlib counts in unsigned int. */
static int check_lengths(size_t in_len, size_t out_len)
{
	return in_len > UINT_MAX || out_len > UINT_MAX ? -EUCLEAN : 0;
}

/* ---- raw deflate ---- */

static void set_buffers(z_stream *z, const void *in, size_t in_len, void *out, size_t out_len)
{
	z->next_in = (Bytef *)(uintptr_t)in; /* zlib only reads it */
	z->avail_in = (uInt)in_len;
	z->next_out = out;
	z->avail_out = (uInt)out_len;
}

/* The widest window reads every stream. */
static int inflater(struct qcow2_codec *k, z_stream **ret)
{
	z_stream *z = k->inflate;

	*ret = z;
	if (z)
		return inflateReset(z) == Z_OK ? 0 : -ENOMEM;
	z = calloc(1, sizeof(*z));
	if (!z || inflateInit2(z, -MAX_WBITS) != Z_OK) {
		free(z);
		return -ENOMEM;
	}
	*ret = k->inflate = z;
	return 0;
}

static int inflate_zlib(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t out_len)
{
	z_stream *z;
	int r = inflater(k, &z);

	if (r < 0)
		return r;
	set_buffers(z, in, in_len, out, out_len);
	r = inflate(z, Z_FINISH);
	if (r == Z_MEM_ERROR)
		return -ENOMEM;
	/* Z_BUF_ERROR: out is full and the stream is not at its end. */
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && z->avail_out == 0 ? 0 : -EUCLEAN;
}

/* True: out is what the stream holds.  False: ask zlib. */
static bool inflate_fast(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t out_len)
{
#ifdef HAVE_LIBDEFLATE
	if (!k->fast_inflate)
		k->fast_inflate = libdeflate_alloc_decompressor();
	return k->fast_inflate && libdeflate_deflate_decompress(k->fast_inflate, in, in_len, out, out_len,
								NULL) == LIBDEFLATE_SUCCESS;
#else
	(void)k, (void)in, (void)in_len, (void)out, (void)out_len;
	return false;
#endif
}

static int deflater(struct qcow2_codec *k, z_stream **ret)
{
	z_stream *z = k->deflate;

	*ret = z;
	if (z)
		return deflateReset(z) == Z_OK ? 0 : -ENOMEM;
	z = calloc(1, sizeof(*z));
	if (!z || deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -DEFLATE_WINDOW, DEFLATE_MEM,
			       Z_DEFAULT_STRATEGY) != Z_OK) {
		free(z);
		return -ENOMEM;
	}
	*ret = k->deflate = z;
	return 0;
}

static int64_t deflate_zlib(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t out_len)
{
	z_stream *z;
	int r = deflater(k, &z);

	if (r < 0)
		return r;
	set_buffers(z, in, in_len, out, out_len);
	r = deflate(z, Z_FINISH);
	return r == Z_STREAM_END ? (int64_t)(out_len - z->avail_out) : -ENOSPC;
}

/* Bytes; -ENOSPC: they do not fit; -EAGAIN: ask zlib. */
static int64_t deflate_fast(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t out_len)
{
#ifdef HAVE_LIBDEFLATE
	size_t n;

	if (!k->fast_deflate)
		k->fast_deflate = libdeflate_alloc_compressor(FAST_LEVEL);
	if (!k->fast_deflate)
		return -EAGAIN;
	n = libdeflate_deflate_compress(k->fast_deflate, in, in_len, out, out_len);
	return n > 0 ? (int64_t)n : -ENOSPC;
#else
	(void)k, (void)in, (void)in_len, (void)out, (void)out_len;
	return -EAGAIN;
#endif
}

static int64_t deflate_any(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t out_len)
{
	int64_t n = deflate_fast(k, in, in_len, out, out_len);

	return n == -EAGAIN ? deflate_zlib(k, in, in_len, out, out_len) : n;
}

static void done_zlib(struct qcow2_codec *k)
{
	if (k->inflate)
		inflateEnd(k->inflate);
	if (k->deflate)
		deflateEnd(k->deflate);
	free(k->inflate);
	free(k->deflate);
#ifdef HAVE_LIBDEFLATE
	libdeflate_free_decompressor(k->fast_inflate);
	libdeflate_free_compressor(k->fast_deflate);
#endif
}

/* ---- zstd ---- */

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

static int inflate_zstd(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t out_len)
{
	if (!k->unzstd)
		k->unzstd = ZSTD_createDCtx();
	return k->unzstd ? inflate_frames(k->unzstd, in, in_len, out, out_len) : -ENOMEM;
}

static int64_t deflate_zstd(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t out_len)
{
	size_t n;

	if (!k->zstd)
		k->zstd = ZSTD_createCCtx();
	if (!k->zstd)
		return -ENOMEM;
	n = ZSTD_compressCCtx(k->zstd, out, out_len, in, in_len, ZSTD_CLEVEL_DEFAULT);
	return ZSTD_isError(n) ? -ENOSPC : (int64_t)n;
}

static void done_zstd(struct qcow2_codec *k)
{
	ZSTD_freeDCtx(k->unzstd);
	ZSTD_freeCCtx(k->zstd);
}
#else
static int inflate_zstd(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t out_len)
{
	(void)k, (void)in, (void)in_len, (void)out, (void)out_len;
	return -ENOTSUP;
}

static int64_t deflate_zstd(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t out_len)
{
	(void)k, (void)in, (void)in_len, (void)out, (void)out_len;
	return -ENOTSUP;
}

static void done_zstd(struct qcow2_codec *k)
{
	(void)k;
}
#endif

/* ---- the interface ---- */

int qcow2_inflate_with(struct qcow2_codec *k, enum qcow2_compression c, const void *in, size_t in_len,
		       void *out, size_t out_len)
{
	if (check_lengths(in_len, out_len) < 0)
		return -EUCLEAN;
	if (c == QCOW2_ZSTD)
		return inflate_zstd(k, in, in_len, out, out_len);
	return inflate_fast(k, in, in_len, out, out_len) ? 0 : inflate_zlib(k, in, in_len, out, out_len);
}

size_t qcow2_inflate_enough(enum qcow2_compression c, size_t out_len, size_t from, size_t to)
{
	/* From the start: who reads in order gets to all of it.  Beyond the half libdeflate has all of it sooner. */
	return c == QCOW2_DEFLATE && from > 0 && to <= out_len / 2 ? to : out_len;
}

int qcow2_inflate_head_with(struct qcow2_codec *k, const void *in, size_t in_len, void *out, size_t len)
{
	return check_lengths(in_len, len) < 0 ? -EUCLEAN : inflate_zlib(k, in, in_len, out, len);
}

int64_t qcow2_deflate_with(struct qcow2_codec *k, enum qcow2_compression c, const void *in, size_t in_len,
			   void *out, size_t out_len)
{
	int64_t n;

	if (check_lengths(in_len, out_len) < 0)
		return -ENOSPC;
	n = c == QCOW2_ZSTD ? deflate_zstd(k, in, in_len, out, out_len)
			    : deflate_any(k, in, in_len, out, out_len);
	return n >= 0 && (uint64_t)n >= in_len ? -ENOSPC : n;
}

void qcow2_codec_done(struct qcow2_codec *k)
{
	done_zlib(k);
	done_zstd(k);
	*k = (struct qcow2_codec){ 0 };
}

int qcow2_inflate(enum qcow2_compression c, const void *in, size_t in_len, void *out, size_t out_len)
{
	struct qcow2_codec k = { 0 };
	int r = qcow2_inflate_with(&k, c, in, in_len, out, out_len);

	qcow2_codec_done(&k);
	return r;
}

int64_t qcow2_deflate(enum qcow2_compression c, const void *in, size_t in_len, void *out, size_t out_len)
{
	struct qcow2_codec k = { 0 };
	int64_t n = qcow2_deflate_with(&k, c, in, in_len, out, out_len);

	qcow2_codec_done(&k);
	return n;
}
