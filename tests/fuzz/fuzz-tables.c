// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: table entries and refcounts.  Input: cluster bits, refcount order, version (a byte each), five
 * unused, then entries of 8 bytes.  What decodes lies where something can lie, and survives encoding.
 */
#include "fuzz.h"

static void check_cluster(const struct qcow2_geom *g, uint64_t off)
{
	FUZZ_CHECK(off >= g->cluster_size && off % g->cluster_size == 0);
	FUZZ_CHECK(td_in_range(off, g->cluster_size, g->max_host));
}

static void one_l1(const struct qcow2_geom *g, uint64_t raw)
{
	struct qcow2_l1e e, again;

	if (qcow2_l1e_decode(g, raw, &e) < 0)
		return;
	if (e.present)
		check_cluster(g, e.host_off);
	FUZZ_CHECK(qcow2_l1e_decode(g, qcow2_l1e_encode(&e), &again) == 0);
	FUZZ_CHECK(again.present == e.present && again.copied == e.copied && again.host_off == e.host_off);
	FUZZ_CHECK(!again.reserved);
}

static void one_l2(const struct qcow2_geom *g, uint32_t version, uint64_t raw)
{
	struct qcow2_l2e e, again;

	if (qcow2_l2e_decode(g, version, raw, &e) < 0)
		return;
	if (e.kind == QCOW2_DATA || e.kind == QCOW2_ZERO_ALLOC)
		check_cluster(g, e.host_off);
	if (e.kind == QCOW2_PACKED)
		FUZZ_CHECK(e.packed_len > 0 && e.packed_len <= 2 * g->cluster_size &&
			   td_in_range(e.host_off, e.packed_len, g->max_host));
	FUZZ_CHECK(qcow2_l2e_decode(g, version, qcow2_l2e_encode(g, &e), &again) == 0);
	FUZZ_CHECK(again.kind == e.kind && again.copied == e.copied && again.host_off == e.host_off);
	FUZZ_CHECK(again.packed_len == e.packed_len && !again.reserved);
}

static void one_extended(const struct qcow2_geom *g, uint64_t raw, uint64_t bitmap)
{
	struct qcow2_l2e e, again;

	if (qcow2_l2e_decode_extended(g, raw, bitmap, &e) < 0)
		return;
	FUZZ_CHECK((e.data & e.zero) == 0 && (e.data == 0 || e.kind == QCOW2_DATA));
	if (e.kind == QCOW2_DATA || e.kind == QCOW2_ZERO_ALLOC)
		check_cluster(g, e.host_off);
	else if (e.kind != QCOW2_PACKED)
		FUZZ_CHECK(e.host_off == 0);
	FUZZ_CHECK(qcow2_l2e_decode_extended(g, qcow2_l2e_encode(g, &e), qcow2_l2e_bitmap(&e), &again) == 0);
	FUZZ_CHECK(again.kind == e.kind && again.copied == e.copied && again.host_off == e.host_off);
	FUZZ_CHECK(again.packed_len == e.packed_len && again.data == e.data && again.zero == e.zero);
	FUZZ_CHECK(!again.reserved);
}

/* Writing back what was read changes nothing. */
static void refcounts(const struct qcow2_geom *g, const uint8_t *data, size_t size)
{
	uint8_t *block = malloc(size + 1);

	if (block == NULL)
		return;
	memcpy(block, data, size);
	for (uint64_t i = 0; i < g->refblock_entries && (i + 1) * g->refcount_bits <= 8 * (uint64_t)size;
	     i++) {
		uint64_t n = qcow2_refcount_get(g, block, i);

		FUZZ_CHECK(g->refcount_bits == 64 || n >> g->refcount_bits == 0);
		FUZZ_CHECK(qcow2_refcount_set(g, block, i, 0) == 0);
		FUZZ_CHECK(qcow2_refcount_set(g, block, i, n) == 0);
	}
	FUZZ_CHECK(memcmp(block, data, size) == 0);
	free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_header h = { .version = 3 };
	struct qcow2_geom g, extended;

	if (size < 8)
		return 0;
	h.cluster_bits =
		QCOW2_MIN_CLUSTER_BITS + data[0] % (QCOW2_MAX_CLUSTER_BITS - QCOW2_MIN_CLUSTER_BITS + 1);
	h.refcount_order = data[1] % (QCOW2_MAX_REFCOUNT_ORDER + 1);
	h.version = 2 + data[2] % 2;
	qcow2_geom_of(&h, &g);
	h.incompatible = QCOW2_INCOMPAT_EXTL2;
	qcow2_geom_of(&h, &extended);
	data += 8, size -= 8;
	for (size_t at = 0; td_in_range(at, 8, size); at += 8) {
		uint64_t raw = td_get_be64(data + at);
		struct qcow2_reftable_entry e;

		one_l1(&g, raw);
		one_l2(&g, h.version, raw);
		if (td_in_range(at, 16, size))
			one_extended(&extended, raw, td_get_be64(data + at + 8));
		if (qcow2_reftable_decode(&g, raw, &e) == 0 && e.present)
			check_cluster(&g, e.host_off);
	}
	refcounts(&g, data, size);
	return 0;
}
