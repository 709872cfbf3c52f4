// SPDX-License-Identifier: BSD-2-Clause
/*
 * The bits of a dirty bitmap in memory, as on disk (low bit first) but in chunks, of which those that are all clear or
 * all set take none.
 *
 * A bit too many costs whoever copies the disk some time; one too few loses a write of the copy.  So a chunk that finds
 * no memory is set as a whole.
 */
#include "qcow2-bitmap.h"

#define CHUNK_BITS ((uint64_t)QCOW2_BITS_CHUNK * 8)
#define WORD_BITS  64u

static uint8_t ones[1];
#define ONES (&ones[0])

static uint64_t chunks_for(uint64_t nr)
{
	return td_div_up(nr, CHUNK_BITS);
}

static bool is_own(const uint8_t *chunk)
{
	return chunk && chunk != ONES;
}

/* Memory for one chunk, within the limit. */
static uint8_t *chunk_alloc(struct qcow2_bits *b)
{
	uint8_t *p;

	if (*b->held + QCOW2_BITS_CHUNK > b->limit)
		return NULL;
	p = calloc(1, QCOW2_BITS_CHUNK);
	if (p)
		*b->held += QCOW2_BITS_CHUNK;
	return p;
}

static void chunk_put(struct qcow2_bits *b, uint64_t i, uint8_t *chunk)
{
	if (is_own(b->chunk[i])) {
		free(b->chunk[i]);
		*b->held -= QCOW2_BITS_CHUNK;
	}
	b->chunk[i] = chunk;
}

int qcow2_bits_new(uint64_t size, unsigned granularity_bits, size_t *held, size_t limit,
		   struct qcow2_bits **ret)
{
	uint64_t nr = td_div_up(size, 1ull << granularity_bits), chunks = chunks_for(nr);
	struct qcow2_bits *b;

	if (chunks > limit / sizeof(b->chunk[0]) || *held + chunks * sizeof(b->chunk[0]) > limit)
		return -EFBIG;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	*b = (struct qcow2_bits){ .granularity_bits = granularity_bits,
				  .nr = nr,
				  .nr_chunks = chunks,
				  .held = held,
				  .limit = limit };
	b->chunk = calloc(chunks + 1, sizeof(b->chunk[0]));
	if (!b->chunk) {
		free(b);
		return -ENOMEM;
	}
	*held += chunks * sizeof(b->chunk[0]);
	*ret = b;
	return 0;
}

void qcow2_bits_free(struct qcow2_bits *b)
{
	if (!b)
		return;
	for (uint64_t i = 0; i < b->nr_chunks; i++)
		chunk_put(b, i, NULL);
	*b->held -= b->nr_chunks * sizeof(b->chunk[0]);
	free(b->chunk);
	free(b);
}

/* ---- setting and asking ---- */

/* Bits first..last of one chunk. */
static void set_in_chunk(uint8_t *p, uint64_t first, uint64_t last)
{
	for (; first <= last && first % 8; first++)
		p[first / 8] |= (uint8_t)(1u << first % 8);
	if (first + 8 <= last + 1) {
		uint64_t bytes = (last + 1 - first) / 8;

		memset(p + first / 8, 0xff, bytes);
		first += bytes * 8;
	}
	for (; first <= last; first++)
		p[first / 8] |= (uint8_t)(1u << first % 8);
}

/* Bits first..last, of chunk i. */
static void set_bits(struct qcow2_bits *b, uint64_t i, uint64_t first, uint64_t last)
{
	if (b->chunk[i] == ONES)
		return;
	if (!b->chunk[i])
		b->chunk[i] = last - first + 1 < CHUNK_BITS ? chunk_alloc(b) : NULL;
	if (b->chunk[i] && last - first + 1 < CHUNK_BITS)
		set_in_chunk(b->chunk[i], first, last);
	else
		chunk_put(b, i, ONES);
}

void qcow2_bits_set(struct qcow2_bits *b, uint64_t off, uint64_t len)
{
	uint64_t first = off >> b->granularity_bits, last;

	if (len == 0 || first >= b->nr)
		return;
	last = TD_MIN((off + len - 1) >> b->granularity_bits, b->nr - 1);
	for (uint64_t at = first, end; at <= last; at = end + 1) {
		end = TD_MIN(last, at / CHUNK_BITS * CHUNK_BITS + CHUNK_BITS - 1);
		set_bits(b, at / CHUNK_BITS, at % CHUNK_BITS, end % CHUNK_BITS);
	}
}

static bool bit_at(const struct qcow2_bits *b, uint64_t i)
{
	const uint8_t *p = b->chunk[i / CHUNK_BITS];

	if (!is_own(p))
		return p != NULL;
	return p[i % CHUNK_BITS / 8] & 1u << i % 8;
}

/* The first bit from i on, in its chunk, that is not `value`; the chunk's end if there is none. */
static uint64_t other_in_chunk(const struct qcow2_bits *b, uint64_t i, bool value)
{
	const uint8_t *p = b->chunk[i / CHUNK_BITS];
	uint64_t start = i / CHUNK_BITS * CHUNK_BITS, at = i - start, word;

	if (!is_own(p))
		return start + (value == (p != NULL) ? CHUNK_BITS : at);
	while (at < CHUNK_BITS) {
		memcpy(&word, p + at / WORD_BITS * sizeof(word), sizeof(word));
		word = le64toh(value ? ~word : word) >> at % WORD_BITS;
		if (word != 0)
			return start + at + (unsigned)__builtin_ctzll(word);
		at += WORD_BITS - at % WORD_BITS;
	}
	return start + CHUNK_BITS;
}

bool qcow2_bits_at(const struct qcow2_bits *b, uint64_t off, uint64_t end, uint64_t *ret_end)
{
	uint64_t i = off >> b->granularity_bits;
	uint64_t last = TD_MIN((end - 1) >> b->granularity_bits, b->nr - 1), next = i;
	bool value = bit_at(b, i);

	while (next <= last) {
		uint64_t stop = other_in_chunk(b, next, value);
		bool through = stop % CHUNK_BITS == 0 && stop > next;

		next = stop;
		if (!through)
			break;
	}
	*ret_end = next > last ? end : TD_MIN(end, next << b->granularity_bits);
	return value;
}

/* ---- to and from what is stored ---- */

/* Bytes of bits, the last of them perhaps in part. */
static uint64_t byte_end(const struct qcow2_bits *b)
{
	return td_div_up(b->nr, 8);
}

static void clear_tail(const struct qcow2_bits *b, uint64_t at, uint8_t *bytes, size_t len)
{
	uint64_t end = byte_end(b);

	if (at + len > end)
		memset(bytes + (end > at ? end - at : 0), 0, at + len - TD_MAX(end, at));
	if (b->nr % 8 && end > at && end <= at + len)
		bytes[end - 1 - at] &= (uint8_t)((1u << b->nr % 8) - 1);
}

static bool all_ones(const uint8_t *p, size_t len)
{
	return len > 0 && p[0] == 0xff && memcmp(p, p + 1, len - 1) == 0;
}

static int load_chunk(struct qcow2_bits *b, uint64_t at, const uint8_t *bytes, size_t len)
{
	uint64_t i = at / QCOW2_BITS_CHUNK;

	if (td_is_zero(bytes, len))
		return 0;
	if (len == QCOW2_BITS_CHUNK && all_ones(bytes, len)) {
		chunk_put(b, i, ONES);
		return 0;
	}
	if (!is_own(b->chunk[i]))
		b->chunk[i] = chunk_alloc(b);
	if (!b->chunk[i])
		return *b->held + QCOW2_BITS_CHUNK > b->limit ? -EFBIG : -ENOMEM;
	memcpy(b->chunk[i] + at % QCOW2_BITS_CHUNK, bytes, len);
	clear_tail(b, i * QCOW2_BITS_CHUNK, b->chunk[i], QCOW2_BITS_CHUNK);
	return 0;
}

int qcow2_bits_load(struct qcow2_bits *b, uint64_t at, const uint8_t *bytes, size_t len)
{
	uint64_t end = TD_MIN(at + len, byte_end(b));
	int r = 0;

	for (uint64_t n; r == 0 && at < end; at += n, bytes += n) {
		n = TD_MIN(end - at, QCOW2_BITS_CHUNK - at % QCOW2_BITS_CHUNK);
		r = load_chunk(b, at, bytes, n);
	}
	return r;
}

void qcow2_bits_load_ones(struct qcow2_bits *b, uint64_t at, size_t len)
{
	uint64_t first = at * 8, end = TD_MIN((at + len) * 8, b->nr);

	if (first < end)
		qcow2_bits_set(b, first << b->granularity_bits, (end - first) << b->granularity_bits);
}

enum qcow2_bits_kind qcow2_bits_store(const struct qcow2_bits *b, uint64_t at, uint8_t *ret, size_t len)
{
	for (uint64_t done = 0, n; done < len; done += n) {
		uint64_t i = (at + done) / QCOW2_BITS_CHUNK, in = (at + done) % QCOW2_BITS_CHUNK;
		const uint8_t *p = i < b->nr_chunks ? b->chunk[i] : NULL;

		n = TD_MIN(len - done, QCOW2_BITS_CHUNK - in);
		if (is_own(p))
			memcpy(ret + done, p + in, n);
		else
			memset(ret + done, p ? 0xff : 0, n);
	}
	clear_tail(b, at, ret, len);
	if (td_is_zero(ret, len))
		return QCOW2_BITS_ZEROS;
	return all_ones(ret, len) ? QCOW2_BITS_ONES : QCOW2_BITS_MIXED;
}
