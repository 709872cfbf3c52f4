// SPDX-License-Identifier: BSD-2-Clause
/*
 * Images as fuzzer inputs: cut into sectors, put together, and changed where it hurts: header fields, table entries,
 * the length of the file.
 */
#include "image-input.h"

#include <stdio.h>

#include "fuzz.h"

static uint32_t get_le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get_le64(const uint8_t *p)
{
	return get_le32(p) | (uint64_t)get_le32(p + 4) << 32;
}

static void put_le32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static void put_le64(uint8_t *p, uint64_t v)
{
	put_le32(p, (uint32_t)v);
	put_le32(p + 4, (uint32_t)(v >> 32));
}

/* ---- encode ---- */

static bool all_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

static void put_head(uint8_t *buf, uint32_t todo, uint64_t file_len)
{
	td_put_be32(buf, 0x465a494d); /* FZIM */
	put_le32(buf + 4, todo);
	put_le64(buf + 8, file_len);
}

size_t input_encode(uint32_t todo, const uint8_t *raw, uint64_t raw_len, uint8_t *buf, size_t max)
{
	size_t len = INPUT_HEAD;

	put_head(buf, todo, raw_len);
	for (uint64_t at = 0; at < raw_len; at += INPUT_SECTOR) {
		size_t n = TD_MIN(INPUT_SECTOR, raw_len - at);

		if (all_zero(raw + at, n))
			continue;
		if (max - len < INPUT_UNIT)
			return 0;
		put_le32(buf + len, (uint32_t)(at / INPUT_SECTOR));
		memset(buf + len + 4, 0, INPUT_SECTOR);
		memcpy(buf + len + 4, raw + at, n);
		len += INPUT_UNIT;
	}
	return len;
}

/* ---- decode ---- */

static void add_unit(struct input *in, uint64_t sector, const uint8_t *data, size_t len)
{
	uint8_t *to = in->bytes + (size_t)in->nr * INPUT_SECTOR;
	unsigned i;

	for (i = 0; i < in->nr && in->unit[i].sector < sector; i++)
		;
	if (i < in->nr && in->unit[i].sector == sector) {
		to = (uint8_t *)(uintptr_t)in->unit[i].data;
	} else if (in->nr == INPUT_MAX_UNITS) {
		return;
	} else {
		memmove(&in->unit[i + 1], &in->unit[i], (in->nr - i) * sizeof(in->unit[0]));
		in->unit[i] = (struct input_unit){ sector, to };
		in->nr++;
	}
	memset(to, 0, INPUT_SECTOR);
	memcpy(to, data, len);
}

int input_decode(const uint8_t *data, size_t len, struct input *ret)
{
	ret->nr = 0;
	if (len >= 4 && td_get_be32(data) == QCOW2_MAGIC) {
		ret->todo = (uint32_t)len;
		ret->file_len = len;
		for (size_t at = 0; at < len; at += INPUT_SECTOR)
			if (!all_zero(data + at, TD_MIN(INPUT_SECTOR, len - at)))
				add_unit(ret, at / INPUT_SECTOR, data + at, TD_MIN(INPUT_SECTOR, len - at));
		return 0;
	}
	if (len < INPUT_HEAD + 4)
		return -EINVAL;
	ret->todo = get_le32(data + 4);
	ret->file_len = get_le64(data + 8) % INPUT_MAX_FILE;
	for (size_t at = INPUT_HEAD; at + 4 < len; at += INPUT_UNIT)
		add_unit(ret, get_le32(data + at), data + at + 4, TD_MIN(INPUT_SECTOR, len - at - 4));
	return 0;
}

void input_read(const struct input *in, uint64_t off, void *buf, size_t len)
{
	uint8_t *out = buf;

	memset(out, 0, len);
	for (unsigned i = 0; i < in->nr; i++) {
		uint64_t start = in->unit[i].sector * INPUT_SECTOR;
		uint64_t end = TD_MIN(start + INPUT_SECTOR, in->file_len);
		uint64_t a = TD_MAX(start, off), b = TD_MIN(end, off + len);

		if (a < b)
			memcpy(out + (a - off), in->unit[i].data + (a - start), b - a);
	}
}

/* ---- mutate ---- */

struct mutation {
	uint8_t *data;
	size_t len, max;
	uint64_t random;
};

static uint64_t next(struct mutation *m)
{
	uint64_t z = m->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static uint64_t below(struct mutation *m, uint64_t n)
{
	return n ? next(m) % n : 0;
}

static unsigned nr_units(const struct mutation *m)
{
	return (unsigned)((m->len - INPUT_HEAD) / INPUT_UNIT);
}

static uint8_t *unit_at(const struct mutation *m, unsigned i)
{
	return m->data + INPUT_HEAD + (size_t)i * INPUT_UNIT;
}

static uint8_t *header_of(const struct mutation *m)
{
	for (unsigned i = 0; i < nr_units(m); i++)
		if (get_le32(unit_at(m, i)) == 0)
			return unit_at(m, i) + 4;
	return NULL;
}

static unsigned cluster_bits(const struct mutation *m)
{
	const uint8_t *h = header_of(m);

	return h ? td_get_be32(h + 20) % 22 : 16;
}

/* A number that some check somewhere is about. */
static uint64_t telling(struct mutation *m)
{
	static const uint64_t numbers[] = {
		0,          1,          2,          3,          7,          8,          9,
		63,         64,         511,        512,        513,        65535,      65536,
		65537,      1ull << 20, 1ull << 22, 1ull << 24, 1ull << 31, 1ull << 32, 1ull << 40,
		1ull << 55, 1ull << 56, 1ull << 62, 1ull << 63, ~0ull,
	};
	uint64_t n = numbers[below(m, TD_NELEMS(numbers))];

	return n + below(m, 3) - 1;
}

/* Some place in the file, mostly a cluster that holds something. */
static uint64_t place(struct mutation *m)
{
	uint64_t cluster = 1ull << cluster_bits(m), at;

	switch (below(m, 8)) {
	case 0:
		at = telling(m);
		break;
	case 1:
		at = get_le64(m->data + 8) + below(m, 3) * cluster - cluster;
		break;
	default:
		at = (uint64_t)get_le32(unit_at(m, (unsigned)below(m, nr_units(m)))) * INPUT_SECTOR;
		break;
	}
	return below(m, 16) ? at & ~(cluster - 1) : at;
}

static void change_header(struct mutation *m)
{
	static const struct {
		unsigned at, len;
	} fields[] = {
		{ 4, 4 },  { 8, 8 },  { 16, 4 },  { 20, 4 },  { 24, 8 },  { 32, 4 },  { 36, 4 },
		{ 40, 8 }, { 48, 8 }, { 56, 4 },  { 60, 4 },  { 64, 8 },  { 72, 8 },  { 80, 8 },
		{ 88, 8 }, { 96, 4 }, { 100, 4 }, { 104, 1 }, { 112, 4 }, { 116, 4 },
	};
	uint8_t *h = header_of(m);
	unsigned i = (unsigned)below(m, TD_NELEMS(fields));
	uint64_t v;

	if (!h)
		return;
	h += fields[i].at;
	v = below(m, 2) ? telling(m) : place(m);
	if (fields[i].len == 1)
		*h = (uint8_t)below(m, 3);
	else if (fields[i].len == 4)
		td_put_be32(h, below(m, 3) ? td_get_be32(h) + (uint32_t)below(m, 5) - 2 : (uint32_t)v);
	else
		td_put_be64(h, below(m, 4) ? v : td_get_be64(h) ^ 1ull << below(m, 64));
}

/* A word of a table: mostly one that is not zero already. */
static void change_entry(struct mutation *m)
{
	uint64_t flags[] = { 0,
			     QCOW2_COPIED,
			     QCOW2_COPIED,
			     QCOW2_L2_COMPRESSED,
			     QCOW2_L2_ZERO,
			     QCOW2_COPIED | QCOW2_L2_ZERO };
	uint8_t *word = NULL;
	uint64_t v;

	for (unsigned tries = 0; tries < 20; tries++) {
		word = unit_at(m, (unsigned)below(m, nr_units(m))) + 4 + 8 * below(m, INPUT_SECTOR / 8);
		if (!all_zero(word, 8))
			break;
	}
	v = td_get_be64(word);
	switch (below(m, 6)) {
	case 0:
		v ^= 1ull << below(m, 64);
		break;
	case 1:
		v = telling(m);
		break;
	case 2:
		v ^= flags[below(m, TD_NELEMS(flags))];
		break;
	default:
		v = place(m) | flags[below(m, TD_NELEMS(flags))];
		if ((v & QCOW2_L2_COMPRESSED) && cluster_bits(m) > 8)
			v |= below(m, 1ull << (cluster_bits(m) - 8)) << (70 - cluster_bits(m));
		break;
	}
	td_put_be64(word, v);
}

static void change_length(struct mutation *m)
{
	uint64_t len = get_le64(m->data + 8), cluster = 1ull << cluster_bits(m);

	switch (below(m, 5)) {
	case 0:
		len = below(m, len + 1);
		break;
	case 1:
		len = len / cluster * cluster + cluster * below(m, 3);
		break;
	case 2:
		len -= TD_MIN(len, cluster);
		break;
	case 3:
		len = place(m) + below(m, 3) - 1;
		break;
	default:
		len = 1ull << below(m, 41);
		break;
	}
	put_le64(m->data + 8, len);
}

static void change_units(struct mutation *m)
{
	unsigned nr = nr_units(m), i = (unsigned)below(m, nr), j = (unsigned)below(m, nr);

	switch (below(m, 3)) {
	case 0: /* one as another */
		memcpy(unit_at(m, i) + 4, unit_at(m, j) + 4, INPUT_SECTOR);
		break;
	case 1: /* elsewhere */
		put_le32(unit_at(m, i), (uint32_t)(place(m) / INPUT_SECTOR));
		break;
	default: /* once more */
		if (m->max - m->len < INPUT_UNIT)
			return;
		memcpy(m->data + m->len, unit_at(m, i), INPUT_UNIT);
		put_le32(m->data + m->len, (uint32_t)(place(m) / INPUT_SECTOR));
		m->len += INPUT_UNIT;
		break;
	}
}

static void change_bytes(struct mutation *m)
{
	for (uint64_t n = 1 + below(m, 4); n > 0; n--)
		m->data[INPUT_HEAD + below(m, m->len - INPUT_HEAD)] ^= (uint8_t)(1u << below(m, 8));
}

/* A plain image as units; what is neither gets nothing done to it. */
static size_t to_units(uint8_t *data, size_t len, size_t max)
{
	static uint8_t raw[INPUT_MAX];

	if (len < 4 || len > sizeof(raw) || td_get_be32(data) != QCOW2_MAGIC)
		return len;
	memcpy(raw, data, len);
	return input_encode((uint32_t)len, raw, len, data, max);
}

size_t input_mutate(uint8_t *data, size_t len, size_t max, uint32_t seed)
{
	struct mutation m = { .data = data, .max = max, .random = seed };

	m.len = to_units(data, len, max);
	if (m.len < INPUT_HEAD + INPUT_UNIT)
		return len;
	for (uint64_t n = 1 + below(&m, 4); n > 0; n--) {
		switch (below(&m, 10)) {
		case 0:
		case 1:
			change_header(&m);
			break;
		case 2:
			change_length(&m);
			break;
		case 3:
			change_units(&m);
			break;
		case 4:
			change_bytes(&m);
			break;
		case 5:
			put_le32(m.data + 4, (uint32_t)next(&m));
			break;
		default:
			change_entry(&m);
			break;
		}
	}
	return m.len;
}
