// SPDX-License-Identifier: BSD-2-Clause
/*
 * A whole image as the input of a fuzzer: only its sectors that are not zeros, so that images with large clusters and
 * long files stay small.
 *
 *	"FZIM" | what to do (a seed, 32 bits) | length of the file (64) | { sector number (32) | 512 bytes } ...
 *
 * All little-endian; what is missing of the last sector is zeros; a later sector of the same number counts.  An input
 * that begins with a qcow2 header instead is a plain image.
 */
#ifndef TESTS_FUZZ_IMAGE_INPUT_H
#define TESTS_FUZZ_IMAGE_INPUT_H

#include <blktap/base.h>

#define INPUT_HEAD      16u
#define INPUT_UNIT      516u
#define INPUT_SECTOR    512u
#define INPUT_MAX_UNITS 400u
#define INPUT_MAX       (INPUT_HEAD + INPUT_MAX_UNITS * INPUT_UNIT)
#define INPUT_MAX_FILE  (1ull << 41)

struct input_unit {
	uint64_t sector;
	const uint8_t *data; /* 512 bytes */
};

struct input {
	uint32_t todo;
	uint64_t file_len;
	unsigned nr;
	struct input_unit unit[INPUT_MAX_UNITS]; /* by sector, no two alike */
	uint8_t bytes[INPUT_MAX_UNITS * INPUT_SECTOR];
};

/* -EINVAL: too short to be anything. */
TD_CHECK int input_decode(const uint8_t *data, size_t len, struct input *ret);

/* The bytes of the file at off; zeros behind its end. */
void input_read(const struct input *in, uint64_t off, void *buf, size_t len);

/* An image of raw_len bytes as an input; its length, or 0 if it does not fit. */
size_t input_encode(uint32_t todo, const uint8_t *raw, uint64_t raw_len, uint8_t *buf, size_t max);

/* A new input in place (a plain image becomes units first); the new length, at most max. */
size_t input_mutate(uint8_t *data, size_t len, size_t max, uint32_t seed);

#endif
