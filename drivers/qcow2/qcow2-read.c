// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading: map, then one child request for each run of clusters that lie together.
 *
 * The range is held shared, so nothing that is mapped here can be freed and reused before its bytes have arrived.
 */
#include "qcow2-int.h"

struct part {
	struct qcow2 *q;
	uint64_t guest_off;
	struct qcow2_extent e;
	struct td_iov iov;
};

/* What this image does not hold; nothing below reaches past our own end. */
static int read_below(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov)
{
	uint64_t here = guest_off < q->im->size ? TD_MIN(iov->len, q->im->size - guest_off) : 0;
	struct td_iov rest = td_iov_slice(iov, here, iov->len - here);
	struct td_iov part = td_iov_slice(iov, 0, here);

	td_iov_zero(&rest);
	if (here == 0)
		return 0;
	if (q->im->backing)
		return td_chain_read(q->im, guest_off, &part);
	td_iov_zero(&part);
	return 0;
}

/*
 * The file may end inside its last cluster, and what is missing there are zeros.  A cluster that lies wholly behind the
 * end was cut off: its bytes are lost, and zeros would be a lie.  This read alone fails, no table is in doubt.  A data
 * file is like a raw disk: QEMU takes what it does not have for zeros too.
 */
static int read_data(struct qcow2 *q, uint64_t guest_off, uint64_t host_off, const struct td_iov *iov)
{
	if (qcow2_cluster_start(q, host_off + iov->len - 1) >= q->data->size && !q->g.data_file)
		return -EUCLEAN;
	return qcow2_data_read(q, guest_off, host_off, iov);
}

int qcow2_read_extent(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e,
		      const struct td_iov *iov)
{
	switch (e->kind) {
	case QCOW2_HOLE:
		return read_below(q, guest_off, iov);
	case QCOW2_ZERO:
	case QCOW2_ZERO_ALLOC:
		td_iov_zero(iov);
		return 0;
	case QCOW2_DATA:
		return read_data(q, guest_off, e->host_off, iov);
	case QCOW2_PACKED:
		return qcow2_packed_read(q, guest_off, e, iov);
	}
	return -EIO;
}

int qcow2_reads_zero(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e, bool *ret)
{
	struct td_extent below;
	uint64_t len;
	int r;

	*ret = e->kind == QCOW2_ZERO || e->kind == QCOW2_ZERO_ALLOC;
	if (e->kind != QCOW2_HOLE)
		return 0;
	/* Nothing below reaches past our own end. */
	if (!q->im->backing || guest_off >= q->im->size) {
		*ret = true;
		return 0;
	}
	len = TD_MIN(e->len, q->im->size - guest_off);
	r = td_chain_extent(q->im, guest_off, len, &below);
	if (r == 0)
		*ret = below.kind == TD_EXTENT_ZERO && below.len >= len;
	return r;
}

static int read_part(void *arg)
{
	const struct part *p = arg;

	return qcow2_read_extent(p->q, p->guest_off, &p->e, &p->iov);
}

/* The next run of the request into *p. */
static int next_part(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov, uint64_t done,
		     struct part *p)
{
	int r = qcow2_map_far(q, guest_off + done, iov->len - done, &p->e);

	if (r < 0)
		return r;
	p->q = q;
	p->guest_off = guest_off + done;
	p->iov = td_iov_slice(iov, done, p->e.len);
	return 0;
}

/* Several runs: up to QCOW2_PARALLEL of them at a time. */
static int read_parts(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov)
{
	struct part part[QCOW2_PARALLEL];
	uint64_t done = 0;
	int r = 0, r2;

	while (r == 0 && done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < QCOW2_PARALLEL && r == 0 && done < iov->len; n++) {
			r = next_part(q, guest_off, iov, done, &part[n]);
			if (r < 0)
				break;
			done += part[n].e.len;
			td_join_start(&j, read_part, &part[n]);
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
	}
	return r;
}

int qcow2_preadv(struct td_image *im, uint64_t guest_off, const struct td_iov *iov, unsigned flags)
{
	struct qcow2 *q = im->state;
	struct td_range range;
	struct qcow2_extent e;
	int r;

	(void)flags; /* EXACT: a disk has no end of file inside its size */
	td_range_lock(&q->ranges, &range, guest_off, iov->len, TD_RANGE_SHARED);
	r = qcow2_map(q, guest_off, iov->len, &e);
	if (r == 0 && e.len < iov->len)
		r = read_parts(q, guest_off, iov);
	else if (r == 0 && e.kind == QCOW2_DATA) /* straight on: this is most of what a disk does */
		r = read_data(q, guest_off, e.host_off, iov);
	else if (r == 0)
		r = qcow2_read_extent(q, guest_off, &e, iov);
	td_range_unlock(&q->ranges, &range);
	return r;
}

/* ---- what is where ---- */

int qcow2_extent_at(struct td_image *im, uint64_t guest_off, uint64_t len, struct td_extent *ret)
{
	struct qcow2 *q = im->state;
	struct td_range range;
	struct qcow2_extent e;
	int r;

	td_range_lock(&q->ranges, &range, guest_off, len, TD_RANGE_SHARED);
	r = qcow2_map_far(q, guest_off, len, &e);
	td_range_unlock(&q->ranges, &range);
	if (r < 0)
		return r;
	*ret = (struct td_extent){
		.kind = TD_EXTENT_DATA,
		.allocated = e.kind != QCOW2_HOLE && e.kind != QCOW2_ZERO,
		.packed = e.kind == QCOW2_PACKED,
		.has_host = (e.kind == QCOW2_DATA && q->h.crypt == 0) || e.kind == QCOW2_ZERO_ALLOC,
		.host_off = e.host_off,
		.path = q->g.data_file ? q->data->path : NULL,
		.len = e.len,
	};
	if (e.kind == QCOW2_HOLE)
		ret->kind = TD_EXTENT_BACKING;
	else if (e.kind == QCOW2_ZERO || e.kind == QCOW2_ZERO_ALLOC)
		ret->kind = TD_EXTENT_ZERO;
	return 0;
}
