// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest for ring tests: its memory, its frontend, and a port that keeps books of what is mapped.
 *
 * Memory is mapped twice, writable and read-only, so that a store into a page that was mapped for a write request ends
 * the test; it is shared with forked processes.  Grant reference = GUEST_GREF + page number.
 */
#ifndef TESTS_RING_GUEST_H
#define TESTS_RING_GUEST_H

#include "ring.h"
#include "testenv.h"

#define GUEST_GREF  1000u
#define GUEST_PAGES 4096u /* for data; the ring has its own */

/* What the port lets map. */
enum guest_grant { GRANT_RW, GRANT_RO, GRANT_NONE };

struct guest_mapping {
	void **pages; /* as given out */
	unsigned nr;
};

struct guest_port {
	struct ring_port port;
	unsigned notifies;
	uint64_t map_calls, maps, unmaps; /* pages */
	struct guest_mapping *open;       /* not unmapped yet */
	unsigned nr_open, max_open, pages_open;
	bool broken; /* an unmap that matches no map */
};

struct guest {
	struct testenv t;
	struct td_vbd *vbd;
	unsigned open_flags;
	struct ring *ring;
	struct guest_port port;
	struct ring_setup setup;
	const char *stopped; /* the reason, by the callback */

	int memfd;
	char *shared; /* the ring: 16 pages, then GUEST_PAGES of data */
	char *data, *data_ro;
	uint8_t *grant; /* enum guest_grant, a byte a page; shared too */

	enum td_blkif_abi abi;
	unsigned order, nr;
	uint32_t req_prod, rsp_cons; /* the frontend's private indices */
};

/* Memory and loop only. */
struct guest *guest_new(enum td_blkif_abi abi, unsigned order);
void guest_free(struct guest *g);

/* Open a disk; serve the ring from it.  guest_start fails the test if it does not come up. */
void guest_open(struct guest *g, const char *spec_fmt, ...) TD_PRINTF(2, 3);
void guest_start(struct guest *g);
void guest_serve(struct guest *g, const char *spec_fmt, ...)
	TD_PRINTF(2, 3); /* both, on a file or other disk */

void guest_stop(struct guest *g);  /* turn until idle; free the ring; nothing may be mapped afterwards */
void guest_shut(struct guest *g);  /* close the disk */
void guest_close(struct guest *g); /* all of it, with guest_free */
int guest_pause(struct guest *g);
int guest_unpause(struct guest *g);

/* The ring's begin for both sides; before guest_start. */
void guest_set_index(struct guest *g, uint32_t index);

/* The frontend. */
void *guest_slot(struct guest *g, uint32_t index);
void guest_put(struct guest *g, const struct td_blkif_req *req); /* into the next slot; private until push */
bool guest_push(struct guest *g); /* publish; rings the bell if asked to: true */
bool guest_reap(struct guest *g, struct td_blkif_rsp *ret_rsp); /* the next answer, if there is one */
void guest_turn(struct guest *g, unsigned turns);
void guest_wait(struct guest *g,
		struct td_blkif_rsp *ret_rsp); /* turn until there is one; fails after a while */

/* One request to its end: the status. */
int guest_call(struct guest *g, const struct td_blkif_req *req);

/* A request over `pages` whole pages from `page` on. */
struct td_blkif_req guest_io(uint8_t op, uint64_t sector, unsigned page, unsigned pages);
/* The same, indirect; `table`: the page for the segments. */
struct td_blkif_req guest_indirect(struct guest *g, uint8_t inner, uint64_t sector, unsigned page,
				   unsigned pages, unsigned table);

uint32_t guest_load(struct guest *g, unsigned offset);
void guest_store(struct guest *g, unsigned offset, uint32_t v);

#endif
