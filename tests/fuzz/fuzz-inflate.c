// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: compressed clusters.  Input: method, log2 of the output's length beyond 9 (a byte each), two that say
 * how much of the cluster is read, four unused, then the compressed bytes.  The buffers are exactly as long as they
 * say, so that a sanitizer sees a step beyond.  And the bytes as a cluster to be compressed: what is made of it is
 * smaller, and gives it back.
 */
#include "fuzz.h"

/* The cluster: the bytes over and over, so that there is something to compress. */
static void there_and_back(enum qcow2_compression c, const uint8_t *data, size_t size, size_t len)
{
	uint8_t *plain = malloc(len), *packed = malloc(len), *again = malloc(len);
	int64_t n = -ENOMEM;

	for (size_t i = 0; plain && size > 0 && i < len; i++)
		plain[i] = data[i % size];
	if (plain && packed && again && size > 0)
		n = qcow2_deflate(c, plain, len, packed, len - 1);
	FUZZ_CHECK(n > 0 || n == -ENOSPC || n == -ENOTSUP || n == -ENOMEM);
	if (n > 0) {
		FUZZ_CHECK((size_t)n < len);
		packed = realloc(packed, (size_t)n);
		FUZZ_CHECK(qcow2_inflate(c, packed, (size_t)n, again, len) == 0);
		FUZZ_CHECK(memcmp(plain, again, len) == 0);
	}
	free(plain);
	free(packed);
	free(again);
}

/* The cluster's start alone: an error, or what the whole starts with. */
static void the_start(const uint8_t *in, size_t in_len, const uint8_t *whole, size_t len)
{
	struct qcow2_codec k = { 0 };
	uint8_t *out = malloc(len);
	int r = out ? qcow2_inflate_head_with(&k, in, in_len, out, len) : -ENOMEM;

	FUZZ_CHECK(r == 0 || (r == -EUCLEAN && !whole) || r == -ENOMEM);
	FUZZ_CHECK(r < 0 || !whole || memcmp(out, whole, len) == 0);
	free(out);
	qcow2_codec_done(&k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum qcow2_compression c;
	size_t out_len, head;
	uint8_t *in, *out;
	int r;

	if (size < 8)
		return 0;
	c = data[0] % 2 ? QCOW2_ZSTD : QCOW2_DEFLATE;
	out_len = 512u << data[1] % 8;
	head = (data[2] + 256u * data[3]) % out_len + 1;
	size -= 8;
	there_and_back(c, data + 8, size, out_len);
	in = malloc(size + 1); /* malloc(0) may be NULL */
	out = malloc(out_len);
	if (in != NULL && out != NULL) {
		in[size] = 0;
		memcpy(in, data + 8, size);
		r = qcow2_inflate(c, in, size, out, out_len);
		FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP || r == -ENOMEM);
		if (c == QCOW2_DEFLATE)
			the_start(in, size, r == 0 ? out : NULL, head);
	}
	free(in);
	free(out);
	return 0;
}
