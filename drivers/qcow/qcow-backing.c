// SPDX-License-Identifier: BSD-2-Clause
/*
 * Recording another backing file.  The new name goes behind all that is in use, wherever the old one is: beside the
 * header there is as much room as the name had that the image was made with.
 *
 * Order on disk, and what is there if the power fails:
 *	the new name; barrier			the header names the old one, and the new one's bytes leak
 *	the header, in one sector; barrier	the header names the one or the other
 *
 * The old name leaks: less than a sector is too little to be given to anybody else.
 */
#include "qcow-int.h"

#define SECTOR 512u

/* h: names it from here on. */
static int place_name(const struct qcow *q, struct qcow_header *h, const char *path)
{
	size_t len = strlen(path);
	uint64_t off = 0;
	int r = td_grains_alloc(q->grains, len, SECTOR, &off);

	if (r == 0)
		r = td_image_pwrite(q->im->child, off, path, len, 0);
	h->backing_off = off;
	h->backing_len = (uint32_t)len;
	return r;
}

static int change(struct qcow *q, const char *path)
{
	uint8_t head[QCOW_HEADER];
	struct qcow_header h = q->h;
	int r = 0;

	h.backing_off = h.backing_len = 0;
	if (path)
		r = place_name(q, &h, path);
	if (r < 0)
		return r;
	qcow_header_encode(&h, head);
	r = td_grains_put_head(q->grains, head, sizeof(head));
	if (r == 0)
		q->h = h;
	return r;
}

/* There is no place for the format. */
int qcow_set_backing(struct td_image *im, const char *path, const char *format, struct td_err *ret_err)
{
	int r;

	(void)format;
	if (path && strlen(path) > QCOW_MAX_BACKING_NAME)
		return td_err_set(ret_err, -ENAMETOOLONG,
				  "%s: the name of its backing file is longer than %u bytes", im->name,
				  QCOW_MAX_BACKING_NAME);
	r = change(im->state, path);
	return r < 0 ? td_err_set(ret_err, r, "%s: its backing file cannot be changed: %s", im->name,
				  strerror(-r))
		     : 0;
}

/* A name beside the header ends before the directory does. */
uint64_t qcow_name_end(const struct td_image *im)
{
	const struct qcow *q = im->state;

	return q->h.backing_len > 0 ? q->h.backing_off + q->h.backing_len : 0;
}
