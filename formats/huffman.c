// SPDX-License-Identifier: BSD-2-Clause
/*
 * Huffman codes of limited length, as deflate wants them: canonical, first bit lowest (RFC 1951, 3.2.2).
 */
#include <stdlib.h>

#include <blktap/qcow2.h>

#define SYMBOLS QCOW2_HUFF_MAX
#define LEN_MAX 15u

/* freq << 16 | symbol, so that they can be sorted as numbers. */
static int by_freq(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* At least two, so that every code is a whole one. */
static unsigned sort_used(const uint32_t *freq, unsigned nr, uint64_t *leaf)
{
	unsigned used = 0;

	for (unsigned i = 0; i < nr; i++)
		if (freq[i] != 0)
			leaf[used++] = (uint64_t)freq[i] << 16 | i;
	for (unsigned i = 0; used < 2; i++)
		if (freq[i] == 0)
			leaf[used++] = 1ull << 16 | i;
	qsort(leaf, used, sizeof(leaf[0]), by_freq);
	return used;
}

/*
 * How long the codes of a tree are, by leaf in order of frequency.  Inner nodes come to be in order of their sums: so
 * the two smallest are always at the heads of two queues.
 */
static void tree_lengths(struct qcow2_huff_work *w, unsigned used)
{
	unsigned leaf_at = 0, node_at = 0;

	for (unsigned n = 0; n < used - 1; n++) {
		w->sum[n] = 0;
		for (unsigned i = 0; i < 2; i++) {
			bool is_leaf =
				leaf_at < used && (node_at == n || w->leaf[leaf_at] >> 16 <= w->sum[node_at]);

			w->sum[n] += is_leaf ? w->leaf[leaf_at] >> 16 : w->sum[node_at];
			w->parent[is_leaf ? leaf_at++ : SYMBOLS + node_at++] = (uint16_t)n;
		}
	}
	w->depth[used - 2] = 0;
	for (unsigned n = used - 2; n-- > 0;)
		w->depth[n] = (uint16_t)(w->depth[w->parent[SYMBOLS + n]] + 1);
	for (unsigned i = 0; i < used; i++)
		w->len[i] = (uint16_t)(w->depth[w->parent[i]] + 1);
}

/* How many codes of each length, none longer than max. */
static void limit_lengths(const uint16_t *len, unsigned used, unsigned max, unsigned *ret_count)
{
	uint64_t taken = 0, whole = 1ull << max;

	memset(ret_count, 0, (LEN_MAX + 1) * sizeof(ret_count[0]));
	for (unsigned i = 0; i < used; i++)
		ret_count[TD_MIN((unsigned)len[i], max)]++;
	for (unsigned n = 1; n <= max; n++)
		taken += (uint64_t)ret_count[n] << (max - n);
	/* Cut codes take too much: a shorter one is split, and one of the longest moves there. */
	for (; taken > whole; taken--) {
		unsigned n = max - 1;

		while (ret_count[n] == 0)
			n--;
		ret_count[n]--;
		ret_count[n + 1] += 2;
		ret_count[max]--;
	}
}

static uint16_t reversed(unsigned code, unsigned len)
{
	unsigned r = 0;

	for (; len > 0; len--, code >>= 1)
		r = r << 1 | (code & 1);
	return (uint16_t)r;
}

void qcow2_huff_codes(struct qcow2_huff *h, const uint8_t *len, unsigned nr)
{
	unsigned count[LEN_MAX + 1] = { 0 }, next[LEN_MAX + 2] = { 0 };

	for (unsigned i = 0; i < nr; i++)
		count[len[i]]++;
	count[0] = 0;
	for (unsigned n = 1; n <= LEN_MAX; n++)
		next[n + 1] = (next[n] + count[n]) << 1;
	for (unsigned i = 0; i < nr; i++) {
		h->len[i] = len[i];
		h->code[i] = len[i] ? reversed(next[len[i]]++, len[i]) : 0;
	}
}

void qcow2_huff_build(struct qcow2_huff *h, const uint32_t *freq, unsigned nr, unsigned max,
		      struct qcow2_huff_work *w)
{
	unsigned count[LEN_MAX + 1], i = 0;
	uint8_t len[SYMBOLS] = { 0 };
	unsigned used = sort_used(freq, nr, w->leaf);

	tree_lengths(w, used);
	limit_lengths(w->len, used, max, count);
	/* The rarest get the longest. */
	for (unsigned n = max; n > 0; n--)
		for (unsigned c = 0; c < count[n]; c++)
			len[w->leaf[i++] & 0xffff] = (uint8_t)n;
	qcow2_huff_codes(h, len, nr);
}
