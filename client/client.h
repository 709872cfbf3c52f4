// SPDX-License-Identifier: BSD-2-Clause
/*
 * The client library's insides:
 *
 *	connect.c	from an address to a connection, and its end
 *	control.c	the socket's messages
 *	memory.c	the shared memory: rings, indirect pages, buffers
 *	queue.c		requests in, completions out
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "blktap-client.h"
#include <blktap/blkif.h>
#include <blktap/ringwire.h>
#include <pthread.h>
#include <stdatomic.h>

/* A request in flight; its index is its id on the wire. */
struct client_slot {
	void *user;
	void *ipage; /* its indirect page; NULL: not needed so far */
	uint8_t op;  /* on the wire, of an INDIRECT one the inner one */
	bool used;
};

struct client_queue {
	int kick_fd, call_fd;
	uint8_t *ring;
	unsigned nr; /* entries */
	uint32_t req_prod, req_told, rsp_cons;
	struct client_slot *slots;
	uint16_t *spare; /* a stack of unused slots */
	unsigned nr_spare;
} __attribute__((aligned(64)));

struct blktap {
	int sock;
	pid_t server;
	struct ringwire_hello hello; /* as received; sizes and state are kept below */
	uint32_t features;           /* both sides' */
	enum td_blkif_abi abi;
	unsigned order, nr_queues;
	uint64_t spin_ns;
	struct client_queue queue[RINGWIRE_MAX_QUEUES];

	/* memory.c */
	uint8_t *mem;
	size_t mem_size;
	size_t buffers, nr_pages; /* where blktap_alloc's pages begin in mem; how many there are */
	uint32_t *runs;           /* [page]: pages of the allocation that begins there; 0: none begins */
	pthread_mutex_t memory_lock;

	/* control.c */
	pthread_mutex_t control_lock; /* of reading the socket */
	_Atomic uint64_t sectors;
	_Atomic uint32_t state;
	atomic_bool changed;
	atomic_int failed; /* 0, or why the connection has ended */
	char failure[RINGWIRE_REASON + 64];
};

/* memory.c: rings first, then indirect pages, then buffers.  *ret_fd: the memfd, sealed; the caller's. */
int client_memory_new(struct blktap *b, uint64_t buffer_bytes, int *ret_fd);
void client_memory_free(struct blktap *b);
void *client_memory_page(struct blktap *b, unsigned queue, unsigned slot); /* the slot's indirect page */

/* control.c */
int client_send_fd(struct blktap *b, const void *msg, size_t len, int fd);
/* One packet within deadline_ms (of CLOCK_MONOTONIC); descriptors go to fds.  Bytes, or -errno. */
int client_recv(struct blktap *b, void *msg, size_t size, uint64_t deadline_ms, int *fds, unsigned *nr_fds);
void client_control_event(struct blktap *b); /* the socket may have something */
int client_fail(struct blktap *b, int error, const char *sentence);
uint64_t client_now_ms(void);
uint64_t client_now_ns(void);

/* queue.c */
int client_queue_new(struct blktap *b, unsigned i, int kick_fd, int call_fd);
void client_queue_free(struct client_queue *q);
unsigned client_max_segs(const struct blktap *b);

#endif
