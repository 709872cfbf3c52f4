// SPDX-License-Identifier: BSD-2-Clause
/*
 * External data files (qcow2-data.c).  Of an image without one all these do nothing.
 */
#ifndef QCOW2_DATA_H
#define QCOW2_DATA_H

#include "qcow2-int.h"

/* While the header is read: this extension has the file's name. */
TD_CHECK int qcow2_data_found(struct qcow2 *q, const struct qcow2_ext *e);
TD_CO TD_CHECK int qcow2_data_open(struct qcow2 *q, struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_data_close(struct qcow2 *q);

/* These bytes, held exclusively, are going to read as zeros.  flags: of zero. */
TD_CO TD_CHECK int qcow2_data_zero(struct qcow2 *q, uint64_t guest_off, uint64_t len, unsigned flags);

/* No entry names these bytes any more, and nobody is at them. */
TD_CO void qcow2_data_dropped(struct qcow2 *q, uint64_t guest_off, uint64_t len);

/* The disk is going to be longer; it is shorter. */
TD_CO TD_CHECK int qcow2_data_enlarge(struct qcow2 *q, uint64_t old, uint64_t size);
TD_CO void qcow2_data_reduce(struct qcow2 *q, uint64_t size);

#endif
