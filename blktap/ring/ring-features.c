// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a disk can be announced with.  A sector is 512 bytes for every disk: frontends disagree about the unit as soon
 * as it is another, and physical-sector-size tells the guest what to align to.
 */
#include "ring.h"
#include <blktap/export.h>

void ring_features(const struct td_vbd *vbd, struct ring_features *ret_features)
{
	const struct td_limits *l = td_vbd_limits(vbd);
	bool writable = !td_vbd_read_only(vbd);

	*ret_features = (struct ring_features){
		.sectors = td_vbd_size(vbd) / TD_BLKIF_SECTOR,
		.sector_size = TD_BLKIF_SECTOR,
		.physical_sector_size = TD_MAX(l->block_size, TD_BLKIF_SECTOR),
		.info = writable ? 0 : TD_BLKIF_READONLY,
		.flush = writable,
		.barrier = writable,
		.discard = writable && l->trim_granularity > 0,
		.max_indirect = TD_BLKIF_MAX_SEGS,
		.max_order = TD_BLKIF_MAX_ORDER,
		.max_queues = TD_XEN_MAX_QUEUES,
		.persistent = true,
	};
	if (ret_features->discard)
		ret_features->discard_granularity = TD_MAX(l->trim_granularity, TD_BLKIF_SECTOR);
}
