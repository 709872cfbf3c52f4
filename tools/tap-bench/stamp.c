// SPDX-License-Identifier: BSD-2-Clause
/*
 * Blocks that say what they are.  Each sector begins with four words: a mark, its own offset, the seed, the generation;
 * the rest follows from these, so that one wrong bit, a sector of another place and an older write are all seen.
 */
#include "bench.h"
#include <inttypes.h>

#define SECTOR 512u
#define WORDS  (SECTOR / sizeof(uint64_t))
#define MARK   0x706d617473646275ull

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 33;
}

static void make_sector(uint64_t *w, uint64_t off, uint64_t seed, uint32_t generation)
{
	uint64_t x = mix(off ^ mix(seed + generation));

	w[0] = MARK;
	w[1] = off;
	w[2] = seed;
	w[3] = generation;
	for (unsigned i = 4; i < WORDS; i++)
		w[i] = x += 0x9e3779b97f4a7c15ull;
}

void stamp_fill(void *buf, uint64_t len, uint64_t off, uint64_t seed, uint32_t generation)
{
	for (uint64_t at = 0; at < len; at += SECTOR)
		make_sector((uint64_t *)(void *)((char *)buf + at), off + at, seed, generation);
}

/* What is wrong, by what the sector says it is. */
static int blame(const uint64_t *w, uint64_t off, uint64_t seed, uint32_t generation, struct td_err *ret_err)
{
	if (w[0] != MARK)
		return td_err_set(ret_err, -EILSEQ, "at %" PRIu64 ": no stamp there", off);
	if (w[1] != off)
		return td_err_set(ret_err, -EILSEQ, "at %" PRIu64 ": what was written at %" PRIu64, off,
				  w[1]);
	if (w[2] != seed)
		return td_err_set(ret_err, -EILSEQ, "at %" PRIu64 ": a stamp of seed %" PRIu64, off, w[2]);
	if (generation > 0 && w[3] != generation)
		return td_err_set(ret_err, -EILSEQ,
				  "at %" PRIu64 ": write %" PRIu64 " of it, not the last, %u", off, w[3],
				  generation);
	return td_err_set(ret_err, -EILSEQ, "at %" PRIu64 ": the stamp's sector is damaged", off);
}

int stamp_check(const void *buf, uint64_t len, uint64_t off, uint64_t seed, uint32_t generation,
		struct td_err *ret_err)
{
	for (uint64_t at = 0; at < len; at += SECTOR) {
		uint64_t want[WORDS], is[WORDS];

		memcpy(is, (const char *)buf + at, SECTOR);
		make_sector(want, off + at, seed, generation ? generation : (uint32_t)is[3]);
		if (memcmp(is, want, SECTOR) != 0)
			return blame(is, off + at, seed, generation, ret_err);
	}
	return 0;
}
