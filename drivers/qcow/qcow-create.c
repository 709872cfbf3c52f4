// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making an empty image, laid out as QEMU does: header, name of the backing file, L1.
 *
 * Order on disk: the place of the header is zeroed; barrier; L1; barrier; the header; barrier.  So a crash leaves
 * either no image at all or a whole one.
 */
#include "qcow-int.h"

#define SECTOR      512u
#define L1_MAX      (64u << 20) /* ours, for new images: 16 TiB of clusters of 4 KiB */
#define OVER_BITS   9u          /* what QEMU makes over a backing file: clusters of 512 bytes ... */
#define OVER_L2     12u         /* ... and 32 KiB of L2 tables */
#define ALONE_BITS  12u         /* else: clusters of 4 KiB ... */
#define ALONE_L2    9u          /* ... and 4 KiB of L2 tables */
#define SECTORS_MAX 4u          /* header and name */

struct wish {
	struct qcow_header h;
	const char *backing;
	uint64_t l1_end; /* of its last sector */
};

static int read_cluster(struct wish *w, struct td_opts *opts, struct td_err *ret_err)
{
	uint64_t size = 0;
	int r = td_opts_size(opts, "cluster_size", &size, ret_err);

	if (r < 0)
		return r;
	w->h.cluster_bits = w->backing ? OVER_BITS : ALONE_BITS;
	w->h.l2_bits = w->backing ? OVER_L2 : ALONE_L2;
	if (size == 0)
		return 0;
	if (size < SECTOR || size > 1u << QCOW_MAX_CLUSTER_BITS || (size & (size - 1)))
		return td_err_set(ret_err, -EINVAL,
				  "cluster_size=%llu: it has to be a power of two from 512 to 64K",
				  (unsigned long long)size);
	w->h.cluster_bits = (uint32_t)__builtin_ctzll(size);
	return 0;
}

/* The format of the backing file may be said, but there is no place to record it. */
static int read_backing(struct wish *w, struct td_opts *opts, struct td_err *ret_err)
{
	const char *fmt = td_opts_get(opts, "backing_fmt");

	w->backing = td_opts_get(opts, "backing_file");
	if (fmt && !w->backing)
		return td_err_set(ret_err, -EINVAL, "backing_fmt is given, but no backing_file");
	if (w->backing && strlen(w->backing) > QCOW_MAX_BACKING_NAME)
		return td_err_set(ret_err, -ENAMETOOLONG, "backing_file is longer than %u bytes",
				  QCOW_MAX_BACKING_NAME);
	return 0;
}

/* Nothing is kept of the pass phrase; but who has none could not open what is made. */
static int read_crypt(struct wish *w, struct td_opts *opts, struct td_err *ret_err)
{
	const char *v = td_opts_get(opts, "encrypt.format");

	if (!v)
		return 0;
	(void)td_opts_get(opts, "encrypt.key-file");
	if (strcmp(v, "aes") != 0)
		return td_err_set(ret_err, -EINVAL, "encrypt.format=%s: qcow knows aes alone", v);
	w->h.crypt = QCOW_CRYPT_AES;
	return 0;
}

bool qcow_compresses(struct td_opts *opts)
{
	return td_opts_get(opts, "encrypt.format") == NULL;
}

static int lay_out(struct wish *w, uint64_t size, struct td_opts *opts, struct td_err *ret_err)
{
	size_t name = 0;
	int r = read_backing(w, opts, ret_err);

	if (r == 0)
		r = read_cluster(w, opts, ret_err);
	if (r == 0)
		r = read_crypt(w, opts, ret_err);
	if (r < 0)
		return r;
	if (size == 0)
		return td_err_set(ret_err, -EINVAL, "a qcow image holds at least one sector");
	if (size > INT64_MAX - SECTOR || size >> (w->h.cluster_bits + w->h.l2_bits) >= L1_MAX / 8)
		return td_err_set(ret_err, -EFBIG, "%llu bytes are too large for qcow with such clusters",
				  (unsigned long long)size);
	w->h.size = td_align_up(size, SECTOR);
	if (w->backing) {
		name = strlen(w->backing);
		w->h.backing_off = QCOW_HEADER;
		w->h.backing_len = (uint32_t)name;
	}
	w->h.l1_off = td_align_up(QCOW_HEADER + name, 8);
	w->l1_end = td_align_up(w->h.l1_off + qcow_l1_entries(&w->h) * 8, SECTOR);
	return 0;
}

static int write_header(const struct wish *w, struct td_image *child, uint8_t *buf, size_t len)
{
	memset(buf, 0, len);
	qcow_header_encode(&w->h, buf);
	if (w->backing)
		memcpy(buf + QCOW_HEADER, w->backing, w->h.backing_len);
	return td_image_pwrite(child, 0, buf, td_align_up(w->h.l1_off, SECTOR), 0);
}

static int write_image(const struct wish *w, struct td_image *child)
{
	size_t len = (size_t)SECTORS_MAX * SECTOR;
	uint8_t *buf = td_buf_alloc(len);
	int r;

	if (!buf)
		return -ENOMEM;
	/* Whatever a device held before is no image from here on. */
	memset(buf, 0, len);
	r = td_image_pwrite(child, 0, buf, SECTOR, 0);
	if (r == 0)
		r = td_image_flush(child);
	if (r == 0)
		r = td_image_zero(child, 0, w->l1_end, 0);
	if (r == 0)
		r = td_image_flush(child);
	if (r == 0)
		r = write_header(w, child, buf, len);
	if (r == 0)
		r = td_image_flush(child);
	td_buf_free(buf, len);
	return r;
}

int qcow_create(const struct td_create *c, struct td_err *ret_err)
{
	struct td_secret *s = NULL;
	struct wish w = { 0 };
	int r = lay_out(&w, c->size, c->opts, ret_err);

	if (r == 0 && w.h.crypt)
		r = td_secret_for_new(c, &s, ret_err);
	td_secret_free(s);
	if (r < 0)
		return td_err_prefix(ret_err, r, "%s", c->path);
	r = write_image(&w, c->child);
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot be written: %s", c->path, strerror(-r)) : 0;
}

/* ---- how large it will be ---- */

int qcow_measure(struct td_measure *m, struct td_err *ret_err)
{
	struct wish w = { 0 };
	uint64_t cluster, table, all, data = 0;
	int r = lay_out(&w, m->size, m->opts, ret_err);

	if (r < 0)
		return r;
	cluster = 1ull << w.h.cluster_bits;
	table = td_align_up(8ull << w.h.l2_bits, cluster);
	all = td_align_up(w.h.size, cluster);
	if (m->source && w.backing)
		data = all;
	else if (m->source)
		r = td_measure_data(m->source, cluster, &data);
	if (r < 0)
		return td_err_set(ret_err, r, "what it holds cannot be told: %s", strerror(-r));
	m->fully_allocated = td_align_up(w.l1_end, cluster) + qcow_l1_entries(&w.h) * table + all;
	m->required = m->fully_allocated - all + data;
	return 0;
}
