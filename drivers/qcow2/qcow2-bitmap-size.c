// SPDX-License-Identifier: BSD-2-Clause
/*
 * Dirty bitmaps of a disk that becomes larger or smaller.
 *
 * A bitmap that says it is right has as many bits as the disk has pieces, or QEMU refuses the image.  So all are marked
 * before the size changes, those that are not enabled too, and stored with their new size when the image is closed.
 *
 * What is added is dirty: it reads as zeros, and whoever has a copy of a time at which the disk was as large already
 * cannot know that.
 */
#include "qcow2-bitmap.h"

int qcow2_bitmaps_resize_begin(struct qcow2 *q)
{
	int r = qcow2_header_settle(q);

	td_co_guard(&q->header_lock);
	return r == 0 && q->bitmaps->named && !q->bitmaps->bad ? qcow2_bitmaps_mark_locked(q, true) : r;
}

/* The same bits, for a disk of another size. */
static int copy_bits(struct qcow2 *q, const struct qcow2_bitmap *b, uint64_t size, struct qcow2_bits **ret)
{
	uint64_t end = TD_MIN(b->bits->nr << b->e.granularity_bits, size);
	struct qcow2_bits *bits;
	int r = qcow2_bits_new(size, b->e.granularity_bits, &q->bitmaps->held, QCOW2_BITS_LIMIT, &bits);

	if (r < 0)
		return r;
	for (uint64_t at = 0, next; at < end; at = next)
		if (qcow2_bits_at(b->bits, at, end, &next))
			qcow2_bits_set(bits, at, next - at);
	*ret = bits;
	return 0;
}

void qcow2_bitmaps_resize(struct qcow2 *q, uint64_t old, uint64_t size)
{
	struct qcow2_bitmaps *bm = q->bitmaps;

	for (uint32_t i = 0; i < bm->nr; i++) {
		struct qcow2_bitmap *b = &bm->at[i];
		struct qcow2_bits *bits = NULL;
		int r;

		if (!b->bits)
			continue;
		r = b->marked ? copy_bits(q, b, size, &bits) : 0;
		qcow2_bits_free(b->bits);
		b->bits = bits;
		b->marked = bits != NULL; /* or it stays marked on disk, for good */
		if (r < 0)
			qcow2_bitmap_tell_lost(q, b, r);
		if (bits && size > old && (b->e.flags & QCOW2_BITMAP_AUTO))
			qcow2_bits_set(bits, old, size - old);
	}
}
