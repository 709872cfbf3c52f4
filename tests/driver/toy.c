// SPDX-License-Identifier: BSD-2-Clause
#include "toy.h"

#include <blktap/iov.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TABLE, DIRECTORY };

int toy_create(const char *path)
{
	static const uint8_t zeros[2 * TOY_SECTOR];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && write(fd, zeros, sizeof(zeros)) == sizeof(zeros);

	if (fd >= 0)
		(void)close(fd);
	return ok ? 0 : -EIO;
}

/* ---- where a sector is ---- */

/* *ret_entry is good until the caller yields; NULL: there is no table for it. */
static int find(struct toy *y, uint64_t sector, uint64_t *ret_table, uint8_t **ret_entry)
{
	uint8_t *dir = NULL, *table = NULL;
	uint64_t at;
	int r = td_meta_get(y->meta, DIRECTORY, TOY_DIR, &dir);

	if (r < 0)
		return r;
	at = td_get_le64(dir + sector / TOY_ENTRIES * 8);
	*ret_table = at;
	*ret_entry = NULL;
	if (at == 0)
		return 0;
	r = td_meta_get(y->meta, TABLE, at, &table);
	if (r == 0)
		*ret_entry = table + sector % TOY_ENTRIES * 8;
	return r;
}

static int grow(struct toy *y, uint64_t by, uint64_t *ret)
{
	int r = td_image_resize(y->im.child, y->end + by, 0, NULL);

	if (r < 0)
		return r;
	*ret = y->end;
	y->end += by;
	return 0;
}

static int add_table(struct toy *y, uint64_t sector)
{
	uint64_t there = 0, at = 0;
	uint8_t *bytes = NULL;
	int r = find(y, sector, &there, &bytes);

	if (r < 0 || there)
		return r;
	r = grow(y, 2ull * TOY_SECTOR, &at);
	if (r == 0)
		r = td_meta_new(y->meta, TABLE, at, &bytes);
	if (r == 0)
		r = td_meta_get(y->meta, DIRECTORY, TOY_DIR, &bytes);
	if (r < 0)
		return r;
	td_meta_mark(y->meta, DIRECTORY, TOY_DIR);
	td_put_le64(bytes + sector / TOY_ENTRIES * 8, at);
	return 0;
}

static int add_block(struct toy *y, uint64_t sector, const struct td_iov *iov)
{
	uint64_t table = 0, at = 0;
	uint8_t *entry = NULL;
	int r;

	td_mutex_lock(&y->alloc);
	r = add_table(y, sector);
	if (r == 0)
		r = grow(y, TOY_SECTOR, &at);
	td_mutex_unlock(&y->alloc);
	if (r == 0)
		r = td_image_pwritev(y->im.child, at, iov, 0);
	if (r == 0)
		r = find(y, sector, &table, &entry);
	if (r < 0)
		return r;
	td_meta_mark(y->meta, TABLE, table);
	td_put_le64(entry, at);
	return 0;
}

/* ---- the driver's slots ---- */

static int read_sector(struct toy *y, uint64_t sector, const struct td_iov *iov)
{
	uint64_t table = 0, at = 0;
	uint8_t *entry = NULL;
	int r = find(y, sector, &table, &entry);

	if (r < 0)
		return r;
	if (entry)
		at = td_get_le64(entry);
	if (at)
		return td_image_preadv(y->im.child, at, iov, TD_EXACT);
	td_iov_zero(iov);
	return 0;
}

static int write_sector(struct toy *y, uint64_t sector, const struct td_iov *iov)
{
	uint64_t table = 0;
	uint8_t *entry = NULL;
	int r = td_meta_room(y->meta, 2);

	if (r == 0)
		r = find(y, sector, &table, &entry);
	if (r < 0)
		return r;
	if (entry && td_get_le64(entry))
		return td_image_pwritev(y->im.child, td_get_le64(entry), iov, 0);
	return add_block(y, sector, iov);
}

typedef int sector_fn(struct toy *y, uint64_t sector, const struct td_iov *iov);

static int each_sector(struct toy *y, sector_fn *fn, enum td_range_mode mode, uint64_t off,
		       const struct td_iov *iov)
{
	struct td_range range;
	int r = 0;

	td_range_lock(&y->ranges, &range, off, iov->len, mode);
	for (uint64_t done = 0; r == 0 && done < iov->len; done += TOY_SECTOR) {
		struct td_iov one = td_iov_slice(iov, done, TOY_SECTOR);

		r = fn(y, (off + done) / TOY_SECTOR, &one);
	}
	td_range_unlock(&y->ranges, &range);
	return r;
}

static int toy_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	(void)flags;
	return each_sector(im->state, read_sector, TD_RANGE_SHARED, off, iov);
}

static int toy_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	(void)flags;
	return each_sector(im->state, write_sector, TD_RANGE_EXCLUSIVE, off, iov);
}

static int toy_flush(struct td_image *im)
{
	struct toy *y = im->state;

	return td_meta_commit(y->meta);
}

static const struct td_driver toy_driver = {
	.name = "toy",
	.flags = TD_FORMAT,
	.preadv = toy_preadv,
	.pwritev = toy_pwritev,
	.flush = toy_flush,
};

/* ---- opening and closing ---- */

static uint64_t copy_at(void *arg, unsigned level, uint64_t off)
{
	(void)arg;
	return level == TABLE ? off + TOY_SECTOR : 0;
}

static bool may_lie(void *arg, unsigned level, uint64_t off, const uint8_t *bytes)
{
	const struct toy *y = arg;

	(void)level;
	(void)off;
	for (unsigned i = 0; i < TOY_ENTRIES; i++)
		if (td_get_le64(bytes + i * 8ull) >= y->im.child->size)
			return false;
	return true;
}

static int open_meta(struct toy *y, const struct toy_how *how)
{
	const struct td_meta_level level = { .unit = TOY_SECTOR, .cache = how->cache };
	struct td_meta_config config = { .tag = { { how->tag, 1 } },
					 .nr_levels = 2,
					 .level = { level, level },
					 .copy_at = copy_at,
					 .may_lie = may_lie,
					 .arg = y };
	struct td_opts opts = { 0 };
	int r = td_opts_parse(&opts, how->opts, strlen(how->opts), &how->t->err);

	if (r == 0)
		r = td_meta_open(&y->im, &config, &opts, &y->meta, &how->t->err);
	td_opts_done(&opts);
	return r;
}

int toy_open(struct toy *y, const struct toy_how *how)
{
	unsigned flags = how->flags & TD_OPEN_RDONLY ? how->flags : how->flags | TD_OPEN_GROW;
	char spec[200];
	int r;

	*y = (struct toy){ .im = { .drv = &toy_driver,
				   .env = &how->t->env,
				   .name = (char *)(uintptr_t) "toy",
				   .flags = how->flags,
				   .size = TOY_BYTES,
				   .read_only = how->flags & TD_OPEN_RDONLY,
				   .state = y } };
	td_ranges_init(&y->ranges);
	(void)snprintf(spec, sizeof(spec), "%saio:%s", how->fault ? "fault(flush-every=1,once=on)/" : "",
		       how->path);
	r = td_image_open_text(&how->t->env, spec, flags, &y->im.child, &how->t->err);
	if (r < 0)
		return r;
	y->end = td_align_up(y->im.child->size, TOY_SECTOR);
	r = open_meta(y, how);
	if (r < 0)
		td_ignore(td_image_close(y->im.child));
	return r;
}

int toy_close(struct toy *y)
{
	int r = td_meta_close(y->meta);
	int r2 = td_image_close(y->im.child);

	return r < 0 ? r : r2;
}

/* ---- a checker that shares nothing with the cache ---- */

struct fsck {
	const uint8_t *bytes;
	uint64_t size;
	uint8_t *taken; /* one a sector */
};

/* Names nr sectors from there on. */
static int take(struct fsck *f, uint64_t at, unsigned nr)
{
	if (at % TOY_SECTOR || at < 2ull * TOY_SECTOR ||
	    !td_in_range(at, (uint64_t)nr * TOY_SECTOR, f->size)) {
		(void)fprintf(stderr, "fsck: %#llx is not inside the file\n", (unsigned long long)at);
		return -1;
	}
	for (unsigned i = 0; i < nr; i++) {
		if (f->taken[at / TOY_SECTOR + i]++) {
			(void)fprintf(stderr, "fsck: %#llx is named twice\n", (unsigned long long)at);
			return -1;
		}
	}
	return 0;
}

static int fsck_table(struct fsck *f, uint64_t table, bool copies)
{
	int r = take(f, table, 2);

	for (unsigned i = 0; r == 0 && i < TOY_ENTRIES; i++) {
		uint64_t at = td_get_le64(f->bytes + table + i * 8ull);

		r = at ? take(f, at, 1) : 0;
	}
	if (r == 0 && copies && memcmp(f->bytes + table, f->bytes + table + TOY_SECTOR, TOY_SECTOR) != 0) {
		(void)fprintf(stderr, "fsck: the copy of %#llx differs\n", (unsigned long long)table);
		r = -1;
	}
	return r;
}

static int fsck_all(struct fsck *f, bool copies)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < TOY_ENTRIES; i++) {
		uint64_t at = td_get_le64(f->bytes + TOY_DIR + i * 8ull);

		r = at ? fsck_table(f, at, copies) : 0;
	}
	return r;
}

int toy_fsck(const char *path, bool copies)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct fsck f = { 0 };
	struct stat st;
	uint8_t *bytes;
	int r = -1;

	if (fd < 0 || fstat(fd, &st) < 0)
		abort();
	f.size = (uint64_t)st.st_size;
	f.bytes = bytes = malloc(f.size + 1);
	f.taken = calloc(1, f.size / TOY_SECTOR + 1);
	if (bytes && f.taken && f.size >= 2ull * TOY_SECTOR && read(fd, bytes, f.size) == (ssize_t)f.size)
		r = fsck_all(&f, copies);
	(void)close(fd);
	free(bytes);
	free(f.taken);
	return r;
}
