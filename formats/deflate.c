// SPDX-License-Identifier: BSD-2-Clause
/*
 * Raw deflate (RFC 1951) of one cluster, with matches no farther back than 4 KiB: what qcow2 readers can count on, and
 * what no library does fast.  Where zlib at its usual level spends 1.7 ms on 64 KiB this spends less than half, for the
 * same size.
 *
 *	find	hash chains over 4 bytes, one candidate for matches of 3, and a look at the next byte before a match is
 *		taken (lazy); matches and literals become tokens
 *	block	up to so many tokens, with codes of its own (formats/huffman.c) or the fixed ones, whichever is shorter
 *
 * Whoever calls it inflates what came out and compares (compress.c): data is not trusted to this file alone.
 */
#include <blktap/qcow2.h>

#define WINDOW     4096u
#define FAR        (WINDOW - 1) /* farther back the chain's memory is another's */
#define HASH4_BITS 13u
#define HASH3_BITS 12u
#define NONE       (-(int32_t)WINDOW) /* out of reach from everywhere */
#define DEPTH      24u                /* candidates that are looked at */
#define NICE       64u                /* long enough not to look farther */
#define LAZY       32u                /* long enough not to look at the next byte */
#define FAR3       2048u              /* a match of 3 farther back is not worth it */
#define MIN_MATCH  3u
#define MAX_MATCH  258u
#define TOKENS     16384u
#define SLACK      16u /* the bit writer stores words */

/* dist << 16 | length; dist 0: a literal. */
struct qcow2_deflater {
	int32_t head4[1u << HASH4_BITS], head3[1u << HASH3_BITS], prev[WINDOW];
	uint32_t token[TOKENS], nr;
	uint8_t slot_of_length[MAX_MATCH + 1];
	uint32_t lit_freq[QCOW2_HUFF_LIT], dist_freq[QCOW2_HUFF_DIST];
	struct qcow2_huff lit, dist, pre, fixed_lit, fixed_dist;
	struct qcow2_huff_work work;
};

struct match {
	uint32_t len, dist;
};

struct find {
	struct qcow2_deflater *d;
	const uint8_t *in;
	uint32_t len;
	uint32_t noted; /* positions before are in the chains */
};

struct bits {
	uint8_t *out, *end;
	uint64_t hold;
	unsigned nr;
};

/* ---- RFC 1951, 3.2.5 ---- */

static const uint16_t length_base[29] = { 3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
					  31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258 };
static const uint8_t length_extra[29] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
					  2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0 };

static unsigned dist_slot(uint32_t dist)
{
	uint32_t d = dist - 1;
	unsigned top;

	if (d < 4)
		return d;
	top = 31u - (unsigned)__builtin_clz(d);
	return 2 * top + (d >> (top - 1) & 1);
}

static unsigned dist_extra(unsigned slot)
{
	return slot < 4 ? 0 : slot / 2 - 1;
}

static uint32_t dist_base(unsigned slot)
{
	return slot < 4 ? slot + 1 : ((2u + (slot & 1)) << dist_extra(slot)) + 1;
}

/* ---- finding matches ---- */

static uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Bytes that are the same at a and b, at most `most`. */
static uint32_t same(const uint8_t *a, const uint8_t *b, uint32_t most)
{
	uint32_t n = 0;

	for (; n + 8 <= most; n += 8) {
		uint64_t diff = le64toh(load64(a + n)) ^ le64toh(load64(b + n));

		if (diff != 0)
			return n + (uint32_t)__builtin_ctzll(diff) / 8;
	}
	while (n < most && a[n] == b[n])
		n++;
	return n;
}

static uint32_t hash4(uint32_t v)
{
	return v * 0x9e3779b1u >> (32 - HASH4_BITS);
}

static uint32_t hash3(uint32_t v)
{
	return (htole32(v) & 0xffffffu) * 0x9e3779b1u >> (32 - HASH3_BITS);
}

/* Note position p, and give the candidates that were noted before. */
static void enter(const struct find *f, uint32_t p, int32_t *ret4, int32_t *ret3)
{
	uint32_t v = load32(f->in + p);
	int32_t *h4 = &f->d->head4[hash4(v)], *h3 = &f->d->head3[hash3(v)];

	*ret4 = *h4;
	*ret3 = *h3;
	f->d->prev[p % WINDOW] = *h4;
	*h4 = *h3 = (int32_t)p;
}

static void search_chain(const struct find *f, uint32_t p, int32_t cand, unsigned depth, uint32_t most,
			 struct match *best)
{
	int32_t last = (int32_t)p - (int32_t)FAR;
	const uint8_t *here = f->in + p;
	uint32_t v = load32(here);

	for (; cand >= last && depth > 0; depth--, cand = f->d->prev[(uint32_t)cand % WINDOW]) {
		const uint8_t *there = f->in + cand;
		uint32_t n;

		/* It has to be longer than the best: so its last bytes are looked at first. */
		if (best->len >= 4 && load32(there + best->len - 3) != load32(here + best->len - 3))
			continue;
		if (load32(there) != v)
			continue;
		n = same(here, there, most);
		if (n <= best->len)
			continue;
		*best = (struct match){ .len = n, .dist = p - (uint32_t)cand };
		if (n >= NICE || n == most)
			break;
	}
}

/* The longest match at p of more than `than` bytes; len 0: none.  p is noted. */
static struct match match_at(struct find *f, uint32_t p, uint32_t than, unsigned depth)
{
	uint32_t most = TD_MIN(f->len - p, MAX_MATCH);
	struct match best = { .len = than };
	int32_t cand4, cand3;

	f->noted = p + 1;
	if (most < 4)
		return (struct match){ 0 };
	enter(f, p, &cand4, &cand3);
	if (than < most)
		search_chain(f, p, cand4, depth, most, &best);
	if (best.dist != 0)
		return best;
	if (than < MIN_MATCH && cand3 >= (int32_t)p - (int32_t)FAR3 &&
	    memcmp(f->in + cand3, f->in + p, 3) == 0)
		return (struct match){ .len = MIN_MATCH, .dist = p - (uint32_t)cand3 };
	return (struct match){ 0 };
}

/* What a match covers can be matched later. */
static void note_to(struct find *f, uint32_t end)
{
	int32_t unused4, unused3;

	for (; f->noted < end && f->len - f->noted >= 4; f->noted++)
		enter(f, f->noted, &unused4, &unused3);
}

static int magnitude(uint32_t dist)
{
	return 31 - __builtin_clz(dist);
}

/* Is what begins one byte later so much better that a literal is worth it? */
static bool better(const struct match *next, const struct match *now)
{
	int longer = (int)next->len - (int)now->len;

	return next->len != 0 && 4 * longer + magnitude(now->dist) - magnitude(next->dist) > 2;
}

static void literal(struct qcow2_deflater *d, uint8_t byte)
{
	d->token[d->nr++] = byte;
	d->lit_freq[byte]++;
}

static void take(struct qcow2_deflater *d, const struct match *m)
{
	d->token[d->nr++] = m->dist << 16 | m->len;
	d->lit_freq[257u + d->slot_of_length[m->len]]++;
	d->dist_freq[dist_slot(m->dist)]++;
}

/* Tokens from p on, until there is no room for more or the input ends; where that is. */
static uint32_t tokenize(struct find *f, uint32_t p)
{
	struct qcow2_deflater *d = f->d;

	d->nr = 0;
	memset(d->lit_freq, 0, sizeof(d->lit_freq));
	memset(d->dist_freq, 0, sizeof(d->dist_freq));
	while (p < f->len && d->nr + 2 < TOKENS) {
		struct match m = match_at(f, p, 0, DEPTH);

		if (m.len == 0) {
			literal(d, f->in[p++]);
			continue;
		}
		while (m.len < LAZY && d->nr + 2 < TOKENS && p + 1 < f->len) {
			struct match next = match_at(f, p + 1, m.len - 1, DEPTH / 2);

			if (!better(&next, &m))
				break;
			literal(d, f->in[p++]);
			m = next;
		}
		take(d, &m);
		p += m.len;
		note_to(f, p);
	}
	return p;
}

/* ---- writing ---- */

static void put(struct bits *b, uint64_t value, unsigned nr)
{
	b->hold |= value << b->nr;
	b->nr += nr;
}

/* At most 7 bits stay; so that 57 more can be put. */
static void flush(struct bits *b)
{
	uint64_t le = htole64(b->hold);

	memcpy(b->out, &le, sizeof(le));
	b->out += b->nr / 8;
	b->hold >>= b->nr & ~7u;
	b->nr &= 7;
}

static void put_tokens(struct bits *b, const struct qcow2_deflater *d, const struct qcow2_huff *lit,
		       const struct qcow2_huff *dist)
{
	for (uint32_t i = 0; i < d->nr; i++) {
		uint32_t t = d->token[i], len = t & 0xffff, far = t >> 16;
		unsigned slot;

		if (far == 0) {
			put(b, lit->code[t], lit->len[t]);
			flush(b);
			continue;
		}
		slot = d->slot_of_length[len];
		put(b, lit->code[257 + slot], lit->len[257 + slot]);
		put(b, len - length_base[slot], length_extra[slot]);
		slot = dist_slot(far);
		put(b, dist->code[slot], dist->len[slot]);
		put(b, far - dist_base(slot), dist_extra(slot));
		flush(b);
	}
	put(b, lit->code[256], lit->len[256]);
	flush(b);
}

/* Bits of the tokens and the end mark. */
static uint64_t cost(const struct qcow2_deflater *d, const struct qcow2_huff *lit,
		     const struct qcow2_huff *dist)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < QCOW2_HUFF_LIT; i++)
		n += (uint64_t)d->lit_freq[i] * (lit->len[i] + (i > 256 ? length_extra[i - 257] : 0u));
	for (unsigned i = 0; i < QCOW2_HUFF_DIST; i++)
		n += (uint64_t)d->dist_freq[i] * (dist->len[i] + dist_extra(i));
	return n;
}

/* ---- the codes of a block ---- */

/* Lengths of codes as symbols 0..18 of a code of their own: symbol | what follows it << 8. */
struct lengths {
	unsigned nr_lit, nr_dist, nr;
	uint16_t item[QCOW2_HUFF_LIT + QCOW2_HUFF_DIST];
	uint32_t freq[QCOW2_HUFF_PRE];
};

static const uint8_t pre_order[QCOW2_HUFF_PRE] = { 16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
						   11, 4,  12, 3, 13, 2, 14, 1, 15 };
static const uint8_t pre_extra[QCOW2_HUFF_PRE] = { [16] = 2, [17] = 3, [18] = 7 };

static void add_item(struct lengths *l, unsigned symbol, unsigned extra)
{
	l->item[l->nr++] = (uint16_t)(symbol | extra << 8);
	l->freq[symbol]++;
}

/* `run` times the same length. */
static void add_run(struct lengths *l, unsigned len, unsigned run)
{
	while (len == 0 && run >= 3) {
		unsigned n = TD_MIN(run, 138u);

		add_item(l, n > 10 ? 18 : 17, n > 10 ? n - 11 : n - 3);
		run -= n;
	}
	if (run == 0)
		return;
	add_item(l, len, 0);
	run--;
	while (len != 0 && run >= 3) {
		unsigned n = TD_MIN(run, 6u);

		add_item(l, 16, n - 3);
		run -= n;
	}
	while (run-- > 0)
		add_item(l, len, 0);
}

static void count_lengths(const struct qcow2_deflater *d, struct lengths *l)
{
	uint8_t all[QCOW2_HUFF_LIT + QCOW2_HUFF_DIST];
	unsigned n, run;

	*l = (struct lengths){ .nr_lit = QCOW2_HUFF_LIT, .nr_dist = QCOW2_HUFF_DIST };
	while (l->nr_lit > 257 && d->lit.len[l->nr_lit - 1] == 0)
		l->nr_lit--;
	while (l->nr_dist > 1 && d->dist.len[l->nr_dist - 1] == 0)
		l->nr_dist--;
	memcpy(all, d->lit.len, l->nr_lit);
	memcpy(all + l->nr_lit, d->dist.len, l->nr_dist);
	n = l->nr_lit + l->nr_dist;
	for (unsigned i = 0; i < n; i += run) {
		for (run = 1; i + run < n && all[i + run] == all[i]; run++)
			;
		add_run(l, all[i], run);
	}
}

static unsigned pre_codes(const struct qcow2_huff *pre)
{
	unsigned n = QCOW2_HUFF_PRE;

	while (n > 4 && pre->len[pre_order[n - 1]] == 0)
		n--;
	return n;
}

static uint64_t head_cost(const struct lengths *l, const struct qcow2_huff *pre)
{
	uint64_t n = 5 + 5 + 4 + 3ull * pre_codes(pre);

	for (unsigned i = 0; i < QCOW2_HUFF_PRE; i++)
		n += (uint64_t)l->freq[i] * (pre->len[i] + pre_extra[i]);
	return n;
}

static void put_head(struct bits *b, const struct lengths *l, const struct qcow2_huff *pre)
{
	unsigned n = pre_codes(pre);

	put(b, l->nr_lit - 257, 5);
	put(b, l->nr_dist - 1, 5);
	put(b, n - 4, 4);
	for (unsigned i = 0; i < n; i++) {
		put(b, pre->len[pre_order[i]], 3);
		flush(b);
	}
	for (unsigned i = 0; i < l->nr; i++) {
		unsigned symbol = l->item[i] & 0xff;

		put(b, pre->code[symbol], pre->len[symbol]);
		put(b, l->item[i] >> 8, pre_extra[symbol]);
		flush(b);
	}
}

/* The tokens that were made as one block.  False: they do not fit. */
static bool put_block(struct qcow2_deflater *d, struct bits *b, bool final)
{
	struct lengths l;
	uint64_t own, fixed, need;

	d->lit_freq[256] = 1;
	qcow2_huff_build(&d->lit, d->lit_freq, QCOW2_HUFF_LIT, 15, &d->work);
	qcow2_huff_build(&d->dist, d->dist_freq, QCOW2_HUFF_DIST, 15, &d->work);
	count_lengths(d, &l);
	qcow2_huff_build(&d->pre, l.freq, QCOW2_HUFF_PRE, 7, &d->work);
	own = head_cost(&l, &d->pre) + cost(d, &d->lit, &d->dist);
	fixed = cost(d, &d->fixed_lit, &d->fixed_dist);
	need = (b->nr + 3 + TD_MIN(own, fixed)) / 8 + SLACK;
	if (need > (uint64_t)(b->end - b->out))
		return false;
	put(b, final, 1);
	if (fixed <= own) {
		put(b, 1, 2);
		put_tokens(b, d, &d->fixed_lit, &d->fixed_dist);
		return true;
	}
	put(b, 2, 2);
	flush(b);
	put_head(b, &l, &d->pre);
	put_tokens(b, d, &d->lit, &d->dist);
	return true;
}

/* ---- the interface ---- */

size_t qcow2_deflater_size(void)
{
	return sizeof(struct qcow2_deflater);
}

void qcow2_deflater_init(struct qcow2_deflater *d)
{
	uint8_t lens[QCOW2_HUFF_LIT + 2];

	for (unsigned slot = 0; slot < 29; slot++)
		for (unsigned n = length_base[slot]; n <= MAX_MATCH; n++)
			d->slot_of_length[n] = (uint8_t)slot;
	for (unsigned i = 0; i < sizeof(lens); i++)
		lens[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
	qcow2_huff_codes(&d->fixed_lit, lens, sizeof(lens));
	memset(lens, 5, sizeof(lens));
	qcow2_huff_codes(&d->fixed_dist, lens, QCOW2_HUFF_DIST);
}

size_t qcow2_deflater_run(struct qcow2_deflater *d, const void *in, size_t in_len, void *out, size_t out_len)
{
	struct find f = { .d = d, .in = in, .len = (uint32_t)in_len };
	struct bits b = { .out = out, .end = (uint8_t *)out + out_len };
	uint32_t p = 0;

	if (in_len == 0 || in_len > QCOW2_DEFLATER_MAX)
		return 0;
	for (unsigned i = 0; i < TD_NELEMS(d->head4); i++)
		d->head4[i] = NONE;
	for (unsigned i = 0; i < TD_NELEMS(d->head3); i++)
		d->head3[i] = NONE;
	while (p < f.len) {
		p = tokenize(&f, p);
		if (!put_block(d, &b, p == f.len))
			return 0;
	}
	put(&b, 0, (8 - b.nr) & 7);
	flush(&b);
	return (size_t)(b.out - (uint8_t *)out);
}
