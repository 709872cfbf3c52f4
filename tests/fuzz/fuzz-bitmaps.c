// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: what names dirty bitmaps.  Input: cluster bits (a byte), seven unused; the header extension (24 bytes);
 * then the directory, each of whose words is tried as an entry of a table too.
 */
#include "fuzz.h"

static void try_part(const struct qcow2_geom *g, uint64_t raw)
{
	struct qcow2_bitmap_part p;

	if (qcow2_bitmap_part_decode(g, raw, &p) < 0)
		return;
	FUZZ_CHECK(p.host_off % g->cluster_size == 0 && p.host_off < g->max_host);
	FUZZ_CHECK(!p.ones || p.host_off == 0);
	FUZZ_CHECK(qcow2_bitmap_part_encode(&p) == raw);
}

static void try_entry(const struct qcow2_geom *g, const struct qcow2_bitmap_entry *e, const uint8_t *data)
{
	uint8_t *again = malloc(e->entry_len);
	struct qcow2_bitmap_entry back;

	FUZZ_CHECK(again != NULL);
	FUZZ_CHECK(qcow2_bitmap_entry_encode(e, again, e->entry_len) == e->entry_len);
	/* All but the padding, which comes out as zeros. */
	FUZZ_CHECK(memcmp(again, data, QCOW2_BITMAP_HEAD + e->extra_len + e->name_len) == 0);
	FUZZ_CHECK(qcow2_bitmap_entry_decode(g, again, e->entry_len, &back) == 0);
	FUZZ_CHECK(back.usable == e->usable && back.table_off == e->table_off);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_header h = { .version = 3, .refcount_order = 4 };
	struct qcow2_ext ext = { .type = QCOW2_EXT_BITMAPS, .len = QCOW2_BITMAPS_EXT_LEN };
	struct qcow2_bitmaps_ext x;
	struct qcow2_bitmap_entry e;
	struct qcow2_geom g;

	if (size < 8 + QCOW2_BITMAPS_EXT_LEN)
		return 0;
	h.cluster_bits =
		QCOW2_MIN_CLUSTER_BITS + data[0] % (QCOW2_MAX_CLUSTER_BITS - QCOW2_MIN_CLUSTER_BITS + 1);
	qcow2_geom_of(&h, &g);
	ext.data = data + 8;
	if (qcow2_bitmaps_ext_decode(&g, &ext, &x) == 0) {
		FUZZ_CHECK(x.nr > 0 && x.nr <= QCOW2_MAX_BITMAPS && x.dir_size <= QCOW2_MAX_BITMAP_DIR);
		FUZZ_CHECK(x.dir_off % g.cluster_size == 0 && x.dir_off < g.max_host);
	}
	data += 8 + QCOW2_BITMAPS_EXT_LEN, size -= 8 + QCOW2_BITMAPS_EXT_LEN;
	for (size_t at = 0; td_in_range(at, 8, size); at += 8)
		try_part(&g, td_get_be64(data + at));
	while (qcow2_bitmap_entry_decode(&g, data, size, &e) == 0) {
		FUZZ_CHECK(e.entry_len >= QCOW2_BITMAP_HEAD && e.entry_len <= size);
		FUZZ_CHECK((uint64_t)e.table_size << g.cluster_bits <= QCOW2_MAX_BITMAP_BYTES);
		try_entry(&g, &e, data);
		data += e.entry_len, size -= e.entry_len;
	}
	return 0;
}
