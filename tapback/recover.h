// SPDX-License-Identifier: BSD-2-Clause
/*
 * The tapdisks that were there when we started: a restart of tapback loses no guest.
 */
#ifndef TAPBACK_RECOVER_H
#define TAPBACK_RECOVER_H

#include "disk.h"
#include <blktap/xs.h>

struct recover {
	struct disk_info *all;
	size_t nr;
};

/* Ask every tapdisk there is. */
TD_CO TD_CHECK int recover_scan(struct recover *rc, struct disk_env *env, struct td_err *ret_err);
/* The one that was started for this disk, if it is among them. NULL: none. */
const struct disk_info *recover_find(const struct recover *rc, uint32_t domid, uint32_t vdev);
/*
 * End those that were started for disks whose folder is gone, in any class: their guest was destroyed while we were
 * not there.  And one without a ring whose folder names another: it was started in the moment before we were killed.
 */
TD_CO void recover_orphans(struct recover *rc, struct disk_env *env, struct td_xs *xs);
void recover_free(struct recover *rc);

#endif
