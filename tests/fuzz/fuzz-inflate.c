// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: compressed clusters.  Input: method, log2 of the output's length beyond 9 (a byte each), six
 * unused, then the compressed bytes.  The buffers are exactly as long as they say, so that a sanitizer sees a
 * step beyond.
 */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum qcow2_compression c;
	size_t out_len;
	uint8_t *in, *out;
	int r;

	if (size < 8)
		return 0;
	c = data[0] % 2 ? QCOW2_ZSTD : QCOW2_DEFLATE;
	out_len = 512u << data[1] % 8;
	size -= 8;
	in = malloc(size + 1); /* malloc(0) may be NULL */
	out = malloc(out_len);
	if (in != NULL && out != NULL) {
		in[size] = 0;
		memcpy(in, data + 8, size);
		r = qcow2_inflate(c, in, size, out, out_len);
		FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP || r == -ENOMEM);
	}
	free(in);
	free(out);
	return 0;
}
