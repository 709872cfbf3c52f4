// SPDX-License-Identifier: BSD-2-Clause
/*
 * The block ring's ABI: bytes of shared memory to structs and back.  Pure; nothing here reads shared memory: a slot is
 * copied out of the ring once, and the copy is decoded.
 *
 * Source: Xen's public headers io/blkif.h, io/ring.h, io/protocols.h.  Numbers are little-endian on every architecture
 * that has the ring.  Sectors are 512 bytes here whatever the disk's sector size is; pages are 4096 bytes.
 */
#ifndef BLKTAP_BLKIF_H
#define BLKTAP_BLKIF_H

#include <blktap/base.h>

#define TD_BLKIF_PAGE         4096u
#define TD_BLKIF_SECTOR       512u
#define TD_BLKIF_PAGE_SECTORS 8u
#define TD_BLKIF_HEAD         64u  /* bytes of indices in front of the slots */
#define TD_BLKIF_MAX_ORDER    4u   /* 16 pages */
#define TD_BLKIF_MAX_ENTRIES  512u /* of one ring */
#define TD_BLKIF_MAX_DIRECT   11u  /* segments in a slot */
#define TD_BLKIF_PAGE_SEGS    512u /* segments in an indirect page */
#define TD_BLKIF_MAX_IPAGES   8u   /* indirect pages that a slot can name */
#define TD_BLKIF_MAX_SEGS     256u /* that we serve: 1 MiB in a request */
#define TD_BLKIF_SLOT_MAX     112u

/* The shared head: byte offsets of four uint32. */
#define TD_BLKIF_REQ_PROD  0u
#define TD_BLKIF_REQ_EVENT 4u
#define TD_BLKIF_RSP_PROD  8u
#define TD_BLKIF_RSP_EVENT 12u

/* Two layouts: the 32-bit one packs its 64-bit fields to 4 bytes.  Arm's is the 64-bit one. */
enum td_blkif_abi { TD_BLKIF_X86_64, TD_BLKIF_X86_32, TD_BLKIF_ARM };

enum td_blkif_op {
	TD_BLKIF_READ = 0,
	TD_BLKIF_WRITE = 1,
	TD_BLKIF_BARRIER = 2,
	TD_BLKIF_FLUSH = 3,
	TD_BLKIF_DISCARD = 5,
	TD_BLKIF_INDIRECT = 6,
};

#define TD_BLKIF_OKAY       0
#define TD_BLKIF_ERROR      (-1)
#define TD_BLKIF_EOPNOTSUPP (-2)

#define TD_BLKIF_DISCARD_SECURE 0x01u

/* The backend's `info` node. */
#define TD_BLKIF_CDROM     0x1u
#define TD_BLKIF_REMOVABLE 0x2u
#define TD_BLKIF_READONLY  0x4u

struct td_blkif_seg {
	uint32_t gref;
	uint8_t first, last; /* sectors of the page, both included */
};

/* As on the wire, nothing checked: any value of any field is possible. */
struct td_blkif_req {
	uint8_t op;
	uint8_t inner;       /* INDIRECT: READ or WRITE */
	uint8_t flag;        /* DISCARD */
	uint16_t nr_segs;    /* wire: 8 bits direct, 16 bits INDIRECT */
	uint16_t handle;
	uint64_t id, sector;
	uint64_t nr_sectors; /* DISCARD */
	struct td_blkif_seg seg[TD_BLKIF_MAX_DIRECT]; /* direct: min(nr_segs, 11) of them */
	uint32_t ipage[TD_BLKIF_MAX_IPAGES];          /* INDIRECT */
};

struct td_blkif_rsp {
	uint64_t id;
	uint8_t op; /* of an INDIRECT request the inner one */
	int16_t status;
};

/* "x86_64-abi" and so on: what the frontend writes as `protocol`. */
const char *td_blkif_abi_name(enum td_blkif_abi abi);
TD_CHECK int td_blkif_abi_find(const char *name, enum td_blkif_abi *ret_abi); /* -EINVAL */

/* Bytes of a slot (request or response), 112 or 108; slots in a ring of 1 << order pages (32 .. 512). */
size_t td_blkif_slot_size(enum td_blkif_abi abi);
unsigned td_blkif_entries(enum td_blkif_abi abi, unsigned order);

/* Where slot number idx (a free-running index; nr is a power of two) lies in the ring. */
static inline size_t td_blkif_slot_offset(enum td_blkif_abi abi, unsigned nr, uint32_t idx)
{
	return TD_BLKIF_HEAD + (size_t)(idx & (nr - 1)) * td_blkif_slot_size(abi);
}

/* slot: td_blkif_slot_size bytes of private memory. */
void td_blkif_decode_req(enum td_blkif_abi abi, const void *slot, struct td_blkif_req *ret_req);
void td_blkif_encode_req(enum td_blkif_abi abi, const struct td_blkif_req *req, void *slot);
/* A response is 16 or 12 bytes at the slot's begin; encoding writes those, with no stray byte of memory. */
void td_blkif_decode_rsp(enum td_blkif_abi abi, const void *slot, struct td_blkif_rsp *ret_rsp);
size_t td_blkif_encode_rsp(enum td_blkif_abi abi, const struct td_blkif_rsp *rsp, void *slot);

/* The segments of an indirect page; the same in each ABI.  page: a private copy. */
void td_blkif_decode_segs(const void *page, unsigned nr, struct td_blkif_seg *ret_seg);
void td_blkif_encode_segs(const struct td_blkif_seg *seg, unsigned nr, void *page);

/*
 * Is a request one that can be served?  0, or what to answer: TD_BLKIF_ERROR, TD_BLKIF_EOPNOTSUPP (an operation that
 * nobody knows); *ret_why, if not NULL, a word for the log.  Checks op, counts and the number of indirect pages; of a
 * direct request the segments too (first <= last <= 7) and that its sectors end at or before `sectors`.
 */
TD_CHECK int td_blkif_check_req(const struct td_blkif_req *req, uint64_t sectors, const char **ret_why);

/* The same for a request's segments; *ret_sectors: their sum. */
TD_CHECK int td_blkif_check_segs(const struct td_blkif_seg *seg, unsigned nr, uint64_t sector, uint64_t sectors,
				 uint64_t *ret_sectors, const char **ret_why);

#endif
