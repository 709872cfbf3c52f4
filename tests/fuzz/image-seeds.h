// SPDX-License-Identifier: BSD-2-Clause
/* Small images of all kinds, made by our own create and writes, as inputs for fuzz-image. */
#ifndef TESTS_FUZZ_IMAGE_SEEDS_H
#define TESTS_FUZZ_IMAGE_SEEDS_H

#include <stddef.h>
#include <stdint.h>

struct testenv;

/* The one that the target runs on: base.raw lies in its folder. */
struct testenv *fuzz_env(void);

/* Number i as an input (image-input.h); its length, 0: there is none of this number. */
size_t image_seed(unsigned i, uint8_t *buf, size_t max);

#endif
