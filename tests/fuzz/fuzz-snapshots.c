// SPDX-License-Identifier: BSD-2-Clause
/* Fuzz target: a snapshot table.  Input: cluster bits (a byte), seven unused, then the table. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_header h = { .version = 3, .refcount_order = 4 };
	struct qcow2_geom g;
	struct qcow2_snapshot s;
	int r;

	if (size < 8)
		return 0;
	h.cluster_bits =
		QCOW2_MIN_CLUSTER_BITS + data[0] % (QCOW2_MAX_CLUSTER_BITS - QCOW2_MIN_CLUSTER_BITS + 1);
	qcow2_geom_of(&h, &g);
	data += 8, size -= 8;
	while ((r = qcow2_snapshot_decode(&g, data, size, &s)) == 0) {
		const char *start = (const char *)data;

		FUZZ_CHECK(s.entry_len >= QCOW2_SNAPSHOT_HEAD && s.entry_len <= QCOW2_MAX_SNAPSHOT_ENTRY);
		FUZZ_CHECK(td_in_range((size_t)(s.id - start), s.id_len, size));
		FUZZ_CHECK(td_in_range((size_t)(s.name - start), s.name_len, size));
		FUZZ_CHECK(s.l1_off % g.cluster_size == 0 && 8ull * s.l1_size <= QCOW2_MAX_L1_BYTES);
		if (s.entry_len >= size)
			break;
		data += s.entry_len, size -= s.entry_len;
	}
	FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP);
	return 0;
}
