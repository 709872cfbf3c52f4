// SPDX-License-Identifier: BSD-2-Clause
/*
 * Between the files of the FUSE export: the session (fuse.c), the requests' memory (fuse-slot.c), the operations
 * (fuse-ops.c).
 *
 * A slot is one request from the moment it is read until it is answered: its bytes, its td_req, its fuse_req_t.
 * Nothing of it is used for another request in between; that is the whole defence against the bug of exports that
 * reuse one receive buffer while a write from it is still on its way to the disk.
 */
#ifndef BLKTAP_FUSE_H
#define BLKTAP_FUSE_H

#define FUSE_USE_VERSION 34

#include <blktap/export.h>
#include <blktap/loop.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>

/* The largest read or write: what a kernel gives without a raised fs.fuse.max_pages_limit. */
#define FUSE_IO_MAX (1u << 20)

/* What stands before a write's payload on the wire. */
#define FUSE_HEAD (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

/* Requests in flight; what comes above waits in the kernel.  Also the bound on memory: FUSE_IO_MAX for each. */
#define FUSE_SLOTS 64u

struct fuse_export;

struct fuse_slot {
	struct td_req req;
	struct fuse_export *e;
	fuse_req_t fr; /* NULL: not in flight */
	char *data;    /* FUSE_IO_MAX bytes on a page's start; the request's head lies right before them */
	struct iovec vec;

	/* lseek: which end of an extent is looked for; how many steps are left; the next one */
	bool seek_data;
	unsigned seek_steps;

	SLIST_ENTRY(fuse_slot) link; /* in the free list */
};

struct fuse_export {
	struct td_export pub;
	struct td_loop *loop;
	struct fuse_session *session;
	struct td_watch watch;
	char *path;     /* absolute; no symbolic link in it but, at most, none in its last part */
	bool made_file; /* by us: removed at the end */
	bool gone;      /* the kernel hung up: unmounted */
	bool stopping;  /* no new requests, but a last look at what is queued already */
	bool last_look_due;
	struct td_timer last_look;
	bool freed;            /* by force, with requests in flight: the last one frees */
	struct timespec since; /* all the times that the file shows */
	struct td_vbd_watch disk;
	uint64_t size; /* that the kernel was told */

	/* fuse-slot.c */
	struct fuse_slot *slots[FUSE_SLOTS];
	unsigned nr_slots, in_flight;
	SLIST_HEAD(fuse_slot_list, fuse_slot) free_slots;
	struct fuse_slot *current;               /* the request that libfuse is handing to us */
	void (*answered)(struct fuse_export *e); /* fuse.c: a request was answered, its slot is free */
	bool full;                               /* all slots taken: not reading */
	uint64_t nr_received, nr_at_trim;
	struct td_timer trim;
};

/* ---- fuse-slot.c ---- */

/* A free slot, or NULL when all are taken or there is no memory.  Last in, first out: its pages are warm. */
struct fuse_slot *fuse_slot_get(struct fuse_export *e);
void fuse_slot_put(struct fuse_slot *s);

/* Give memory that big requests used back when nothing has happened for a while. */
void fuse_slots_trim_later(struct fuse_export *e);
void fuse_slots_free(struct fuse_export *e);

/* ---- fuse-ops.c ---- */

extern const struct fuse_lowlevel_ops fuse_ops;

#endif
