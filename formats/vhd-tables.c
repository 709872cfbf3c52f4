// SPDX-License-Identifier: BSD-2-Clause
/*
 * Bitmaps of blocks, and XenServer's batmap.
 *
 * Source: the specification, "Block Allocation Table and Data Blocks"; xapi-project/blktap include/vhd.h and vhd/lib.
 */
#include <blktap/vhd.h>

#define WORD 64u

/* ---- a block's bitmap ---- */

uint32_t vhd_bits_run(const uint8_t *bits, uint32_t first, uint32_t max)
{
	bool set = vhd_bit(bits, first);
	uint64_t all = set ? UINT64_MAX : 0;
	uint32_t n = 0;

	while (n < max) {
		uint32_t at = first + n;

		/* Whole words while there are; the rest bit by bit. */
		if (at % 8 == 0 && max - n >= WORD) {
			uint64_t odd = td_get_be64(bits + at / 8) ^ all;

			if (odd != 0)
				return n + (uint32_t)__builtin_clzll(odd);
			n += WORD;
		} else if (vhd_bit(bits, at) == set) {
			n++;
		} else {
			break;
		}
	}
	return n;
}

void vhd_bits_set(uint8_t *bits, uint32_t first, uint32_t nr)
{
	for (uint32_t i = first; i < first + nr;) {
		if (i % 8 == 0 && first + nr - i >= 8) {
			bits[i / 8] = 0xff;
			i += 8;
		} else {
			bits[i / 8] = (uint8_t)(bits[i / 8] | 0x80u >> i % 8);
			i++;
		}
	}
}

bool vhd_bits_full(const uint8_t *bits, size_t len)
{
	for (size_t i = 0; i < len; i += WORD / 8)
		if (td_get_be64(bits + i) != UINT64_MAX)
			return false;
	return true;
}

/* ---- the batmap ---- */

enum { AT_OFF = 8, AT_SECTORS = 16, AT_VERSION = 20, AT_CHECKSUM = 24 };

static const char cookie[8] = "tdbatmap";

int vhd_batmap_decode(const uint8_t raw[VHD_SECTOR], const struct vhd_geom *g, struct vhd_batmap *ret)
{
	struct vhd_batmap m = {
		.off = td_get_be64(raw + AT_OFF),
		.sectors = td_get_be32(raw + AT_SECTORS),
		.version = td_get_be32(raw + AT_VERSION),
		.checksum = td_get_be32(raw + AT_CHECKSUM),
	};

	if (memcmp(raw, cookie, sizeof(cookie)) != 0)
		return -EINVAL;
	if (m.version > VHD_BATMAP_VERSION)
		return -ENOTSUP;
	if (m.off < g->batmap_off + VHD_SECTOR || m.off % VHD_SECTOR != 0 || m.off > INT64_MAX / 2 ||
	    (uint64_t)m.sectors * VHD_SECTOR * 8 < g->nr_blocks)
		return -EUCLEAN;
	*ret = m;
	return 0;
}

void vhd_batmap_encode(const struct vhd_batmap *m, uint8_t raw[VHD_SECTOR])
{
	memcpy(raw, cookie, sizeof(cookie));
	td_put_be64(raw + AT_OFF, m->off);
	td_put_be32(raw + AT_SECTORS, m->sectors);
	td_put_be32(raw + AT_VERSION, m->version);
	td_put_be32(raw + AT_CHECKSUM, m->checksum);
}

/* XenServer counts in blocks of 2 MiB whatever size they have, and rounds the bytes down before it rounds up. */
uint64_t vhd_batmap_summed(uint64_t disk_size, uint32_t sectors)
{
	uint64_t bytes = disk_size / VHD_BLOCK / 8;

	bytes = td_align_up(TD_MAX(bytes, 1u), VHD_SECTOR);
	return TD_MIN(bytes, (uint64_t)sectors * VHD_SECTOR);
}

/* Until version 1.1 its bytes were added as signed ones. */
uint32_t vhd_batmap_sum(const uint8_t *bits, uint64_t len, uint32_t version)
{
	uint32_t sum = 0;

	for (uint64_t i = 0; i < len; i++) {
		sum += bits[i];
		if (version < VHD_BATMAP_VERSION && bits[i] >= 0x80)
			sum -= 0x100;
	}
	return ~sum;
}
