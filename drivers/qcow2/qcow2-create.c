// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making an empty image.
 *
 * Order on disk: the place of the header is zeroed; barrier; tables; barrier; the header; barrier.  So a crash leaves
 * either no qcow2 image at all or a whole one.
 */
#include "qcow2-int.h"

/* What was asked for, and what it comes to: the header, and where everything will lie. */
struct wish {
	const struct td_create *c;
	struct qcow2_header h;
	struct qcow2_geom g;
	struct qcow2_layout at;
	const char *backing_file, *backing_fmt;
	const char *data_file;
	enum qcow2_prealloc prealloc;
	struct td_luks_wish crypt; /* LUKS */
	struct luks_header luks;
};

/* ---- options ---- */

int qcow2_read_compat(struct td_opts *opts, uint32_t *ret, struct td_err *ret_err)
{
	const char *v = td_opts_get(opts, "compat");
	bool old = v && (strcmp(v, "0.10") == 0 || strcmp(v, "v2") == 0);

	if (v && !old && strcmp(v, "1.1") != 0 && strcmp(v, "v3") != 0)
		return td_err_set(ret_err, -EINVAL, "compat=%s: it is 1.1 (v3) or 0.10 (v2)", v);
	if (v)
		*ret = old ? 2 : 3;
	return 0;
}

int qcow2_read_pow2(struct td_opts *opts, const char *name, uint64_t dflt, uint32_t *ret,
		    struct td_err *ret_err)
{
	uint64_t v = dflt;
	int r = td_opts_size(opts, name, &v, ret_err);

	if (r < 0)
		return r;
	if (!td_is_pow2(v))
		return td_err_set(ret_err, -EINVAL, "%s=%llu: it has to be a power of two", name,
				  (unsigned long long)v);
	*ret = (uint32_t)__builtin_ctzll(v);
	return 0;
}

static int read_compression(struct wish *w, struct td_err *ret_err)
{
	const char *v = td_opts_get(w->c->opts, "compression_type");

	w->h.compression = QCOW2_DEFLATE;
	if (!v || strcmp(v, "zlib") == 0 || strcmp(v, "deflate") == 0)
		return 0;
	if (strcmp(v, "zstd") != 0)
		return td_err_set(ret_err, -EINVAL, "compression_type=%s: it is zlib or zstd", v);
	w->h.compression = QCOW2_ZSTD;
	return 0;
}

static int read_backing(struct wish *w, struct td_err *ret_err)
{
	w->backing_file = td_opts_get(w->c->opts, "backing_file");
	w->backing_fmt = td_opts_get(w->c->opts, "backing_fmt");
	if (w->backing_fmt && !w->backing_file)
		return td_err_set(ret_err, -EINVAL, "backing_fmt is given, but no backing_file");
	if (w->backing_file && !w->backing_fmt)
		return td_err_set(
			ret_err, -EINVAL,
			"backing_file needs backing_fmt=FORMAT: an image that names no format for its "
			"backing file cannot be opened safely");
	if (w->backing_file && strlen(w->backing_file) > QCOW2_MAX_BACKING_NAME)
		return td_err_set(ret_err, -ENAMETOOLONG, "backing_file is longer than %u bytes",
				  QCOW2_MAX_BACKING_NAME);
	return 0;
}

static int read_preallocation(struct wish *w, struct td_err *ret_err)
{
	static const char *const names[] = { "off", "metadata", "falloc", "full" };
	const char *v = td_opts_get(w->c->opts, "preallocation");
	unsigned i = 0;

	while (v && i < TD_NELEMS(names) && strcmp(v, names[i]) != 0)
		i++;
	if (i == TD_NELEMS(names))
		return td_err_set(ret_err, -EINVAL, "preallocation=%s: it is off, metadata, falloc or full",
				  v);
	/* It would hide all of it. */
	if (i > 0 && w->backing_file)
		return td_err_set(ret_err, -EINVAL, "preallocation=%s and a backing file exclude each other",
				  v);
	w->prealloc = (enum qcow2_prealloc)i;
	return 0;
}

static int read_data_file(struct wish *w, struct td_err *ret_err)
{
	bool raw = false;
	int r = td_opts_bool(w->c->opts, "data_file_raw", &raw, ret_err);

	w->data_file = td_opts_get(w->c->opts, "data_file");
	if (r < 0 || (!w->data_file && !raw))
		return r;
	if (!w->data_file)
		return td_err_set(ret_err, -EINVAL, "data_file_raw=on is given, but no data_file");
	if (!*w->data_file || strchr(w->data_file, '/') || strchr(w->data_file, ':'))
		return td_err_set(
			ret_err, -EINVAL,
			"data_file=%s: it is a name without '/' and ':', of a file beside the image",
			w->data_file);
	if (w->c->called && strcmp(w->data_file, basename(w->c->called)) == 0)
		return td_err_set(ret_err, -EINVAL, "data_file=%s: that is the image itself", w->data_file);
	if (w->backing_file && strcmp(w->data_file, w->backing_file) == 0)
		return td_err_set(ret_err, -EINVAL, "data_file=%s: that is the backing file", w->data_file);
	if (w->h.version < 3)
		return td_err_set(ret_err, -EINVAL, "version 2 has no external data files: use version 3");
	if (raw && w->backing_file)
		return td_err_set(ret_err, -EINVAL, "data_file_raw=on and a backing file exclude each other");
	w->h.incompatible |= QCOW2_INCOMPAT_DATA_FILE;
	w->h.autoclear |= raw ? QCOW2_AUTOCLEAR_RAW_EXT : 0;
	return 0;
}

static int read_crypt(struct wish *w, struct td_err *ret_err)
{
	const char *v = td_opts_get(w->c->opts, "encrypt.format");
	int r;

	if (!v)
		return 0;
	(void)td_opts_get(w->c->opts, "encrypt.key-file"); /* measure does without */
	if (strcmp(v, "aes") == 0) {
		w->h.crypt = QCOW2_CRYPT_AES;
		return 0;
	}
	if (strcmp(v, "luks") != 0)
		return td_err_set(ret_err, -EINVAL, "encrypt.format=%s: it is luks (or aes, which is weak)",
				  v);
	w->h.crypt = QCOW2_CRYPT_LUKS;
	r = td_luks_wished(w->c->opts, &w->crypt, ret_err);
	return r < 0 ? r : td_luks_plan(&w->crypt, &w->luks, &w->h.crypt_len, ret_err);
}

static int read_options(struct wish *w, struct td_err *ret_err)
{
	bool lazy = false, extended = false;
	int r;

	w->h.version = 3;
	r = qcow2_read_compat(w->c->opts, &w->h.version, ret_err);
	if (r == 0)
		r = qcow2_read_pow2(w->c->opts, "cluster_size", 65536, &w->h.cluster_bits, ret_err);
	if (r == 0)
		r = qcow2_read_pow2(w->c->opts, "refcount_bits", 16, &w->h.refcount_order, ret_err);
	if (r == 0)
		r = read_compression(w, ret_err);
	if (r == 0)
		r = td_opts_bool(w->c->opts, "lazy_refcounts", &lazy, ret_err);
	if (r == 0)
		r = td_opts_bool(w->c->opts, "extended_l2", &extended, ret_err);
	w->h.incompatible |= extended ? QCOW2_INCOMPAT_EXTL2 : 0;
	if (r == 0)
		r = read_backing(w, ret_err);
	if (r == 0)
		r = read_preallocation(w, ret_err);
	if (r == 0)
		r = read_data_file(w, ret_err);
	if (r == 0)
		r = read_crypt(w, ret_err);
	/* What was never written would be read as noise, and version 2 has no word for zeros. */
	if (r == 0 && w->h.crypt && w->prealloc && w->h.version == 2)
		r = td_err_set(ret_err, -EINVAL,
			       "encryption and preallocation exclude each other in version 2");
	if (lazy)
		w->h.compatible |= QCOW2_COMPAT_LAZY;
	return r;
}

/* The same reading of the options for whoever only wants to know how large the file will be. */
int qcow2_wished(const struct td_create *c, struct qcow2_header *ret_h, struct qcow2_wish *ret,
		 struct td_err *ret_err)
{
	struct wish w = { .c = c, .h = { .size = td_align_up(c->size, QCOW2_SECTOR) } };
	int r = read_options(&w, ret_err);

	if (r < 0)
		return r;
	*ret_h = w.h;
	*ret = (struct qcow2_wish){ .prealloc = w.prealloc, .has_backing = w.backing_file != NULL };
	return 0;
}

/* ---- what is written ---- */

/*
 * Behind the header, all within the first cluster: the extensions, then the backing file's name.  Where the name lies
 * is a field of the header, so this comes before that is encoded.
 */
static int put_strings(struct wish *w, uint8_t *buf, struct td_err *ret_err)
{
	size_t pos = w->h.version == 2 ? QCOW2_HEADER_V2 : w->h.header_len, len = w->g.cluster_size;
	size_t name_len = w->backing_file ? strlen(w->backing_file) : 0;
	uint8_t place[2 * sizeof(uint64_t)];
	int r = 0;

	if (w->backing_fmt)
		r = qcow2_ext_put(buf, len, &pos, QCOW2_EXT_BACKING_FORMAT, w->backing_fmt,
				  (uint32_t)strlen(w->backing_fmt));
	if (r == 0 && w->data_file)
		r = qcow2_ext_put(buf, len, &pos, QCOW2_EXT_DATA_FILE, w->data_file,
				  (uint32_t)strlen(w->data_file));
	if (r == 0 && w->h.crypt_len > 0) {
		td_put_be64(place, w->h.crypt_off);
		td_put_be64(place + sizeof(uint64_t), w->h.crypt_len);
		r = qcow2_ext_put(buf, len, &pos, QCOW2_EXT_CRYPT, place, sizeof(place));
	}
	if (r == 0)
		r = qcow2_ext_put(buf, len, &pos, QCOW2_EXT_END, NULL, 0);
	if (r == 0 && name_len > len - pos)
		r = -ENOSPC;
	if (r < 0)
		return td_err_set(ret_err, r,
				  "the names of other files do not fit into the first cluster: "
				  "use a larger cluster_size");
	if (name_len > 0) {
		memcpy(buf + pos, w->backing_file, name_len);
		w->h.backing_off = pos;
		w->h.backing_len = (uint32_t)name_len;
	}
	return 0;
}

/* Blocks are written whole: what a device held there before must not be a count. */
static int write_refcounts(const struct wish *w, uint8_t *buf)
{
	uint64_t used = w->at.end >> w->g.cluster_bits;
	int r = 0;

	for (uint64_t b = 0; r == 0 && b < w->at.refblocks; b++) {
		uint64_t first = b * w->g.refblock_entries;

		memset(buf, 0, w->g.cluster_size);
		for (uint64_t c = first; r == 0 && c < TD_MIN(used, first + w->g.refblock_entries); c++)
			r = qcow2_refcount_set(&w->g, buf, c - first, 1);
		if (r == 0)
			r = td_image_pwrite(w->c->child, w->at.refblock_off + (b << w->g.cluster_bits), buf,
					    w->g.cluster_size, 0);
	}
	return r;
}

static int write_reftable(const struct wish *w, uint8_t *buf)
{
	uint64_t per = w->g.cluster_size / sizeof(uint64_t), b = 0;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < w->h.reftable_clusters; i++) {
		memset(buf, 0, w->g.cluster_size);
		for (uint64_t n = 0; n < per && b < w->at.refblocks; n++, b++)
			td_put_be64(buf + n * sizeof(uint64_t),
				    w->at.refblock_off + (b << w->g.cluster_bits));
		r = td_image_pwrite(w->c->child, w->at.reftable_off + ((uint64_t)i << w->g.cluster_bits), buf,
				    w->g.cluster_size, 0);
	}
	return r;
}

/* The last thing written: without it nothing in the file can be found. */
static int write_header(struct wish *w, uint8_t *buf, struct td_err *ret_err)
{
	int r;

	memset(buf, 0, w->g.cluster_size);
	r = put_strings(w, buf, ret_err);
	if (r == 0 && qcow2_header_encode(&w->h, buf, w->g.cluster_size) == 0)
		r = -EINVAL;
	if (r == 0)
		r = td_image_pwrite(w->c->child, 0, buf, w->g.cluster_size, 0);
	return r;
}

/* Of AES nothing is kept but the method. */
static int write_crypt(struct wish *w, struct td_err *ret_err)
{
	const struct td_luks_place at = { w->c->child, w->h.crypt_off, w->h.crypt_len };
	struct td_secret *s = NULL;
	int r = 0;

	if (w->h.crypt)
		r = td_secret_for_new(w->c, &s, ret_err);
	if (r == 0 && w->h.crypt == QCOW2_CRYPT_LUKS)
		r = td_luks_create(&at, &w->crypt, &w->luks, s, ret_err);
	td_secret_free(s);
	return r;
}

/* As long as the disk, with the room that preallocation asks for; what it consists of is the leaf's. */
static int make_data_file(const struct wish *w, struct td_err *ret_err)
{
	static const char *const how[] = { "off", "off", "falloc", "full" };
	struct td_opts opts = { 0 };
	struct td_create c = *w->c;
	struct td_image *part = NULL;
	int r, r2;

	if (!w->data_file)
		return 0;
	c.opts = &opts;
	r = td_opts_add(&opts, "preallocation", how[w->prealloc], ret_err);
	if (r == 0)
		r = td_image_create_part(&c, w->data_file, w->h.size, &part, ret_err);
	td_opts_done(&opts);
	if (r < 0)
		return r;
	r = td_image_flush(part);
	r2 = td_image_close(part);
	return r < 0 ? r : r2;
}

static int write_image(struct wish *w, uint8_t *buf, struct td_err *ret_err)
{
	struct td_image *child = w->c->child;
	int r;

	/* Whatever a device held before is no image from here on. */
	memset(buf, 0, w->g.cluster_size);
	r = td_image_pwrite(child, 0, buf, w->g.cluster_size, 0);
	if (r == 0)
		r = td_image_flush(child);
	if (r == 0)
		r = write_reftable(w, buf);
	if (r == 0)
		r = write_refcounts(w, buf);
	if (r == 0)
		r = td_image_zero(child, w->at.l1_off, w->at.l2_off - w->at.l1_off, 0);
	if (r == 0)
		r = write_crypt(w, ret_err);
	if (r == 0)
		r = make_data_file(w, ret_err);
	if (r == 0 && w->prealloc != QCOW2_PREALLOC_OFF)
		r = qcow2_preallocate(w->c, &w->g, &w->at, w->prealloc, w->h.crypt != 0, buf);
	if (r == 0)
		r = td_image_flush(child);
	if (r == 0)
		r = write_header(w, buf, ret_err);
	if (r == 0)
		r = td_image_flush(child);
	return r;
}

int qcow2_create(const struct td_create *c, struct td_err *ret_err)
{
	struct wish w = { .c = c, .h = { .size = c->size } };
	uint8_t *buf;
	int r;

	if (c->size > INT64_MAX - QCOW2_SECTOR)
		return td_err_set(ret_err, -EFBIG, "%s: %llu bytes are too large for qcow2", c->path,
				  (unsigned long long)c->size);
	w.h.size = td_align_up(c->size, QCOW2_SECTOR);
	r = read_options(&w, ret_err);
	/* As QEMU does: tables say of every cluster that it is there, as the file alone does. */
	if (w.prealloc == QCOW2_PREALLOC_OFF && (w.h.autoclear & QCOW2_AUTOCLEAR_RAW_EXT))
		w.prealloc = QCOW2_PREALLOC_METADATA;
	if (r == 0)
		r = w.prealloc == QCOW2_PREALLOC_OFF ? qcow2_layout_new(&w.h, &w.at, ret_err)
						     : qcow2_layout_full(&w.h, &w.at, ret_err);
	if (r < 0)
		return td_err_prefix(ret_err, r, "%s", c->path);
	qcow2_geom_of(&w.h, &w.g);
	buf = td_buf_alloc(w.g.cluster_size);
	if (!buf)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", c->path);
	/* Who fails below may say more than strerror can. */
	if (ret_err)
		ret_err->msg[0] = '\0';
	r = write_image(&w, buf, ret_err);
	td_buf_free(buf, w.g.cluster_size);
	if (r < 0 && ret_err && ret_err->msg[0] == '\0')
		return td_err_set(ret_err, r, "%s: cannot be written: %s", c->path, strerror(-r));
	return r < 0 ? td_err_prefix(ret_err, r, "%s", c->path) : 0;
}
