// SPDX-License-Identifier: BSD-2-Clause
/*
 * Xen guests where this was built without Xen's libraries: connecting one says so.
 */
#include "config.h"

#ifndef HAVE_XEN

#include <blktap/export.h>

int td_xen_ring_start(struct td_loop *loop, struct td_vbd *vbd, const struct td_xen_setup *setup,
		      struct td_export **ret_export, struct td_err *ret_err)
{
	(void)loop, (void)vbd, (void)setup, (void)ret_export;
	return td_err_set(ret_err, -ENOSYS, "Xen guests: this blktap was built without Xen's libraries");
}

#endif
