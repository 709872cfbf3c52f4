// SPDX-License-Identifier: BSD-2-Clause
/* For libFuzzer: mostly our own changes, which keep an image an image, sometimes its own. */
#include "fuzz.h"
#include "image-input.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	if (seed % 8 == 0)
		return LLVMFuzzerMutate(data, size, max);
	return input_mutate(data, size, max, seed);
}
