// SPDX-License-Identifier: BSD-2-Clause
/*
 * The NBD server's insides, shared by its files:
 *
 *	nbd-listen.c	addresses and listening sockets
 *	nbd-server.c	the export, its connections, and what they may take of memory
 *	nbd-options.c	the handshake
 *	nbd-requests.c	requests in
 *	nbd-reply.c	replies out
 *	nbd-wire.c	the messages' bytes, pure
 *
 * Nothing here waits, and nothing frees a connection but the server's hook: events and done() mark a connection as
 * touched, the hook at the end of the turn sends its replies, goes on reading if it may, and buries it if it is dead.
 */
#ifndef BLKTAP_NBD_H
#define BLKTAP_NBD_H

#include "nbd-wire.h"
#include <blktap/export.h>
#include <blktap/loop.h>
#include <blktap/usock.h>

#define NBD_MAX_CONNS      64
#define NBD_MAX_LISTENERS  8
#define NBD_MAX_PAYLOAD    (32u << 20)
#define NBD_MAX_BYTES      (64u << 20)  /* of payload in flight, all connections */
#define NBD_MAX_CONN_BYTES (32u << 20)  /* of one */
#define NBD_FREE_BYTES     (128u << 10) /* always granted to a connection that has nothing in flight */
#define NBD_MAX_JOBS       256u         /* requests in flight of one connection */
#define NBD_RESUME_JOBS    128u
#define NBD_MAX_EXTENTS    500u /* in the answer of one context */
#define NBD_MAX_CONTEXTS   16u
#define NBD_STATUS_SIZE    (NBD_STRUCTURED_REPLY_SIZE + 4 + 8 * NBD_MAX_EXTENTS)
#define NBD_MAX_OPTIONS    128u
#define NBD_MAX_OPTION_LEN (16u << 10)
#define NBD_IN_SIZE        (80u << 10) /* requests read at once: 2000 reads, or 20 writes of 4 KiB */
#define NBD_TEXT_SIZE      (16u << 10) /* handshake replies not yet taken */
#define NBD_HANDSHAKE_NS   (10ull * 1000000000)
#define NBD_STALL_NS       (10ull * 1000000000)
#define NBD_STOP_NS        (5ull * 1000000000)

struct nbd_conn;

/* One request. Pooled. */
struct nbd_job {
	struct td_req req;
	struct nbd_conn *conn;
	struct nbd_request wire;
	uint8_t *buf; /* payload, extents */
	size_t buf_len;
	struct iovec vec;

	/* BLOCK_STATUS */
	unsigned context;    /* which is being asked */
	size_t chunk_at;     /* in buf: where its answer begins */
	uint32_t nr_extents; /* descriptors in it */

	/* the reply */
	uint8_t head[NBD_HEAD_MAX];
	size_t head_len, data_len;
	STAILQ_ENTRY(nbd_job) link; /* conn->out, or the pool */
};

STAILQ_HEAD(nbd_jobs, nbd_job);

enum nbd_phase {
	NBD_HELLO, /* the client's flags are awaited */
	NBD_OPTIONS,
	NBD_TRANSMIT,
	NBD_ENDING, /* reads no more; what is in flight is still answered */
	NBD_DEAD,   /* the socket is closed; buried when no request of it is in flight */
};

struct nbd_conn {
	struct nbd_server *server;
	struct td_watch watch;
	enum nbd_phase phase;
	uint64_t progress_ns; /* something was received or sent */

	/* what was read and not yet looked at: in[in_start, in_end) */
	uint8_t *in;
	size_t in_start, in_end;

	/* handshake */
	struct td_timer timer;
	bool no_zeroes, structured;
	unsigned nr_options;
	uint8_t *text; /* replies; freed after the handshake */
	size_t text_len;

	/* what BLOCK_STATUS answers of: NULL: allocation; else a bitmap's name.  Their numbers are those here. */
	char *context[NBD_MAX_CONTEXTS];
	unsigned nr_contexts;

	/* requests */
	unsigned nr_jobs;        /* in the vbd, being received, being sent */
	size_t bytes;            /* of their buffers */
	struct nbd_job *filling; /* a write whose payload is on its way */
	size_t filled;
	uint64_t draining;    /* payload of a refused write, still to come */
	struct nbd_job *held; /* decoded, waits for memory */
	bool full;            /* reads on when NBD_RESUME_JOBS are left */

	/* replies */
	struct nbd_jobs out;
	size_t out_sent; /* of the first */
	bool blocked;    /* the socket takes no more */

	bool touched, starving;
	TAILQ_ENTRY(nbd_conn) link, touched_link, starving_link;
};

TAILQ_HEAD(nbd_conns, nbd_conn);

struct nbd_listener {
	struct nbd_server *server;
	struct td_watch watch;
};

struct nbd_server {
	struct td_export e;
	struct td_loop *loop;
	struct td_hook hook;

	struct nbd_listener listener[NBD_MAX_LISTENERS];
	unsigned nr_listeners;
	struct td_usock unix_socket;
	struct td_timer accept_timer; /* out of descriptors: try again */

	struct nbd_conns conns; /* e.clients of them, the dead not counted */
	struct nbd_conns touched;
	struct nbd_conns starving; /* in order of arrival */
	unsigned nr_conns;         /* the dead included */
	size_t bytes;
	struct nbd_jobs pool;
	struct td_timer stall_timer, stop_timer;
	bool stopping;
};

/* nbd-listen.c: opens e.address (and writes the real one there), or -errno. */
TD_CHECK int nbd_listen(struct nbd_server *s, const char *address,
			void (*fn)(struct td_watch *w, uint32_t events), struct td_err *ret_err);
void nbd_listen_pause(struct nbd_server *s, bool pause);
void nbd_listen_stop(struct nbd_server *s);

/* nbd-conn.c */
void nbd_conn_touch(struct nbd_conn *c); /* the hook shall look at it in this turn */
void nbd_conn_drop(struct nbd_conn *c);  /* hang up; what it has in flight is finished for nobody */
void nbd_conn_end(struct nbd_conn *c);   /* no more requests; hang up when all are answered */
struct nbd_job *nbd_job_new(struct nbd_conn *c, const struct nbd_request *q);
void nbd_job_free(struct nbd_job *job);

/* A buffer of this length for the job.  -EAGAIN: not now; the connection is woken when there is room. -ENOMEM. */
TD_CHECK int nbd_job_buffer(struct nbd_job *job, size_t len);

/* nbd-options.c: looks at what has been read; false: not enough of it is there. */
bool nbd_step_hello(struct nbd_conn *c);
bool nbd_step_option(struct nbd_conn *c);
TD_CHECK int nbd_send_hello(struct nbd_conn *c);
void nbd_forget_contexts(struct nbd_conn *c);

/* nbd-requests.c */
void nbd_conn_event(struct td_watch *w,
		    uint32_t epoll_events); /* one read from the socket, then nbd_progress */
unsigned nbd_progress(struct nbd_conn *c);  /* all that can be done with what was read; how many submitted */
bool nbd_wants_input(const struct nbd_conn *c);

/* nbd-reply.c */
void nbd_req_done(struct td_req *req, int result);
void nbd_reply_error(struct nbd_job *job, enum nbd_error error);
void nbd_reply_ok(struct nbd_job *job);
void nbd_status_begin(struct nbd_job *job,
		      unsigned context); /* its request asks of this one, from the start on */
void nbd_send(struct nbd_conn *c);       /* what is there, until the socket takes no more */

#endif
