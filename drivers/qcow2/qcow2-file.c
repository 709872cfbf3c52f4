// SPDX-License-Identifier: BSD-2-Clause
/*
 * The file that holds the image: barriers; its length, and how much of it was ever handed out (q->end).
 *
 * It is grown ahead, in steps, by truncation: what lies behind q->end then reads as zeros without being
 * written, and writes that would each extend the file (which file systems serialise) become plain ones.
 */
#include "qcow2-int.h"

#define GROW_MIN (1ull << 20)
#define GROW_MAX (64ull << 20)

int qcow2_barrier(struct qcow2 *q)
{
	int r = q->data != q->child ? td_image_flush(q->data) : 0;

	if (r == 0)
		r = td_image_flush(q->child);
	if (r < 0) {
		td_image_freeze(q->im);
		td_keep_give_up(q->keep, 0);
	}
	return r;
}

void qcow2_end_at(struct qcow2 *q, uint64_t end)
{
	if (end <= q->end)
		return;
	if (q->scan == q->end)
		q->scan = end;
	q->end = end;
}

int qcow2_grow_file(struct qcow2 *q, uint64_t end)
{
	uint64_t need = end << q->g.cluster_bits, size = q->child->size;
	uint64_t ahead = TD_MAX(GROW_MIN, TD_MIN(size / 4, GROW_MAX));
	int r;

	if (need <= size)
		return 0;
	if (need > q->g.max_host)
		return -EFBIG;
	if (q->fixed_size)
		return -ENOSPC;
	r = td_image_resize(q->child, td_align_up(need + ahead, q->g.cluster_size), 0, NULL);
	if (r < 0 && r != -ENOTSUP)
		r = td_image_resize(q->child, need, 0, NULL);
	if (r == 0)
		q->grown = true;
	if (r != -ENOTSUP && r != -EINVAL)
		return r;
	/* A block device: it is as long as it is.  What was stepped over, because nobody counted it, is room. */
	q->fixed_size = true;
	q->scan = 0;
	return -ENOSPC;
}
