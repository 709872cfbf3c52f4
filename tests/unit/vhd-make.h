// SPDX-License-Identifier: BSD-2-Clause
/* Footers and headers for the tests of the vhd codec: right in every field, for one to be broken. */
#ifndef TESTS_UNIT_VHD_MAKE_H
#define TESTS_UNIT_VHD_MAKE_H

#include <blktap/vhd.h>

#include "unit.h"

static inline void make_sum(uint8_t *raw, size_t len, size_t at)
{
	uint32_t sum = 0;

	td_put_be32(raw + at, 0);
	for (size_t i = 0; i < len; i++)
		sum += raw[i];
	td_put_be32(raw + at, ~sum);
}

static inline void make_footer(uint8_t raw[VHD_FOOTER], enum vhd_type type, uint64_t size)
{
	memset(raw, 0, VHD_FOOTER);
	memcpy(raw, "conectix", 8);
	td_put_be32(raw + 8, 2);
	td_put_be32(raw + 12, 0x00010000);
	td_put_be64(raw + 16, type == VHD_FIXED ? UINT64_MAX : 512);
	td_put_be32(raw + 24, 77);
	memcpy(raw + 28, "win ", 4);
	td_put_be32(raw + 32, 0x00060001);
	memcpy(raw + 36, "Wi2k", 4);
	td_put_be64(raw + 40, size);
	td_put_be64(raw + 48, size);
	td_put_be16(raw + 56, 10);
	raw[58] = 4;
	raw[59] = 17;
	td_put_be32(raw + 60, type);
	memcpy(raw + 68, "0123456789abcdef", 16);
	make_sum(raw, VHD_FOOTER, 64);
}

static inline void make_header(uint8_t raw[VHD_HEADER], uint32_t entries, uint32_t block_size)
{
	memset(raw, 0, VHD_HEADER);
	memcpy(raw, "cxsparse", 8);
	td_put_be64(raw + 8, UINT64_MAX);
	td_put_be64(raw + 16, 1536);
	td_put_be32(raw + 24, 0x00010000);
	td_put_be32(raw + 28, entries);
	td_put_be32(raw + 32, block_size);
	make_sum(raw, VHD_HEADER, 36);
}

#endif
