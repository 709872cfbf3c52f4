// SPDX-License-Identifier: BSD-2-Clause
/*
 * The fixed part of a qcow2 header, and the geometry that follows from it.  Not the extensions behind it
 * (qcow2-ext.c), nor what a new image's header should say (qcow2-layout.c).
 *
 * Source: QEMU docs/interop/qcow2.rst, "Header" and "Additional fields".
 */
#include <blktap/qcow2.h>

/* Where the fields are. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_BACKING_OFF = 8,
	AT_BACKING_LEN = 16,
	AT_CLUSTER_BITS = 20,
	AT_SIZE = 24,
	AT_CRYPT = 32,
	AT_L1_SIZE = 36,
	AT_L1_OFF = 40,
	AT_REFTABLE_OFF = 48,
	AT_REFTABLE_CLUSTERS = 56,
	AT_NR_SNAPSHOTS = 60,
	AT_SNAPSHOTS_OFF = 64,
	AT_INCOMPATIBLE = 72,
	AT_COMPATIBLE = 80,
	AT_AUTOCLEAR = 88,
	AT_REFCOUNT_ORDER = 96,
	AT_HEADER_LEN = 100,
	AT_COMPRESSION = 104,
};

#define V2_REFCOUNT_ORDER 4u /* 16 bits, always */
/* The format says nothing; every system call ends in a signed 64-bit offset. */
#define MAX_SIZE ((uint64_t)INT64_MAX)

void qcow2_geom_of(const struct qcow2_header *h, struct qcow2_geom *ret)
{
	uint32_t refcounts_bits =
		h->cluster_bits + 3 - h->refcount_order; /* log2 of refcounts in one block */
	/* log2 of refcount table entries at the limit, 8 bytes each */
	uint32_t table_bits = (uint32_t)__builtin_ctz(QCOW2_MAX_REFTABLE_BYTES) - 3;
	uint32_t host_bits = table_bits + refcounts_bits + h->cluster_bits;
	bool extended = h->incompatible & QCOW2_INCOMPAT_EXTL2;

	ret->cluster_bits = h->cluster_bits;
	ret->cluster_size = 1ull << h->cluster_bits;
	ret->l2_entry_bits = extended ? 4 : 3;
	ret->l2_bits = h->cluster_bits - ret->l2_entry_bits;
	ret->sub_bits = h->cluster_bits - (extended ? (uint32_t)__builtin_ctz(QCOW2_SUBCLUSTERS) : 0);
	ret->refcount_bits = 1u << h->refcount_order;
	ret->refblock_entries = 1ull << refcounts_bits;
	ret->max_host = 1ull << TD_MIN(host_bits, 56u);
	ret->data_file = h->incompatible & QCOW2_INCOMPAT_DATA_FILE;
	ret->max_data = ret->data_file ? 1ull << 56 : ret->max_host;
	ret->compressed_off_bits = 70 - h->cluster_bits;
}

static int check_version(const void *buf, size_t len, struct td_err *ret_err)
{
	const uint8_t *p = buf;
	uint32_t version;

	if (len < QCOW2_HEADER_V2 || td_get_be32(p + AT_MAGIC) != QCOW2_MAGIC)
		return td_err_set(ret_err, -EUCLEAN,
				  "not a qcow2 image: it does not begin with a qcow2 header");
	version = td_get_be32(p + AT_VERSION);
	if (version == 1)
		return td_err_set(ret_err, -ENOTSUP,
				  "version 1 of this format is another one: its driver is qcow");
	if (version < 2 || version > 3)
		return td_err_set(ret_err, -ENOTSUP, "qcow2 version %u is not supported (2 and 3 are)",
				  version);
	return 0;
}

static void read_v2(const uint8_t *p, struct qcow2_header *h)
{
	h->version = td_get_be32(p + AT_VERSION);
	h->backing_off = td_get_be64(p + AT_BACKING_OFF);
	/* Without a name its length is undefined. */
	h->backing_len = h->backing_off != 0 ? td_get_be32(p + AT_BACKING_LEN) : 0;
	h->cluster_bits = td_get_be32(p + AT_CLUSTER_BITS);
	h->size = td_get_be64(p + AT_SIZE);
	h->crypt = td_get_be32(p + AT_CRYPT);
	h->l1_size = td_get_be32(p + AT_L1_SIZE);
	h->l1_off = td_get_be64(p + AT_L1_OFF);
	h->reftable_off = td_get_be64(p + AT_REFTABLE_OFF);
	h->reftable_clusters = td_get_be32(p + AT_REFTABLE_CLUSTERS);
	h->nr_snapshots = td_get_be32(p + AT_NR_SNAPSHOTS);
	h->snapshots_off = td_get_be64(p + AT_SNAPSHOTS_OFF);
	h->refcount_order = V2_REFCOUNT_ORDER;
	h->header_len = QCOW2_HEADER_V2;
	h->compression = QCOW2_DEFLATE;
}

static int check_compression(const struct qcow2_header *h, unsigned type, struct td_err *ret_err)
{
	bool bit = h->incompatible & QCOW2_INCOMPAT_COMPRESSION;

	if (bit != (type != QCOW2_DEFLATE))
		return td_err_set(ret_err, -EUCLEAN,
				  "compression type %u contradicts its feature bit, which is %s", type,
				  bit ? "set" : "clear");
	if (type > QCOW2_ZSTD)
		return td_err_set(ret_err, -ENOTSUP, "compression type %u is not known", type);
	return 0;
}

static int read_v3(const uint8_t *p, size_t len, struct qcow2_header *h, struct td_err *ret_err)
{
	unsigned compression = QCOW2_DEFLATE;
	int r;

	if (len < QCOW2_HEADER_V3)
		return td_err_set(ret_err, -EUCLEAN, "the file ends inside the header");
	h->incompatible = td_get_be64(p + AT_INCOMPATIBLE);
	h->compatible = td_get_be64(p + AT_COMPATIBLE);
	h->autoclear = td_get_be64(p + AT_AUTOCLEAR);
	h->refcount_order = td_get_be32(p + AT_REFCOUNT_ORDER);
	h->header_len = td_get_be32(p + AT_HEADER_LEN);

	if (h->header_len < QCOW2_HEADER_V3 || h->header_len % 8 != 0)
		return td_err_set(ret_err, -EUCLEAN,
				  "header length %u: it is at least 104, and a multiple of 8", h->header_len);
	if (len < TD_MIN(h->header_len, QCOW2_HEADER_KNOWN))
		return td_err_set(ret_err, -EUCLEAN, "the file ends inside the header");
	/* A field is there only if the header is longer than the field's offset. */
	if (h->header_len > AT_COMPRESSION)
		compression = p[AT_COMPRESSION];
	r = check_compression(h, compression, ret_err);
	if (r < 0)
		return r;
	h->compression = (enum qcow2_compression)compression;
	return 0;
}

static int check_geometry(const struct qcow2_header *h, struct td_err *ret_err)
{
	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS)
		return td_err_set(ret_err, -EUCLEAN, "clusters of 2^%u bytes: 512 is the least",
				  h->cluster_bits);
	if (h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return td_err_set(ret_err, -ENOTSUP,
				  "clusters of 2^%u bytes: up to 2 MiB (2^21) are supported",
				  h->cluster_bits);
	if (h->refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
		return td_err_set(ret_err, -EUCLEAN, "refcounts of 2^%u bits: 64 are the most",
				  h->refcount_order);
	if (h->header_len > 1ull << h->cluster_bits)
		return td_err_set(ret_err, -EUCLEAN, "header length %u: larger than a cluster",
				  h->header_len);
	if ((h->incompatible & QCOW2_INCOMPAT_EXTL2) && h->cluster_bits < QCOW2_EXTL2_MIN_CLUSTER_BITS)
		return td_err_set(ret_err, -EUCLEAN,
				  "extended L2 entries in clusters of 2^%u bytes: 2^14 is the least",
				  h->cluster_bits);
	if (h->crypt > QCOW2_CRYPT_LUKS)
		return td_err_set(ret_err, -EUCLEAN, "encryption method %u does not exist", h->crypt);
	return 0;
}

static int check_backing(const struct qcow2_header *h, struct td_err *ret_err)
{
	if (h->backing_len == 0)
		return 0;
	if (h->backing_len > QCOW2_MAX_BACKING_NAME)
		return td_err_set(ret_err, -EUCLEAN,
				  "the backing file's name has %u bytes: 1023 are the most", h->backing_len);
	if (h->backing_off < h->header_len ||
	    !td_in_range(h->backing_off, h->backing_len, 1ull << h->cluster_bits))
		return td_err_set(ret_err, -EUCLEAN, "the backing file's name is not in the first cluster");
	return 0;
}

/* A table of len bytes at off: whole clusters, behind the first one, below the end of what offsets can say. */
static int check_table(const struct qcow2_geom *g, uint64_t off, uint64_t len, const char *what,
		       struct td_err *ret_err)
{
	if (off % g->cluster_size != 0)
		return td_err_set(ret_err, -EUCLEAN, "the %s at %#llx is not aligned to clusters", what,
				  (unsigned long long)off);
	if (len > 0 && (off < g->cluster_size || !td_in_range(off, len, g->max_host)))
		return td_err_set(ret_err, -EUCLEAN, "the %s cannot be at %#llx", what,
				  (unsigned long long)off);
	return 0;
}

static int check_l1(const struct qcow2_header *h, const struct qcow2_geom *g, struct td_err *ret_err)
{
	uint32_t entry_bits = g->cluster_bits + g->l2_bits; /* log2 of the guest bytes under one L1 entry */

	if (h->size > MAX_SIZE)
		return td_err_set(ret_err, -EUCLEAN, "a size of %llu bytes is more than any disk has",
				  (unsigned long long)h->size);
	if (h->l1_size > QCOW2_MAX_L1_BYTES / 8)
		return td_err_set(ret_err, -ENOTSUP, "an L1 table of %u entries is larger than 32 MiB",
				  h->l1_size);
	if (h->l1_size < td_div_up(h->size, 1ull << entry_bits))
		return td_err_set(ret_err, -EUCLEAN, "an L1 table of %u entries is too small for %llu bytes",
				  h->l1_size, (unsigned long long)h->size);
	return check_table(g, h->l1_off, 8ull * h->l1_size, "L1 table", ret_err);
}

static int check_reftable(const struct qcow2_header *h, const struct qcow2_geom *g, struct td_err *ret_err)
{
	if (h->reftable_clusters == 0)
		return td_err_set(ret_err, -EUCLEAN, "there is no refcount table");
	if (h->reftable_clusters > QCOW2_MAX_REFTABLE_BYTES >> g->cluster_bits)
		return td_err_set(ret_err, -ENOTSUP, "a refcount table of %u clusters is larger than 8 MiB",
				  h->reftable_clusters);
	return check_table(g, h->reftable_off, (uint64_t)h->reftable_clusters << g->cluster_bits,
			   "refcount table", ret_err);
}

/* The snapshot table's length is not recorded: at least nr_snapshots fixed parts. */
static uint64_t snapshots_min(const struct qcow2_header *h)
{
	return (uint64_t)h->nr_snapshots * QCOW2_SNAPSHOT_HEAD;
}

static int check_snapshots(const struct qcow2_header *h, const struct qcow2_geom *g, struct td_err *ret_err)
{
	if (h->nr_snapshots == 0)
		return 0;
	if (h->nr_snapshots > QCOW2_MAX_SNAPSHOTS)
		return td_err_set(ret_err, -ENOTSUP, "%u snapshots: 65536 are the most", h->nr_snapshots);
	return check_table(g, h->snapshots_off, snapshots_min(h), "snapshot table", ret_err);
}

/* Tables that share a cluster would be written over by each other. */
static int check_overlaps(const struct qcow2_header *h, const struct qcow2_geom *g, struct td_err *ret_err)
{
	const struct {
		uint64_t off, len;
		const char *what;
	} t[] = {
		{ h->l1_off, td_align_up(8ull * h->l1_size, g->cluster_size), "L1 table" },
		{ h->reftable_off, (uint64_t)h->reftable_clusters << g->cluster_bits, "refcount table" },
		{ h->snapshots_off, td_align_up(snapshots_min(h), g->cluster_size), "snapshot table" },
	};

	for (size_t i = 0; i < TD_NELEMS(t); i++) {
		for (size_t j = i + 1; j < TD_NELEMS(t); j++) {
			if (td_overlap(t[i].off, t[i].len, t[j].off, t[j].len))
				return td_err_set(ret_err, -EUCLEAN, "the %s overlaps the %s", t[i].what,
						  t[j].what);
		}
	}
	return 0;
}

/* What has to be right before anything else in the file can be found. */
static int decode_first(const void *buf, size_t len, struct qcow2_header *ret, struct qcow2_geom *ret_g,
			struct td_err *ret_err)
{
	struct qcow2_header h = { 0 };
	int r;

	r = check_version(buf, len, ret_err);
	if (r < 0)
		return r;
	read_v2(buf, &h);
	if (h.version >= 3)
		r = read_v3(buf, len, &h, ret_err);
	if (r == 0)
		r = check_geometry(&h, ret_err);
	if (r == 0)
		r = check_backing(&h, ret_err);
	if (r < 0)
		return r;
	qcow2_geom_of(&h, ret_g);
	r = check_l1(&h, ret_g, ret_err);
	if (r == 0)
		*ret = h;
	return r;
}

int qcow2_header_decode(const void *buf, size_t len, struct qcow2_header *ret, struct td_err *ret_err)
{
	struct qcow2_header h;
	struct qcow2_geom g;
	int r = decode_first(buf, len, &h, &g, ret_err);

	if (r == 0)
		r = check_reftable(&h, &g, ret_err);
	if (r == 0)
		r = check_snapshots(&h, &g, ret_err);
	if (r == 0)
		r = check_overlaps(&h, &g, ret_err);
	if (r == 0)
		*ret = h;
	return r;
}

int qcow2_header_decode_damaged(const void *buf, size_t len, struct qcow2_header *ret, struct td_err *ret_err)
{
	struct qcow2_geom g;

	return decode_first(buf, len, ret, &g, ret_err);
}

static void write_v2(const struct qcow2_header *h, uint8_t *p)
{
	td_put_be32(p + AT_MAGIC, QCOW2_MAGIC);
	td_put_be32(p + AT_VERSION, h->version);
	td_put_be64(p + AT_BACKING_OFF, h->backing_off);
	td_put_be32(p + AT_BACKING_LEN, h->backing_len);
	td_put_be32(p + AT_CLUSTER_BITS, h->cluster_bits);
	td_put_be64(p + AT_SIZE, h->size);
	td_put_be32(p + AT_CRYPT, h->crypt);
	td_put_be32(p + AT_L1_SIZE, h->l1_size);
	td_put_be64(p + AT_L1_OFF, h->l1_off);
	td_put_be64(p + AT_REFTABLE_OFF, h->reftable_off);
	td_put_be32(p + AT_REFTABLE_CLUSTERS, h->reftable_clusters);
	td_put_be32(p + AT_NR_SNAPSHOTS, h->nr_snapshots);
	td_put_be64(p + AT_SNAPSHOTS_OFF, h->snapshots_off);
}

static void write_v3(const struct qcow2_header *h, uint8_t *p)
{
	td_put_be64(p + AT_INCOMPATIBLE, h->incompatible);
	td_put_be64(p + AT_COMPATIBLE, h->compatible);
	td_put_be64(p + AT_AUTOCLEAR, h->autoclear);
	td_put_be32(p + AT_REFCOUNT_ORDER, h->refcount_order);
	td_put_be32(p + AT_HEADER_LEN, h->header_len);
	if (h->header_len > AT_COMPRESSION)
		p[AT_COMPRESSION] = (uint8_t)h->compression;
}

size_t qcow2_header_encode(const struct qcow2_header *h, void *buf, size_t len)
{
	size_t need = h->version >= 3 ? h->header_len : QCOW2_HEADER_V2;

	if (need > len)
		return 0;
	write_v2(h, buf);
	if (h->version >= 3)
		write_v3(h, buf);
	return need;
}
