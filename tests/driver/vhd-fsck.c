// SPDX-License-Identifier: BSD-2-Clause
#include "vhd-fsck.h"

#include <blktap/vhd.h>

#include <stdio.h>
#include <stdlib.h>

/* The specification's checksum: all bytes but its own. */
static bool sum_ok(const uint8_t *raw, size_t len, size_t at)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i < at || i >= at + 4 ? raw[i] : 0;
	return ~sum == td_get_be32(raw + at);
}

static int wrong(const char *what, unsigned long long n)
{
	(void)fprintf(stderr, "fsck: %s (%llu)\n", what, n);
	return -1;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Blocks in order: each inside the file as far as its bitmap, behind the tables, and over no other. */
static int blocks(struct vhd_fsck *k, uint32_t *at, uint64_t nr, uint64_t first, uint64_t len, uint64_t size)
{
	uint64_t end = first;

	qsort(at, nr, sizeof(*at), by_value);
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t off = (uint64_t)at[i] * 512;

		if (off < end)
			return wrong("a block over another or over tables", off);
		if (off + len > td_align_up(size, 512))
			return wrong("a block outside the file", off);
		k->holes += i > 0 ? (off - end) / len : 0; /* before the first are names, and a batmap */
		end = off + len;
	}
	k->blocks = nr;
	k->holes += end + len <= size ? (size - end) / len : 0;
	return 0;
}

static int bat(struct vhd_fsck *k, const uint8_t *file, size_t size, const uint8_t *head)
{
	uint64_t off = td_get_be64(head + 16), block = td_get_be32(head + 32), nr = 0, first;
	uint32_t max = td_get_be32(head + 28), *at;
	int r;

	if (!td_in_range(off, (uint64_t)max * 4, size))
		return wrong("the BAT lies outside the file", off);
	at = calloc(max + 1, sizeof(*at));
	for (uint32_t i = 0; at && i < max; i++)
		if (td_get_be32(file + off + (size_t)i * 4) != VHD_UNUSED)
			at[nr++] = td_get_be32(file + off + (size_t)i * 4);
	first = td_align_up(off + (uint64_t)max * 4, 512);
	r = at ? blocks(k, at, nr, first, block + TD_MAX(512u, block / 4096), size) : -1;
	free(at);
	return r;
}

int vhd_fsck(const char *path, struct vhd_fsck *ret)
{
	FILE *f = fopen(path, "re");
	uint8_t *file = malloc(VHD_FSCK_MAX);
	size_t size;
	int r = -1;

	*ret = (struct vhd_fsck){ 0 };
	if (!f || !file)
		abort();
	size = fread(file, 1, VHD_FSCK_MAX, f);
	(void)fclose(f);
	if (size < 2048 || !sum_ok(file, 512, 64) || memcmp(file, "conectix", 8) != 0)
		r = wrong("the copy of the footer", size);
	else if (!td_in_range(td_get_be64(file + 16), 1024, size) ||
		 !sum_ok(file + td_get_be64(file + 16), 1024, 36))
		r = wrong("the header", td_get_be64(file + 16));
	else
		r = bat(ret, file, size, file + td_get_be64(file + 16));
	ret->whole = r == 0 && size % 512 == 0 && memcmp(file, file + size - 512, 512) == 0;
	free(file);
	return r;
}
