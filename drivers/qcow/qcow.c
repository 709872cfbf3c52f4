// SPDX-License-Identifier: BSD-2-Clause
/*
 * The qcow driver, version 1: opening, closing, facts, and the table.  Where everything is, is the shared map's
 * business (blktap/grains.h): L2 tables are its tables, L1 is its directory.
 */
#include "qcow-int.h"

#include <inttypes.h>
#include <stdio.h>

#define KEEP_TAG 0x716377u /* "qcw": with the geometry, whose tables a killed process left */

static int qcow_probe(const void *head, size_t len)
{
	const uint8_t *p = head;

	return len >= QCOW_HEADER && td_get_be32(p) == QCOW_MAGIC && td_get_be32(p + 4) == 1 ? 100 : 0;
}

/* ---- what an entry means ---- */

static const struct qcow_header *header_of(const struct td_image *im)
{
	const struct qcow *q = im->state;

	return &q->h;
}

static int decode(const struct td_image *im, uint64_t raw, struct td_grain *ret)
{
	static const enum td_grain_kind kinds[] = { TD_GRAIN_HOLE, TD_GRAIN_DATA, TD_GRAIN_PACKED };
	struct qcow_l2e e;
	int r = qcow_l2e_decode(header_of(im), raw, &e);

	*ret = (struct td_grain){ .kind = kinds[e.kind], .host_off = e.host_off, .len = e.packed_len };
	return r;
}

/* There is no entry that says ZERO. */
static uint64_t encode(const struct td_image *im, const struct td_grain *g)
{
	struct qcow_l2e e = { .kind = QCOW_HOLE, .host_off = g->host_off, .packed_len = (uint32_t)g->len };

	if (g->kind == TD_GRAIN_DATA)
		e.kind = QCOW_DATA;
	else if (g->kind == TD_GRAIN_PACKED)
		e.kind = QCOW_PACKED;
	return qcow_l2e_encode(header_of(im), &e);
}

/* Both ways: it is the bytes that may be swapped (an image of the old Xen), and to swap twice is to do nothing. */
static uint64_t l1_entry(const struct td_image *im, uint64_t raw)
{
	return qcow_l1e(header_of(im), raw);
}

static const struct td_grains_ops grains_ops = {
	.decode = decode,
	.encode = encode,
	.table_at = l1_entry,
	.table_raw = l1_entry,
	.inflate = qcow_unpack,
	.enough = qcow_unpack_enough,
	.used_to = qcow_name_end,
};

/* Of encrypted images: data pass the cipher, so the map may not read or write a grain by itself. */
static const struct td_grains_ops sealed_ops = {
	.decode = decode,
	.encode = encode,
	.table_at = l1_entry,
	.table_raw = l1_entry,
	.inflate = qcow_unpack,
	.enough = qcow_unpack_enough,
	.used_to = qcow_name_end,
	.read = qcow_data_read,
	.write = qcow_data_write,
};

/* ---- open ---- */

static int load_header(struct qcow *q, struct td_err *ret_err)
{
	uint8_t buf[QCOW_HEADER_XEN];
	struct td_image *child = q->im->child;
	size_t len = TD_MIN(sizeof(buf), child->size);
	int r = td_image_pread(child, 0, buf, len, 0);

	if (r < 0)
		return td_err_set(ret_err, r, "cannot read the header: %s", strerror(-r));
	return qcow_header_decode(buf, len, &q->h, ret_err);
}

/* The format has no field for the backing file's format: the user says it. */
static int load_backing(struct qcow *q, struct td_err *ret_err)
{
	struct td_image *im = q->im;
	char *name;
	int r;

	if (q->h.backing_len == 0)
		return 0;
	if (!td_in_range(q->h.backing_off, q->h.backing_len, im->child->size))
		return td_err_set(ret_err, -EUCLEAN,
				  "the name of its backing file does not lie inside the file");
	name = calloc(1, q->h.backing_len + 1ull);
	if (!name)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = td_image_pread(im->child, q->h.backing_off, name, q->h.backing_len, TD_EXACT);
	if (r < 0) {
		free(name);
		return td_err_set(ret_err, r, "cannot read the name of its backing file: %s", strerror(-r));
	}
	im->backing_path = name;
	return 0;
}

static int open_grains(struct qcow *q, struct td_opts *opts, struct td_err *ret_err)
{
	const struct qcow_header *h = &q->h;
	struct td_grains_config c = {
		.ops = h->crypt ? &sealed_ops : &grains_ops,
		.sealed = h->crypt != QCOW_CRYPT_NONE,
		.tag = { { KEEP_TAG, h->cluster_bits | h->l2_bits << 8 | (uint32_t)h->l1_swapped << 16 } },
		.grain_bits = h->cluster_bits,
		.table_bits = h->l2_bits,
		.entry_size = sizeof(uint64_t),
		.big_endian = true,
		.dir_off = h->l1_off,
		.nr_tables = qcow_l1_entries(h),
		.table_align = 1ull << h->cluster_bits,
		.data_from = QCOW_HEADER,
		.max_host = qcow_max_host(h),
	};

	/* A name at the end of the file keeps nothing away from what is before it. */
	if (h->backing_len > 0 && h->backing_off < h->l1_off)
		c.data_from = TD_MAX(c.data_from, h->backing_off + h->backing_len);
	return td_grains_open(q->im, &c, opts, &q->grains, ret_err);
}

static int qcow_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct qcow *q = im->state;
	int r;

	q->im = im;
	im->read_only = im->child->read_only || (im->flags & (TD_OPEN_RDONLY | TD_OPEN_BACKING));
	r = load_header(q, ret_err);
	if (r == 0) {
		im->size = td_align_down(q->h.size, 512); /* as QEMU and Xen have it */
		r = load_backing(q, ret_err);
	}
	if (r == 0)
		r = qcow_crypt_open(q, opts, ret_err);
	if (r == 0)
		r = open_grains(q, opts, ret_err);
	im->limits.compresses = q->h.crypt == QCOW_CRYPT_NONE;
	if (r < 0) {
		td_crypt_free(q->crypt);
		free(im->backing_path);
		im->backing_path = NULL;
		return td_err_prefix(ret_err, r, "%s", im->name);
	}
	return 0;
}

static int qcow_close(struct td_image *im)
{
	struct qcow *q = im->state;
	int r = td_grains_close(q->grains);

	td_crypt_free(q->crypt);
	return r;
}

/* ---- data ---- */

static struct td_grains *grains_of(struct td_image *im)
{
	struct qcow *q = im->state;

	return q->grains;
}

static int qcow_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	(void)flags; /* EXACT: a disk has no end of file inside its size */
	return td_grains_preadv(grains_of(im), off, iov);
}

static int qcow_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	int r;

	if (!(flags & TD_COMPRESS))
		return td_grains_pwritev(grains_of(im), off, iov, flags);
	r = qcow_write_packed(im->state, off, iov);
	return r == 0 && (flags & TD_FUA) ? td_grains_flush(grains_of(im)) : r;
}

static int qcow_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	return td_grains_zero(grains_of(im), off, len, flags);
}

static int qcow_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	return td_grains_trim(grains_of(im), off, len);
}

static int qcow_flush(struct td_image *im)
{
	return td_grains_flush(grains_of(im));
}

static int qcow_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	return td_grains_extent(grains_of(im), off, len, ret);
}

static int qcow_check(struct td_image *im, unsigned fix, struct td_check *ret)
{
	const struct qcow *q = im->state;
	const struct td_grains_used used[] = {
		{ 0, q->h.xen ? QCOW_HEADER_XEN : QCOW_HEADER },
		{ q->h.backing_off, q->h.backing_len },
	};

	return td_grains_check(q->grains, fix, used, TD_NELEMS(used), ret);
}

static int qcow_empty(struct td_image *im, struct td_err *ret_err)
{
	const struct qcow_header *h = header_of(im);
	uint64_t l1_end = td_align_up(h->l1_off + qcow_l1_entries(h) * 8, 512);
	int r = td_grains_empty(grains_of(im));

	/* A name behind the clusters keeps the file from being cut. */
	if (r == 0 && h->backing_len > 0 && h->backing_off > l1_end)
		td_ignore(td_image_trim(im->child, l1_end, td_align_down(h->backing_off, 512) - l1_end));
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot be emptied: %s", im->name, strerror(-r)) : 0;
}

/* ---- facts ---- */

static int qcow_info(struct td_image *im, struct td_opts *ret)
{
	const struct qcow *q = im->state;
	char cluster[24];
	int r;

	(void)snprintf(cluster, sizeof(cluster), "%zu", qcow_cluster_size(q));
	r = td_opts_add(ret, "cluster-size", cluster, NULL);
	if (r == 0 && q->h.xen)
		r = td_opts_add(ret, "xen-header", q->h.l1_swapped ? "little-endian" : "big-endian", NULL);
	if (r == 0 && q->h.crypt)
		r = td_opts_add(ret, "encrypted", "true", NULL);
	if (r == 0 && q->h.crypt)
		r = td_opts_add(ret, "encrypt.format", "aes", NULL);
	return r;
}

static void qcow_counters(const struct td_image *im, struct td_counters *ret)
{
	const struct qcow *q = im->state;

	td_grains_counters(q->grains, ret);
}

const struct td_driver td_qcow = {
	.name = "qcow",
	.flags = TD_FORMAT | TD_KNOWS_FUA | TD_COMPRESSES,
	.state_size = sizeof(struct qcow),
	.probe = qcow_probe,
	.create = qcow_create,
	.measure = qcow_measure,
	.compresses = qcow_compresses,
	.open = qcow_open,
	.close = qcow_close,
	.preadv = qcow_preadv,
	.pwritev = qcow_pwritev,
	.zero = qcow_zero,
	.trim = qcow_trim,
	.flush = qcow_flush,
	.extent = qcow_extent,
	.check = qcow_check,
	.set_backing = qcow_set_backing,
	.empty = qcow_empty,
	.info = qcow_info,
	.counters = qcow_counters,
};
