// SPDX-License-Identifier: BSD-2-Clause
/*
 * Entries of the L1, L2 and refcount tables.  Not the refcounts themselves (qcow2-refcount.c), not which
 * entry belongs to which offset: that is the driver's walk.
 *
 * Nothing can point into the first cluster: the header is there, so an entry that does is broken, whatever a
 * reader would make of it.  Where max_host cuts, no refcount table could count the cluster.
 *
 * Source: QEMU docs/interop/qcow2.rst, "Host cluster management" and "Cluster mapping".
 */
#include <blktap/qcow2.h>

#define L1_RESERVED       0x7f000000000001ffull
#define L2_RESERVED       0x3f000000000001feull
#define REFTABLE_RESERVED 0x00000000000001ffull
#define REFTABLE_OFF_MASK 0xfffffffffffffe00ull
#define SECTOR_BITS       9u /* packed lengths count these */

/* Can a whole cluster be at off, which is not 0? */
static int check_cluster(const struct qcow2_geom *g, uint64_t off, uint64_t max)
{
	if (off % g->cluster_size != 0)
		return -EUCLEAN;
	return td_in_range(off, g->cluster_size, max) ? 0 : -EUCLEAN;
}

int qcow2_l1e_decode(const struct qcow2_geom *g, uint64_t raw, struct qcow2_l1e *ret)
{
	uint64_t off = raw & QCOW2_OFF_MASK;

	if (off != 0 && check_cluster(g, off, g->max_host) < 0)
		return -EUCLEAN;
	*ret = (struct qcow2_l1e){
		.present = off != 0,
		.copied = off != 0 && (raw & QCOW2_COPIED),
		.reserved = raw & L1_RESERVED,
		.host_off = off,
	};
	return 0;
}

uint64_t qcow2_l1e_encode(const struct qcow2_l1e *e)
{
	if (!e->present)
		return 0;
	return (e->host_off & QCOW2_OFF_MASK) | (e->copied ? QCOW2_COPIED : 0);
}

/*
 * bit 0 .. x-1: first byte; x .. 61: sectors beyond the one it is in.  With clusters under 16 KiB the offset
 * field reaches beyond bit 55, where it must be 0.
 */
static int packed_decode(const struct qcow2_geom *g, uint64_t raw, struct qcow2_l2e *ret)
{
	uint32_t x = g->compressed_off_bits;
	uint64_t off = raw & ((1ull << x) - 1);
	uint64_t more = (raw & (QCOW2_L2_COMPRESSED - 1)) >> x;
	uint64_t in_sector = off & ((1ull << SECTOR_BITS) - 1);
	uint64_t len = ((more + 1) << SECTOR_BITS) - in_sector;

	if (off < g->cluster_size || !td_in_range(off, len, g->max_host))
		return -EUCLEAN;
	*ret = (struct qcow2_l2e){
		.kind = QCOW2_PACKED,
		.reserved = raw & QCOW2_COPIED,
		.host_off = off,
		.packed_len = len,
	};
	return 0;
}

/* Without an offset; or with one of 0, which only a data file can have, and COPIED says it there. */
static int nowhere_decode(const struct qcow2_geom *g, uint64_t raw, struct qcow2_l2e *ret)
{
	bool zero = raw & QCOW2_L2_ZERO, copied = raw & QCOW2_COPIED;

	*ret = (struct qcow2_l2e){
		.kind = zero ? QCOW2_ZERO : QCOW2_HOLE,
		.reserved = (raw & L2_RESERVED) || (copied && !g->data_file),
	};
	if (g->data_file && copied && !zero) {
		ret->kind = QCOW2_DATA;
		ret->copied = true;
	}
	return 0;
}

int qcow2_l2e_decode(const struct qcow2_geom *g, uint32_t version, uint64_t raw, struct qcow2_l2e *ret)
{
	uint64_t off = raw & QCOW2_OFF_MASK;
	bool zero = raw & QCOW2_L2_ZERO;

	if (raw & QCOW2_L2_COMPRESSED)
		return g->data_file ? -EUCLEAN : packed_decode(g, raw, ret);
	if (zero && version < 3)
		return -EUCLEAN;
	if (off != 0 && check_cluster(g, off, g->max_data) < 0)
		return -EUCLEAN;
	if (off == 0)
		return nowhere_decode(g, raw, ret);
	*ret = (struct qcow2_l2e){
		.kind = zero ? QCOW2_ZERO_ALLOC : QCOW2_DATA,
		.copied = raw & QCOW2_COPIED,
		.reserved = raw & L2_RESERVED,
		.host_off = off,
	};
	return 0;
}

static enum qcow2_kind extended_kind(bool cluster, uint32_t data, uint32_t zero)
{
	if (cluster)
		return data ? QCOW2_DATA : QCOW2_ZERO_ALLOC;
	return zero == UINT32_MAX ? QCOW2_ZERO : QCOW2_HOLE;
}

/* Bit 0 of the descriptor says nothing here, as in QEMU. */
int qcow2_l2e_decode_extended(const struct qcow2_geom *g, uint64_t raw, uint64_t bitmap,
			      struct qcow2_l2e *ret)
{
	uint32_t data = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);
	uint64_t off = raw & QCOW2_OFF_MASK;
	bool cluster = off != 0 || (g->data_file && (raw & QCOW2_COPIED));
	int r;

	if (raw & QCOW2_L2_COMPRESSED) {
		r = g->data_file ? -EUCLEAN : packed_decode(g, raw, ret);
		if (r == 0 && bitmap)
			ret->reserved = true;
		return r;
	}
	if ((data & zero) || (!cluster && data) || (off != 0 && check_cluster(g, off, g->max_data) < 0))
		return -EUCLEAN;
	*ret = (struct qcow2_l2e){
		.kind = extended_kind(cluster, data, zero),
		.copied = cluster && (raw & QCOW2_COPIED),
		.reserved = (raw & (L2_RESERVED | QCOW2_L2_ZERO)) || (!cluster && (raw & QCOW2_COPIED)),
		.host_off = off,
		.data = data,
		.zero = zero,
	};
	return 0;
}

uint64_t qcow2_l2e_bitmap(const struct qcow2_l2e *e)
{
	return e->kind == QCOW2_PACKED ? 0 : (uint64_t)e->zero << 32 | e->data;
}

static uint64_t packed_encode(const struct qcow2_geom *g, const struct qcow2_l2e *e)
{
	uint64_t last = e->host_off + e->packed_len - 1;
	uint64_t more = (last >> SECTOR_BITS) - (e->host_off >> SECTOR_BITS);

	return QCOW2_L2_COMPRESSED | more << g->compressed_off_bits | e->host_off;
}

uint64_t qcow2_l2e_encode(const struct qcow2_geom *g, const struct qcow2_l2e *e)
{
	uint64_t where = (e->host_off & QCOW2_OFF_MASK) | (e->copied ? QCOW2_COPIED : 0);

	if (qcow2_is_extended(g) && e->kind != QCOW2_PACKED)
		return where;
	switch (e->kind) {
	case QCOW2_ZERO:
		return QCOW2_L2_ZERO;
	case QCOW2_ZERO_ALLOC:
		return QCOW2_L2_ZERO | where;
	case QCOW2_DATA:
		return where;
	case QCOW2_PACKED:
		return packed_encode(g, e);
	case QCOW2_HOLE:
		break;
	}
	return 0;
}

int qcow2_reftable_decode(const struct qcow2_geom *g, uint64_t raw, struct qcow2_reftable_entry *ret)
{
	uint64_t off = raw & REFTABLE_OFF_MASK;

	if (off != 0 && check_cluster(g, off, g->max_host) < 0)
		return -EUCLEAN;
	*ret = (struct qcow2_reftable_entry){
		.present = off != 0,
		.reserved = raw & REFTABLE_RESERVED,
		.host_off = off,
	};
	return 0;
}
