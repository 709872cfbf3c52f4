// SPDX-License-Identifier: BSD-2-Clause
/*
 * The classes that we serve, their folders in xenstore, and the devices in them.
 */
#ifndef TAPBACK_BACKEND_H
#define TAPBACK_BACKEND_H

#include "device.h"
#include "recover.h"

#define BACKEND_CLASSES 8
#define BACKEND_BUCKETS 256

struct backend {
	struct device_env env;
	struct autoprobe probe;
	struct recover living;
	const char *classes[BACKEND_CLASSES];
	unsigned nr_classes;

	struct td_watch watch; /* xenstore's */
	LIST_HEAD(device_list, device) devices[BACKEND_BUCKETS];
	unsigned nr_devices;
	void (*lost)(struct backend *b, int r); /* xenstored is gone: nothing can be done any more */
};

/* The caller has set env.loop, env.xs, env.disk, env.run_dir, env.phy, probe.root, classes and lost. */
TD_CO TD_CHECK int backend_start(struct backend *b, struct td_err *ret_err);

/* Take no more steps.  Turn the loop until backend_idle() or some time is over: whatever is left is found again. */
void backend_stop(struct backend *b);
bool backend_idle(const struct backend *b);
void backend_free(struct backend *b); /* idle */

/* NULL: no such device.  For the tests. */
struct device *backend_find(struct backend *b, const char *class, uint32_t domid, uint32_t vdev);

#endif
