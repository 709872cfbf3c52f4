// SPDX-License-Identifier: BSD-2-Clause
#include "vhd-fsck.h"

#include <blktap/vhd.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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

struct tables {
	uint64_t off, end, block_len, file, header;
};

/* Blocks in order: each inside the file as far as its bitmap, and over nothing else. */
static int blocks(struct vhd_fsck *k, uint32_t *at, uint64_t nr, const struct tables *t)
{
	uint64_t end = 512; /* of the footer */

	qsort(at, nr, sizeof(*at), by_value);
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t off = (uint64_t)at[i] * 512, gap = off - end;

		if (off < end || td_overlap(off, t->block_len, t->off, t->end - t->off) ||
		    td_overlap(off, t->block_len, t->header, 1024))
			return wrong("a block over another or over tables", off);
		if (off + t->block_len > td_align_up(t->file, 512))
			return wrong("a block outside the file", off);
		if (i > 0 &&
		    (t->off < end || t->off > off)) /* before the first, and there, are names and a batmap */
			k->holes += gap / t->block_len;
		end = off + t->block_len;
	}
	k->blocks = nr;
	if (end + t->block_len <= t->file && t->off < end)
		k->holes += (t->file - end) / t->block_len;
	return 0;
}

static int bat(struct vhd_fsck *k, const uint8_t *file, size_t size, const uint8_t *head)
{
	uint64_t off = td_get_be64(head + 16), block = td_get_be32(head + 32), nr = 0;
	uint32_t max = td_get_be32(head + 28), *at;
	struct tables t = { off, td_align_up(off + (uint64_t)max * 4, 512),
			    block + TD_MAX(512u, block / 4096), size,
			    td_get_be64(file + 16) };
	int r;

	if (!td_in_range(off, (uint64_t)max * 4, size))
		return wrong("the BAT lies outside the file", off);
	at = calloc((size_t)max + 1, sizeof(*at));
	for (uint32_t i = 0; at && i < max; i++)
		if (td_get_be32(file + off + (size_t)i * 4) != VHD_UNUSED)
			at[nr++] = td_get_be32(file + off + (size_t)i * 4);
	r = at ? blocks(k, at, nr, &t) : -1;
	free(at);
	return r;
}

static int look(struct vhd_fsck *k, const uint8_t *file, size_t size)
{
	uint64_t head;
	int r;

	if (size < 2048 || !sum_ok(file, 512, 64) || memcmp(file, "conectix", 8) != 0)
		return wrong("the copy of the footer", size);
	head = td_get_be64(file + 16);
	if (!td_in_range(head, 1024, size) || !sum_ok(file + head, 1024, 36))
		return wrong("the header", head);
	r = bat(k, file, size, file + head);
	k->whole = r == 0 && size % 512 == 0 && memcmp(file, file + size - 512, 512) == 0;
	return r;
}

int vhd_fsck(const char *path, struct vhd_fsck *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	struct stat st;
	void *file;

	*ret = (struct vhd_fsck){ 0 };
	if (fd < 0 || fstat(fd, &st) < 0)
		abort();
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (file == MAP_FAILED)
		return wrong("it cannot be read", (unsigned long long)st.st_size);
	r = look(ret, file, (size_t)st.st_size);
	(void)munmap(file, (size_t)st.st_size);
	return r;
}
