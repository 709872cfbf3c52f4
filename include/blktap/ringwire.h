// SPDX-License-Identifier: BSD-2-Clause
/*
 * The ring over shared memory: the bytes of its handshake, as blktap-ring(7) documents them.  Between two programs:
 * nothing here may change but under another version.
 *
 * A unix socket of type SOCK_SEQPACKET; one packet is one message, of exactly the length its head says.  Numbers are
 * little-endian.  The server speaks first:
 *
 *	HELLO	what the disk can
 *	CONNECT	(client; with the memfd) what it chose, where its rings are
 *	READY	(with the doorbells) the rings are served; or an errno and a sentence, and the end
 *	CHANGE	at any time later: size, state
 *	STOPPED	the client broke the ring's protocol: a sentence, and the end
 *
 * The doorbells are the server's, so that nothing a client does to them can make the server wait: for each queue an
 * eventfd to write to (kick), and an epoll descriptor that wakes up when there are answers (call).
 */
#ifndef BLKTAP_RINGWIRE_H
#define BLKTAP_RINGWIRE_H

#include <blktap/base.h>

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "as every architecture that has the ring");

#define RINGWIRE_MAGIC      0x526b6c62u /* "blkR" */
#define RINGWIRE_VERSION    1u
#define RINGWIRE_PAGE       4096u
#define RINGWIRE_MAX_QUEUES 4u
#define RINGWIRE_MAX_MEMORY (1ull << 30)
#define RINGWIRE_MAX_FDS    (2 * RINGWIRE_MAX_QUEUES) /* with one message */
#define RINGWIRE_REASON     232u

enum ringwire_type {
	RINGWIRE_HELLO = 1,
	RINGWIRE_CONNECT = 2,
	RINGWIRE_READY = 3,
	RINGWIRE_CHANGE = 4,
	RINGWIRE_STOPPED = 5,
};

/* What may be used: what both sides have set. */
#define RINGWIRE_FLUSH    0x1u
#define RINGWIRE_BARRIER  0x2u
#define RINGWIRE_DISCARD  0x4u
#define RINGWIRE_INDIRECT 0x8u
#define RINGWIRE_FEATURES 0xfu

#define RINGWIRE_PAUSED 0x1u /* state: requests wait */

struct ringwire_head {
	uint32_t magic;
	uint16_t type, size; /* of the whole message */
};

struct ringwire_hello {
	struct ringwire_head head;
	uint32_t version, features;
	uint64_t sectors;    /* of 512 bytes */
	uint64_t max_memory; /* bytes of a memfd */
	uint32_t sector_size, physical_sector_size;
	uint32_t info, state; /* TD_BLKIF_READONLY ...; RINGWIRE_PAUSED */
	uint32_t discard_granularity, discard_alignment;
	uint32_t max_indirect; /* segments */
	uint32_t max_order, max_queues, reserved;
};

struct ringwire_connect {
	struct ringwire_head head;
	uint32_t version, features;
	uint32_t abi, order; /* enum td_blkif_abi; 1 << order pages are a ring */
	uint32_t nr_queues, reserved;
	uint64_t memory;                         /* bytes of the memfd */
	uint32_t ring_page[RINGWIRE_MAX_QUEUES]; /* the first page of each ring; the others follow it */
};

struct ringwire_ready {
	struct ringwire_head head;
	int32_t error; /* 0: served; kick and call of each queue come with this message, in this order */
	uint32_t features;
	char reason[RINGWIRE_REASON]; /* a sentence, with its zero byte */
};

struct ringwire_change {
	struct ringwire_head head;
	uint64_t sectors;
	uint32_t state, reserved;
};

struct ringwire_stopped {
	struct ringwire_head head;
	uint32_t queue, reserved;
	char reason[RINGWIRE_REASON];
};

_Static_assert(sizeof(struct ringwire_head) == 8 && sizeof(struct ringwire_hello) == 72 &&
		       sizeof(struct ringwire_connect) == 56 && sizeof(struct ringwire_ready) == 248 &&
		       sizeof(struct ringwire_change) == 24 && sizeof(struct ringwire_stopped) == 248,
	       "no padding");

#define ringwire_init(msg, t)                                                                                \
	((msg)->head = (struct ringwire_head){ RINGWIRE_MAGIC, (uint16_t)(t), (uint16_t)sizeof(*(msg)) })

/* Is this packet that message? */
static inline bool ringwire_is(const void *packet, size_t len, enum ringwire_type type, size_t size)
{
	struct ringwire_head head;

	if (len != size || len < sizeof(head))
		return false;
	memcpy(&head, packet, sizeof(head));
	return head.magic == RINGWIRE_MAGIC && head.type == type && head.size == size;
}

#endif
