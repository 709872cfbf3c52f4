// SPDX-License-Identifier: BSD-2-Clause
/*
 * External data files: guest clusters lie in a file of their own, each at the guest's own offset.  Nothing in there is
 * counted or moved, so a cluster needs no place, is never free, and can be written again in the instant in which it was
 * dropped: what is given back to the file system is given back while the range is held, not after a commit.
 *
 * On disk: the data file is flushed before any table is written that counts on it, and with each flush of the disk
 * (qcow2_barrier).  An entry that was not there before is set after the whole cluster was written.
 *
 * Raw data files: the file alone is the disk, for whoever knows nothing of qcow2.  So zeros are written there too, and
 * what is trimmed becomes zeros or stays.  The bit that says so is an autoclear bit: who writes and does not know it
 * takes it away.
 */
#include "qcow2-data.h"

/* ---- open and close ---- */

int qcow2_data_found(struct qcow2 *q, const struct qcow2_ext *e)
{
	if (q->data_name || !q->g.data_file)
		return 0;
	q->data_name = strndup((const char *)e->data, e->len);
	return q->data_name ? 0 : -ENOMEM;
}

static int check_name(const struct qcow2 *q, struct td_err *ret_err)
{
	const char *name = q->data_name;

	if (!name || !*name)
		return td_err_set(ret_err, -EUCLEAN,
				  "its data is in another file, and it does not say which");
	/* "json:", "nbd://...": a ':' before the first '/'. */
	if (name[strcspn(name, ":/")] == ':')
		return td_err_set(ret_err, -ENOTSUP,
				  "its data file '%s' is not a plain path, which is all that is supported",
				  name);
	return 0;
}

static int open_file(struct qcow2 *q, struct td_err *ret_err)
{
	int r = check_name(q, ret_err);

	if (r == 0)
		r = td_image_open_part(q->im, q->data_name, NULL, NULL, TD_OPEN_GROW, &q->data, ret_err);
	return r < 0 ? td_err_prefix(ret_err, r, "its data file cannot be opened") : 0;
}

int qcow2_data_open(struct qcow2 *q, struct td_err *ret_err)
{
	int r;

	if (!q->g.data_file)
		return 0;
	q->data_raw = (q->h.autoclear & QCOW2_AUTOCLEAR_RAW_EXT) && q->h.backing_len == 0;
	/* Its tables can be checked without its data. */
	r = open_file(q, ret_err);
	q->sealed = r < 0 && (q->im->flags & TD_OPEN_CHECK);
	return q->sealed ? 0 : r;
}

int qcow2_data_close(struct qcow2 *q)
{
	int r = 0;

	if (q->data != q->child)
		r = td_image_close_part(q->im, q->data);
	q->data = q->child;
	free(q->data_name);
	q->data_name = NULL;
	return r;
}

/* ---- zeros and nothing ---- */

/* How much of len bytes from off on is in the file?  What lies behind its end reads as zeros. */
static uint64_t inside(const struct qcow2 *q, uint64_t off, uint64_t len)
{
	return off < q->data->size ? TD_MIN(len, q->data->size - off) : 0;
}

int qcow2_data_zero(struct qcow2 *q, uint64_t guest_off, uint64_t len, unsigned flags)
{
	uint64_t here = q->data_raw ? inside(q, guest_off, len) : 0;

	return here > 0 ? td_image_zero(q->data, guest_off, here, flags & (TD_MAY_UNMAP | TD_FAST)) : 0;
}

void qcow2_data_dropped(struct qcow2 *q, uint64_t guest_off, uint64_t len)
{
	uint64_t here = q->g.data_file && !q->data_raw ? inside(q, guest_off, len) : 0;

	if (here > 0)
		td_ignore(
			td_image_trim(q->data, guest_off, here)); /* if it cannot be, it only stays larger */
}

/* ---- the length ---- */

/* A device is as long as it is. */
static bool fixed(int r)
{
	return r == -ENOTSUP || r == -EINVAL;
}

/* Behind the old end of a raw one may be anything, and is going to be the disk's. */
static int cut_raw(struct qcow2 *q, uint64_t size)
{
	int r;

	if (!q->data_raw || q->data->size <= size)
		return 0;
	r = td_image_resize(q->data, size, TD_RESIZE_SHRINK, NULL);
	return fixed(r) ? td_image_zero(q->data, size, q->data->size - size, TD_MAY_UNMAP) : r;
}

int qcow2_data_enlarge(struct qcow2 *q, uint64_t old, uint64_t size)
{
	int r;

	if (!q->g.data_file)
		return 0;
	r = cut_raw(q, old);
	if (r == 0 && q->data->size < size)
		r = td_image_resize(q->data, size, 0, NULL);
	return fixed(r) ? -ENOSPC : r;
}

void qcow2_data_reduce(struct qcow2 *q, uint64_t size)
{
	if (q->g.data_file && q->data->size > size)
		td_ignore(td_image_resize(q->data, size, TD_RESIZE_SHRINK, NULL)); /* longer is no harm */
}
