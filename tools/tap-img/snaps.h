// SPDX-License-Identifier: BSD-2-Clause
/*
 * The snapshots inside an image, as `info` and `snapshot -l` show them: fields and columns of qemu-img's.
 */
#ifndef TAP_IMG_SNAPS_H
#define TAP_IMG_SNAPS_H

#include <blktap/image.h>
#include <jansson.h>

/* A list, empty where there are none.  NULL: no memory. */
json_t *snaps_json(const struct td_snaps *snaps);

/* Nothing of an empty list. */
void snaps_print(const json_t *list);

#endif
