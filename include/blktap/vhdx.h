// SPDX-License-Identifier: BSD-2-Clause
/*
 * The VHDX format (Hyper-V): bytes to struct, geometry, the log, and every check that one structure and the header
 * allow.  Pure: no descriptor, no allocation, no log, no yield.  The driver is drivers/vhdx/, and reads only.
 *
 *	| identifier | header | header | regions | regions | ... 1 MiB | log, BAT, metadata region, blocks: in whole MiB
 *
 * A header names the log and where the regions are is in a table of its own; both exist twice.  The BAT has 8 bytes a
 * block, and behind those of each 2^23 sectors (a chunk) one entry more for the bitmap of the chunk's sectors, which
 * only differencing disks use.  All numbers are little-endian.
 *
 * -EUCLEAN: it breaks the format.  -ENOTSUP: valid, not ours, and the sentence names the feature.  A ret_err may be
 * NULL everywhere.
 *
 * Source: Microsoft, [MS-VHDX] Virtual Hard Disk v2 File Format.  Limits of our own are marked so.
 */
#ifndef BLKTAP_VHDX_H
#define BLKTAP_VHDX_H

#include <blktap/err.h>
#include <blktap/guid.h>

#define VHDX_MIB       (1u << 20)
#define VHDX_SECTOR    4096u /* of the log */
#define VHDX_HEADER    4096u
#define VHDX_TABLE     65536u /* of regions, of metadata */
#define VHDX_HEADER_1  (64u << 10)
#define VHDX_HEADER_2  (128u << 10)
#define VHDX_REGIONS_1 (192u << 10)
#define VHDX_REGIONS_2 (256u << 10)
#define VHDX_START     VHDX_MIB     /* all before it is the headers' */
#define VHDX_LOG_MAX   (64u << 20)  /* ours: a log with something in it; all have 1 MiB */
#define VHDX_OFF_MAX   (1ull << 62) /* ours: no byte of a file lies behind it */
#define VHDX_ITEM_MAX  (1u << 20)   /* bytes of one item of metadata */
#define VHDX_SIZE_MAX  (64ull << 40)
#define VHDX_MAGIC     "vhdxfile"

/* CRC-32C (Castagnoli) of the bytes, with the 4 at `hole`, if they are among them, taken as zeros. */
uint32_t vhdx_crc(uint32_t crc, const uint8_t *bytes, size_t len, size_t hole);
#define VHDX_NO_HOLE SIZE_MAX

/* ---- headers ---- */

struct vhdx_header {
	uint64_t sequence;
	uint8_t data_guid[TD_GUID]; /* another after each change that a child would have to know of */
	uint8_t log_guid[TD_GUID];  /* of the entries that count; zeros: the log is empty */
	uint64_t log_off;
	uint32_t log_len;
};

/* The one of the two that counts: whole, and the newer. */
TD_CHECK int vhdx_header_decode(const uint8_t first[VHDX_HEADER], const uint8_t second[VHDX_HEADER],
				struct vhdx_header *ret, struct td_err *ret_err);

struct vhdx_region {
	uint64_t off;
	uint32_t len;
};

struct vhdx_regions {
	struct vhdx_region bat, metadata;
};

/* -EINVAL: it is not whole; there is a second one. */
TD_CHECK int vhdx_regions_decode(const uint8_t raw[VHDX_TABLE], struct vhdx_regions *ret,
				 struct td_err *ret_err);

/* ---- metadata ---- */

enum vhdx_item {
	VHDX_ITEM_FILE,
	VHDX_ITEM_SIZE,
	VHDX_ITEM_ID,
	VHDX_ITEM_LOGICAL,
	VHDX_ITEM_PHYSICAL,
	VHDX_ITEM_LOCATOR, /* of the parent; may be missing */
	VHDX_ITEMS,
};

struct vhdx_item_at {
	uint32_t off, len; /* in the region; 0, 0: there is none */
};

/*
 * Where each item is, inside the region.  -EUCLEAN: damaged, or one that has to be there is not; -ENOTSUP: one that a
 * reader has to know, and we do not.
 */
TD_CHECK int vhdx_items_decode(const uint8_t raw[VHDX_TABLE], uint32_t region_len,
			       struct vhdx_item_at ret[VHDX_ITEMS], struct td_err *ret_err);

struct vhdx_disk {
	uint32_t block_size;
	bool fixed;  /* blocks stay allocated */
	bool parent; /* it is a differencing disk */
	uint64_t size;
	uint32_t logical, physical; /* bytes of sectors */
	uint8_t id[TD_GUID];
};

/* Bytes of all but the locator. */
#define VHDX_ITEM_BYTES 16u

/* Put what an item says into *disk; not of the locator. */
TD_CHECK int vhdx_item_decode(enum vhdx_item item, const uint8_t *raw, uint32_t len, struct vhdx_disk *disk,
			      struct td_err *ret_err);

/* ---- the parent's names ---- */

struct vhdx_value {
	uint32_t off, len; /* in the locator; UTF-16LE.  0, 0: there is none */
};

struct vhdx_locator {
	uint8_t linkage[2][TD_GUID]; /* of data_guids that the parent may have */
	unsigned nr_linkage;
	struct vhdx_value relative, absolute;
};

/* -EUCLEAN: damaged, or it names no parent; -ENOTSUP: of another kind. */
TD_CHECK int vhdx_locator_decode(const uint8_t *raw, uint32_t len, struct vhdx_locator *ret,
				 struct td_err *ret_err);

/* ---- where things are ---- */

struct vhdx_geom {
	uint32_t block_size, block_bits;
	unsigned ratio_bits; /* log2 of the blocks of a chunk */
	unsigned sector_bits;
	uint64_t nr_blocks, nr_entries;
};

/* bat_len: bytes of the BAT's region; -EUCLEAN if it is too short for the disk. */
TD_CHECK int vhdx_geom_of(const struct vhdx_disk *disk, uint32_t bat_len, struct vhdx_geom *ret,
			  struct td_err *ret_err);

/* Numbers of entries of the BAT: of a block, and of the bitmap of its chunk. */
static inline uint64_t vhdx_block_entry(const struct vhdx_geom *g, uint64_t block)
{
	return block + (block >> g->ratio_bits);
}

static inline uint64_t vhdx_bitmap_entry(const struct vhdx_geom *g, uint64_t block)
{
	return (((block >> g->ratio_bits) + 1) << g->ratio_bits) + (block >> g->ratio_bits);
}

enum vhdx_state {
	VHDX_NOT_PRESENT = 0, /* the parent's, or zeros */
	VHDX_UNDEFINED = 1,
	VHDX_ZERO = 2,
	VHDX_UNMAPPED = 3,
	VHDX_PRESENT = 6,
	VHDX_PARTLY = 7, /* the bitmap says which sectors; the others are the parent's */
};

struct vhdx_entry {
	enum vhdx_state state;
	uint64_t off; /* PRESENT, PARTLY: in the file */
};

/* -EUCLEAN: a state that there is not, or a place that cannot be. */
TD_CHECK int vhdx_entry_decode(uint64_t raw, struct vhdx_entry *ret);
TD_CHECK int vhdx_bitmap_decode(uint64_t raw, uint64_t *ret_off);

/* How many bits from first on, at most max, are as the first is?  The first is the lowest bit of the first byte. */
uint32_t vhdx_bits_run(const uint8_t *bits, uint32_t first, uint32_t max);

/* Of a chunk's bitmap: is this sector here, not the parent's? */
static inline bool vhdx_bit(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}

/* ---- the log: changes of metadata that may not have arrived at their places ---- */

/* What has to be done again. */
struct vhdx_log {
	uint32_t first;     /* sector of its first entry */
	uint32_t entries;   /* 0: nothing */
	uint64_t sequence;  /* of the last */
	uint64_t flushed;   /* bytes that the file had; fewer: it was cut off */
	uint64_t file_size; /* that it is to have at least */
};

/*
 * Look for the newest run of whole entries with this GUID.  len: that of the log, a multiple of VHDX_SECTOR.  What was
 * torn when it was written is none.
 */
void vhdx_log_find(const uint8_t *log, uint32_t len, const uint8_t guid[TD_GUID], struct vhdx_log *ret);

/*
 * fn for each change, in their order: bytes [off, off + len) of the file, both multiples of VHDX_SECTOR, become these;
 * NULL: zeros.  They stay in `log`, which is changed.  What fn returns ends it unless it is 0.
 */
typedef int vhdx_change_fn(void *arg, uint64_t off, uint64_t len, const uint8_t *bytes);
TD_CHECK int vhdx_log_replay(uint8_t *log, uint32_t len, const struct vhdx_log *what, vhdx_change_fn *fn,
			     void *arg);

#endif
