// SPDX-License-Identifier: BSD-2-Clause
/*
 * Disks of domains on Xen, by a ring that tapback serves: what block-attach, block-detach and block-list share.
 *
 * There is no record beside xenstore.  A disk is three folders there, which appear in one transaction and go in one:
 *
 *	/local/domain/0/backend/CLASS/DOMID/VDEV	tapback's, the guest may read
 *	/local/domain/DOMID/device/vbd/VDEV		the guest's
 *	/libxl/DOMID/device/vbd/VDEV			by which xl knows the disk
 *
 * tapback sees the first and does the rest.  Ours have a node `origin`, so that what belongs to xl is left to xl.
 */
#ifndef BLKTAP_ATTACH_RING_H
#define BLKTAP_ATTACH_RING_H

#include "attach.h"
#include <blktap/xs.h>

#define RING_PATH_MAX  96
#define RING_CLASS_MAX 16

/* States of either side, in xen/include/public/io/xenbus.h. */
enum ring_state {
	RING_GONE = 0, /* no folder, or no number in it */
	RING_INITIALISING = 1,
	RING_INIT_WAIT = 2,
	RING_INITIALISED = 3,
	RING_CONNECTED = 4,
	RING_CLOSING = 5,
	RING_CLOSED = 6,
};

/* ---- ring-domain.c ---- */

struct ring_domain {
	struct td_xs *xs; /* NULL: without Xen */
	unsigned id;
	bool runs;
};

/* By number, which need not run, or by name.  Without Xen it is domain 0.  ring_domain_close() it. */
TD_CHECK int ring_domain_open(struct ring_domain *dom, const char *text, struct td_err *ret_err);
void ring_domain_close(struct ring_domain *dom);

/* What attach_lock locks: in domain 0 the same for a disk on a loop device. */
void ring_lock_name(unsigned domid, const char *vdev, char ret_name[ATTACH_LOCK_MAX]);

/* The class to put disks into, and true, if a tapback runs; "" if it serves none that will do. */
bool ring_tapback(char ret_class[RING_CLASS_MAX]);

/* ---- ring-nodes.c ---- */

struct ring {
	unsigned domid;
	uint32_t number;
	char vdev[ATTACH_VDEV_MAX];
	char class[RING_CLASS_MAX];
	char be[RING_PATH_MAX], fe[RING_PATH_MAX], libxl[RING_PATH_MAX];
};

/* Works the paths out. */
void ring_init(struct ring *r, unsigned domid, uint32_t number, const char *class);

/* The one that is there under any class, or what is left of it.  -ENOENT. */
TD_CHECK int ring_find(struct td_xs *xs, unsigned domid, uint32_t number, struct ring *ret);

/* All three folders.  -EEXIST. */
TD_CHECK int ring_write(struct td_xs *xs, const struct ring *r, const char *spec, bool read_only);

/* All three, and the folders above that are empty then. */
TD_CHECK int ring_erase(struct td_xs *xs, const struct ring *r);

/* Ask for its end, as a toolstack does. */
TD_CHECK int ring_close_request(struct td_xs *xs, const struct ring *r);

/* A value in one of the folders: a number (-1: none), a text (NULL: none; the caller's). */
int64_t ring_number(struct td_xs *xs, const char *folder, const char *key);
char *ring_text(struct td_xs *xs, const char *folder, const char *key);
enum ring_state ring_state(struct td_xs *xs, const char *folder);

/* Made by block-attach? */
bool ring_is_ours(struct td_xs *xs, const struct ring *r);

/* The specification, as whoever attached it gave it; the caller's, NULL: none to be seen. */
char *ring_spec(struct td_xs *xs, const struct ring *r);

/* ---- ring-wait.c ---- */

/* SIGINT, SIGTERM and SIGHUP end the next ring_pause, so that what is begun can be undone. */
void ring_catch_signals(void);

/* Watch both sides. */
TD_CHECK int ring_watch(struct td_xs *xs, const struct ring *r);

/* Until something happens there, or 0.1 s.  -ETIMEDOUT: it is past deadline (attach_now_ms); -EINTR: a signal. */
TD_CHECK int ring_pause(struct td_xs *xs, uint64_t deadline);

/* Domain 0: what the kernel calls the disk.  false: there is no such device. */
bool ring_disk(uint32_t number, char ret_disk[ATTACH_DISK_MAX]);

/* Domain 0: its name for users, if VDEV is not what the kernel calls it the one in /dev/blktap. */
void ring_device(const struct ring *r, const char *disk, char *ret_path, size_t size);

/* ---- ring-attach.c, ring-detach.c ---- */

/* -EBUSY with what is there: has domain 0 a disk of this name on a ring?  0 without Xen. */
TD_CHECK int ring_refuse_twice(const char *vdev, struct td_err *ret_err);

TD_CHECK int ring_attach(const struct attach_request *q, struct td_err *ret_err);

struct ring_release {
	bool force; /* also while it is in use, also if the guest does not let go */
	unsigned timeout_ms;
	void (*report)(const char *line); /* things the user should know; NULL: say nothing */
};

/* *ret_was: there was something.  The lock is the caller's. */
TD_CHECK int ring_detach(const struct ring_domain *dom, const char *vdev, const struct ring_release *rel,
			 bool *ret_was, struct td_err *ret_err);

/* The same of a disk whose nodes we know; whoever made them. */
TD_CHECK int ring_release(struct td_xs *xs, const struct ring *r, const struct ring_release *rel,
			  struct td_err *ret_err);

#endif
