// SPDX-License-Identifier: BSD-2-Clause
/*
 * The VHD format: bytes to struct and back, geometry, and every check that one structure and the header allow.  Pure:
 * no descriptor, no allocation, no log, no yield.  The driver is drivers/vhd/.
 *
 *	fixed		| data ...                                                                   | footer |
 *	dynamic,	| copy of the footer | header | BAT | batmap | parents' names | block | ...  | footer |
 *	differencing
 *
 * A block is a bitmap (a bit for each sector: is it held?) and the sectors.  All numbers are big-endian.
 *
 * Everything decoded here comes from a file that somebody else wrote.  -EUCLEAN: it breaks the format.  -ENOTSUP:
 * valid, not ours, and the sentence names the feature.  A ret_err may be NULL everywhere.
 *
 * Source: Microsoft, Virtual Hard Disk Image Format Specification, version 1.0 (2006).  Batmap, the hidden flag, the
 * mark of an unfinished resize and the meaning of an all-zero parent UUID are XenServer's: xapi-project/blktap,
 * include/vhd.h and vhd/lib.  Limits of our own are marked so.
 */
#ifndef BLKTAP_VHD_H
#define BLKTAP_VHD_H

#include <blktap/err.h>

#define VHD_SECTOR       512u
#define VHD_FOOTER       512u
#define VHD_FOOTER_SHORT 511u /* Virtual PC's before 2004: the last byte, which is reserved, is missing */
#define VHD_HEADER       1024u
#define VHD_LOCATORS     8u
#define VHD_UUID         16u
#define VHD_UUID_TEXT    37u
#define VHD_BLOCK        (2u << 20)   /* of new images */
#define VHD_BLOCK_MAX    (256u << 20) /* ours */
#define VHD_BLOCKS_MAX   (8u << 20)   /* ours: 512 GiB of the smallest blocks in use, 16 TiB of usual ones */
#define VHD_UNUSED       0xffffffffu  /* a BAT entry */
#define VHD_NAME_MAX     1023u        /* ours: bytes of a parent's name, as UTF-8 */
#define VHD_LOCATOR_MAX  4096u        /* ours: bytes of a locator's data */

/* The largest size that a geometry can say; one that says so says nothing. */
#define VHD_GEOMETRY_MAX (65535ull * 16 * 255)

enum vhd_type { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFF = 4 };

struct vhd_footer {
	uint32_t features;
	uint64_t data_off;  /* of the header; all ones: fixed */
	uint32_t timestamp; /* seconds since VHD_EPOCH */
	char creator[4];    /* "win ", "tap\0" ... */
	uint32_t creator_version;
	char creator_os[4];
	uint64_t original_size, size; /* bytes */
	uint16_t cylinders;
	uint8_t heads, sectors;
	enum vhd_type type;
	uint8_t uuid[VHD_UUID];
	bool saved;  /* a suspended machine counts on the contents */
	bool hidden; /* XenServer: nobody's disk, only a parent */
};

#define VHD_EPOCH 946684800 /* 2000-01-01 00:00:00 UTC, as time_t */

#define VHD_CREATOR_TAP     "tap"       /* and its NUL */
#define VHD_VERSION_BATMAP  0x00010002u /* from here on tapdisk's images have a batmap */
#define VHD_VERSION_CURRENT 0x00010003u

/*
 * raw: VHD_FOOTER bytes, or VHD_FOOTER_SHORT, for which the caller adds a zero.  -EINVAL: it is no footer at all.
 * *ret is set for -ENOTSUP and 0 alone.
 */
TD_CHECK int vhd_footer_decode(const uint8_t raw[VHD_FOOTER], struct vhd_footer *ret, struct td_err *ret_err);

/* Put the fields and the checksum into raw; bytes that nobody has given a meaning stay as they are there. */
void vhd_footer_encode(const struct vhd_footer *f, uint8_t raw[VHD_FOOTER]);

/* Bytes of the disk: what the guest sees. Whole sectors. */
uint64_t vhd_disk_size(const struct vhd_footer *f);

/* The geometry that the specification gives a disk of this size. */
void vhd_geometry(uint64_t size, struct vhd_footer *ret);

/* Bytes that this geometry says. */
uint64_t vhd_geometry_size(const struct vhd_footer *f);

/* Was it made by a tapdisk, XenServer's or this one? */
bool vhd_is_tapdisk(const struct vhd_footer *f);

/* ---- the header of a dynamic or differencing disk ---- */

enum vhd_platform {
	VHD_LOC_NONE = 0,
	VHD_LOC_WI2R = 0x57693272, /* Windows, relative; deprecated */
	VHD_LOC_WI2K = 0x5769326b, /* Windows, absolute; deprecated */
	VHD_LOC_W2RU = 0x57327275, /* Windows, relative, UTF-16LE */
	VHD_LOC_W2KU = 0x57326b75, /* Windows, absolute, UTF-16LE */
	VHD_LOC_MAC = 0x4d616320,  /* a Mac OS alias */
	VHD_LOC_MACX = 0x4d616358, /* a file URL, UTF-8 */
};

struct vhd_locator {
	uint32_t platform;
	uint32_t space; /* as it stands there: sectors by the specification, bytes by some programs */
	uint32_t len;   /* of the data */
	uint64_t off;   /* in the file */
};

#define VHD_PARENT_NAME 512u

struct vhd_header {
	uint64_t bat_off;
	uint32_t max_entries; /* of the BAT */
	uint32_t block_size;
	uint8_t parent_uuid[VHD_UUID];
	uint32_t parent_time;
	uint8_t parent_name[VHD_PARENT_NAME]; /* UTF-16BE */
	struct vhd_locator locator[VHD_LOCATORS];
};

/* -EUCLEAN: no header, a wrong checksum, or fields that make no sense.  Encoding makes the checksum. */
TD_CHECK int vhd_header_decode(const uint8_t raw[VHD_HEADER], struct vhd_header *ret, struct td_err *ret_err);
void vhd_header_encode(const struct vhd_header *h, uint8_t raw[VHD_HEADER]);

/* ---- where things are ---- */

struct vhd_geom {
	uint32_t block_size, block_bits;
	uint32_t bitmap_len;       /* bytes before the sectors of each block */
	uint32_t nr_blocks;        /* that the disk has */
	uint32_t max_entries;      /* of the BAT: nr_blocks or more */
	uint64_t bat_off, bat_len; /* whole sectors */
	uint64_t batmap_off;       /* where a batmap's header would be */
};

/* Of what was decoded, for a disk of size bytes; -EUCLEAN if they do not fit together. */
TD_CHECK int vhd_geom_of(const struct vhd_footer *f, const struct vhd_header *h, struct vhd_geom *ret,
			 struct td_err *ret_err);

/* Bytes that a block takes in the file: its bitmap, then its sectors. */
static inline uint64_t vhd_block_len(const struct vhd_geom *g)
{
	return (uint64_t)g->bitmap_len + g->block_size;
}

/* ---- a block's bitmap: the first sector is the highest bit of the first byte ---- */

/* Of a block's bitmap or the batmap, which counts in the same way. */
static inline bool vhd_bit(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] & (0x80u >> i % 8);
}

/* How many bits from first on, at most max, are as the first is?  max >= 1. */
uint32_t vhd_bits_run(const uint8_t *bits, uint32_t first, uint32_t max);

/* nr bits from first on.  The caller has seen to it that they are there. */
void vhd_bits_set(uint8_t *bits, uint32_t first, uint32_t nr);
bool vhd_bits_full(const uint8_t *bits, size_t len); /* len: a multiple of 8 */

/* ---- the batmap: a bit for each block: is its bitmap full? ---- */

struct vhd_batmap {
	uint64_t off;     /* of the bits */
	uint32_t sectors; /* that they fill */
	uint32_t version, checksum;
};

#define VHD_BATMAP_VERSION 0x00010002u

/* -EINVAL: there is none.  raw: one sector. */
TD_CHECK int vhd_batmap_decode(const uint8_t raw[VHD_SECTOR], const struct vhd_geom *g,
			       struct vhd_batmap *ret);

/* Keeps what else stands in raw, if it is a batmap's header already. */
void vhd_batmap_encode(const struct vhd_batmap *m, uint8_t raw[VHD_SECTOR]);

/* How many of the bits' bytes the checksum covers, for a disk of this size: bits behind it have to be 0. */
uint64_t vhd_batmap_summed(uint64_t disk_size, uint32_t sectors);
uint32_t vhd_batmap_sum(const uint8_t *bits, uint64_t len, uint32_t version);

/* ---- names of parents ---- */

/*
 * A locator's data, or the header's name, as a path with '/'; a drive letter is dropped.  -EUCLEAN: it is no text, or
 * empty; -ENOTSUP: not of this machine (another host's URL), or a platform whose data is no name.
 */
TD_CHECK int vhd_name_of_locator(uint32_t platform, const uint8_t *data, size_t len,
				 char ret[VHD_NAME_MAX + 1]);
TD_CHECK int vhd_name_of_header(const uint8_t raw[VHD_PARENT_NAME], char ret[VHD_NAME_MAX + 1]);

/*
 * A path as a locator of this platform (W2RU, W2KU, MACX) has it; *ret_len bytes.  -ENAMETOOLONG; -EINVAL: it is not
 * UTF-8.
 */
TD_CHECK int vhd_name_to_locator(uint32_t platform, const char *path, uint8_t ret[VHD_LOCATOR_MAX],
				 size_t *ret_len);
TD_CHECK int vhd_name_to_header(const char *path, uint8_t ret[VHD_PARENT_NAME]);

/* As it stands in the file, in the order of its bytes. */
void vhd_uuid_text(const uint8_t uuid[VHD_UUID], char ret[VHD_UUID_TEXT]);
bool vhd_uuid_is_zero(const uint8_t uuid[VHD_UUID]);

#endif
