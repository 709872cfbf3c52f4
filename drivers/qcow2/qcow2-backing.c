// SPDX-License-Identifier: BSD-2-Clause
/*
 * Recording another backing file.  Name and format change in the same instant (qcow2-extensions.c).
 */
#include "qcow2-int.h"

static int change(struct qcow2 *q, const struct qcow2_extensions *want)
{
	int r = qcow2_begin_write(q, 0, 0);

	return r == 0 ? qcow2_extensions_change(q, want) : r;
}

int qcow2_set_backing(struct td_image *im, const char *path, const char *format, struct td_err *ret_err)
{
	const struct qcow2_extensions want = { .path = path, .format = format };
	const struct qcow2 *q = im->state;
	int r;

	if (path && q->data_raw)
		return td_err_set(
			ret_err, -EINVAL,
			"%s: its data file is raw, all of the disk, and leaves no room for a backing file",
			im->name);
	if (path && strlen(path) > QCOW2_MAX_BACKING_NAME)
		return td_err_set(ret_err, -ENAMETOOLONG,
				  "%s: the name of its backing file is longer than %u bytes", im->name,
				  QCOW2_MAX_BACKING_NAME);
	r = change(im->state, &want);
	if (r == -ENOSPC)
		return td_err_set(
			ret_err, r,
			"%s: the name of its backing file does not fit into the first cluster beside "
			"what is there",
			im->name);
	return r < 0 ? td_err_set(ret_err, r, "%s: its backing file cannot be changed: %s", im->name,
				  strerror(-r))
		     : 0;
}
