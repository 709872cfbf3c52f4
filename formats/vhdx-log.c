// SPDX-License-Identifier: BSD-2-Clause
/*
 * The log: a ring of sectors of 4 KiB.
 *
 *	entry = | header, descriptors | descriptors ... | data | data ...
 *
 * A descriptor says "zeros from here to there", or "this sector", whose bytes are in the next data sector but for 8 at
 * its start and 4 at its end: there the sector bears a mark and the entry's number, and the descriptor has the bytes.
 *
 * Nothing was changed in its place before its entry was whole on disk.  So a run of entries whose numbers go on is all
 * that counts, and its last entry says with which one to begin.  When no entry is whole, none was applied.
 *
 * No sector of an entry but its first may look like the start of one.  So two that could be valid never share a sector,
 * and a search sums each byte twice at most, whatever stands there.
 */
#include <blktap/vhdx.h>

enum {
	AT_CHECKSUM = 4,
	AT_LEN = 8,
	AT_TAIL = 12,
	AT_SEQUENCE = 16,
	AT_COUNT = 24,
	AT_GUID = 32,
	AT_FLUSHED = 48,
	AT_FILE_SIZE = 56,

	DESC = 32,
	DESC_TRAILING = 4,
	DESC_LEADING = 8, /* of "zero": how many */
	DESC_OFF = 16,
	DESC_SEQUENCE = 24,
	PER_SECTOR = VHDX_SECTOR / DESC,
	HEADER_DESCS = 2, /* the header is as long as two */

	DATA_HIGH = 4,
	DATA_LOW = VHDX_SECTOR - 4,
};

struct ring {
	const uint8_t *bytes;
	uint32_t nr; /* sectors */
	const uint8_t *guid;
};

struct entry {
	uint32_t at, nr; /* sectors */
	uint32_t descs, desc_sectors;
	uint32_t tail; /* a sector */
	uint64_t sequence;
};

static const uint8_t *sector_of(const struct ring *ring, uint32_t at)
{
	return ring->bytes + (size_t)(at % ring->nr) * VHDX_SECTOR;
}

static const uint8_t *desc_of(const struct ring *ring, const struct entry *e, uint32_t i)
{
	i += HEADER_DESCS;
	return sector_of(ring, e->at + i / PER_SECTOR) + (size_t)(i % PER_SECTOR) * DESC;
}

/* ---- is it whole? ---- */

static bool header_ok(const struct ring *ring, uint32_t at, struct entry *ret)
{
	const uint8_t *p = sector_of(ring, at);
	const uint32_t len = td_get_le32(p + AT_LEN), tail = td_get_le32(p + AT_TAIL);

	if (memcmp(p, "loge", 4) != 0 || (ring->guid && memcmp(p + AT_GUID, ring->guid, TD_GUID) != 0))
		return false;
	*ret = (struct entry){
		.at = at,
		.nr = len / VHDX_SECTOR,
		.descs = td_get_le32(p + AT_COUNT),
		.tail = tail / VHDX_SECTOR,
		.sequence = td_get_le64(p + AT_SEQUENCE),
	};
	if (len % VHDX_SECTOR || tail % VHDX_SECTOR || ret->nr == 0 || ret->nr > ring->nr ||
	    ret->tail >= ring->nr || ret->sequence == 0 || ret->descs > ret->nr * PER_SECTOR - HEADER_DESCS)
		return false;
	ret->desc_sectors = (ret->descs + HEADER_DESCS + PER_SECTOR - 1) / PER_SECTOR;
	return true;
}

static bool data_ok(const uint8_t *p, uint64_t sequence)
{
	return memcmp(p, "data", 4) == 0 && td_get_le32(p + DATA_HIGH) == (uint32_t)(sequence >> 32) &&
	       td_get_le32(p + DATA_LOW) == (uint32_t)sequence;
}

static bool zeros_ok(const uint8_t *p)
{
	const uint64_t off = td_get_le64(p + DESC_OFF), len = td_get_le64(p + DESC_LEADING);

	return len % VHDX_SECTOR == 0 && td_in_range(off, len, VHDX_OFF_MAX);
}

static bool descs_ok(const struct ring *ring, const struct entry *e)
{
	uint32_t data = e->desc_sectors;

	for (uint32_t i = 0; i < e->descs; i++) {
		const uint8_t *p = desc_of(ring, e, i);
		const uint64_t off = td_get_le64(p + DESC_OFF);

		if (td_get_le64(p + DESC_SEQUENCE) != e->sequence || off % VHDX_SECTOR || off > VHDX_OFF_MAX)
			return false;
		if (memcmp(p, "zero", 4) == 0) {
			if (!zeros_ok(p))
				return false;
		} else if (memcmp(p, "desc", 4) != 0 || data >= e->nr ||
			   !data_ok(sector_of(ring, e->at + data++), e->sequence)) {
			return false;
		}
	}
	return true;
}

static bool entry_ok(const struct ring *ring, uint32_t at, struct entry *ret)
{
	uint32_t crc;

	if (!header_ok(ring, at, ret))
		return false;
	for (uint32_t i = 1; i < ret->nr; i++)
		if (memcmp(sector_of(ring, at + i), "loge", 4) == 0)
			return false;
	if (!descs_ok(ring, ret))
		return false;
	crc = vhdx_crc(0, sector_of(ring, at), VHDX_SECTOR, AT_CHECKSUM);
	for (uint32_t i = 1; i < ret->nr; i++)
		crc = vhdx_crc(crc, sector_of(ring, at + i), VHDX_SECTOR, VHDX_NO_HOLE);
	return crc == td_get_le32(sector_of(ring, at) + AT_CHECKSUM);
}

/* ---- which run counts? ---- */

struct run {
	uint32_t start, sectors, entries;
	struct entry last;
};

static void run_from(const struct ring *ring, uint32_t start, struct run *ret)
{
	struct entry e;

	*ret = (struct run){ .start = start };
	while (ret->sectors < ring->nr && entry_ok(ring, (start + ret->sectors) % ring->nr, &e)) {
		if (ret->entries > 0 && e.sequence != ret->last.sequence + 1)
			break;
		if (e.nr > ring->nr - ret->sectors) /* it has come around to its own first entry */
			break;
		ret->sectors += e.nr;
		ret->entries++;
		ret->last = e;
	}
}

/* The part of it that its last entry asks for; one without that entry has lost its start. */
static bool begin_at_tail(const struct ring *ring, struct run *run)
{
	struct entry e;

	for (uint32_t at = run->start; run->entries > 0; run->entries--) {
		if (at % ring->nr == run->last.tail) {
			run->start = run->last.tail;
			return true;
		}
		if (!header_ok(ring, at % ring->nr, &e))
			return false;
		at += e.nr;
	}
	return false;
}

void vhdx_log_find(const uint8_t *log, uint32_t len, const uint8_t guid[TD_GUID], struct vhdx_log *ret)
{
	const struct ring ring = { .bytes = log, .nr = len / VHDX_SECTOR, .guid = guid };
	struct run run;

	*ret = (struct vhdx_log){ .entries = 0 };
	for (uint32_t at = 0; at < ring.nr; at += TD_MAX(run.sectors, 1u)) {
		run_from(&ring, at, &run);
		if (run.entries == 0 || run.last.sequence <= ret->sequence || !begin_at_tail(&ring, &run))
			continue;
		*ret = (struct vhdx_log){
			.first = run.start,
			.entries = run.entries,
			.sequence = run.last.sequence,
			.flushed = td_get_le64(sector_of(&ring, run.last.at) + AT_FLUSHED),
			.file_size = td_get_le64(sector_of(&ring, run.last.at) + AT_FILE_SIZE),
		};
	}
}

/* ---- doing it again ---- */

static int replay_entry(const struct ring *ring, uint8_t *log, const struct entry *e, vhdx_change_fn *fn,
			void *arg)
{
	uint32_t data = e->at + e->desc_sectors;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < e->descs; i++) {
		const uint8_t *p = desc_of(ring, e, i);
		const uint64_t off = td_get_le64(p + DESC_OFF);
		uint8_t *sector;

		if (memcmp(p, "zero", 4) == 0) {
			r = fn(arg, off, td_get_le64(p + DESC_LEADING), NULL);
			continue;
		}
		sector = log + (size_t)(data++ % ring->nr) * VHDX_SECTOR;
		memcpy(sector, p + DESC_LEADING, 8);
		memcpy(sector + DATA_LOW, p + DESC_TRAILING, 4);
		r = fn(arg, off, VHDX_SECTOR, sector);
	}
	return r;
}

int vhdx_log_replay(uint8_t *log, uint32_t len, const struct vhdx_log *what, vhdx_change_fn *fn, void *arg)
{
	const struct ring ring = { .bytes = log, .nr = len / VHDX_SECTOR };
	uint32_t at = what->first;
	struct entry e;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < what->entries; i++) {
		if (!header_ok(&ring, at, &e))
			return -EUCLEAN;
		r = replay_entry(&ring, log, &e, fn, arg);
		at = (at + e.nr) % ring.nr;
	}
	return r;
}
