// SPDX-License-Identifier: BSD-2-Clause
/*
 * The qcow format, version 1: bytes to struct and back, and every check that the header allows.  Pure: no descriptor,
 * no allocation, no log, no yield.  The driver is drivers/qcow/.
 *
 * -EUCLEAN: it breaks the format.  -ENOTSUP: valid, not ours.  A ret_err may be NULL everywhere.
 *
 *	| header | Xen's addition | name of the backing file | L1, at a multiple of 8 | L2 tables and clusters ...
 *
 * All numbers are big-endian, but for the L1 table of images that tapdisk of early Xen wrote (qcow_header.l1_swapped).
 *
 * Sources: QEMU block/qcow.c, Xen tools/blktap/drivers/block-qcow.c.
 */
#ifndef BLKTAP_QCOW_H
#define BLKTAP_QCOW_H

#include <blktap/err.h>

#define QCOW_MAGIC     0x514649fbu /* "QFI\xfb" */
#define QCOW_XEN_MAGIC 0x58454efbu /* "XEN\xfb" */

#define QCOW_HEADER           48u
#define QCOW_HEADER_XEN       64u
#define QCOW_MIN_CLUSTER_BITS 9u
#define QCOW_MAX_CLUSTER_BITS 16u
#define QCOW_MIN_L2_BITS      6u
#define QCOW_MAX_L2_BITS      13u
#define QCOW_MAX_BACKING_NAME 1023u
#define QCOW_MAX_L1_BYTES                                                                                    \
	(128ull << 20) /* ours, twice that of what we make; QEMU's is 2 GiB, which nobody needs */

#define QCOW_CRYPT_NONE 0u
#define QCOW_CRYPT_AES  1u

/* Bits of Xen's addition. */
#define QCOW_XEN_SPARSE        1u
#define QCOW_XEN_L1_BIG_ENDIAN 2u

struct qcow_header {
	uint64_t backing_off;
	uint32_t backing_len; /* 0: no backing file, whatever backing_off is */
	uint32_t mtime;       /* of the backing file, once; nobody uses it */
	uint64_t size;
	uint32_t cluster_bits, l2_bits;
	uint32_t crypt;
	uint64_t l1_off;
	bool xen; /* Xen's addition is there; it counts only where L1 lies on a multiple of 4 KiB */
	uint32_t xen_flags;
	bool l1_swapped; /* L1 entries are little-endian: of the machine that wrote them */
};

/* len: bytes of the file's start that are there; QCOW_HEADER_XEN are enough. */
TD_CHECK int qcow_header_decode(const void *buf, size_t len, struct qcow_header *ret, struct td_err *ret_err);

/* QCOW_HEADER bytes; Xen's addition stays as it is in buf. */
void qcow_header_encode(const struct qcow_header *h, uint8_t buf[QCOW_HEADER]);

/* Entries of the L1 table. */
uint64_t qcow_l1_entries(const struct qcow_header *h);

/* The first byte that no entry can name. */
uint64_t qcow_max_host(const struct qcow_header *h);

/* L1 entries, as read big-endian, to the place of a table and back. */
uint64_t qcow_l1e(const struct qcow_header *h, uint64_t raw);

enum qcow_kind { QCOW_HOLE, QCOW_DATA, QCOW_PACKED };

struct qcow_l2e {
	enum qcow_kind kind;
	uint64_t host_off;
	uint32_t packed_len; /* PACKED: bytes of the stream, less than a cluster */
};

/*
 * L2 entries, as numbers.  -EUCLEAN: it is not on a sector, or names what no file of the format can have; whether
 * it lies in this file is not known here.
 */
TD_CHECK int qcow_l2e_decode(const struct qcow_header *h, uint64_t raw, struct qcow_l2e *ret);
uint64_t qcow_l2e_encode(const struct qcow_header *h, const struct qcow_l2e *e);

#endif
