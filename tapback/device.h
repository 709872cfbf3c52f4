// SPDX-License-Identifier: BSD-2-Clause
/*
 * One backend folder of xenstore, and the disk behind it.
 *
 *	device.c	kicks in, passes out: reads what is there, asks fsm.h, does the step, until there is none
 *	device-setup.c	the first look: whose is it, which disk, what of it lives already
 *	device-steps.c	the steps
 *	publish.c	what we write to xenstore
 *
 * A pass is a coroutine; a device has at most one.  However often it is kicked meanwhile, one more pass follows.
 */
#ifndef TAPBACK_DEVICE_H
#define TAPBACK_DEVICE_H

#include "autoprobe.h"
#include "disk.h"
#include "fsm.h"
#include "node.h"
#include "source.h"
#include <blktap/log.h>
#include <sys/queue.h>

#define DEVICE_PASSES  40u
#define DEVICE_LATE_NS 7000000000ull

struct device;
struct recover;

enum phy { PHY_AUTO, PHY_KERNEL, PHY_TAPBACK };

/* What all devices share; the backend's. */
struct device_env {
	struct td_loop *loop;
	struct td_xs *xs;
	struct disk_env disk;
	const char *run_dir;
	struct autoprobe *probe;
	struct recover *living; /* the tapdisks that were there when we started */
	enum phy phy;
	uint64_t late_ns;    /* an image that takes longer to open is announced before */
	unsigned max_passes; /* of one device in a second */
	bool stopping;       /* passes end after the step they are at */
	unsigned nr_running; /* passes under way */

	void (*forget)(struct device *d);                  /* its folder is gone, nothing is left: free it */
	void (*decided)(struct device *d);                 /* it turned out to be ours, or not */
	unsigned (*nr_disks)(void *owner, uint32_t domid); /* of that guest */
	void *owner;
};

enum device_life { DEVICE_NEW, DEVICE_OURS, DEVICE_FOREIGN };

struct device {
	struct device_env *env;
	const char *class;
	uint32_t domid, vdev;
	char dir[NODE_PATH_MAX]; /* the backend's folder */
	char fe[NODE_PATH_MAX];  /* the frontend's; empty: not known */

	enum device_life life;
	struct source source;
	enum xs_state written; /* see fsm.h; of a foreign one: as last seen */
	struct disk disk;
	bool later;  /* a script will say which tapdisk */
	bool failed; /* the disk could not be opened */
	bool lost;   /* it had a tapdisk, which died; or there should be one */
	bool given_up;
	uint64_t cookie; /* of the connected ring; 0: none */
	unsigned offered_queues, offered_order;
	uint64_t shown_sectors; /* as written at state 4 */
	pid_t shown_pid;        /* the tapdisk that xenstore names */
	bool shown_failed;
	struct td_timer late; /* the image takes long to open */
	struct td_err err;    /* why it failed or was given up */
	int err_code;

	/* trying again */
	unsigned crashes, tries;
	uint64_t started_ns, not_before_ns;
	struct td_timer timer;
	uint64_t window_ns;
	unsigned in_window;

	bool running, kicked, told, gone, watching;
	struct td_log_limit limit;
	LIST_ENTRY(device) link; /* the backend's */
};

/* ---- device.c ---- */

/* NULL: no memory.  The class is kept by reference. */
struct device *device_new(struct device_env *env, const char *class, uint32_t domid, uint32_t vdev);
void device_free(struct device *d); /* not while a pass runs; its tapdisk goes on */

/* Something may have changed: a pass will look.  Cheap. */
void device_kick(struct device *d);

/* Is there a tapdisk of ours behind it? */
bool device_live(const struct device *d);

/* ---- device-setup.c ---- */

/* The first look.  Sets life, source, and what is found of an earlier life.  -ENOENT: no folder. */
TD_CO TD_CHECK int device_setup(struct device *d, enum xs_state be);
/* Class vbd3 with Xen's script: has it said which tapdisk? */
TD_CO void device_setup_later(struct device *d);

/* ---- device-steps.c ---- */

/* Do it.  0; -ENOENT, -ESTALE: the folder changed, look again; else try again later. */
TD_CO TD_CHECK int device_step(struct device *d, enum fsm_step step, const struct fsm_in *in,
			       struct td_err *ret_err);
/* Say which tapdisk it is, or why there is none, if that is not said yet. */
TD_CHECK int device_tell(struct device *d, enum xs_state be, enum fsm_disk disk);
/* What no state asks for: another size, another image. */
TD_CO TD_CHECK int device_refresh(struct device *d, enum xs_state be, struct td_err *ret_err);

/* Its tapdisk ended: count it, and say when to start the next one. */
void device_crashed(struct device *d);

/* One line in the log, of a limited number. */
void device_log(struct device *d, enum td_log_level level, const char *fmt, ...) TD_PRINTF(3, 4);

#endif
