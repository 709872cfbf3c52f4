// SPDX-License-Identifier: BSD-2-Clause
/*
 * Living beside the kernel's own backends: who of the two gets a new device.
 *
 * The kernel's bus shows each backend folder as a device, and offers it to its drivers at once; xen-blkback takes
 * whatever is of class vbd.  So the bus is told to offer nothing by itself (drivers_autoprobe = 0, which is for all
 * types, vif too), and every device that is not ours is offered by us (drivers_probe), within milliseconds.
 */
#ifndef TAPBACK_AUTOPROBE_H
#define TAPBACK_AUTOPROBE_H

#include <blktap/loop.h>

#define AUTOPROBE_ROOT "/sys/bus/xen-backend"

struct autoprobe {
	struct td_loop *loop;
	const char *root; /* AUTOPROBE_ROOT; the tests have their own */
	/* Is this one not to be offered: ours, or not decided yet?  type: "vbd", "vif" ... */
	bool (*keep)(void *owner, const char *type, uint32_t domid, uint32_t devid);
	void *owner;

	bool active;
	unsigned tries;
	struct td_timer timer;
};

/* Switch the bus's own probing off.  False: there is no such bus here, or it cannot be changed (said in the log). */
bool autoprobe_start(struct autoprobe *a);
/* Something is new on the bus, or a driver may have been loaded: look at once, and some times more. */
void autoprobe_kick(struct autoprobe *a);
/* Switch it on again where no disk of ours would be taken: live says whether there is one. */
void autoprobe_stop(struct autoprobe *a, bool live);

/* Is xen-blkback there? Has a kernel driver taken this disk? */
bool autoprobe_blkback(const struct autoprobe *a);
bool autoprobe_taken(const struct autoprobe *a, uint32_t domid, uint32_t vdev);

#endif
