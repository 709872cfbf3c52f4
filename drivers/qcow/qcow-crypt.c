// SPDX-License-Identifier: BSD-2-Clause
/*
 * Encrypted images: AES of old, by where the guest sees a sector.  Compressed clusters are not encrypted; we write
 * none.
 */
#include "qcow-int.h"

int qcow_data_read(struct td_image *im, uint64_t host_off, uint64_t guest_off, const struct td_iov *iov)
{
	const struct qcow *q = im->state;

	return q->crypt ? td_crypt_preadv(q->crypt, im->child, host_off, guest_off, iov) : -ENOKEY;
}

int qcow_data_write(struct td_image *im, uint64_t host_off, uint64_t guest_off, const struct td_iov *iov)
{
	const struct qcow *q = im->state;

	return q->crypt ? td_crypt_pwritev(q->crypt, im->child, host_off, guest_off, iov) : -ENOKEY;
}

int qcow_crypt_open(struct qcow *q, struct td_opts *opts, struct td_err *ret_err)
{
	struct td_secret *s = NULL;
	int r;

	if (q->h.crypt == QCOW_CRYPT_NONE)
		return 0;
	r = td_secret_load(opts, "key-file", "key-fd", q->im->env->notice, &s, ret_err);
	if (r == 0 && s)
		r = td_crypt_new_old(s, &q->crypt, ret_err);
	/* Facts, and the tables, can be read without. */
	else if (r == 0 && !(q->im->flags & (TD_OPEN_CHECK | TD_OPEN_NO_CHAIN)))
		r = td_err_set(
			ret_err, -ENOKEY,
			"the image is encrypted (AES): name a file with its pass phrase by key-file=FILE");
	td_secret_free(s);
	return r;
}
