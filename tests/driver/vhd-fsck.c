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

/* What lies in the file, in any order, and then sorted. */
struct piece {
	uint64_t off, end;
};

struct pieces {
	struct piece *at;
	size_t nr;
};

static int by_place(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

static void put(struct pieces *p, uint64_t off, uint64_t len)
{
	if (len > 0)
		p->at[p->nr++] = (struct piece){ off, off + len };
}

/* No byte is in two; space for a block that is in none, in front of end, is a hole. */
static int look_at_pieces(struct vhd_fsck *k, struct pieces *p, uint64_t block_len, uint64_t end)
{
	uint64_t at = 0;

	qsort(p->at, p->nr, sizeof(*p->at), by_place);
	for (size_t i = 0; i < p->nr; i++) {
		if (p->at[i].off < at)
			return wrong("a block over another or over tables", p->at[i].off);
		k->holes += (p->at[i].off - at) / block_len;
		at = p->at[i].end;
	}
	k->holes += end > at ? (end - at) / block_len : 0;
	return 0;
}

#define TABLES 16u

/* The copy of the footer, the header, the BAT, the batmap and the parent's names. */
static void put_tables(struct pieces *p, const uint8_t *file, size_t size)
{
	uint64_t header = td_get_be64(file + 16), off = td_get_be64(file + header + 16), batmap;
	uint64_t bat_len = td_align_up((uint64_t)td_get_be32(file + header + 28) * 4, 512);

	put(p, 0, 512);
	put(p, header, 1024);
	put(p, off, bat_len);
	batmap = off + bat_len;
	if (td_in_range(batmap, 512, size) && memcmp(file + batmap, "tdbatmap", 8) == 0) {
		put(p, batmap, 512);
		put(p, td_get_be64(file + batmap + 8), (uint64_t)td_get_be32(file + batmap + 16) * 512);
	}
	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *locator = file + header + 576 + (size_t)i * 24;

		if (td_get_be32(locator))
			put(p, td_get_be64(locator + 16), td_align_up(td_get_be32(locator + 8), 512));
	}
}

static int put_blocks(struct vhd_fsck *k, struct pieces *p, const uint8_t *bat, uint32_t max, uint64_t len,
		      uint64_t end)
{
	for (uint32_t i = 0; i < max; i++) {
		uint64_t off = (uint64_t)td_get_be32(bat + (size_t)i * 4) * 512;

		if (off == (uint64_t)VHD_UNUSED * 512)
			continue;
		if (!td_in_range(off, len, end))
			return wrong("a block outside the file", off);
		put(p, off, len);
		k->blocks++;
	}
	return 0;
}

static int bat(struct vhd_fsck *k, const uint8_t *file, size_t size, const uint8_t *head)
{
	uint64_t off = td_get_be64(head + 16), block = td_get_be32(head + 32);
	uint64_t len = block + TD_MAX(512u, block / 4096);
	uint32_t max = td_get_be32(head + 28);
	struct pieces p = { 0 };
	int r;

	if (!td_in_range(off, (uint64_t)max * 4, size))
		return wrong("the BAT lies outside the file", off);
	p.at = calloc((size_t)max + TABLES, sizeof(*p.at));
	if (!p.at)
		abort();
	put_tables(&p, file, size);
	/* Cut off by a crash, it may end within its last sector. */
	r = put_blocks(k, &p, file + off, max, len, td_align_up(size, 512));
	if (r == 0)
		r = look_at_pieces(k, &p, len, k->whole ? size - 512 : size);
	free(p.at);
	return r;
}

static int look(struct vhd_fsck *k, const uint8_t *file, size_t size)
{
	uint64_t head;

	if (size < 2048 || !sum_ok(file, 512, 64) || memcmp(file, "conectix", 8) != 0)
		return wrong("the copy of the footer", size);
	head = td_get_be64(file + 16);
	if (!td_in_range(head, 1024, size) || !sum_ok(file + head, 1024, 36))
		return wrong("the header", head);
	k->whole = size % 512 == 0 && memcmp(file, file + size - 512, 512) == 0;
	return bat(k, file, size, file + head);
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
