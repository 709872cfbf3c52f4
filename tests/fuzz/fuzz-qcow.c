// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: the qcow codec, version 1.  Input: the first bytes of a file; behind byte 64 table entries.  A header
 * that decodes encodes to the same bytes, but for padding and the length of a name that is not there; so does an entry.
 */
#include "fuzz.h"

#include <blktap/qcow.h>

static void one_entry(const struct qcow_header *h, const uint8_t *data)
{
	uint64_t raw = td_get_be64(data);
	struct qcow_l2e e;

	FUZZ_CHECK(qcow_l1e(h, qcow_l1e(h, raw)) == raw);
	if (qcow_l2e_decode(h, raw, &e) < 0)
		return;
	FUZZ_CHECK(qcow_l2e_encode(h, &e) == raw);
	FUZZ_CHECK(e.kind != QCOW_PACKED || (e.packed_len > 0 && e.packed_len < 1u << h->cluster_bits));
	FUZZ_CHECK(e.kind != QCOW_PACKED || e.host_off < qcow_max_host(h));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t again[QCOW_HEADER];
	struct qcow_header h;
	int r = qcow_header_decode(data, size, &h, NULL);

	FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP);
	if (r < 0)
		return 0;
	FUZZ_CHECK(qcow_l1_entries(&h) > 0 && qcow_l1_entries(&h) <= QCOW_MAX_L1_BYTES / 8);
	qcow_header_encode(&h, again);
	memcpy(again + 34, data + 34, 2);
	if (h.backing_off == 0)
		memcpy(again + 16, data + 16, 4);
	FUZZ_CHECK(memcmp(again, data, sizeof(again)) == 0);
	for (size_t at = QCOW_HEADER_XEN; at + 8 <= size; at += 8)
		one_entry(&h, data + at);
	return 0;
}
