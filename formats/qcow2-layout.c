// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where things go in a new image.  The driver's create writes what is computed here.
 *
 *	| header | refcount table ... | refcount block ... | L1 ... | encryption header ... |
 *	  and, where all is kept ready (preallocation),	    | L2 ... | guest clusters ... |
 *
 * Everything in the first clusters without a gap, so that the refcounts are a run of ones.  With an external data file
 * guest clusters are in that, from its first byte on.
 */
#include <blktap/qcow2.h>

static bool is_extended(const struct qcow2_header *h)
{
	return h->incompatible & QCOW2_INCOMPAT_EXTL2;
}

static uint64_t l1_entries(const struct qcow2_header *h, uint32_t cluster_bits)
{
	return td_div_up(h->size, 1ull << (2 * cluster_bits - (is_extended(h) ? 4 : 3)));
}

static int check_version2(const struct qcow2_header *h, struct td_err *ret_err)
{
	if (h->refcount_order != 4)
		return td_err_set(ret_err, -EINVAL, "version 2 has refcounts of 16 bits only: use version 3");
	if (h->compression != QCOW2_DEFLATE)
		return td_err_set(ret_err, -EINVAL, "version 2 has deflate compression only: use version 3");
	if ((h->incompatible | h->compatible | h->autoclear) != 0)
		return td_err_set(ret_err, -EINVAL,
				  "version 2 has no feature bits (lazy refcounts, extended L2 entries): use "
				  "version 3");
	return 0;
}

static int check_wish(const struct qcow2_header *h, struct td_err *ret_err)
{
	if (h->version < 2 || h->version > 3)
		return td_err_set(ret_err, -EINVAL, "version %u: it is 2 or 3", h->version);
	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return td_err_set(ret_err, -EINVAL,
				  "clusters of 2^%u bytes: 512 to 2M (2^9 to 2^21) are possible",
				  h->cluster_bits);
	if (is_extended(h) && h->cluster_bits < QCOW2_EXTL2_MIN_CLUSTER_BITS)
		return td_err_set(ret_err, -EINVAL,
				  "extended L2 entries in clusters of 2^%u bytes: 16K (2^14) is the least",
				  h->cluster_bits);
	if (h->refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
		return td_err_set(ret_err, -EINVAL, "refcounts of 2^%u bits: 1 to 64 are possible",
				  h->refcount_order);
	return h->version == 2 ? check_version2(h, ret_err) : 0;
}

static int refuse_size(const struct qcow2_header *h, struct td_err *ret_err)
{
	for (uint32_t bits = h->cluster_bits; bits <= QCOW2_MAX_CLUSTER_BITS; bits++) {
		if (l1_entries(h, bits) <= QCOW2_MAX_L1_BYTES / 8)
			return td_err_set(ret_err, -EFBIG,
					  "too large for this cluster size: cluster_size=%llu would do",
					  1ull << bits);
	}
	return td_err_set(ret_err, -EFBIG, "%llu bytes are too large for qcow2", (unsigned long long)h->size);
}

/*
 * How many refcount blocks, and table clusters to name them, count `others` clusters and themselves?  Each
 * round adds what the last one's blocks need; a block counts at least 64 clusters, so a few rounds settle it.
 */
static void size_refcounts(const struct qcow2_geom *g, uint64_t others, uint64_t *ret_table,
			   uint64_t *ret_blocks)
{
	uint64_t table = 1, blocks = 1;

	for (;;) {
		uint64_t need = td_div_up(others + table + blocks, g->refblock_entries);
		uint64_t need_table = td_div_up(need * 8, g->cluster_size);

		if (need <= blocks && need_table <= table)
			break;
		blocks = TD_MAX(blocks, need);
		table = TD_MAX(table, need_table);
	}
	*ret_table = table;
	*ret_blocks = blocks;
}

/* Where each thing begins, l1 entries long; h is checked. */
static void place(const struct qcow2_header *h, uint64_t l1, bool full, struct qcow2_layout *ret)
{
	struct qcow2_geom g;
	uint64_t l1_clusters, crypt_clusters, l2 = 0, data = 0, here, table, blocks;

	qcow2_geom_of(h, &g);
	l1_clusters = td_div_up(l1 * 8, g.cluster_size);
	crypt_clusters = td_div_up(h->crypt_len, g.cluster_size);
	if (full) {
		data = td_div_up(h->size, g.cluster_size);
		l2 = td_div_up(data, 1ull << g.l2_bits);
	}
	here = g.data_file ? 0 : data;
	size_refcounts(&g, 1 + l1_clusters + crypt_clusters + l2 + here, &table, &blocks);
	ret->reftable_off = g.cluster_size;
	ret->refblock_off = ret->reftable_off + (table << g.cluster_bits);
	ret->refblocks = blocks;
	ret->l1_off = ret->refblock_off + (blocks << g.cluster_bits);
	ret->crypt_off = ret->l1_off + (l1_clusters << g.cluster_bits);
	ret->l2_off = ret->crypt_off + (crypt_clusters << g.cluster_bits);
	ret->l2_tables = l2;
	ret->end = ret->l2_off + ((l2 + here) << g.cluster_bits);
	ret->data_len = data << g.cluster_bits;
	ret->data_off = g.data_file ? 0 : ret->end - ret->data_len;
}

static int lay_out(struct qcow2_header *h, bool full, struct qcow2_layout *ret, struct td_err *ret_err)
{
	struct qcow2_layout at;
	uint64_t l1;
	int r = check_wish(h, ret_err);

	if (r < 0)
		return r;
	l1 = TD_MAX(l1_entries(h, h->cluster_bits), 1u); /* an empty disk can grow */
	if (h->size > INT64_MAX || l1 > QCOW2_MAX_L1_BYTES / 8)
		return refuse_size(h, ret_err);
	place(h, l1, full, &at);
	/* Small clusters with wide refcounts. */
	if (at.refblock_off - at.reftable_off > QCOW2_MAX_REFTABLE_BYTES)
		return td_err_set(
			ret_err, -EFBIG,
			"too large to be preallocated with these clusters: use a larger cluster_size");
	*ret = at;

	h->header_len = h->version == 2 ? QCOW2_HEADER_V2 : QCOW2_HEADER_KNOWN;
	h->l1_size = (uint32_t)l1;
	h->l1_off = at.l1_off;
	h->reftable_off = at.reftable_off;
	h->reftable_clusters = (uint32_t)((at.refblock_off - at.reftable_off) >> h->cluster_bits);
	h->nr_snapshots = 0;
	h->snapshots_off = 0;
	h->crypt_off = h->crypt_len > 0 ? at.crypt_off : 0;
	if (h->compression != QCOW2_DEFLATE)
		h->incompatible |= QCOW2_INCOMPAT_COMPRESSION;
	return 0;
}

int qcow2_layout_new(struct qcow2_header *h, struct qcow2_layout *ret, struct td_err *ret_err)
{
	return lay_out(h, false, ret, ret_err);
}

int qcow2_layout_full(struct qcow2_header *h, struct qcow2_layout *ret, struct td_err *ret_err)
{
	return lay_out(h, true, ret, ret_err);
}
