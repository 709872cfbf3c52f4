// SPDX-License-Identifier: BSD-2-Clause
/*
 * What amend changes in an encrypted image: its key slots (qcow2-crypt-amend.c).
 */
#ifndef QCOW2_CRYPT_H
#define QCOW2_CRYPT_H

#include "qcow2-int.h"

struct qcow2_crypt_change {
	bool asked; /* there are such options; else all of it is nothing */
	struct td_secret *new, *old;
	int slot; /* -1: not said */
	bool erase;
	unsigned ms;
};

/* The options encrypt.* of amend, read and checked; then done.  What was wished is freed in any case. */
TD_CHECK int qcow2_crypt_wished(struct qcow2 *q, struct td_opts *opts, struct qcow2_crypt_change *ret,
				struct td_err *ret_err);
TD_CO TD_CHECK int qcow2_crypt_change(struct qcow2 *q, const struct qcow2_crypt_change *c,
				      struct td_err *ret_err);
void qcow2_crypt_change_done(struct qcow2_crypt_change *c);

#endif
