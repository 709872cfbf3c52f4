// SPDX-License-Identifier: BSD-2-Clause
/*
 * Xen's header, compiled: once as it is, and once (blkif-xen-32.c) packed as i386 does, with 64-bit fields at multiples
 * of 4.  Apart from the tests, because a header can be had in one layout a file only.
 */
#include <stdint.h>
#include <string.h>

#include "blkif-xen.h"

#ifdef HAVE_XEN_BLKIF_H

#define xen_mb()  __sync_synchronize()
#define xen_rmb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()
#include <xen/grant_table.h>

#ifdef LAYOUT_I386
#pragma pack(push, 4)
#include <xen/io/blkif.h>
#pragma pack(pop)
#define LAYOUT xen_layout_x86_32
#else
#include <xen/io/blkif.h>
#define LAYOUT xen_layout_x86_64
#endif

#define ROOM(order)                                                                                          \
	(((4096ull << (order)) - offsetof(struct blkif_sring, ring)) / sizeof(union blkif_sring_entry))

const struct xen_layout LAYOUT = {
	.slot = sizeof(union blkif_sring_entry),
	.rsp = sizeof(struct blkif_response),
	.ring_at = offsetof(struct blkif_sring, ring),
	.req_prod = offsetof(struct blkif_sring, req_prod),
	.req_event = offsetof(struct blkif_sring, req_event),
	.rsp_prod = offsetof(struct blkif_sring, rsp_prod),
	.rsp_event = offsetof(struct blkif_sring, rsp_event),
	.id = offsetof(struct blkif_request, id),
	.sector = offsetof(struct blkif_request, sector_number),
	.seg = offsetof(struct blkif_request, seg),
	.seg_size = sizeof(struct blkif_request_segment),
	.seg_first = offsetof(struct blkif_request_segment, first_sect),
	.seg_last = offsetof(struct blkif_request_segment, last_sect),
	.flag = offsetof(struct blkif_request_discard, flag),
	.discard_id = offsetof(struct blkif_request_discard, id),
	.discard_sector = offsetof(struct blkif_request_discard, sector_number),
	.discard_nr = offsetof(struct blkif_request_discard, nr_sectors),
	.inner = offsetof(struct blkif_request_indirect, indirect_op),
	.inner_nr = offsetof(struct blkif_request_indirect, nr_segments),
	.indirect_id = offsetof(struct blkif_request_indirect, id),
	.indirect_sector = offsetof(struct blkif_request_indirect, sector_number),
	.indirect_handle = offsetof(struct blkif_request_indirect, handle),
	.indirect_grefs = offsetof(struct blkif_request_indirect, indirect_grefs),
	.rsp_id = offsetof(struct blkif_response, id),
	.rsp_op = offsetof(struct blkif_response, operation),
	.rsp_status = offsetof(struct blkif_response, status),
	.entries = { __RD32(ROOM(0)), __RD32(ROOM(1)), __RD32(ROOM(2)), __RD32(ROOM(3)), __RD32(ROOM(4)) },
};

#endif
