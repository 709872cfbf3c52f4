// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a guest must read from an image, by a second reader that knows nothing of the driver: whole file at hand, no
 * cache, no runs, one cluster at a time.  It uses the codec, which has its own tests.
 */
#ifndef TESTS_FUZZ_IMAGE_MODEL_H
#define TESTS_FUZZ_IMAGE_MODEL_H

#include <blktap/qcow2.h>

#include "image-input.h"

enum model_answer {
	MODEL_BYTES,  /* these */
	MODEL_FAIL,   /* an error: nothing there can be believed */
	MODEL_EITHER, /* these, or an error */
	MODEL_BELOW,  /* whatever the backing file says */
};

struct model_image {
	const struct input *in;
	struct qcow2_header h;
	struct qcow2_geom g;
};

/* -errno: the header is no header. */
TD_CHECK int image_model_open(const struct input *in, struct model_image *ret);

/* len bytes at guest_off, all in one cluster (subcluster, where there are such) and inside the disk. */
enum model_answer image_model_read(const struct model_image *m, uint64_t guest_off, uint8_t *buf, size_t len);

/* The guest offsets of mapped clusters, up to max of them; how many. */
unsigned image_model_mapped(const struct model_image *m, uint64_t *off, unsigned max);

#endif
