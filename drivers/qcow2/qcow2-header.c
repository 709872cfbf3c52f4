// SPDX-License-Identifier: BSD-2-Clause
/*
 * The header: read at open, and the few moments at which it changes.
 *
 * Only the first sector is rewritten here, and in it only the fields we know, so extensions, unknown fields and the
 * backing name stay as they are (qcow2-backing.c changes those).  One sector is written whole or not at all; but a
 * write that *failed* leaves open which of the two is on the disk.  Then the old header is written again before
 * anything else may be (qcow2_header_settle): until that succeeds, tables that only one of the two headers names must
 * not change.
 */
#include "qcow2-data.h"

#define HEADER_LEN_AT 100
#define SUPPORTED                                                                                            \
	(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DATA_FILE |                          \
	 QCOW2_INCOMPAT_COMPRESSION | QCOW2_INCOMPAT_EXTL2)

/* around: the sector as it is but for the header's fields. */
static int write_sector0(struct qcow2 *q, const uint8_t around[QCOW2_SECTOR], const struct qcow2_header *h)
{
	uint8_t sector[QCOW2_SECTOR];
	struct qcow2_header known = *h;
	int r;

	/* The codec leaves alone what lies behind the fields it knows, even where the header is longer than this. */
	memcpy(sector, around, sizeof(sector));
	known.header_len = TD_MIN(h->header_len, (uint32_t)sizeof(sector));
	if (qcow2_header_encode(&known, sector, sizeof(sector)) == 0)
		return -EINVAL;
	if (h->version >= 3)
		td_put_be32(sector + HEADER_LEN_AT, h->header_len);
	r = td_image_pwrite(q->child, 0, sector, sizeof(sector), 0);
	if (r == 0)
		r = qcow2_barrier(q);
	if (r == 0)
		memcpy(q->sector0, sector, sizeof(sector));
	return r;
}

static int settle_locked(struct qcow2 *q)
{
	int r;

	if (!q->header_unsure)
		return 0;
	r = write_sector0(q, q->sector0, &q->h);
	if (r == 0)
		q->header_unsure = false;
	return r;
}

int qcow2_header_replace_locked(struct qcow2 *q, const uint8_t sector[QCOW2_SECTOR],
				const struct qcow2_header *h)
{
	int r = settle_locked(q);

	if (r == 0)
		r = qcow2_barrier(q); /* what the new header names is there before it is named */
	if (r < 0)
		return r;
	q->header_unsure = true;
	r = write_sector0(q, sector, h);
	if (r < 0) {
		/* At once, if it can be: a kill must not leave a header that names tables other than those kept. */
		td_ignore(settle_locked(q));
		return r;
	}
	q->header_unsure = false;
	q->h = *h;
	return 0;
}

static int switch_locked(struct qcow2 *q, const struct qcow2_header *h)
{
	return qcow2_header_replace_locked(q, q->sector0, h);
}

int qcow2_header_settle(struct qcow2 *q)
{
	if (!q->header_unsure)
		return 0;
	td_co_guard(&q->header_lock);
	return settle_locked(q);
}

int qcow2_header_switch(struct qcow2 *q, qcow2_header_fn *change, const void *arg)
{
	struct qcow2_header h;

	td_co_guard(&q->header_lock);
	h = q->h;
	change(&h, arg);
	return switch_locked(q, &h);
}

void qcow2_header_clean(struct qcow2_header *h, const void *arg)
{
	(void)arg;
	h->incompatible &= ~QCOW2_INCOMPAT_DIRTY;
}

void qcow2_header_mended(struct qcow2_header *h, const void *arg)
{
	(void)arg;
	h->incompatible &= ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
}

/*
 * Autoclear bits say of some extension that it agrees with the contents.  We keep dirty bitmaps and raw data files up
 * to date; all other bits go before the first change.
 */
int qcow2_begin_write_slow(struct qcow2 *q)
{
	struct qcow2_header h;
	bool bitmaps = false;
	int r;

	td_co_guard(&q->header_lock);
	if (q->autoclear_done)
		return 0;
	r = settle_locked(q);
	if (r == 0)
		r = qcow2_bitmaps_begin_locked(q, &bitmaps);
	h = q->h;
	h.autoclear = qcow2_autoclear(q, bitmaps);
	if (r == 0 && q->h.autoclear != h.autoclear)
		r = switch_locked(q, &h);
	if (r == 0)
		q->autoclear_done = true;
	return r;
}

int qcow2_begin_alloc(struct qcow2 *q)
{
	struct qcow2_header h;
	int r = 0;

	if (!q->lazy || q->dirty_marked)
		return 0;
	td_co_guard(&q->header_lock);
	h = q->h;
	h.incompatible |= QCOW2_INCOMPAT_DIRTY;
	if (!q->dirty_marked)
		r = switch_locked(q, &h);
	if (r == 0)
		q->dirty_marked = true;
	return r;
}

int qcow2_corrupt(struct qcow2 *q)
{
	struct qcow2_header h;

	if (q->im->read_only || q->im->frozen)
		return -EUCLEAN;
	/* First: from here on nothing is written through tables that cannot be trusted. */
	td_image_freeze(q->im);
	td_keep_give_up(q->keep, 0);
	if (q->h.version < 3)
		return -EUCLEAN; /* no place for the mark */
	td_co_guard(&q->header_lock);
	h = q->h;
	h.incompatible |= QCOW2_INCOMPAT_CORRUPT;
	td_ignore(switch_locked(q, &h)); /* unmarked it is still frozen; the request fails with the reason */
	return -EUCLEAN;
}

/* ---- reading it ---- */

/* Where the encryption header is; what it cannot be is left out, and met when it is needed. */
static void read_crypt(struct qcow2 *q, const struct qcow2_ext *e)
{
	uint64_t off, len;

	if (q->h.crypt != QCOW2_CRYPT_LUKS || e->len != 2 * sizeof(uint64_t))
		return;
	off = td_get_be64(e->data);
	len = td_get_be64(e->data + sizeof(uint64_t));
	if (off == 0 || qcow2_in_cluster(q, off) || len == 0 || !td_in_range(off, len, q->child->size))
		return;
	q->h.crypt_off = off;
	q->h.crypt_len = len;
}

/* The backing file's name and format, and the feature names for an error sentence. */
static int read_strings(struct qcow2 *q, const uint8_t *buf, size_t len, struct qcow2_ext *ret_names,
			struct td_err *ret_err)
{
	struct qcow2_ext e;
	size_t pos = q->h.version == 2 ? QCOW2_HEADER_V2 : q->h.header_len;
	int r;

	while ((r = qcow2_ext_next(&q->h, buf, len, &pos, &e, ret_err)) > 0) {
		if (e.type == QCOW2_EXT_FEATURE_NAMES)
			*ret_names = e;
		if (e.type == QCOW2_EXT_CRYPT)
			read_crypt(q, &e);
		if (e.type == QCOW2_EXT_BITMAPS)
			qcow2_bitmaps_found(q, &e);
		if (e.type == QCOW2_EXT_DATA_FILE && qcow2_data_found(q, &e) < 0)
			return -ENOMEM;
		if (e.type == QCOW2_EXT_BACKING_FORMAT && q->h.backing_len > 0 && !q->im->backing_format) {
			q->im->backing_format = strndup((const char *)e.data, e.len);
			if (!q->im->backing_format)
				return -ENOMEM;
		}
	}
	if (r == 0 && q->h.backing_len > 0) {
		if (!td_in_range(q->h.backing_off, q->h.backing_len, len))
			return td_err_set(ret_err, -EUCLEAN, "the backing file's name is outside the file");
		q->im->backing_path = strndup((const char *)buf + q->h.backing_off, q->h.backing_len);
		if (!q->im->backing_path)
			return -ENOMEM;
	}
	return r;
}

static int check_supported(struct qcow2 *q, const struct qcow2_ext *names, struct td_err *ret_err)
{
	bool corrupt = q->h.incompatible & QCOW2_INCOMPAT_CORRUPT, check = q->im->flags & TD_OPEN_CHECK;
	int r;

	r = qcow2_header_supported(&q->h, SUPPORTED, names->data, names->len, ret_err);
	if (r < 0)
		return r;
	/* Each cluster has one place there: a snapshot would be written over. */
	if (q->g.data_file && q->h.nr_snapshots > 0 && !check)
		return td_err_set(ret_err, -EUCLEAN, "an image with an external data file has no snapshots");
	if (corrupt && !q->im->read_only && !check)
		return td_err_set(ret_err, -EUCLEAN,
				  "the image is marked corrupt: open it read-only to save what is there, "
				  "or repair it (tap-img check --repair=all)");
	return 0;
}

static int load_cluster0(struct qcow2 *q, uint8_t *buf, size_t len, struct td_err *ret_err)
{
	struct qcow2_ext names = { 0 };
	int r = td_image_pread(q->child, 0, buf, len, TD_EXACT);

	if (r == 0)
		r = read_strings(q, buf, len, &names, ret_err);
	if (r == 0)
		r = check_supported(q, &names, ret_err);
	return r;
}

int qcow2_header_load(struct qcow2 *q, struct td_err *ret_err)
{
	uint64_t size = q->child->size;
	uint8_t *buf;
	size_t len;
	int r;

	if (size < QCOW2_HEADER_V2)
		return td_err_set(ret_err, -EUCLEAN, "the file is too short for a qcow2 header");
	r = td_image_pread(q->child, 0, q->sector0, TD_MIN(size, sizeof(q->sector0)), TD_EXACT);
	if (r < 0)
		return td_err_set(ret_err, r, "cannot read the header: %s", strerror(-r));
	if (q->im->flags & TD_OPEN_CHECK)
		r = qcow2_header_decode_damaged(q->sector0, TD_MIN(size, sizeof(q->sector0)), &q->h, ret_err);
	else
		r = qcow2_header_decode(q->sector0, TD_MIN(size, sizeof(q->sector0)), &q->h, ret_err);
	if (r < 0)
		return r;
	qcow2_geom_of(&q->h, &q->g);
	len = TD_MIN(size, q->g.cluster_size);
	buf = td_buf_alloc(len);
	if (!buf)
		return td_err_set(ret_err, -ENOMEM, "no memory for the header");
	if (ret_err)
		ret_err->msg[0] = '\0';
	r = load_cluster0(q, buf, len, ret_err);
	if (r < 0 && ret_err && ret_err->msg[0] == '\0')
		r = td_err_set(ret_err, r, "cannot read the header: %s", strerror(-r));
	td_buf_free(buf, len);
	return r;
}
