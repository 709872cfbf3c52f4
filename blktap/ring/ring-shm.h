// SPDX-License-Identifier: BSD-2-Clause
/*
 * The shared-memory transport's insides:
 *
 *	ring-shm.c		the export: its socket, who may connect, stopping
 *	ring-shm-conn.c		a connection: handshake, messages, end
 *	ring-shm-queue.c	a queue of it: ring and doorbells
 *	ring-shm-mem.c		the client's memory: is it what we can trust, where is a page
 *
 * The client is as hostile as a guest.  What it gives us is one packet and one descriptor; the doorbells are ours.
 * A connection is freed in one place, the server's hook: everything else only marks it as ending.
 */
#ifndef BLKTAP_RING_SHM_H
#define BLKTAP_RING_SHM_H

#include "ring.h"
#include <blktap/export.h>
#include <blktap/loop.h>
#include <blktap/ringwire.h>
#include <blktap/usock.h>

#define SHM_MAX_SERVED   8  /* connections with rings */
#define SHM_MAX_HALF     32 /* in the handshake; for one more the oldest has to go */
#define SHM_HANDSHAKE_NS (10ull * 1000000000)

/*
 * A client is a process on another processor: with a few requests a turn it works on the first answers while we are at
 * the next requests, and neither waits for the other; and looking at the ring for as long as a wake-up would take saves
 * that.  4 KiB random reads of a raw file on tmpfs, two idle processors: at depth 32 from 223,000 a second at 3.1 us of
 * our processor time to 355,000 at 2.8, at depth 1 from 19,000 at 21 us to 55,000 at 18.
 */
#define SHM_TAKE_MAX 8
#define SHM_POLL_US  100

struct shm_memory {
	uint8_t *base; /* NULL: none */
	uint32_t pages;
};

enum shm_phase {
	SHM_HALF,   /* greeted; its choice is awaited */
	SHM_SERVED, /* its rings are served */
	SHM_ENDING, /* takes no more; freed when its rings are idle */
};

struct shm_queue {
	struct ring_port port;
	struct shm_conn *conn;
	struct td_watch kick; /* edge-triggered and never read: each write to it is an event */
	int call_fd;
	struct ring *ring;
	void (*broken)(struct shm_queue *q, const char *reason); /* the ring stopped by itself */
};

struct shm_conn {
	struct shm_server *server;
	struct td_watch watch; /* the socket */
	struct td_timer timer; /* of the handshake */
	enum shm_phase phase;
	bool untold; /* a change that the socket had no room for */
	struct shm_memory mem;
	struct shm_queue queue[RINGWIRE_MAX_QUEUES];
	unsigned nr_queues;
	uint32_t features; /* announced */
	TAILQ_ENTRY(shm_conn) link;
};

TAILQ_HEAD(shm_conns, shm_conn);

struct shm_server {
	struct td_export e;
	struct td_loop *loop;
	struct td_hook hook;
	struct td_vbd_watch change;
	struct td_usock socket;
	struct td_watch watch;
	struct td_timer accept_timer;          /* out of descriptors: try again */
	struct shm_conns half, served, ending; /* half: in order of arrival */
	unsigned nr_half, nr_served;
	bool stopping;
	char failed[RINGWIRE_REASON]; /* the last ring that stopped by itself */
};

/* ring-shm-conn.c.  Takes the socket if it succeeds. */
TD_CHECK int shm_conn_new(struct shm_server *s, int fd);
void shm_conn_tell(struct shm_conn *c); /* the disk has changed */
void shm_conn_end(struct shm_conn *c);
bool shm_conn_idle(const struct shm_conn *c);
void shm_conn_free(struct shm_conn *c); /* idle */

/* ring-shm-queue.c.  fds: the client's kick, the same that we watch, and its call, which the caller closes. */
TD_CHECK int shm_queue_start(struct shm_conn *c, unsigned i, const struct ringwire_connect *m, int *fds,
			     struct td_err *ret_err);
void shm_queue_stop(struct shm_queue *q);
void shm_queue_free(struct shm_queue *q); /* idle; a half-made one too */

/* ring-shm-mem.c */
TD_CHECK int shm_memory_map(struct shm_memory *m, int fd, uint64_t size, struct td_err *ret_err);
void shm_memory_unmap(struct shm_memory *m);
/* Where nr pages from this one on are; NULL: they are not in the memory. */
void *shm_memory_at(const struct shm_memory *m, uint32_t page, uint32_t nr);

#endif
