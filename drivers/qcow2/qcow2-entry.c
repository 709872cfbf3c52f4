// SPDX-License-Identifier: BSD-2-Clause
/*
 * One L2 entry: what it says of a byte of its cluster, and what becomes of it.  Nothing here does I/O, and nothing else
 * knows that an extended entry speaks of subclusters.
 *
 *	bytes	0..7	descriptor: where the cluster is, or a stream
 *		8..15	extended: subclusters that are data, and those that read as zeros
 *
 * A cluster of an extended entry may hold subclusters that nobody has written: they are the backing image's, or zeros,
 * until somebody does.
 */
#include "qcow2-int.h"

/* In a data file one may be at offset 0. */
static bool has_cluster(const struct qcow2_l2e *e)
{
	return e->kind != QCOW2_HOLE && e->kind != QCOW2_ZERO;
}

/* How many subclusters from `first` on are alike?  set: those of the kind that the first one is. */
static unsigned alike(uint32_t set, unsigned first)
{
	return (unsigned)__builtin_ctzll(~((uint64_t)set >> first));
}

/* As far as the subclusters after guest_off's are what that one is. */
static void extent_of_subclusters(const struct qcow2 *q, const struct qcow2_l2e *e, uint64_t in,
				  struct qcow2_extent *ret)
{
	unsigned first = (unsigned)(in >> q->g.sub_bits);
	uint32_t set = ~(e->data | e->zero);

	ret->kind = QCOW2_HOLE;
	if (e->data >> first & 1) {
		ret->kind = QCOW2_DATA;
		set = e->data;
	} else if (e->zero >> first & 1) {
		ret->kind = has_cluster(e) ? QCOW2_ZERO_ALLOC : QCOW2_ZERO;
		set = e->zero;
	}
	ret->len = ((uint64_t)(first + alike(set, first)) << q->g.sub_bits) - in;
}

int qcow2_entry_extent(const struct qcow2 *q, bool table_owned, const uint8_t *entry, uint64_t guest_off,
		       struct qcow2_extent *ret)
{
	uint64_t in = qcow2_in_cluster(q, guest_off);
	struct qcow2_l2e e;
	int r = qcow2_l2e_read(&q->g, q->h.version, entry, &e);

	if (r < 0)
		return r;
	*ret = (struct qcow2_extent){
		.kind = e.kind,
		.owned = table_owned && e.copied,
		.host_off = e.host_off,
		.packed_len = e.packed_len,
		.len = q->g.cluster_size - in,
	};
	if (qcow2_is_extended(&q->g) && e.kind != QCOW2_PACKED)
		extent_of_subclusters(q, &e, in, ret);
	if (!has_cluster(&e))
		return 0;
	if (!qcow2_overlap_data_ok(q, e.host_off, e.kind == QCOW2_PACKED ? e.packed_len : q->g.cluster_size))
		return -EUCLEAN;
	if (q->g.data_file && e.host_off != guest_off - in)
		return -EUCLEAN;
	if (e.kind != QCOW2_PACKED)
		ret->host_off += in;
	return 0;
}

bool qcow2_entry_in_place(const struct qcow2 *q, const uint8_t *entry, uint64_t guest_off)
{
	struct qcow2_l2e e;

	if (qcow2_l2e_read(&q->g, q->h.version, entry, &e) < 0)
		return true; /* who maps it hears of it */
	if (e.kind != QCOW2_DATA || !e.copied)
		return false;
	return !qcow2_is_extended(&q->g) || e.data >> (qcow2_in_cluster(q, guest_off) >> q->g.sub_bits) & 1;
}

/* ---- what becomes of one ---- */

/* What is in a new cluster is all that is left of the old one; a stream has no parts. */
static bool keeps_all(const struct qcow2_l2e *old, const struct qcow2_l2e *to, uint32_t subs)
{
	if (to->kind == QCOW2_PACKED || subs == UINT32_MAX)
		return true;
	if (old->kind == QCOW2_PACKED)
		return false;
	return to->kind != QCOW2_DATA || to->host_off == old->host_off || (old->data & ~subs) == 0;
}

int qcow2_entry_check(const struct qcow2 *q, const uint8_t *entry, const struct qcow2_l2e *to, uint32_t subs)
{
	struct qcow2_l2e old;
	int r = qcow2_l2e_read(&q->g, q->h.version, entry, &old);

	if (r < 0 || !qcow2_is_extended(&q->g))
		return r;
	return keeps_all(&old, to, subs) ? 0 : -EIO; /* a bug of the caller, kept away from the disk */
}

static void put_to(const struct qcow2_l2e *old, const struct qcow2_l2e *to, struct qcow2_l2e *ret,
		   bool *ret_drop)
{
	bool had = has_cluster(old);

	*ret = (struct qcow2_l2e){ .kind = to->kind };
	*ret_drop = had;
	if (to->kind == QCOW2_PACKED) {
		*ret = *to;
	} else if (to->kind == QCOW2_DATA) {
		ret->host_off = to->host_off;
		ret->copied = true;
		*ret_drop = had && !(old->kind != QCOW2_PACKED && old->host_off == ret->host_off);
	} else if (to->kind == QCOW2_ZERO_ALLOC) {
		if (had && old->copied) {
			ret->host_off = old->host_off;
			ret->copied = true;
			*ret_drop = false;
		} else {
			ret->kind = QCOW2_ZERO;
		}
	}
}

/* The same for some subclusters.  A cluster goes with the last of its data. */
static void put_subclusters(const struct qcow2_l2e *old, const struct qcow2_l2e *to, uint32_t subs,
			    struct qcow2_l2e *ret, bool *ret_drop)
{
	bool packed = old->kind == QCOW2_PACKED;
	uint32_t data = packed ? 0 : old->data & ~subs, zero = packed ? 0 : old->zero & ~subs;

	put_to(old, to, ret, ret_drop);
	if (to->kind == QCOW2_PACKED)
		return;
	if (to->kind == QCOW2_DATA)
		data |= subs;
	else if (to->kind != QCOW2_HOLE)
		zero |= subs;
	if (data && !has_cluster(ret)) { /* of others */
		ret->kind = QCOW2_DATA;
		ret->host_off = old->host_off;
		ret->copied = old->copied;
		*ret_drop = false;
	}
	ret->data = data;
	ret->zero = zero;
}

/*
 * Both words of an extended entry.  A kill comes between two instructions: where one stores both words, it leaves the
 * old entry or the new one.  Elsewhere, and where a machine may interrupt such a store, what is between them is valid
 * and reads as one of the two: a cluster is named before data is said to be in it, and lets go of its data before it is
 * named no more; a stream reads as one whatever is said of its subclusters (check calls that a stray bit).  A new
 * cluster holds all of the old one's data that it takes over (keeps_all), so it may be named by the old bitmap.
 */
static void put_pair(uint8_t *entry, uint64_t raw, uint64_t bitmap, bool bitmap_first)
{
#ifdef __SSE2__
	typedef uint64_t pair __attribute__((vector_size(16)));

	(void)bitmap_first;
	*(volatile pair *)(void *)entry = (pair){ htobe64(raw), htobe64(bitmap) };
#else
	if (bitmap_first)
		qcow2_put_entry(entry + 8, bitmap);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	qcow2_put_entry(entry, raw);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!bitmap_first)
		qcow2_put_entry(entry + 8, bitmap);
#endif
}

static void put_entry(const struct qcow2 *q, uint8_t *entry, const struct qcow2_l2e *old,
		      const struct qcow2_l2e *e)
{
	uint64_t raw = qcow2_l2e_encode(&q->g, e);
	bool bitmap_first = e->kind != QCOW2_PACKED && (old->kind == QCOW2_PACKED || !has_cluster(e));

	if (qcow2_is_extended(&q->g))
		put_pair(entry, raw, qcow2_l2e_bitmap(e), bitmap_first);
	else
		qcow2_put_entry(entry, raw);
}

bool qcow2_entry_put(const struct qcow2 *q, uint8_t *entry, const struct qcow2_l2e *to, uint32_t subs,
		     struct qcow2_l2e *ret_old)
{
	struct qcow2_l2e e;
	bool drop;

	if (qcow2_l2e_read(&q->g, q->h.version, entry, ret_old) < 0)
		return false; /* all were looked at before */
	if (qcow2_is_extended(&q->g))
		put_subclusters(ret_old, to, subs, &e, &drop);
	else
		put_to(ret_old, to, &e, &drop);
	put_entry(q, entry, ret_old, &e);
	return drop;
}
