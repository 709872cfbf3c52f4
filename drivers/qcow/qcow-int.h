// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of the qcow driver share.
 */
#ifndef QCOW_INT_H
#define QCOW_INT_H

#include <blktap/crypt.h>
#include <blktap/err.h>
#include <blktap/grains.h>
#include <blktap/image.h>
#include <blktap/iov.h>
#include <blktap/opts.h>
#include <blktap/qcow.h>

struct qcow {
	struct td_image *im;
	struct qcow_header h;
	struct td_grains *grains;
	struct td_crypt *crypt; /* NULL: not encrypted, or opened without a key, so that data is -ENOKEY */
};

static inline size_t qcow_cluster_size(const struct qcow *q)
{
	return (size_t)1 << q->h.cluster_bits;
}

/* ---- qcow-pack.c: compressed clusters ---- */

/* As td_grains_ops has them. */
td_packed_fn qcow_unpack;
size_t qcow_unpack_enough(const struct td_image *im, size_t from, size_t to);

/* For TD_COMPRESS (image.h). */
TD_CO TD_CHECK int qcow_write_packed(struct qcow *q, uint64_t off, const struct td_iov *iov);

/* ---- qcow-crypt.c: data of encrypted images, as td_grains_ops has it ---- */

TD_CHECK int qcow_crypt_open(struct qcow *q, struct td_opts *opts, struct td_err *ret_err);
TD_CO TD_CHECK int qcow_data_read(struct td_image *im, uint64_t host_off, uint64_t guest_off,
				  const struct td_iov *iov);
TD_CO TD_CHECK int qcow_data_write(struct td_image *im, uint64_t host_off, uint64_t guest_off,
				   const struct td_iov *iov);

/* ---- qcow-backing.c ---- */

TD_CO TD_CHECK int qcow_set_backing(struct td_image *im, const char *path, const char *format,
				    struct td_err *ret_err);
uint64_t qcow_name_end(const struct td_image *im); /* as td_grains_ops has it */

/* ---- qcow-create.c ---- */

bool qcow_compresses(struct td_opts *opts);
TD_CO TD_CHECK int qcow_create(const struct td_create *c, struct td_err *ret_err);
TD_CO TD_CHECK int qcow_measure(struct td_measure *m, struct td_err *ret_err);

#endif
