/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libblktap-client: a program's own connection to a disk that tapdisk(8) serves with --ring unix:PATH.
 *
 * Requests and data go through memory that both processes share; nothing is copied, and while both are busy there is
 * no system call either.  See libblktap-client(3), and blktap-ring(7) for what is on the wire.
 *
 * Threads: one thread a queue.  blktap_submit, blktap_kick and blktap_reap of one queue are one thread's; different
 * queues, and everything else here but blktap_disconnect, may be used at the same time.
 *
 * Errors are negative errno values.
 */
#ifndef BLKTAP_CLIENT_H
#define BLKTAP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct blktap; /* a connection */

enum blktap_abi { BLKTAP_ABI_X86_64, BLKTAP_ABI_X86_32, BLKTAP_ABI_ARM };

/* What blktap_connect shall do; all zeros but size is fine. */
struct blktap_options {
	size_t size;           /* of this struct */
	unsigned queues;       /* 1 .. info.max_queues; 0: 1 */
	unsigned ring_pages;   /* of one ring: 1, 2, 4, 8, 16; 0: as many as the server takes, at most 4 */
	enum blktap_abi abi;   /* the ring's layout; it makes no difference to what follows */
	uint64_t buffer_bytes; /* for blktap_alloc; 0: 64 MiB.  Memory is taken when it is touched. */
	unsigned timeout_ms;   /* for the handshake; 0: 10 seconds */
	unsigned spin_us; /* blktap_reap looks for an answer so long before it sleeps; 0: it sleeps at once */
};

/* The disk, and the connection. */
struct blktap_info {
	uint64_t size; /* bytes, as of now: a disk can be resized */
	uint32_t physical_block_size;
	bool read_only, paused, can_flush, can_discard;
	uint32_t discard_granularity, discard_alignment; /* bytes */
	unsigned queues, max_queues;
	unsigned depth; /* requests in flight of one queue, at most */
	size_t max_io;  /* bytes of one request whose buffer begins at a page's begin */
	pid_t server;   /* the serving process; 0: not known */
};

enum blktap_op { BLKTAP_READ, BLKTAP_WRITE, BLKTAP_FLUSH, BLKTAP_DISCARD };

struct blktap_request {
	enum blktap_op op;
	uint64_t off, len; /* bytes, multiples of 512; FLUSH: 0 */
	void *buf;         /* READ, WRITE: in memory of blktap_alloc, at a multiple of 512 */
	void *user;        /* comes back with the completion */
};

struct blktap_completion {
	void *user;
	int result; /* 0, -EIO, -EOPNOTSUPP */
};

/*
 * address: unix:PATH.  *ret is the caller's.  On failure, if sentence is not NULL, it says in one line what is wrong.
 */
int blktap_connect(const char *address, const struct blktap_options *options, struct blktap **ret,
		   char *sentence, size_t sentence_size);

/* No thread may be in another call.  Requests in flight are lost; writes among them may or may not have happened. */
void blktap_disconnect(struct blktap *b);

void blktap_get_info(struct blktap *b, struct blktap_info *ret_info);

/* len bytes at a page's begin, shared with the server; zeros at first.  NULL and ENOMEM: buffer_bytes are used up. */
void *blktap_alloc(struct blktap *b, size_t len);
void blktap_free(struct blktap *b, void *buf);

/*
 * Put a request into the queue's ring.  The server looks at it after blktap_kick.
 *
 * -EAGAIN    the ring is full: reap
 * -EINVAL    not on sectors, beyond the disk, or not in shared memory
 * -EMSGSIZE  more than max_io
 * -ENOTSUP   the disk does not have this operation
 * -EROFS     a write or a discard, and the disk is read-only
 * any error that blktap_reap reports for the connection's end
 */
int blktap_submit(struct blktap *b, unsigned queue, const struct blktap_request *request);

/* Tell the server of what was submitted since the last kick.  A system call only if the server sleeps. */
void blktap_kick(struct blktap *b, unsigned queue);

/*
 * Up to max completions.  Waits for the first one: at most timeout_ms, 0 not at all, -1 without end.
 * 0: none in that time, or the disk's size or state has changed (see blktap_changed).
 * When the connection has ended, what is complete is still returned, then
 *   -ECONNRESET  the server has gone
 *   -EPROTO      it has ended the connection because we broke the ring's protocol, or it has broken it itself
 * and blktap_failure() has a sentence.
 */
int blktap_reap(struct blktap *b, unsigned queue, struct blktap_completion *ret, unsigned max,
		int timeout_ms);

/* Readable when blktap_reap may have something.  Before waiting on it call blktap_reap, with 0, until it returns 0. */
int blktap_fd(struct blktap *b, unsigned queue);

/* Has the size or the state changed since the last call?  blktap_get_info then has what it is now. */
bool blktap_changed(struct blktap *b);

/* One line about the connection's end; NULL: it has not ended.  Lives as long as b. */
const char *blktap_failure(struct blktap *b);

#ifdef __cplusplus
}
#endif

#endif
