// SPDX-License-Identifier: BSD-2-Clause
/*
 * The qcow format, version 1: header and table entries.
 *
 * Sources: QEMU block/qcow.c; Xen tools/blktap/drivers/block-qcow.c for its addition to the header.
 */
#include <blktap/qcow.h>

/* Where the fields are. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_BACKING_OFF = 8,
	AT_BACKING_LEN = 16,
	AT_MTIME = 20,
	AT_SIZE = 24,
	AT_CLUSTER_BITS = 32,
	AT_L2_BITS = 33, /* two bytes of padding behind it */
	AT_CRYPT = 36,
	AT_L1_OFF = 40,
	AT_XEN_MAGIC = 48, /* a checksum and a cluster count behind it, which nobody needs */
	AT_XEN_FLAGS = 60,
};

#define XEN_L1_ALIGN 4096u
#define PACKED       (1ull << 63)

static int check_magic(const uint8_t *p, size_t len, struct td_err *ret_err)
{
	uint32_t version;

	if (len < QCOW_HEADER || td_get_be32(p + AT_MAGIC) != QCOW_MAGIC)
		return td_err_set(ret_err, -EUCLEAN,
				  "not a qcow image: it does not begin with a qcow header");
	version = td_get_be32(p + AT_VERSION);
	if (version == 2 || version == 3)
		return td_err_set(ret_err, -ENOTSUP,
				  "version %u of this format is another one: its driver is qcow2", version);
	if (version != 1)
		return td_err_set(ret_err, -ENOTSUP, "qcow version %u is not supported (1 is)", version);
	return 0;
}

static void read_xen(const uint8_t *p, size_t len, struct qcow_header *h)
{
	if (h->l1_off % XEN_L1_ALIGN != 0 || len < QCOW_HEADER_XEN ||
	    td_get_be32(p + AT_XEN_MAGIC) != QCOW_XEN_MAGIC)
		return;
	h->xen = true;
	h->xen_flags = td_get_be32(p + AT_XEN_FLAGS);
	/* Whoever wrote it without this bit wrote its own order, on x86 always. */
	h->l1_swapped = !(h->xen_flags & QCOW_XEN_L1_BIG_ENDIAN);
}

static int check_geometry(const struct qcow_header *h, struct td_err *ret_err)
{
	if (h->cluster_bits < QCOW_MIN_CLUSTER_BITS || h->cluster_bits > QCOW_MAX_CLUSTER_BITS)
		return td_err_set(ret_err, -EUCLEAN, "clusters of 2^%u bytes: they have 512 bytes to 64 KiB",
				  h->cluster_bits);
	if (h->l2_bits < QCOW_MIN_L2_BITS || h->l2_bits > QCOW_MAX_L2_BITS)
		return td_err_set(ret_err, -EUCLEAN,
				  "L2 tables of 2^%u entries: they have 512 bytes to 64 KiB", h->l2_bits);
	if (h->size < 2 || h->size > INT64_MAX)
		return td_err_set(ret_err, -EUCLEAN, "a disk of %llu bytes cannot be",
				  (unsigned long long)h->size);
	if (h->l1_off < QCOW_HEADER || h->l1_off % 8 != 0 || h->l1_off > INT64_MAX)
		return td_err_set(ret_err, -EUCLEAN,
				  "the L1 table cannot be at byte %llu: it lies behind the header, at a "
				  "multiple of 8",
				  (unsigned long long)h->l1_off);
	if (qcow_l1_entries(h) > QCOW_MAX_L1_BYTES / 8)
		return td_err_set(ret_err, -EUCLEAN, "an L1 table of %llu entries is too large",
				  (unsigned long long)qcow_l1_entries(h));
	if (h->crypt > QCOW_CRYPT_AES)
		return td_err_set(ret_err, -ENOTSUP, "encryption method %u is not known", h->crypt);
	if (h->backing_len > QCOW_MAX_BACKING_NAME)
		return td_err_set(ret_err, -EUCLEAN, "the name of its backing file has %u bytes: %u at most",
				  h->backing_len, QCOW_MAX_BACKING_NAME);
	return 0;
}

int qcow_header_decode(const void *buf, size_t len, struct qcow_header *ret, struct td_err *ret_err)
{
	const uint8_t *p = buf;
	struct qcow_header h = { 0 };
	int r = check_magic(p, len, ret_err);

	if (r < 0)
		return r;
	h.backing_off = td_get_be64(p + AT_BACKING_OFF);
	/* Without a name its length is undefined. */
	h.backing_len = h.backing_off != 0 ? td_get_be32(p + AT_BACKING_LEN) : 0;
	h.mtime = td_get_be32(p + AT_MTIME);
	h.size = td_get_be64(p + AT_SIZE);
	h.cluster_bits = p[AT_CLUSTER_BITS];
	h.l2_bits = p[AT_L2_BITS];
	h.crypt = td_get_be32(p + AT_CRYPT);
	h.l1_off = td_get_be64(p + AT_L1_OFF);
	read_xen(p, len, &h);
	r = check_geometry(&h, ret_err);
	if (r == 0)
		*ret = h;
	return r;
}

void qcow_header_encode(const struct qcow_header *h, uint8_t buf[QCOW_HEADER])
{
	td_put_be32(buf + AT_MAGIC, QCOW_MAGIC);
	td_put_be32(buf + AT_VERSION, 1);
	td_put_be64(buf + AT_BACKING_OFF, h->backing_off);
	td_put_be32(buf + AT_BACKING_LEN, h->backing_len);
	td_put_be32(buf + AT_MTIME, h->mtime);
	td_put_be64(buf + AT_SIZE, h->size);
	buf[AT_CLUSTER_BITS] = (uint8_t)h->cluster_bits;
	buf[AT_L2_BITS] = (uint8_t)h->l2_bits;
	td_put_be16(buf + AT_L2_BITS + 1, 0);
	td_put_be32(buf + AT_CRYPT, h->crypt);
	td_put_be64(buf + AT_L1_OFF, h->l1_off);
}

uint64_t qcow_l1_entries(const struct qcow_header *h)
{
	return td_div_up(h->size, 1ull << (h->cluster_bits + h->l2_bits));
}

/* What is left beside the length of a stream and the bit that says that it is one; plain entries have more. */
uint64_t qcow_max_host(const struct qcow_header *h)
{
	return 1ull << (63 - h->cluster_bits);
}

uint64_t qcow_l1e(const struct qcow_header *h, uint64_t raw)
{
	return h->l1_swapped ? __builtin_bswap64(raw) : raw;
}

int qcow_l2e_decode(const struct qcow_header *h, uint64_t raw, struct qcow_l2e *ret)
{
	uint64_t max = qcow_max_host(h);

	*ret = (struct qcow_l2e){ .kind = QCOW_HOLE };
	if (raw == 0)
		return 0;
	if (!(raw & PACKED)) {
		ret->kind = QCOW_DATA;
		ret->host_off = raw;
		return raw % 512 == 0 && raw < INT64_MAX ? 0 : -EUCLEAN;
	}
	ret->kind = QCOW_PACKED;
	ret->host_off = raw & (max - 1);
	ret->packed_len = (uint32_t)((raw & ~PACKED) >> (63 - h->cluster_bits));
	return ret->packed_len > 0 && ret->host_off >= QCOW_HEADER ? 0 : -EUCLEAN;
}

uint64_t qcow_l2e_encode(const struct qcow_header *h, const struct qcow_l2e *e)
{
	if (e->kind == QCOW_HOLE)
		return 0;
	if (e->kind == QCOW_DATA)
		return e->host_off;
	return PACKED | (uint64_t)e->packed_len << (63 - h->cluster_bits) | e->host_off;
}
