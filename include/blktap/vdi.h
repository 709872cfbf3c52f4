// SPDX-License-Identifier: BSD-2-Clause
/*
 * VirtualBox's format, VDI, version 1.1: bytes to struct, and every check that the header allows.  Pure: no descriptor,
 * no allocation, no log, no yield.  The driver is drivers/vdi/, and reads only.
 *
 *	| a line of text | header | ... | map: 4 bytes a block | ... | block | block ...
 *
 * All numbers are little-endian.  -EUCLEAN: it breaks the format.  -ENOTSUP: valid, not ours, and the sentence names
 * the feature.  A ret_err may be NULL.
 *
 * Sources: VirtualBox, src/VBox/Storage/VDICore.h and VDI.cpp; QEMU block/vdi.c.
 */
#ifndef BLKTAP_VDI_H
#define BLKTAP_VDI_H

#include <blktap/err.h>
#include <blktap/guid.h>

#define VDI_SECTOR    512u
#define VDI_HEADER    512u /* what of the file's start vdi_header_decode looks at */
#define VDI_SIGNATURE 0xbeda107fu
#define VDI_AT_MAGIC  64u
#define VDI_BLOCK_MIN 4096u        /* ours */
#define VDI_BLOCK_MAX (128u << 20) /* ours; all images have 1 MiB */

enum vdi_type { VDI_DYNAMIC = 1, VDI_STATIC = 2 };

struct vdi_header {
	enum vdi_type type;
	uint64_t size; /* bytes of the disk, whole sectors */
	uint32_t map_off;
	uint32_t data_off; /* of block 0 in the file; behind the map */
	uint32_t block_size;
	uint32_t nr_blocks;    /* of the disk; entries of the map */
	uint32_t nr_allocated; /* as the header says */
	uint8_t uuid[TD_GUID];
};

/* With a sentence -EUCLEAN: damaged; -ENOTSUP: valid, and a version or a kind that is not ours. */
TD_CHECK int vdi_header_decode(const uint8_t raw[VDI_HEADER], struct vdi_header *ret, struct td_err *ret_err);

enum vdi_kind {
	VDI_FREE, /* never written: zeros, if there is no parent */
	VDI_ZERO, /* zeros */
	VDI_DATA,
};

/* An entry of the map.  -EUCLEAN: it names a block that such a disk cannot have. */
TD_CHECK int vdi_entry_decode(const struct vdi_header *h, uint32_t raw, enum vdi_kind *ret_kind,
			      uint64_t *ret_host_off);

#endif
