// SPDX-License-Identifier: BSD-2-Clause
/*
 * VMDK on disk: the descriptor, the headers of sparse extents (hosted: "KDMV", VMFS: "COWD", seSparse), grain tables,
 * the markers of a stream.  Pure: bytes to struct and back, and every check that one structure allows.
 *
 * A disk is a list of extents, named by a descriptor: text, in a file of its own or embedded in the only extent.  A
 * sparse extent maps grains through two levels:
 *
 *	grain directory ──► grain table ──► grain		(entries of 4 bytes, in sectors)
 *
 * All numbers are little-endian, all offsets and lengths on disk are sectors of 512 bytes; here those in structures are
 * sectors as well, and what is called _bytes is bytes.  Sources: VMware, "Virtual Disk Format 5.0"; QEMU, block/vmdk.c;
 * libyal, libvmdk's documentation of COWD.
 */
#ifndef BLKTAP_VMDK_H
#define BLKTAP_VMDK_H

#include <blktap/err.h>

#define VMDK_SECTOR          512u
#define VMDK_MAX_DESCRIPTOR  (2u << 20) /* bytes */
#define VMDK_MAX_EXTENTS     8192u
#define VMDK_MAX_NAME        4095u
#define VMDK_MAX_SECTORS     ((uint64_t)INT64_MAX / VMDK_SECTOR)
#define VMDK_MAX_GRAIN       32768u /* sectors: 16 MiB */
#define VMDK_MAX_GRAIN_TABLE 4096u  /* entries */
#define VMDK_NO_PARENT       UINT32_MAX

/* ---- entries ---- */

#define VMDK_GRAIN_ABSENT 0u /* the parent decides */
#define VMDK_GRAIN_ZERO   1u /* zeros, where the header says that there are such entries */

/* ---- hosted sparse extents ---- */

#define VMDK_MAGIC_HOSTED 0x564d444bu /* "KDMV" in the file */

#define VMDK_NEWLINE_TEST (1u << 0)
#define VMDK_REDUNDANT    (1u << 1) /* there is a second grain directory, with tables of its own */
#define VMDK_ZEROED       (1u << 2) /* VMDK_GRAIN_ZERO is used */
#define VMDK_COMPRESSED   (1u << 16)
#define VMDK_MARKERS      (1u << 17)
#define VMDK_KNOWN_FLAGS  (VMDK_NEWLINE_TEST | VMDK_REDUNDANT | VMDK_ZEROED | VMDK_COMPRESSED | VMDK_MARKERS)

#define VMDK_DEFLATE   1u
#define VMDK_GD_AT_END UINT64_MAX /* gd of a stream's first header: the footer has it */

struct vmdk_header {
	uint32_t version; /* 1 to 3 */
	uint32_t flags;
	uint64_t capacity;
	uint64_t grain;
	uint64_t desc, desc_len; /* 0: no embedded descriptor */
	uint32_t per_table;      /* entries of a grain table */
	uint64_t rgd, gd;        /* rgd 0: none */
	uint64_t overhead;       /* metadata at the start; data follow */
	bool unclean;            /* was not closed */
	uint16_t compression;
};

/* How many grain tables there are, and how long (sectors) one and the whole directory are. */
static inline uint64_t vmdk_tables(const struct vmdk_header *h)
{
	return td_div_up(td_div_up(h->capacity, h->grain), h->per_table);
}

static inline uint64_t vmdk_table_len(const struct vmdk_header *h)
{
	return td_div_up((uint64_t)h->per_table * 4, VMDK_SECTOR);
}

static inline uint64_t vmdk_directory_len(const struct vmdk_header *h)
{
	return td_div_up(vmdk_tables(h) * 4, VMDK_SECTOR);
}

/*
 * buf: VMDK_SECTOR bytes.  -EUCLEAN: damaged, with a sentence; -ENOTSUP: a version or a compression that nobody knows.
 * What decodes has a grain size, tables and regions with which nothing overflows, and which do not overlap.
 */
TD_CHECK int vmdk_header_decode(const uint8_t *buf, struct vmdk_header *ret, struct td_err *ret_err);
void vmdk_header_encode(const struct vmdk_header *h, uint8_t *buf);

/* Where everything of a new extent lies: fills desc..., rgd, gd, overhead of h, whose other fields are set. */
TD_CHECK int vmdk_header_lay_out(struct vmdk_header *h, bool embed, bool redundant, struct td_err *ret_err);

/* ---- VMFS sparse extents ---- */

#define VMDK_MAGIC_COWD     0x44574f43u /* "COWD" in the file */
#define VMDK_COWD_HEADER    2048u       /* bytes */
#define VMDK_COWD_PER_TABLE 4096u

struct vmdk_cowd {
	uint32_t version, flags;
	uint32_t capacity, grain;
	uint32_t gd, gd_entries;
	uint32_t next_free; /* where the next grain or table goes */
};

/* buf: VMDK_COWD_HEADER bytes.  encode leaves the fields alone that struct vmdk_cowd has not. */
TD_CHECK int vmdk_cowd_decode(const uint8_t *buf, struct vmdk_cowd *ret, struct td_err *ret_err);
void vmdk_cowd_encode(const struct vmdk_cowd *c, uint8_t *buf);

/* A header for a new one: flags, root geometry, zeros for all else. */
void vmdk_cowd_init(uint64_t capacity, struct vmdk_cowd *ret, uint8_t *buf);

/* ---- seSparse extents, which are only read ---- */

#define VMDK_MAGIC_SE     0xcafebabeull /* of 8 bytes */
#define VMDK_SE_GRAIN     4096u         /* bytes */
#define VMDK_SE_PER_TABLE 4096u
#define VMDK_SE_NOWHERE   UINT64_MAX

struct vmdk_se {
	uint64_t capacity;
	uint64_t vol; /* the volatile header */
	uint64_t gd, gd_len, tables, tables_len;
	uint64_t grains; /* the first one; from here on there are only grains */
};

/* buf: VMDK_SECTOR bytes.  What decodes has regions with which nothing overflows, and that do not overlap. */
TD_CHECK int vmdk_se_decode(const uint8_t *buf, struct vmdk_se *ret, struct td_err *ret_err);

/* The volatile header, VMDK_SECTOR bytes.  -ENOTSUP: the extent cannot be read without a replay of its journal. */
TD_CHECK int vmdk_se_check_volatile(const uint8_t *buf, struct td_err *ret_err);

/* An entry of the directory: bytes to its table, 0: there is none, VMDK_SE_NOWHERE: it means nothing. */
uint64_t vmdk_se_table_at(const struct vmdk_se *se, uint64_t raw);

/* An entry of a table; *ret_off: DATA: bytes to the grain, else 0.  -EUCLEAN: it means nothing. */
enum vmdk_se_grain { VMDK_SE_ABSENT, VMDK_SE_ZERO, VMDK_SE_DATA };
TD_CHECK int vmdk_se_grain_at(const struct vmdk_se *se, uint64_t raw, enum vmdk_se_grain *ret_kind,
			      uint64_t *ret_off);

/* ---- markers of a stream ---- */

enum vmdk_marker_type {
	VMDK_MARKER_END,
	VMDK_MARKER_TABLE,
	VMDK_MARKER_DIRECTORY,
	VMDK_MARKER_FOOTER,
	VMDK_MARKER_GRAIN = -1, /* has no type field: data follow in the same sector */
};

#define VMDK_GRAIN_MARKER 12u /* bytes before a grain's data */

struct vmdk_marker {
	enum vmdk_marker_type type;
	uint64_t value; /* grain: its first sector on the disk; else: sectors that follow */
	uint32_t size;  /* grain: bytes of data that follow; else 0 */
};

/* buf: 16 bytes at least. */
TD_CHECK int vmdk_marker_decode(const uint8_t *buf, struct vmdk_marker *ret);

/* buf: VMDK_SECTOR bytes, of which a grain's marker takes the first VMDK_GRAIN_MARKER; all others a whole sector. */
void vmdk_marker_encode(const struct vmdk_marker *m, uint8_t *buf);

/*
 * The first header of a new stream with an embedded descriptor; everything behind its overhead is appended, and the
 * footer is this header with the right gd.  -EFBIG: more than 2 TiB.
 */
TD_CHECK int vmdk_stream_lay_out(uint64_t sectors, struct vmdk_header *ret, struct td_err *ret_err);

/*
 * Inflate the stream of one grain: exactly out_len bytes, and the check sum behind them is right.  -EUCLEAN, -ENOMEM.
 * Takes up to a few milliseconds; one call at a time with one k.
 */
struct qcow2_codec; /* blktap/qcow2.h */
TD_CHECK int vmdk_grain_inflate(struct qcow2_codec *k, const uint8_t *in, size_t in_len, uint8_t *out,
				size_t out_len);

/*
 * The other way round, as long as it takes: what does not shrink is kept as it is inside the stream.  out has room for
 * vmdk_grain_max(in_len).  Returns bytes, or -ENOMEM.
 */
static inline size_t vmdk_grain_max(size_t in_len)
{
	return in_len + 5 * td_div_up(in_len, 65535) + 6;
}

TD_CHECK int64_t vmdk_grain_deflate(struct qcow2_codec *k, const uint8_t *in, size_t in_len, uint8_t *out);

/* ---- the descriptor ---- */

enum vmdk_access { VMDK_NOACCESS, VMDK_RDONLY, VMDK_RW };

enum vmdk_extent_type {
	VMDK_FLAT, /* VMFS is the same */
	VMDK_SPARSE,
	VMDK_ZERO,
	VMDK_VMFSSPARSE,
	VMDK_SESPARSE,
	VMDK_OTHER, /* valid, and not ours: VMFSRDM, VMFSRAW, ... */
};

/* Bytes of the text. */
struct vmdk_str {
	const char *at;
	size_t len;
};

struct vmdk_extent {
	enum vmdk_access access;
	uint64_t sectors;
	enum vmdk_extent_type type;
	struct vmdk_str type_name, name; /* name: without quotes; empty for ZERO */
	uint64_t offset;                 /* FLAT: sectors into the file */
};

struct vmdk_desc {
	struct vmdk_str text; /* to the first NUL */
	uint32_t cid, parent_cid;
	struct vmdk_str cid_digits;               /* in text; 1 to 8 of them */
	struct vmdk_str parent_digits;            /* the same of the parent's; at NULL: there is no such line */
	struct vmdk_str long_id;                  /* ddb.longContentID, which ends in the CID */
	struct vmdk_str create_type, parent_hint; /* without quotes; at NULL: there is none */
	struct vmdk_str encoding, adapter, hw_version, cylinders, heads, sectors;
	unsigned nr_extents;
	uint64_t capacity; /* of all extents, sectors */
};

enum vmdk_line_kind { VMDK_LINE_NOTHING, VMDK_LINE_PAIR, VMDK_LINE_EXTENT, VMDK_LINE_UNKNOWN };

/* One line of a descriptor. */
struct vmdk_line {
	enum vmdk_line_kind kind;   /* NOTHING: blank or a comment */
	struct vmdk_str all;        /* without its end */
	struct vmdk_str key, value; /* PAIR: value without spaces around it and without quotes */
};

/* Does a file that starts so hold a descriptor?  Comments and blank lines may come before the words that tell. */
bool vmdk_desc_is(const char *text, size_t len);

/* The line at *pos, which moves behind it; false: the text has ended.  Lines end in LF, CR LF, CR or NUL. */
bool vmdk_line_next(struct vmdk_str text, size_t *pos, struct vmdk_line *ret);

bool vmdk_str_is(struct vmdk_str s, const char *word); /* upper and lower case are the same */

/*
 * text is not kept but pointed to.  -EUCLEAN with a sentence: a field is damaged, there is no CID, or an extent is
 * nonsense; -E2BIG: more than VMDK_MAX_EXTENTS.
 */
TD_CHECK int vmdk_desc_decode(const char *text, size_t len, struct vmdk_desc *ret, struct td_err *ret_err);

/* The next extent from *pos on (0 at first): 1, or 0 at the end; -EUCLEAN. */
TD_CHECK int vmdk_extent_next(struct vmdk_str text, size_t *pos, struct vmdk_extent *ret,
			      struct td_err *ret_err);

/*
 * The text again with the value of one key changed, or its line removed (value NULL); where there is none, the line is
 * put behind the line of the key `after`.  All other bytes stay.  Returns the new length (no NUL), or -ENOSPC.
 */
TD_CHECK int vmdk_desc_change(struct vmdk_str text, const char *key, const char *value, const char *after,
			      char *out, size_t max);

/* A name in the encoding windows-1252 as UTF-8 with a NUL; -ENOSPC. */
TD_CHECK int vmdk_name_from_1252(struct vmdk_str name, char *out, size_t max);

/* The last part of a name that may be a Windows path. */
struct vmdk_str vmdk_name_base(struct vmdk_str name);

#endif
