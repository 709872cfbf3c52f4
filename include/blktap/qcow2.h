// SPDX-License-Identifier: BSD-2-Clause
/*
 * The qcow2 format, versions 2 and 3: bytes to struct and back, geometry, and every check that one structure
 * and the header allow.  Pure: no descriptor, no allocation, no log, no yield.  The driver is drivers/qcow2/.
 *
 * Everything decoded here comes from a file somebody else wrote.  -EUCLEAN: it breaks the format.  -ENOTSUP:
 * valid, not ours, and the sentence names the feature.  Nothing else is returned but 0, except where said.  A
 * ret_err may be NULL everywhere.
 *
 * Reserved bits: what QEMU does.  A reserved bit in a table entry alone is no error (the entry says so in
 * `reserved`, for check to count); an offset that is misaligned or cannot be is -EUCLEAN.
 *
 * Source: QEMU docs/interop/qcow2.rst; limits of our own are marked so.
 */
#ifndef BLKTAP_QCOW2_H
#define BLKTAP_QCOW2_H

#include <blktap/err.h>

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */

#define QCOW2_HEADER_V2 72u
#define QCOW2_HEADER_V3 104u
#define QCOW2_HEADER_KNOWN                                                                                   \
	112u /* up to and with the compression type and its padding: what new v3 images get */
#define QCOW2_MIN_CLUSTER_BITS       9u
#define QCOW2_MAX_CLUSTER_BITS       21u
#define QCOW2_EXTL2_MIN_CLUSTER_BITS 14u /* of an image with extended L2 entries */
#define QCOW2_MAX_REFCOUNT_ORDER     6u
#define QCOW2_MAX_BACKING_NAME       1023u
#define QCOW2_MAX_L1_BYTES           (32u << 20) /* QEMU's limit, and ours */
#define QCOW2_MAX_REFTABLE_BYTES     (8u << 20)  /* QEMU's limit, and ours */
#define QCOW2_MAX_SNAPSHOTS          65536u
#define QCOW2_MAX_SNAPSHOT_TABLE     (64u << 20) /* ours */
#define QCOW2_SNAPSHOT_HEAD          40u         /* the fixed part of an entry */
#define QCOW2_MAX_SNAPSHOT_EXTRA     1024u       /* QEMU's limit, and ours */
#define QCOW2_MAX_SNAPSHOT_ENTRY     (QCOW2_SNAPSHOT_HEAD + QCOW2_MAX_SNAPSHOT_EXTRA + 2u * 65535u + 7u)

#define QCOW2_INCOMPAT_DIRTY       (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT     (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE   (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTL2       (1ull << 4)
#define QCOW2_COMPAT_LAZY          (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS    (1ull << 0)
#define QCOW2_AUTOCLEAR_RAW_EXT    (1ull << 1)

#define QCOW2_EXT_END            0x00000000u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURE_NAMES  0x6803f857u
#define QCOW2_EXT_BITMAPS        0x23852875u
#define QCOW2_EXT_CRYPT          0x0537be77u
#define QCOW2_EXT_DATA_FILE      0x44415441u

enum qcow2_compression { QCOW2_DEFLATE = 0, QCOW2_ZSTD = 1 };

/* qcow2_header.crypt; 0: not encrypted. */
#define QCOW2_CRYPT_AES  1u
#define QCOW2_CRYPT_LUKS 2u

/* The fixed part of the header; v2 images get the v3 fields' defaults. */
struct qcow2_header {
	uint32_t version;
	uint64_t backing_off;
	uint32_t backing_len; /* 0: no backing file, whatever backing_off is */
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t crypt;
	uint32_t l1_size; /* entries */
	uint64_t l1_off;
	uint64_t reftable_off;
	uint32_t reftable_clusters;
	uint32_t nr_snapshots;
	uint64_t snapshots_off;
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order;
	uint32_t header_len;
	enum qcow2_compression compression;
	uint64_t crypt_off,
		crypt_len; /* the encryption header, which an extension names; bytes; 0: there is none */
};

/* What follows from the header alone. */
struct qcow2_geom {
	uint32_t cluster_bits;
	uint64_t cluster_size;
	uint32_t l2_entry_bits; /* log2 of the bytes of an L2 entry: 3, extended: 4 */
	uint32_t l2_bits;       /* log2 of entries in an L2 table */
	/* log2 of the bytes that an L2 entry says something of: cluster_bits, extended: 5 less */
	uint32_t sub_bits;
	uint32_t refcount_bits;    /* 1..64 */
	uint64_t refblock_entries; /* refcounts in one refcount block */
	uint64_t max_host; /* host offsets are below: 2^56 by the L2 entry, less by the reftable limit */
	/* Those of guest clusters: the same, but for a data file, where nothing is counted. */
	uint64_t max_data;
	bool data_file;               /* guest clusters are in another file, each at the guest's own offset */
	uint32_t compressed_off_bits; /* of a compressed descriptor: bits of the host offset */
};

/* One header extension, in the bytes it came from. */
struct qcow2_ext {
	uint32_t type, len;
	const uint8_t *data; /* into the caller's buffer */
};

/*
 * Decode and check the fixed header.  buf holds the first len bytes of the file (>= QCOW2_HEADER_KNOWN, or
 * the whole file).  Checks version, cluster_bits, refcount_order, header_len, crypt, that the compression
 * type agrees with its bit, the backing name's place in the first cluster, sizes and limits, alignment of
 * every table offset, that no two tables overlap, that L1 is large enough for size.  Takes any incompatible
 * bit and any known method of encryption: see qcow2_header_supported.  Does not look at extensions.
 *
 * Unknown fields between byte 112 and header_len are no error: what must not be ignored has an incompatible
 * bit.
 */
TD_CHECK int qcow2_header_decode(const void *buf, size_t len, struct qcow2_header *ret,
				 struct td_err *ret_err);

/*
 * The same for check and repair: where the refcount table and the snapshot table are is not looked at, they may be
 * anywhere, of any size, and overlap.
 */
TD_CHECK int qcow2_header_decode_damaged(const void *buf, size_t len, struct qcow2_header *ret,
					 struct td_err *ret_err);

/*
 * Write the fixed header's known fields.  Bytes between the last known field and h->header_len stay as they
 * are in buf: zeros in a new image, unknown fields that a rewrite must keep in an old one.  Returns the
 * header's length, 72 or h->header_len; 0, and nothing is written, if that is more than len.
 */
size_t qcow2_header_encode(const struct qcow2_header *h, void *buf, size_t len);

/*
 * Refuse what we cannot handle, by name: incompatible bits outside `supported` (our names for the bits we
 * know, else those of the feature name table in names/names_len, if there is one; what is not printable
 * becomes '?'), a compression type not built in.
 */
TD_CHECK int qcow2_header_supported(const struct qcow2_header *h, uint64_t supported, const void *names,
				    size_t names_len, struct td_err *ret_err);

/* h: decoded, or laid out by qcow2_layout_new. */
void qcow2_geom_of(const struct qcow2_header *h, struct qcow2_geom *ret);

/*
 * Step through the header extensions in buf (the first cluster, or as much of it as len says).  *pos starts
 * at h->header_len (72 for v2).  1: *ret is the next one; 0: end; -EUCLEAN: an extension runs past the area,
 * which ends at the backing name, the cluster's end or len, whichever is first.
 */
TD_CHECK int qcow2_ext_next(const struct qcow2_header *h, const void *buf, size_t len, size_t *pos,
			    struct qcow2_ext *ret, struct td_err *ret_err);

/* Append one extension (padded to 8 with zeros) at *pos; -ENOSPC, *pos as before, if it does not fit in len. */
TD_CHECK int qcow2_ext_put(void *buf, size_t len, size_t *pos, uint32_t type, const void *data,
			   uint32_t data_len);

/* ---- tables ---- */

#define QCOW2_COPIED        (1ull << 63)
#define QCOW2_L2_COMPRESSED (1ull << 62)
#define QCOW2_L2_ZERO       (1ull << 0)
#define QCOW2_OFF_MASK      0x00fffffffffffe00ull

/* An L1 entry.  host_off is meaningful only if present. */
struct qcow2_l1e {
	bool present, copied;
	bool reserved;     /* a reserved bit is set */
	uint64_t host_off; /* of the L2 table */
};

/* host_off of a decoded entry is aligned to clusters, not in the first one, and below max_host. */
TD_CHECK int qcow2_l1e_decode(const struct qcow2_geom *g, uint64_t raw, struct qcow2_l1e *ret);
uint64_t qcow2_l1e_encode(const struct qcow2_l1e *e);

enum qcow2_kind {
	QCOW2_HOLE,       /* nothing here: the backing image decides */
	QCOW2_ZERO,       /* reads as zeros, no cluster */
	QCOW2_ZERO_ALLOC, /* reads as zeros, a cluster is kept */
	QCOW2_DATA,
	QCOW2_PACKED, /* compressed */
};

/* An extended entry says something of each of so many subclusters. */
#define QCOW2_SUBCLUSTERS 32u

/*
 * An L2 entry.  Of an extended one kind tells what it points at: a cluster with DATA in any of its subclusters, or in
 * none (ZERO_ALLOC); no cluster (ZERO: all of it reads as zeros; else HOLE).  The bitmaps say which subclusters are
 * data and which are zeros; what is in neither is the backing image's to decide.
 */
struct qcow2_l2e {
	enum qcow2_kind kind;
	bool copied;         /* refcount is exactly 1: may be written in place (ZERO_ALLOC, DATA) */
	bool reserved;       /* a bit is set that must be clear */
	uint64_t host_off;   /* ZERO_ALLOC, DATA: cluster; PACKED: first byte, any alignment */
	uint64_t packed_len; /* PACKED: bytes from host_off to the end of its last 512-byte sector */
	uint32_t data, zero; /* extended, not PACKED: a bit for each subcluster, the first one is bit 0 */
};

/*
 * version: 2 has no zero flag (-EUCLEAN if set, as in QEMU).  What a decoded entry points at is not in the
 * first cluster, ends at or below max_data, and is aligned to clusters unless PACKED.
 *
 * With an external data file: nothing is PACKED (-EUCLEAN), and an offset of 0 with COPIED set is DATA (of an extended
 * entry: a cluster).  That an entry names the guest's own offset is the caller's to check.
 */
TD_CHECK int qcow2_l2e_decode(const struct qcow2_geom *g, uint32_t version, uint64_t raw,
			      struct qcow2_l2e *ret);
/*
 * The same for an extended entry, its descriptor and the bitmap behind it.  Also -EUCLEAN: a subcluster that is data
 * and zeros, and data without a cluster.
 */
TD_CHECK int qcow2_l2e_decode_extended(const struct qcow2_geom *g, uint64_t raw, uint64_t bitmap,
				       struct qcow2_l2e *ret);

/* `reserved` is not written: an entry comes out clean.  packed_len: as decoded, or the exact bytes used. */
uint64_t qcow2_l2e_encode(const struct qcow2_geom *g, const struct qcow2_l2e *e);
uint64_t qcow2_l2e_bitmap(const struct qcow2_l2e *e); /* extended: what goes behind that */

/* Does an entry of an L2 table have two words, the second of which tells of subclusters? */
static inline bool qcow2_is_extended(const struct qcow2_geom *g)
{
	return g->sub_bits != g->cluster_bits;
}

/* Either, as it is in its table. */
TD_CHECK static inline int qcow2_l2e_read(const struct qcow2_geom *g, uint32_t version, const uint8_t *entry,
					  struct qcow2_l2e *ret)
{
	if (qcow2_is_extended(g))
		return qcow2_l2e_decode_extended(g, td_get_be64(entry), td_get_be64(entry + 8), ret);
	return qcow2_l2e_decode(g, version, td_get_be64(entry), ret);
}

/* A refcount table entry.  host_off is meaningful only if present. */
struct qcow2_reftable_entry {
	bool present;
	bool reserved;     /* a reserved bit is set */
	uint64_t host_off; /* of the refcount block */
};

/* -EUCLEAN: it is not on a cluster, or behind anything that a file of this geometry can have. */
TD_CHECK int qcow2_reftable_decode(const struct qcow2_geom *g, uint64_t raw,
				   struct qcow2_reftable_entry *ret);

/* Refcount number idx (< refblock_entries) of a block; any width, big-endian, low bits first below 8. */
uint64_t qcow2_refcount_get(const struct qcow2_geom *g, const void *block, uint64_t idx);
/* -ERANGE: the value does not fit the width (unchanged then). */
TD_CHECK int qcow2_refcount_set(const struct qcow2_geom *g, void *block, uint64_t idx, uint64_t value);

/* One entry of the snapshot table: as much as the driver needs to keep its clusters alive and to list it. */
struct qcow2_snapshot {
	uint64_t l1_off;
	uint32_t l1_size;
	uint16_t id_len, name_len;
	const char *id, *name; /* into the buffer, not NUL-terminated */
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_nsec;
	uint64_t vm_state_size;
	bool has_disk_size;
	uint64_t disk_size; /* if not has_disk_size (version 2 entries): the image's */
	bool has_icount;
	uint64_t icount;
	uint32_t extra_len; /* bytes between the fixed part and the id, whatever they mean */
	size_t entry_len;   /* padded to 8; the last entry's padding may be past len */
};

/*
 * buf: the table from this entry on, len bytes of it; QCOW2_MAX_SNAPSHOT_ENTRY, or as many as the file has,
 * are always enough.  -EUCLEAN: the entry does not fit in len, or its L1 is misplaced or larger than
 * QCOW2_MAX_L1_BYTES. -ENOTSUP: more than QCOW2_MAX_SNAPSHOT_EXTRA bytes of extra data.
 */
TD_CHECK int qcow2_snapshot_decode(const struct qcow2_geom *g, const void *buf, size_t len,
				   struct qcow2_snapshot *ret);

/*
 * Write an entry with the extra data that we know (24 bytes), padded with zeros.  extra_len and entry_len are not read,
 * has_disk_size must be set.  Returns its length; 0, and nothing is written, if that is more than len.
 */
size_t qcow2_snapshot_encode(const struct qcow2_snapshot *s, void *buf, size_t len);

/* ---- dirty bitmaps: the extension, its directory, a bitmap's table ---- */

#define QCOW2_MAX_BITMAPS          65535u         /* QEMU's limit, and ours */
#define QCOW2_MAX_BITMAP_DIR       (64u << 20)    /* QEMU's limit, and ours */
#define QCOW2_MAX_BITMAP_BYTES     (512ull << 20) /* of one, in whole clusters; likewise */
#define QCOW2_MAX_BITMAP_NAME      1023u          /* likewise */
#define QCOW2_MIN_GRANULARITY_BITS 9u             /* likewise */
#define QCOW2_MAX_GRANULARITY_BITS 31u            /* likewise */
#define QCOW2_BITMAPS_EXT_LEN      24u
#define QCOW2_BITMAP_HEAD          24u /* the fixed part of a directory entry */
#define QCOW2_BITMAP_FLAGS_AT      12u /* flags in it */

#define QCOW2_BITMAP_IN_USE   (1u << 0) /* what is stored may be outdated */
#define QCOW2_BITMAP_AUTO     (1u << 1) /* enabled: every write is recorded */
#define QCOW2_BITMAP_EXTRA_OK (1u << 2) /* who does not know its extra data may use it all the same */

struct qcow2_bitmaps_ext {
	uint32_t nr;
	uint64_t dir_off, dir_size;
};

/* -EUCLEAN: it has another length, or no directory can be there. */
TD_CHECK int qcow2_bitmaps_ext_decode(const struct qcow2_geom *g, const struct qcow2_ext *e,
				      struct qcow2_bitmaps_ext *ret);
void qcow2_bitmaps_ext_encode(const struct qcow2_bitmaps_ext *x, uint8_t ret[QCOW2_BITMAPS_EXT_LEN]);

/* One entry of the directory. */
struct qcow2_bitmap_entry {
	uint64_t table_off;
	uint32_t table_size; /* entries */
	uint32_t flags;
	uint8_t type, granularity_bits;
	uint16_t name_len;
	uint32_t extra_len;
	const uint8_t *extra; /* into the buffer */
	const char *name;     /* likewise, not NUL-terminated */
	size_t entry_len;     /* padded to 8 */
	bool usable; /* of a kind that we know: a dirty bitmap, no flag or extra data that is strange to us */
};

/*
 * buf: the directory from this entry on, len bytes of it.  -EUCLEAN: the entry does not fit, has no name, or its table
 * is misplaced or larger than QCOW2_MAX_BITMAP_BYTES needs.
 */
TD_CHECK int qcow2_bitmap_entry_decode(const struct qcow2_geom *g, const void *buf, size_t len,
				       struct qcow2_bitmap_entry *ret);

/* Returns the entry's length; 0, and nothing is written, if that is more than len.  entry_len and usable: ignored. */
size_t qcow2_bitmap_entry_encode(const struct qcow2_bitmap_entry *e, void *buf, size_t len);

/* An entry of a bitmap's table: where a cluster of its bits is, or what all of them are. */
struct qcow2_bitmap_part {
	uint64_t host_off; /* 0: nowhere */
	bool ones;         /* nowhere, and all bits are set */
};

/* -EUCLEAN: reserved bits, not on a cluster, or both a place and "all ones". */
TD_CHECK int qcow2_bitmap_part_decode(const struct qcow2_geom *g, uint64_t raw,
				      struct qcow2_bitmap_part *ret);
uint64_t qcow2_bitmap_part_encode(const struct qcow2_bitmap_part *p);

/* Bytes of bits for a disk of this size; and entries of their table.  Of any size and granularity. */
uint64_t qcow2_bitmap_bytes(uint64_t size, unsigned granularity_bits);
uint64_t qcow2_bitmap_parts(const struct qcow2_geom *g, uint64_t size, unsigned granularity_bits);

/* ---- compressed clusters ---- */

/*
 * What the libraries need to work in, kept from one call to the next: made at the first call that needs it, under
 * 300 KiB for inflating and 3 MiB for deflating whatever the input says.  All-zero: nothing yet.  One call at a time.
 */
struct qcow2_codec {
	void *inflate, *deflate;           /* zlib */
	void *fast_inflate, *fast_deflate; /* libdeflate */
	void *unzstd, *zstd;
};

void qcow2_codec_done(struct qcow2_codec *k); /* all-zero again */

/* qcow2_inflate() and qcow2_deflate(), below, with memory that is kept. */
TD_CHECK int qcow2_inflate_with(struct qcow2_codec *k, enum qcow2_compression c, const void *in,
				size_t in_len, void *out, size_t out_len);

/*
 * Of a cluster of out_len bytes somebody reads those at from to to: how many, from its start on, are to be inflated?
 * Either out_len, or fewer, if that takes less time than all of it: then by qcow2_inflate_head_with (raw deflate).
 *
 * What is wrong behind these bytes it cannot see, nor if the stream ends there: they are what the stream says they
 * are, which is all that raw deflate, without a checksum, ever tells.  Who wants what follows inflates the whole and
 * hears of it.
 */
size_t qcow2_inflate_enough(enum qcow2_compression c, size_t out_len, size_t from, size_t to);
TD_CHECK int qcow2_inflate_head_with(struct qcow2_codec *k, const void *in, size_t in_len, void *out,
				     size_t len);

TD_CHECK int64_t qcow2_deflate_with(struct qcow2_codec *k, enum qcow2_compression c, const void *in,
				    size_t in_len, void *out, size_t out_len);

/*
 * Inflate one cluster: exactly out_len bytes, whatever follows in the input.  -EUCLEAN: not valid data, or
 * too little. -ENOTSUP: zstd is not built in.  -ENOMEM.  Thread-safe; takes up to a few milliseconds: call it on the
 * worker pool.
 */
TD_CHECK int qcow2_inflate(enum qcow2_compression c, const void *in, size_t in_len, void *out,
			   size_t out_len);

/*
 * Raw deflate, or zstd.  Returns bytes, or -ENOSPC if they do not fit
 * in out_len or are not fewer than in_len.  -ENOTSUP, -ENOMEM as above.
 */
TD_CHECK int64_t qcow2_deflate(enum qcow2_compression c, const void *in, size_t in_len, void *out,
			       size_t out_len);

/* ---- creation ---- */

struct qcow2_layout {
	uint64_t reftable_off, refblock_off, l1_off;
	uint64_t refblocks;          /* from refblock_off on; small clusters with a large L1 need several */
	uint64_t crypt_off;          /* h->crypt_off, or where it would be */
	uint64_t l2_off, l2_tables;  /* full: all L2 tables, one behind the other */
	uint64_t data_off, data_len; /* full: all guest clusters, in order; in a data file from 0 on */
	uint64_t end;                /* bytes of the file at first; every cluster below has refcount 1 */
};

/*
 * Fill h for a new image: size (rounded up to 512 by the caller), version, cluster_bits, refcount_order,
 * compression, feature bits, crypt and crypt_len are set; everything else follows (the backing name is the caller's).
 * The incompatible bit for the compression type is set here.  Layout: header | refcount table | refcount blocks |
 * L1 | encryption header; and, in a full one, | L2 tables | guest clusters.
 *
 * -EFBIG: too large for the L1 limit, with a sentence that names the cluster size that would do; or, full, for the
 * refcount table's.  -EINVAL: a value out of its range, or one that version 2 does not have.
 */
TD_CHECK int qcow2_layout_new(struct qcow2_header *h, struct qcow2_layout *ret, struct td_err *ret_err);
TD_CHECK int qcow2_layout_full(struct qcow2_header *h, struct qcow2_layout *ret, struct td_err *ret_err);

#endif
