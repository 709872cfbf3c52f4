// SPDX-License-Identifier: BSD-2-Clause
/*
 * The ring server: one guest queue, served.  One piece of code over every transport.
 *
 *	ring.c		the ring: indices, batches, events, answers
 *	ring-request.c	one request from slot to vbd: checked, mapped, submitted, answered
 *	ring-grants.c	pages of the guest: mapped for a request, or kept (persistent grants)
 *	ring-journal.c	requests in flight, in memory that outlives the process
 *	ring-json.c	its counters, and what a disk offers, as JSON
 *	ring-features.c	what this disk can be announced with
 *	ring-shm*.c	transport and export: shared memory over a unix socket (--ring)
 *	ring-xen*.c	transport and export: Xen's grant table and event channels
 *
 * Nothing here waits.  A kick marks the ring as touched; its hook, which runs in each turn of the loop behind the
 * vbd's, takes what the guest produced (or as much as a turn may take), submits it, publishes all answers of the turn
 * and notifies at most once.
 *
 * The guest is hostile: a slot is copied once and then checked; an index that no honest frontend can have stops the
 * ring (ring_failed() tells why) and costs nobody else anything.
 */
#ifndef BLKTAP_RING_H
#define BLKTAP_RING_H

#include <blktap/blkif.h>
#include <blktap/err.h>
#include <blktap/vbd.h>
#include <jansson.h>

struct td_export;
struct td_loop;
struct ring;
struct ring_journal;

/* The guest's memory and its bell.  Embedded in a transport's own struct. */
struct ring_port;

struct ring_port_ops {
	/*
	 * Map nr pages; ret_pages[i] is where grefs[i] is.  writable: we store into them (a READ).  Pages that come
	 * to lie next to each other become one iovec.  0 or -errno, all or nothing; any gref may be nonsense.
	 */
	int (*map)(struct ring_port *p, const uint32_t *grefs, unsigned nr, bool writable, void **ret_pages);
	/* Exactly what one map() gave, in the same order. */
	void (*unmap)(struct ring_port *p, void *const *pages, unsigned nr);
	/* Tell the guest that there are answers. */
	void (*notify)(struct ring_port *p);
};

struct ring_port {
	const struct ring_port_ops *ops;
};

struct ring_setup {
	const char *name; /* "domain 3 vbd 51712 queue 0": for messages */
	enum td_blkif_abi abi;
	unsigned order; /* 1 << order pages at shared */
	void *shared;   /* mapped by the transport, which unmaps it after ring_free */
	struct ring_port *port;
	unsigned persistent; /* pages that may stay mapped between requests; 0: none */
	unsigned take_max;   /* requests taken in a turn; 0: all that are there, in one submission */
	unsigned poll_us;    /* at most so long looking at the ring after work before sleeping; 0: never */
	struct ring_journal *journal; /* NULL: nothing outlives us; else it says where to go on */
	/* The ring stopped by itself (a protocol violation).  From the hook; free it later, not from inside. */
	void (*stopped)(struct ring *r, const char *reason);
	void *owner;
	struct td_export *export; /* whose bytes_in and bytes_out are counted; NULL: nobody's */
};

struct ring_stats {
	uint64_t requests[TD_BLKIF_INDIRECT + 1]; /* by operation on the wire; 4: unknown ones */
	uint64_t indirect_segs, segs;
	uint64_t errors;  /* answered with one */
	uint64_t batches; /* turns that took at least one request */
	uint64_t kicks, notifies, notifies_saved;
	uint64_t polls, poll_hits;
	uint64_t grants_mapped, grants_reused, grants_evicted; /* pages */
	uint64_t recovered;                                    /* requests taken back from the journal */
	unsigned max_in_flight, persistent;
};

/*
 * indices of a fresh ring are those in shared memory; with a journal they come from there, and what was in flight is
 * submitted again at once.  *ret_ring is the caller's.
 */
TD_CHECK int ring_new(struct td_loop *loop, struct td_vbd *vbd, const struct ring_setup *setup,
		      struct ring **ret_ring, struct td_err *ret_err);

/* The bell rang, or something else made a look worthwhile. Cheap; the work is done in the hook. */
void ring_kick(struct ring *r);

/* Take no more requests; what is in flight is still answered, on a paused disk after its unpause. */
void ring_stop(struct ring *r);
/*
 * Stop, and give up what waits for an unpause, now or later (td_vbd_cancel).  It is not answered, and stays in the
 * journal: a frontend that still waits would take an error for a broken disk.
 */
void ring_cancel(struct ring *r);
bool ring_idle(const struct ring *r); /* nothing in the disk, all answers published */
/* Requests taken, by this process or the last, whose answer the guest cannot see; also those that were given up. */
unsigned ring_in_flight(const struct ring *r);
void ring_free(struct ring *r); /* idle; unmaps what was kept */

void *ring_owner(const struct ring *r);        /* of the setup */
const char *ring_failed(const struct ring *r); /* why it stopped by itself; NULL: it did not */
const struct ring_stats *ring_stats(const struct ring *r);

/* ---- ring-json.c ---- */

/* Add the counters, and "failed" if it stopped by itself, to an object of `stats`; 0 or -ENOMEM. */
TD_CHECK int ring_stats_json(const struct ring *r, json_t *ret_object);

/* ---- ring-features.c ---- */

/* What to announce for this disk: only what works on it. */
struct ring_features {
	uint64_t sectors;
	uint32_t sector_size, physical_sector_size; /* 512, and the image's block size */
	uint32_t info;                              /* TD_BLKIF_CDROM ... */
	bool flush, barrier, discard;
	uint32_t discard_granularity, discard_alignment;
	unsigned max_indirect; /* segments */
	unsigned max_order, max_queues;
	bool persistent;
};

void ring_features(const struct td_vbd *vbd, struct ring_features *ret_features);

/* ---- ring-journal.c ---- */

/*
 * The requests that were taken from a ring and not yet answered, in a file on tmpfs that is mapped shared: the next
 * process serves them again.  It holds at each instant of a kill -9, whatever instruction that hits, each request that
 * the guest still waits for, exactly once.
 *
 * The key says whose it is; one that differs from what the file holds is -ESTALE.  fresh: begin empty.
 */
struct ring_journal_key {
	uint32_t domid, devid, queue, port, abi, order;
	uint32_t refs[1u << TD_BLKIF_MAX_ORDER];
	uint64_t cookie; /* of this connection, by whoever set it up */
};

TD_CHECK int ring_journal_open(const char *path, const struct ring_journal_key *key, bool fresh,
			       struct ring_journal **ret_journal, struct td_err *ret_err);
/* remove: the connection ended in order, nothing is in flight. */
void ring_journal_close(struct ring_journal *j, bool remove);

#endif
