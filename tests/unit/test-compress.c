// SPDX-License-Identifier: BSD-2-Clause
/* formats/compress.c: streams by hand, both ways, and input that lies about itself. */
#include "config.h"

#include <zlib.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include "unit.h"

/* The linker sends the codec's calls here (--wrap): the libraries can be made to run out of memory. */
static bool no_memory, no_memory_midway;

int __real_inflateInit2_(z_streamp z, int bits, const char *version, int size);
int __wrap_inflateInit2_(z_streamp z, int bits, const char *version, int size);
int __wrap_inflateInit2_(z_streamp z, int bits, const char *version, int size)
{
	return no_memory ? Z_MEM_ERROR : __real_inflateInit2_(z, bits, version, size);
}

int __real_inflate(z_streamp z, int flush);
int __wrap_inflate(z_streamp z, int flush);
int __wrap_inflate(z_streamp z, int flush)
{
	return no_memory_midway ? Z_MEM_ERROR : __real_inflate(z, flush);
}

int __real_deflateInit2_(z_streamp z, int level, int method, int bits, int mem, int strategy,
			 const char *version, int size);
int __wrap_deflateInit2_(z_streamp z, int level, int method, int bits, int mem, int strategy,
			 const char *version, int size);
int __wrap_deflateInit2_(z_streamp z, int level, int method, int bits, int mem, int strategy,
			 const char *version, int size)
{
	return no_memory ? Z_MEM_ERROR
			 : __real_deflateInit2_(z, level, method, bits, mem, strategy, version, size);
}

#ifdef HAVE_LIBDEFLATE
struct libdeflate_decompressor *__real_libdeflate_alloc_decompressor(void);
struct libdeflate_decompressor *__wrap_libdeflate_alloc_decompressor(void);
struct libdeflate_decompressor *__wrap_libdeflate_alloc_decompressor(void)
{
	return no_memory || no_memory_midway ? NULL : __real_libdeflate_alloc_decompressor();
}

struct libdeflate_compressor *__real_libdeflate_alloc_compressor(int level);
struct libdeflate_compressor *__wrap_libdeflate_alloc_compressor(int level);
struct libdeflate_compressor *__wrap_libdeflate_alloc_compressor(int level)
{
	return no_memory ? NULL : __real_libdeflate_alloc_compressor(level);
}
#endif

#ifdef HAVE_ZSTD
ZSTD_DCtx *__real_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void)
{
	return no_memory ? NULL : __real_ZSTD_createDCtx();
}

ZSTD_CCtx *__real_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void)
{
	return no_memory ? NULL : __real_ZSTD_createCCtx();
}
#endif

#define CLUSTER 65536u

/* Raw deflate by hand: one stored block, final, of 4 bytes (RFC 1951, 3.2.4). */
static const uint8_t stored[] = { 0x01, 0x04, 0x00, 0xfb, 0xff, 'a', 'b', 'c', 'd' };

static void a_stored_block_by_hand_inflates(void **state)
{
	char out[5] = "....";

	(void)state;
	assert_int_equal(qcow2_inflate(QCOW2_DEFLATE, stored, sizeof(stored), out, 4), 0);
	assert_string_equal(out, "abcd");
}

static void what_follows_the_stream_is_not_looked_at(void **state)
{
	uint8_t in[512];
	char out[5] = "....";

	(void)state;
	memset(in, 0xff, sizeof(in));
	memcpy(in, stored, sizeof(stored));
	assert_int_equal(qcow2_inflate(QCOW2_DEFLATE, in, sizeof(in), out, 4), 0);
	assert_string_equal(out, "abcd");
}

static void a_full_cluster_is_enough_without_an_end_mark(void **state)
{
	uint8_t in[sizeof(stored)];
	char out[5] = "....";

	(void)state;
	memcpy(in, stored, sizeof(in));
	in[0] = 0x00; /* not the final block: a writer may end so */
	assert_int_equal(qcow2_inflate(QCOW2_DEFLATE, in, sizeof(in), out, 4), 0);
	assert_string_equal(out, "abcd");
}

static void too_little_output_is_broken(void **state)
{
	char out[8];

	(void)state;
	assert_int_equal(qcow2_inflate(QCOW2_DEFLATE, stored, sizeof(stored), out, 5), -EUCLEAN);
	for (size_t len = 0; len < sizeof(stored); len++)
		assert_int_equal(qcow2_inflate(QCOW2_DEFLATE, stored, len, out, 4), -EUCLEAN);
}

static void nonsense_is_broken(void **state)
{
	static const uint8_t bad[] = { 0x07, 0xff, 0xff, 0xff }; /* block type 3 does not exist */
	char out[8];

	(void)state;
	assert_int_equal(qcow2_inflate(QCOW2_DEFLATE, bad, sizeof(bad), out, 4), -EUCLEAN);
}

static void lengths_beyond_32_bits_are_refused(void **state)
{
	char out[8];

	(void)state;
	assert_int_equal(qcow2_inflate(QCOW2_DEFLATE, stored, 1ull << 32, out, 4), -EUCLEAN);
	assert_int_equal(qcow2_inflate(QCOW2_DEFLATE, stored, 9, out, 1ull << 32), -EUCLEAN);
	assert_int_equal(qcow2_deflate(QCOW2_DEFLATE, stored, 1ull << 32, out, 4), -ENOSPC);
}

static void fill(uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(i % 251 + i / 4099);
}

static void round_trip(enum qcow2_compression c)
{
	static uint8_t plain[CLUSTER], packed[CLUSTER + 512], back[CLUSTER];
	int64_t n;

	fill(plain, sizeof(plain));
	n = qcow2_deflate(c, plain, sizeof(plain), packed, CLUSTER);
	assert_in_range(n, 1, CLUSTER - 1);
	memset(packed + n, 0xa5, 512); /* up to the sector's end: another cluster's bytes */
	assert_int_equal(qcow2_inflate(c, packed, (size_t)n + 512, back, sizeof(back)), 0);
	assert_memory_equal(plain, back, sizeof(plain));

	/* Half of it is not enough. */
	assert_int_equal(qcow2_inflate(c, packed, (size_t)n / 2, back, sizeof(back)), -EUCLEAN);
	assert_int_equal(qcow2_deflate(c, plain, sizeof(plain), packed, 16), -ENOSPC);
}

static void deflate_goes_both_ways(void **state)
{
	(void)state;
	round_trip(QCOW2_DEFLATE);
}

/* Memory is kept from call to call; what went wrong in one is forgotten in the next. */
static void a_codec_is_used_again(void **state)
{
	static uint8_t plain[CLUSTER], packed[CLUSTER], back[CLUSTER];
	struct qcow2_codec k = { 0 };
	enum qcow2_compression last = QCOW2_DEFLATE;

	(void)state;
#ifdef HAVE_ZSTD
	last = QCOW2_ZSTD;
#endif
	fill(plain, sizeof(plain));
	for (unsigned i = 0; i < 6; i++) {
		enum qcow2_compression c = i % 2 ? last : QCOW2_DEFLATE;
		int64_t n = qcow2_deflate_with(&k, c, plain, sizeof(plain), packed, CLUSTER);

		assert_in_range(n, 1, CLUSTER - 1);
		assert_int_equal(qcow2_inflate_with(&k, c, packed, (size_t)n / 2, back, sizeof(back)),
				 -EUCLEAN);
		assert_int_equal(qcow2_deflate_with(&k, c, plain, sizeof(plain), packed + n, 16), -ENOSPC);
		memset(back, 0, sizeof(back));
		assert_int_equal(qcow2_inflate_with(&k, c, packed, (size_t)n, back, sizeof(back)), 0);
		assert_memory_equal(plain, back, sizeof(plain));
	}
	qcow2_codec_done(&k);
	assert_null(k.deflate);
}

/* QEMU asks zlib for a window of 4 KiB, and for a whole cluster at once. */
static void qemu_reads_what_looks_back_farther_than_4_kib(void **state)
{
	static uint8_t plain[CLUSTER], packed[CLUSTER], back[CLUSTER];
	z_stream z = { .next_in = packed, .next_out = back, .avail_out = sizeof(back) };
	uint64_t x = 88172645463325252ull;
	int64_t n;

	(void)state;
	/* The same noise again after each 5000 bytes, and after each 30000. */
	for (size_t i = 0; i < sizeof(plain); i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		plain[i] = i >= 40000 ? plain[i - 30000] : i >= 5000 ? plain[i - 5000] : (uint8_t)x;
	}
	n = qcow2_deflate(QCOW2_DEFLATE, plain, sizeof(plain), packed, sizeof(packed));
	assert_in_range(n, 1, CLUSTER - 1);
	assert_int_equal(inflateInit2(&z, -12), Z_OK);
	z.avail_in = (uInt)n;
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	inflateEnd(&z);
	assert_int_equal(z.avail_out, 0);
	assert_memory_equal(plain, back, sizeof(plain));
}

/* ---- the start of a cluster alone ---- */

#define SMALL 4096u

/* A stream as zlib makes it. */
static size_t deflate_as(int level, int strategy, const uint8_t *plain, uint8_t *packed, size_t size)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)plain, .avail_in = SMALL };

	assert_int_equal(deflateInit2(&z, level, Z_DEFLATED, -12, 9, strategy), Z_OK);
	z.next_out = packed;
	z.avail_out = (uInt)size;
	/* Several blocks: a full flush ends one. */
	z.avail_in = SMALL / 3;
	assert_int_equal(deflate(&z, Z_FULL_FLUSH), Z_OK);
	z.avail_in = SMALL - SMALL / 3;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return size - z.avail_out;
}

/* Each length, in memory of just that length: a sanitizer sees a byte too many, in or out. */
static void every_head(struct qcow2_codec *k, const uint8_t *plain, const uint8_t *packed, size_t n)
{
	uint8_t *in = malloc(n);

	assert_non_null(in);
	memcpy(in, packed, n);
	for (size_t len = 1; len <= SMALL; len++) {
		uint8_t *out = malloc(len);

		assert_non_null(out);
		assert_int_equal(qcow2_inflate_head_with(k, in, n, out, len), 0);
		assert_memory_equal(out, plain, len);
		free(out);
	}
	free(in);
}

/* A stream that was cut: what there is of it, or an error, and the more the longer it is. */
static void every_cut(struct qcow2_codec *k, const uint8_t *plain, const uint8_t *packed, size_t n,
		      size_t len)
{
	uint8_t out[SMALL];
	bool enough = false;

	for (size_t cut = 0; cut <= n; cut++) {
		uint8_t *in = malloc(cut + 1); /* malloc(0) may be NULL */
		int r;

		assert_non_null(in);
		memcpy(in + 1, packed, cut);
		memset(out, 0x5a, sizeof(out));
		r = qcow2_inflate_head_with(k, in + 1, cut, out, len);
		assert_true(r == 0 || (r == -EUCLEAN && !enough));
		enough |= r == 0;
		if (r == 0)
			assert_memory_equal(out, plain, len);
		free(in);
	}
	assert_true(enough);
}

static void heads(struct qcow2_codec *k, const uint8_t *plain, int level, int strategy)
{
	uint8_t packed[2 * SMALL];
	size_t n = deflate_as(level, strategy, plain, packed, sizeof(packed));

	every_head(k, plain, packed, n);
	for (size_t len = SMALL / 4; len <= SMALL; len += SMALL / 4)
		every_cut(k, plain, packed, n, len);
}

static void every_start_of_a_cluster_inflates_alone(void **state)
{
	uint8_t plain[SMALL], packed[SMALL];
	struct qcow2_codec k = { 0 };
	int64_t n;

	(void)state;
	fill(plain, sizeof(plain));
	n = qcow2_deflate(QCOW2_DEFLATE, plain, sizeof(plain), packed, sizeof(packed));
	assert_in_range(n, 1, sizeof(packed) - 1);
	every_head(&k, plain, packed, (size_t)n);
	heads(&k, plain, Z_NO_COMPRESSION, Z_DEFAULT_STRATEGY); /* stored blocks */
	heads(&k, plain, Z_BEST_COMPRESSION, Z_DEFAULT_STRATEGY);
	heads(&k, plain, Z_DEFAULT_COMPRESSION, Z_FIXED); /* the fixed code */
	heads(&k, plain, Z_DEFAULT_COMPRESSION, Z_HUFFMAN_ONLY);
	qcow2_codec_done(&k);
}

static void a_start_longer_than_the_stream_is_broken(void **state)
{
	struct qcow2_codec k = { 0 };
	char out[8];

	(void)state;
	assert_int_equal(qcow2_inflate_head_with(&k, stored, sizeof(stored), out, 3), 0);
	assert_memory_equal(out, "abc", 3);
	assert_int_equal(qcow2_inflate_head_with(&k, stored, sizeof(stored), out, 5), -EUCLEAN);
	assert_int_equal(qcow2_inflate_head_with(&k, stored, 1ull << 32, out, 4), -EUCLEAN);
	assert_int_equal(qcow2_inflate_head_with(&k, stored, 9, out, 1ull << 32), -EUCLEAN);
	qcow2_codec_done(&k);
}

static void a_start_is_enough_only_where_it_saves_time(void **state)
{
	(void)state;
	assert_int_equal(qcow2_inflate_enough(QCOW2_DEFLATE, CLUSTER, 4096, 8192), 8192);
	assert_int_equal(qcow2_inflate_enough(QCOW2_DEFLATE, CLUSTER, 1, CLUSTER / 2), CLUSTER / 2);
	assert_int_equal(qcow2_inflate_enough(QCOW2_DEFLATE, CLUSTER, 1, CLUSTER / 2 + 1), CLUSTER);
	assert_int_equal(qcow2_inflate_enough(QCOW2_DEFLATE, CLUSTER, 0, 4096), CLUSTER);
	assert_int_equal(qcow2_inflate_enough(QCOW2_ZSTD, CLUSTER, 4096, 8192), CLUSTER);
}

static void what_does_not_shrink_is_refused(void **state)
{
	uint8_t plain[4096], packed[8192];
	uint64_t x = 88172645463325252ull;

	(void)state;
	for (size_t i = 0; i < sizeof(plain); i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		plain[i] = (uint8_t)x;
	}
	assert_int_equal(qcow2_deflate(QCOW2_DEFLATE, plain, sizeof(plain), packed, sizeof(packed)), -ENOSPC);
	assert_int_equal(qcow2_deflate(QCOW2_DEFLATE, plain, sizeof(plain), packed, sizeof(plain)), -ENOSPC);
	assert_int_equal(qcow2_deflate(QCOW2_DEFLATE, plain, sizeof(plain), packed, 1ull << 32), -ENOSPC);
}

static void no_memory_is_not_a_broken_image(void **state)
{
	enum qcow2_compression last = QCOW2_DEFLATE;
	char out[8];

	(void)state;
#ifdef HAVE_ZSTD
	last = QCOW2_ZSTD;
#endif
	no_memory = true;
	for (enum qcow2_compression c = QCOW2_DEFLATE; c <= last; c++) {
		assert_int_equal(qcow2_inflate(c, stored, sizeof(stored), out, 4), -ENOMEM);
		assert_int_equal(qcow2_deflate(c, stored, sizeof(stored), out, 4), -ENOMEM);
	}
	no_memory = false;
	no_memory_midway = true;
	assert_int_equal(qcow2_inflate(QCOW2_DEFLATE, stored, sizeof(stored), out, 4), -ENOMEM);
	no_memory_midway = false;
}

#ifdef HAVE_ZSTD
/* A zstd frame by hand (RFC 8878): single segment, content size 4, one raw block, last, of 4 bytes. */
static const uint8_t frame[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x04, 0x21, 0x00, 0x00, 'a', 'b', 'c', 'd' };

static void zstd_goes_both_ways(void **state)
{
	(void)state;
	round_trip(QCOW2_ZSTD);
}

static void zstd_frames_by_hand_inflate(void **state)
{
	/* Skippable frame of 2 bytes, then two of the golden ones, then anything. */
	uint8_t in[64] = { 0x50, 0x2a, 0x4d, 0x18, 0x02, 0x00, 0x00, 0x00, 'x', 'x' };
	char out[9] = "........";

	(void)state;
	assert_int_equal(qcow2_inflate(QCOW2_ZSTD, frame, sizeof(frame), out, 4), 0);
	assert_string_equal(out, "abcd....");
	memcpy(in + 10, frame, sizeof(frame));
	memcpy(in + 10 + sizeof(frame), frame, sizeof(frame));
	assert_int_equal(qcow2_inflate(QCOW2_ZSTD, in, sizeof(in), out, 8), 0);
	assert_string_equal(out, "abcdabcd");
}

static void zstd_frames_that_lie_are_broken(void **state)
{
	uint8_t in[sizeof(frame)];
	char out[8];

	(void)state;
	for (size_t len = 0; len < sizeof(frame); len++)
		assert_int_equal(qcow2_inflate(QCOW2_ZSTD, frame, len, out, 4), -EUCLEAN);
	assert_int_equal(qcow2_inflate(QCOW2_ZSTD, frame, sizeof(frame), out, 5), -EUCLEAN);
	/* More than a cluster in one frame. */
	assert_int_equal(qcow2_inflate(QCOW2_ZSTD, frame, sizeof(frame), out, 3), -EUCLEAN);
	memcpy(in, frame, sizeof(in));
	in[5] = 5; /* says 5, holds 4 */
	assert_int_equal(qcow2_inflate(QCOW2_ZSTD, in, sizeof(in), out, 5), -EUCLEAN);
}

static void a_giant_window_costs_no_memory(void **state)
{
	/* The same block in a frame whose header asks for a window of 2 GiB. */
	static const uint8_t wide[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x21,
					0x00, 0x00, 'a',  'b',  'c',  'd' };
	char out[5] = "....";

	(void)state;
	assert_int_equal(qcow2_inflate(QCOW2_ZSTD, wide, sizeof(wide), out, 4), 0);
	assert_string_equal(out, "abcd");
}
#else
static void zstd_is_named_as_missing(void **state)
{
	char out[8];

	(void)state;
	assert_int_equal(qcow2_inflate(QCOW2_ZSTD, stored, sizeof(stored), out, 4), -ENOTSUP);
	assert_int_equal(qcow2_deflate(QCOW2_ZSTD, stored, sizeof(stored), out, 4), -ENOTSUP);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("a stored block by hand inflates", a_stored_block_by_hand_inflates),
		SAYS("what follows the stream is not looked at", what_follows_the_stream_is_not_looked_at),
		SAYS("a full cluster is enough, without an end mark",
		     a_full_cluster_is_enough_without_an_end_mark),
		SAYS("too little output is broken", too_little_output_is_broken),
		SAYS("nonsense is broken", nonsense_is_broken),
		SAYS("lengths beyond zlib's counters are refused", lengths_beyond_32_bits_are_refused),
		SAYS("deflate goes both ways", deflate_goes_both_ways),
		SAYS("a codec is used again", a_codec_is_used_again),
		SAYS("QEMU reads what looks back farther", qemu_reads_what_looks_back_farther_than_4_kib),
		SAYS("every start of a cluster inflates alone", every_start_of_a_cluster_inflates_alone),
		SAYS("a start longer than the stream is broken", a_start_longer_than_the_stream_is_broken),
		SAYS("a start is enough only where it saves time",
		     a_start_is_enough_only_where_it_saves_time),
		SAYS("what does not shrink is refused", what_does_not_shrink_is_refused),
		SAYS("no memory is -ENOMEM, not a broken image", no_memory_is_not_a_broken_image),
#ifdef HAVE_ZSTD
		SAYS("zstd goes both ways", zstd_goes_both_ways),
		SAYS("zstd frames by hand inflate, one after the other", zstd_frames_by_hand_inflate),
		SAYS("zstd frames that lie are broken", zstd_frames_that_lie_are_broken),
		SAYS("a frame that asks for a giant window costs no memory", a_giant_window_costs_no_memory),
#else
		SAYS("zstd that is not built in is -ENOTSUP", zstd_is_named_as_missing),
#endif
	};

	return cmocka_run_group_tests_name("compressed clusters", tests, NULL, NULL);
}
