// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where two chains of backing images become the same.
 */
#ifndef TAP_IMG_MEET_H
#define TAP_IMG_MEET_H

#include <blktap/image.h>

/*
 * The first image of a's chain whose file is in b's chain too, read as the same format, and the one there: from these
 * on both read the same.  NULL both: there is none (or no memory to find it).  a and b themselves count; each may be
 * NULL.
 */
void chains_meet(struct td_image *a, struct td_image *b, struct td_image **ret_a, struct td_image **ret_b);

#endif
