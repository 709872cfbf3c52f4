// SPDX-License-Identifier: BSD-2-Clause
/*
 * How large will the file of a new image be?  So that a device can be made large enough before.
 *
 * All of the metadata is counted as if every cluster were written, and of the data whole clusters that the source
 * holds: QEMU's figures, and never too small.  With an external data file: of both files, as QEMU does.
 */
#include "qcow2-int.h"

int qcow2_measure(struct td_measure *m, struct td_err *ret_err)
{
	struct td_create c = { .path = "measure", .size = m->size, .opts = m->opts };
	struct qcow2_header h;
	struct qcow2_layout at = { 0 };
	struct qcow2_wish wish;
	uint64_t data = 0;
	int r = qcow2_wished(&c, &h, &wish, ret_err);

	if (r == 0)
		h.incompatible &= ~QCOW2_INCOMPAT_DATA_FILE;
	if (r == 0)
		r = qcow2_layout_full(&h, &at, ret_err);
	if (r < 0)
		return r;
	/* All clusters have their places then; and what of a backing file need not be copied nobody knows yet. */
	if (wish.prealloc != QCOW2_PREALLOC_OFF || (m->source && wish.has_backing))
		data = at.data_len;
	else if (m->source)
		r = td_measure_data(m->source, 1ull << h.cluster_bits, &data);
	if (r < 0)
		return td_err_set(ret_err, r, "what it holds cannot be told: %s", strerror(-r));
	m->fully_allocated = at.end;
	m->required = at.end - at.data_len + data;
	return 0;
}
