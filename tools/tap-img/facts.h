// SPDX-License-Identifier: BSD-2-Clause
/*
 * What `info` says of one image, as JSON with the field names that scripts read from qemu-img, and the same
 * for people.
 */
#ifndef TAP_IMG_FACTS_H
#define TAP_IMG_FACTS_H

#include <blktap/image.h>
#include <jansson.h>

/*
 * Of the topmost format (or leaf) of im's stack.  *ret_facts is the caller's.  In a coroutine, since it asks
 * the driver.  Source: qemu-img info --output=json of QEMU 7.2, field by field.
 */
TD_CO TD_CHECK int facts_of_image(struct td_image *im, json_t **ret_facts, struct td_err *ret_err);

/* Its dirty bitmaps: [{"flags":["in-use","auto"],"name":...,"granularity":...}].  NULL: no memory. */
json_t *facts_bitmaps(const struct td_image *im);

/* The format of the image under any filters, as qemu-img calls it. */
const char *facts_format(const struct td_image *im);

void facts_print(const json_t *facts);

#endif
