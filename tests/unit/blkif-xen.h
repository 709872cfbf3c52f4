// SPDX-License-Identifier: BSD-2-Clause
/* What Xen's own header says of the ring's structures, as a compiler lays them out for this ABI.  Plain numbers. */
#ifndef TESTS_UNIT_BLKIF_XEN_H
#define TESTS_UNIT_BLKIF_XEN_H

#include <stddef.h>

#if __has_include(<xen/io/blkif.h>) && __has_include(<xen/grant_table.h>) && defined(__x86_64__)
#define HAVE_XEN_BLKIF_H 1
#endif

struct xen_layout {
	size_t slot, rsp, ring_at;
	size_t req_prod, req_event, rsp_prod, rsp_event;
	size_t id, sector, seg, seg_size, seg_first, seg_last;
	size_t flag, discard_id, discard_sector, discard_nr;
	size_t inner, inner_nr, indirect_id, indirect_sector, indirect_handle, indirect_grefs;
	size_t rsp_id, rsp_op, rsp_status;
	unsigned entries[5]; /* of a ring of 1 << i pages */
};

extern const struct xen_layout xen_layout_x86_64, xen_layout_x86_32;

#endif
