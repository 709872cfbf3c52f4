// SPDX-License-Identifier: BSD-2-Clause
/*
 * Between the files of the Xen transport: ring-xen.c (the export: connect, stop, free), ring-xen-queue.c (one queue:
 * its pages, its bell, its journal).
 */
#ifndef BLKTAP_RING_XEN_H
#define BLKTAP_RING_XEN_H

#include "ring.h"
#include <blktap/export.h>
#include <blktap/loop.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define XEN_NAME_MAX 64

struct xen_ring;

struct xen_queue {
	struct ring_port port; /* the guest's pages */
	struct xen_ring *x;
	unsigned nr_refs;
	void *shared; /* NULL: not mapped */
	int bell;     /* our end of the event channel; -1: not bound */
	struct ring_journal *journal;
	struct ring *ring;
	char name[XEN_NAME_MAX];
};

/* One disk of one guest. */
struct xen_ring {
	struct td_export pub;
	struct td_loop *loop;
	uint32_t domid, devid;
	enum td_blkif_abi abi;
	bool persistent, stopping;
	bool forget;        /* the journals go, whatever they hold */
	const char *failed; /* the ring's that stopped by itself */
	xengnttab_handle *grants;
	xenevtchn_handle *bells;
	struct td_watch watch;
	struct td_timer last; /* free, when the last request is answered */
	unsigned nr_queues;
	struct xen_queue queue[TD_XEN_MAX_QUEUES];
};

/*
 * Map, bind, open the journal: all that can fail by what the guest wrote.  Whatever is returned, xen_queue_close ends
 * it.
 */
TD_CHECK int xen_queue_open(struct xen_queue *q, const struct td_xen_setup *s, unsigned nr,
			    struct td_err *ret_err);

/* Serve it. */
TD_CHECK int xen_queue_start(struct xen_queue *q, const struct td_xen_setup *s,
			     void (*stopped)(struct ring *r, const char *reason), struct td_err *ret_err);

/* Idle.  Its journal stays if it holds what another process may have to answer; forget: not even then. */
void xen_queue_close(struct xen_queue *q, bool forget);

#endif
