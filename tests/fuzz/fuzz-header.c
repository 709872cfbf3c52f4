// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: a qcow2 header and its extensions.  Input: the first bytes of a file.  What decodes must
 * encode to the same bytes, and stepping through the extensions must end, inside the buffer.
 */
#include "fuzz.h"

/* The header again: but for the name's length, which is undefined without a name. */
static void check_encoding(const struct qcow2_header *h, const uint8_t *data, size_t size)
{
	uint8_t *again = malloc(size);

	if (again == NULL)
		return;
	memcpy(again, data, size);
	if (h->header_len <= size) {
		FUZZ_CHECK(qcow2_header_encode(h, again, size) == h->header_len);
		if (h->backing_off == 0)
			memcpy(again + 16, data + 16, 4);
	} else {
		FUZZ_CHECK(qcow2_header_encode(h, again, size) == 0);
	}
	FUZZ_CHECK(memcmp(again, data, size) == 0);
	free(again);
}

static void check_extensions(const struct qcow2_header *h, const uint8_t *data, size_t size)
{
	const uint8_t *names = NULL;
	size_t pos = h->header_len, names_len = 0, before = pos;
	struct qcow2_ext x;
	struct td_err e = { "" };
	int r;

	while ((r = qcow2_ext_next(h, data, size, &pos, &x, &e)) == 1) {
		FUZZ_CHECK(pos > before);
		FUZZ_CHECK(x.data >= data && td_in_range((size_t)(x.data - data), x.len, size));
		before = pos;
		if (x.type == QCOW2_EXT_FEATURE_NAMES) {
			names = x.data;
			names_len = x.len;
		}
	}
	FUZZ_CHECK(r == 0 || r == -EUCLEAN);
	r = qcow2_header_supported(h, 0, names, names_len, &e);
	FUZZ_CHECK(r == 0 || r == -ENOTSUP);
	for (const char *c = e.msg; *c != '\0'; c++)
		FUZZ_CHECK(*c >= ' ' && *c <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_header h;
	struct qcow2_geom g;
	struct td_err e;
	int r;

	r = qcow2_header_decode(data, size, &h, &e);
	FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP);
	if (r < 0)
		return 0;
	qcow2_geom_of(&h, &g);
	FUZZ_CHECK(h.l1_size == 0 || td_in_range(h.l1_off, 8ull * h.l1_size, g.max_host));
	FUZZ_CHECK(td_in_range(h.reftable_off, (uint64_t)h.reftable_clusters << g.cluster_bits, g.max_host));
	check_encoding(&h, data, size);
	check_extensions(&h, data, size);
	return 0;
}
