// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a disk is announced with, and what both sides agree on.  Pure.
 *
 * Persistent grants cost the guest memory: blkfront allocates a page for each segment of each slot of each queue when
 * it connects, and hangs without a word if it has not got them.  So the worst case is kept below a part of the guest's
 * memory: at state 2 by offering fewer queues and ring pages; at state 4, where the guest's choice of those is known,
 * by allowing fewer segments in a request, and where even 32 are too many by not offering persistent grants.
 */
#ifndef TAPBACK_ANNOUNCE_H
#define TAPBACK_ANNOUNCE_H

#include <blktap/base.h>
#include <jansson.h>

#define ANNOUNCE_MIN_SEGS 32u /* what blkfront asks for by default; below it no cap goes */
#define ANNOUNCE_PART     8u  /* of the guest's memory, for all of its disks */

/* The disk's side, from its tapdisk. */
struct features {
	uint64_t sectors;
	uint32_t sector_size, physical_sector_size, info;
	bool flush, barrier, discard;
	uint32_t discard_granularity, discard_alignment;
	unsigned max_segs, max_order, max_queues;
	bool persistent;
};

/* The answer to "ring-features"; every number in its bounds.  -EPROTO. */
TD_CHECK int announce_parse(json_t *reply, struct features *ret);

/* Pages that one disk may cost the guest; memory_kib of the whole guest, which has nr_disks. */
uint64_t announce_budget(uint64_t memory_kib, unsigned nr_disks);

/* The worst case, in pages: every slot of every queue with that many segments. */
uint64_t announce_pages(unsigned queues, unsigned order, unsigned segs);

/* State 2: lowers max_queues and max_order (and max_segs to what fits with them). */
void announce_offer(struct features *f, uint64_t budget);

/*
 * State 4: f is what the disk can do, not what was offered; the frontend took so many queues and pages, and may want
 * persistent grants.  Sets max_segs and persistent to what holds from here on.
 */
void announce_settle(struct features *f, uint64_t budget, unsigned queues, unsigned order,
		     bool fe_persistent);

#endif
