// SPDX-License-Identifier: BSD-2-Clause
/*
 * Between the files of the ring server.  Calls go one way: ring.c > ring-request.c > ring-grants.c, ring-journal.c.
 *
 * Indices count from the ring's beginning in 64 bits; their lower half is what stands in shared memory.  Always
 *
 *	published <= answered <= taken <= published + slots
 *
 * so as many jobs as there are slots are enough, whatever the guest does.
 */
#ifndef BLKTAP_RING_PRIVATE_H
#define BLKTAP_RING_PRIVATE_H

#include "ring.h"
#include <blktap/log.h>
#include <blktap/loop.h>

/* ---- shared memory ---- */

/*
 * The guest may write while we read, and that is no error of ours: every access is one atomic load or store of a word,
 * made once.  Relaxed; ring.c orders them by what it does to the indices.
 */
static inline uint32_t ring_load(const void *shared, unsigned offset)
{
	return le32toh(__atomic_load_n((const uint32_t *)((const char *)shared + offset), __ATOMIC_ACQUIRE));
}

static inline void ring_store(void *shared, unsigned offset, uint32_t v)
{
	__atomic_store_n((uint32_t *)((char *)shared + offset), htole32(v), __ATOMIC_RELEASE);
}

/* len: a multiple of 4; src and dst on a multiple of 8 if len is one, else of 4. */
static inline void ring_copy_in(void *dst, const void *src, size_t len)
{
	const uint64_t *from8 = src;
	const uint32_t *from4 = src;

	if (len % sizeof(*from8) == 0) {
		for (size_t i = 0; i < len / sizeof(*from8); i++)
			((uint64_t *)dst)[i] = __atomic_load_n(&from8[i], __ATOMIC_RELAXED);
		return;
	}
	for (size_t i = 0; i < len / sizeof(*from4); i++)
		((uint32_t *)dst)[i] = __atomic_load_n(&from4[i], __ATOMIC_RELAXED);
}

static inline void ring_copy_out(void *dst, const void *src, size_t len)
{
	uint32_t *to = dst;
	const uint32_t *from = src;

	for (size_t i = 0; i < len / sizeof(*to); i++)
		__atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
}

/* A slot, private. */
struct ring_slot {
	_Alignas(8) unsigned char bytes[TD_BLKIF_SLOT_MAX];
};

/* ---- ring-grants.c ---- */

struct ring_grant {
	uint32_t gref;
	unsigned users; /* jobs that have it now; 0: in `idle` */
	bool writable;
	void *page;
	TAILQ_ENTRY(ring_grant) idle;
	SLIST_ENTRY(ring_grant) chain;
};

TAILQ_HEAD(ring_grant_tailq, ring_grant);
SLIST_HEAD(ring_grant_slist, ring_grant);

struct ring_grants {
	struct ring_port *port;
	struct ring_stats *stats;
	unsigned max, nr; /* pages kept */
	struct ring_grant *all;
	struct ring_grant_tailq idle; /* the longest unused first */
	struct ring_grant_slist free, *bucket;
	unsigned bucket_bits;
};

TD_CHECK int ring_grants_init(struct ring_grants *g, struct ring_port *port, unsigned max,
			      struct ring_stats *stats);
void ring_grants_done(struct ring_grants *g); /* nobody has any; unmaps what was kept */

/*
 * nr <= TD_BLKIF_MAX_SEGS pages.  ret_kept[i]: the page stays mapped afterwards (NULL: it does not); not written, and
 * not needed by put, if nothing is ever kept (max == 0).
 */
TD_CHECK int ring_grants_get(struct ring_grants *g, const uint32_t *grefs, unsigned nr, bool writable,
			     void **ret_pages, struct ring_grant **ret_kept);
void ring_grants_put(struct ring_grants *g, void *const *pages, struct ring_grant *const *kept, unsigned nr);

/* ---- ring-journal.c ---- */

/* Where to go on, and what was in flight: entries in the order in which they were taken. */
struct ring_recovery {
	uint64_t taken, published;
	unsigned nr;
	uint16_t entry[TD_BLKIF_MAX_ENTRIES];
};

/* A journal without a ring yet: it begins at this index.  True: it has one, see ring_journal_recover. */
bool ring_journal_begin(struct ring_journal *j, uint32_t index);

/* rsp_prod: as the guest's memory has it, who may have written anything there. -EUCLEAN: not what we wrote. */
TD_CHECK int ring_journal_recover(struct ring_journal *j, uint32_t rsp_prod, struct ring_recovery *ret,
				  struct td_err *ret_err);
const void *ring_journal_slot(const struct ring_journal *j, unsigned entry);
unsigned ring_journal_entries(const struct ring_journal *j);

/* In this order, for each request: take; answer before its response is written; publish before free. */
void ring_journal_take(struct ring_journal *j, unsigned entry, uint64_t index, const void *slot, size_t len);
void ring_journal_answer(struct ring_journal *j, unsigned entry, uint64_t index);
void ring_journal_publish(struct ring_journal *j, uint64_t published);
void ring_journal_free(struct ring_journal *j, unsigned entry);

/* ---- jobs ---- */

enum ring_job_state {
	RING_JOB_FREE,
	RING_JOB_WAITING,  /* taken back from the journal, or a barrier before its turn: not in the vbd */
	RING_JOB_RUNNING,  /* in the vbd */
	RING_JOB_ANSWERED, /* its response is in the ring, not yet published */
	RING_JOB_DROPPED,  /* never to be answered: the ring is being stopped on a paused disk */
};

/* What a request of many segments needs besides; as many as were ever needed at the same time, at most one a job. */
struct ring_big {
	struct td_blkif_seg seg[TD_BLKIF_MAX_SEGS];
	struct iovec iov[TD_BLKIF_MAX_SEGS];
	void *page[TD_BLKIF_MAX_SEGS];
	struct ring_grant *kept[TD_BLKIF_MAX_SEGS];
	SLIST_ENTRY(ring_big) link;
};

struct ring_job {
	struct td_req req;
	struct ring *r;
	STAILQ_ENTRY(ring_job) link;
	uint64_t id;
	uint16_t entry; /* its number, and its entry in the journal */
	uint16_t nr_pages;
	uint8_t state; /* enum ring_job_state */
	uint8_t op;    /* of the response */
	struct ring_big *big;
	void **page; /* the job's own, or big's */
	struct ring_grant **kept;
	struct iovec iov[TD_BLKIF_MAX_DIRECT];
	void *own_page[TD_BLKIF_MAX_DIRECT];
	struct ring_grant *own_kept[TD_BLKIF_MAX_DIRECT];
};

STAILQ_HEAD(ring_job_stailq, ring_job);

struct ring {
	struct td_loop *loop;
	struct td_vbd *vbd;
	struct td_hook hook;
	char *name;
	void (*stopped)(struct ring *r, const char *reason);
	void *owner;
	struct td_export *export;

	/* the ring */
	enum td_blkif_abi abi;
	unsigned nr_slots, take_max;
	size_t slot_size;
	void *shared;
	struct ring_port *port;
	struct ring_journal *journal;
	uint64_t taken, answered, published;
	bool armed;     /* the guest will ring the bell for the next request */
	bool stopping;  /* nothing is taken any more */
	bool cancelled; /* and what waits in a paused disk is dropped */
	bool notify;    /* whatever the guest's event index says */
	const char *failed;

	/* polling */
	uint64_t poll_max_ns, poll_ns; /* 0: do not */
	uint64_t active_ns, slept_ns;  /* the last time there was something to do; that we armed */
	bool polling, woken;

	/* jobs: all of them are in `free`, `waiting`, `answered`, in the vbd, or the barrier */
	struct ring_job *jobs;
	struct ring_job_stailq free, waiting, answers;
	struct ring_job *barrier; /* nothing is begun until it is answered */
	unsigned running;         /* in the vbd */
	SLIST_HEAD(, ring_big) bigs;
	struct ring_grants grants;
	struct ring_stats stats;
};

/* ---- ring-request.c ---- */

/* Begin a request that was taken: slot is a private copy.  It is answered sooner or later. */
void ring_request_begin(struct ring_job *job, const struct ring_slot *slot);

/* Those that wait in the paused disk are answered no more. */
void ring_requests_cancel(struct ring *r);

#endif
