// SPDX-License-Identifier: BSD-2-Clause
/*
 * Keeping: the file of one image that is open for writing, made, grown and marked.  See keep.h for what it is for.
 *
 * Pages are taken from the file system before they are used, because a store into a page that it has no room for kills
 * the process.  Whoever gets none (td_keep_take) gives up the file, says so, and uses memory of its own.
 *
 * The file gets its name when it is whole, by a rename, and is locked for as long as its process lives.
 */
#include "keep-file.h"

#include "drivers.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct td_keep {
	int fd;
	char *path;
	const struct td_image *im;
	bool given_up;
	uint64_t end; /* of the file */
	struct keep_areas *areas;
};

/* ---- which file ---- */

uint64_t keep_head_sum(const struct keep_head *h)
{
	const uint8_t *p = (const uint8_t *)h;
	uint64_t sum = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < offsetof(struct keep_head, sum); i++)
		sum = (sum ^ p[i]) * 0x100000001b3ull;
	return sum;
}

/* Empty where the kernel does not tell: then a file of an earlier start cannot be told from one of this. */
void keep_boot_id(char boot[40])
{
	static char known[40];
	int fd;

	if (!known[0]) {
		fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, known, 36) != 36)
			memset(known, 0, sizeof(known));
		if (fd >= 0)
			(void)close(fd);
	}
	memcpy(boot, known, sizeof(known));
}

void td_keep_prepare(void)
{
	char boot[40];

	keep_boot_id(boot);
}

/* The node that is in the file. */
static const struct td_image *keep_leaf(const struct td_image *im)
{
	while (im->child)
		im = im->child;
	return im;
}

int keep_identify(const char *path, struct keep_id *ret)
{
	struct statx st;

	if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_BTIME, &st) < 0)
		return -errno;
	*ret = (struct keep_id){ .dev = makedev(st.stx_dev_major, st.stx_dev_minor), .ino = st.stx_ino };
	if (S_ISBLK(st.stx_mode)) {
		*ret = (struct keep_id){ .dev = makedev(st.stx_rdev_major, st.stx_rdev_minor) };
		return 0;
	}
	if (!S_ISREG(st.stx_mode))
		return -ENOTSUP;
	if (st.stx_mask & STATX_BTIME) {
		ret->born_s = (uint64_t)st.stx_btime.tv_sec;
		ret->born_ns = st.stx_btime.tv_nsec;
	}
	return 0;
}

int keep_where(const struct td_image *im, char **ret_path, struct keep_id *ret_id)
{
	const struct td_image *leaf = keep_leaf(im);
	struct keep_id id = { 0 };
	char *path;

	*ret_path = NULL;
	if (!im->env->keep_dir || leaf->drv != &td_aio || keep_identify(leaf->path, &id) < 0)
		return 0;
	if (asprintf(&path, "%s/keep%llx.%llx", im->env->keep_dir, (unsigned long long)id.dev,
		     (unsigned long long)id.ino) < 0)
		return -ENOMEM;
	*ret_path = path;
	*ret_id = id;
	return 0;
}

/*
 * Ours, or of whom the run-time directory is: a process that starts as root and goes on as another user makes files as
 * either.  Whoever owns the directory could put there what he likes anyway.
 */
static bool is_owner(const char *path, uid_t uid)
{
	td_cleanup(free) char *dir = strndup(path, (size_t)(strrchr(path, '/') - path));
	struct stat st;

	if (uid == geteuid())
		return true;
	return dir && stat(dir, &st) == 0 && st.st_uid == uid;
}

int keep_open(const char *path, bool exclusive, int *ret_fd)
{
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st, named;
	int r = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode) || !is_owner(path, st.st_uid) || (st.st_mode & 077) || st.st_nlink > 1)
		r = -EPERM;
	else if (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0)
		r = errno == EWOULDBLOCK ? -EBUSY : -errno;
	/* Whoever had it may have removed it on its way out. */
	else if (stat(path, &named) < 0 || named.st_dev != st.st_dev || named.st_ino != st.st_ino)
		r = -ENOENT;
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* ---- making it ---- */

static void *map(const struct td_keep *k, uint64_t at, uint64_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, k->fd, (off_t)at);

	if (p == MAP_FAILED)
		return NULL;
	/* It holds zeros, of which a file system on a disk would read much ahead at each first touch. */
	(void)madvise(p, len, MADV_RANDOM);
	return p;
}

static int take_space(const struct td_keep *k, uint64_t at, uint64_t len)
{
	return -posix_fallocate(k->fd, (off_t)at, (off_t)len);
}

static int make_file(struct td_keep *k, const char *tmp)
{
	(void)unlink(tmp); /* of somebody who was killed right here */
	k->fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (k->fd < 0)
		return -errno;
	if (flock(k->fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return take_space(k, 0, KEEP_HEAD);
}

static int write_head(const struct td_keep *k, const struct keep_id *id, const struct td_keep_tag *tag)
{
	struct keep_head h;
	ssize_t n;

	memset(&h, 0, sizeof(h)); /* its sum is one of bytes */
	h.magic = KEEP_MAGIC;
	h.version = KEEP_VERSION;
	h.size = sizeof(h);
	h.id = *id;
	h.tag = *tag;
	h.pid = (uint64_t)getpid();
	(void)snprintf(h.image, sizeof(h.image), "%s", keep_leaf(k->im)->path);
	keep_boot_id(h.boot);
	h.sum = keep_head_sum(&h);
	n = pwrite(k->fd, &h, sizeof(h), 0);
	if (n < 0)
		return -errno;
	return n == (ssize_t)sizeof(h) ? 0 : -ENOSPC;
}

/* Nobody's file is replaced: not one that a process has, nor one that came after the image was opened. */
static int give_name(const struct td_keep *k, const char *tmp)
{
	if (access(k->path, F_OK) == 0)
		return -EEXIST;
	return rename(tmp, k->path) < 0 ? -errno : 0;
}

/* Mapped under its last name: valgrind is mistaken about files that are renamed while they are mapped. */
static int make_named(struct td_keep *k, const struct keep_id *id, const struct td_keep_tag *tag)
{
	td_cleanup(free) char *tmp = NULL;
	int r;

	if (asprintf(&tmp, "%s.new", k->path) < 0) {
		tmp = NULL;
		return -ENOMEM;
	}
	r = make_file(k, tmp);
	if (r == 0)
		r = write_head(k, id, tag);
	if (r == 0)
		r = give_name(k, tmp);
	if (r < 0) {
		(void)unlink(tmp);
		return r;
	}
	k->end = KEEP_HEAD;
	k->areas = map(k, KEEP_PAGE, sizeof(*k->areas));
	if (!k->areas)
		(void)unlink(k->path);
	return k->areas ? 0 : -ENOMEM;
}

static void tell(const struct td_image *im, int why)
{
	char line[512];

	if (!im->env->notice || why == 0)
		return;
	(void)snprintf(line, sizeof(line),
		       "%s: a kill of this process will lose what was not flushed: %s: %s", im->name,
		       im->env->keep_dir ? im->env->keep_dir : "the run-time directory",
		       strerrordesc_np(-why));
	im->env->notice(line);
}

int td_keep_new(struct td_image *im, const struct td_keep_tag *tag, struct td_keep **ret)
{
	struct td_keep *k;
	struct keep_id id;
	char *path;
	int r = keep_where(im, &path, &id);

	if (r < 0)
		return r;
	*ret = NULL;
	if (!path && !im->env->keep_dir)
		tell(im, -ENOENT);
	if (!path)
		return 0;
	k = calloc(1, sizeof(*k));
	if (!k) {
		free(path);
		return -ENOMEM;
	}
	*k = (struct td_keep){ .fd = -1, .path = path, .im = im };
	r = make_named(k, &id, tag);
	if (r < 0) {
		tell(im, r);
		k->given_up = true;
		td_keep_free(k, false);
		return r;
	}
	*ret = k;
	return 0;
}

bool td_keep_holds(const struct td_keep *k)
{
	return k && !k->given_up;
}

void td_keep_give_up(struct td_keep *k, int why)
{
	if (!td_keep_holds(k))
		return;
	tell(k->im, why);
	(void)unlink(k->path);
	k->given_up = true;
}

void td_keep_free(struct td_keep *k, bool remove)
{
	if (!k)
		return;
	if (remove)
		td_keep_give_up(k, 0);
	if (k->areas)
		(void)munmap(k->areas, sizeof(*k->areas));
	if (k->fd >= 0)
		(void)close(k->fd);
	free(k->path);
	free(k);
}

/* ---- areas ---- */

static int lay_out(struct td_keep *k, const struct td_keep_area *a, struct keep_area *ret)
{
	uint64_t states = td_align_up(a->nr * a->stride, KEEP_PAGE);
	uint64_t bytes = td_align_up(a->nr * a->unit, KEEP_PAGE);

	*ret = (struct keep_area){ .states_at = k->end,
				   .bytes_at = k->end + states,
				   .nr = a->nr,
				   .unit = (uint32_t)a->unit,
				   .stride = (uint32_t)a->stride };
	if (ftruncate(k->fd, (off_t)(k->end + states + bytes)) < 0)
		return -errno;
	k->end += states + bytes;
	return 0;
}

int td_keep_area_new(struct td_keep *k, unsigned kind, size_t unit, uint64_t nr, struct td_keep_area *ret)
{
	struct td_keep_area a = { .keep = k, .kind = kind, .unit = unit, .nr = nr ? nr : 1 };
	uint32_t next = !k->areas->which[kind];
	struct keep_area *to = &k->areas->area[kind][next];
	int r;

	a.sectors = (unsigned)(unit / TD_KEEP_SECTOR);
	a.stride = keep_stride(a.sectors);
	if (a.nr > KEEP_AREA_MAX / unit)
		return -EFBIG;
	r = lay_out(k, &a, to);
	if (r < 0)
		return r;
	a.states = map(k, to->states_at, to->bytes_at - to->states_at);
	a.bytes = map(k, to->bytes_at, k->end - to->bytes_at);
	if (!a.states || !a.bytes) {
		td_keep_area_free(&a);
		return -ENOMEM;
	}
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	k->areas->which[kind] = next;
	*ret = a;
	return 0;
}

void td_keep_area_free(struct td_keep_area *a)
{
	if (a->states)
		(void)munmap(a->states, td_align_up(a->nr * a->stride, KEEP_PAGE));
	if (a->bytes)
		(void)munmap(a->bytes, td_align_up(a->nr * a->unit, KEEP_PAGE));
	*a = (struct td_keep_area){ 0 };
}

int td_keep_take(struct td_keep_area *a, uint64_t nr, uint64_t *ret)
{
	struct keep_area *to = &a->keep->areas->area[a->kind][a->keep->areas->which[a->kind]];
	int r;

	*ret = a->used;
	if (nr == 0)
		return 0;
	if (nr > a->nr - a->used)
		return -ENOSPC;
	r = take_space(a->keep, to->states_at + a->used * a->stride, nr * a->stride);
	if (r == 0)
		r = take_space(a->keep, to->bytes_at + a->used * a->unit, nr * a->unit);
	if (r < 0)
		return r;
	a->used += nr;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	to->used = a->used;
	return 0;
}

/* ---- units ---- */

static uint64_t word(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Four independent chains, each of which any change of its words changes; mixed at the end. */
uint32_t td_keep_sum(const void *sector)
{
	const uint64_t k = 0x9e3779b97f4a7c15ull;
	uint64_t a = 1, b = 2, c = 3, d = 4;

	for (const uint8_t *p = sector, *end = p + TD_KEEP_SECTOR; p < end; p += 32) {
		a = (a ^ word(p)) * k;
		b = (b ^ word(p + 8)) * k;
		c = (c ^ word(p + 16)) * k;
		d = (d ^ word(p + 24)) * k;
	}
	a = ((a ^ a >> 32) + b) * k;
	a = ((a ^ a >> 32) + c) * k;
	a = ((a ^ a >> 32) + d) * k;
	return (uint32_t)((a ^ a >> 29) * k >> 32);
}

static void sum_all(uint32_t *sum, const uint8_t *bytes, unsigned sectors)
{
	for (unsigned i = 0; i < sectors; i++)
		sum[i] = td_keep_sum(bytes + (size_t)i * TD_KEEP_SECTOR);
}

void td_keep_mark_slow(struct td_keep_unit *u, uint64_t off, const void *bytes, unsigned sectors)
{
	uint32_t state = u->state;

	if (!(state & TD_KEEP_KNOWN)) {
		u->off = off;
		sum_all(u->sum, bytes, sectors);
		state = TD_KEEP_KNOWN;
	}
	td_keep_state(u, state | TD_KEEP_DIRTY);
}

void td_keep_writing(struct td_keep_unit *u, const uint8_t *bytes, unsigned sectors, uint32_t changed)
{
	uint32_t *disk, *next;

	if (!u)
		return;
	disk = u->sum + (u->state & TD_KEEP_SECOND ? sectors : 0);
	next = u->sum + (u->state & TD_KEEP_SECOND ? 0 : sectors);
	for (unsigned i = 0; i < sectors; i++)
		next[i] = changed & 1u << i ? td_keep_sum(bytes + (size_t)i * TD_KEEP_SECTOR) : disk[i];
	td_keep_state(u, u->state | TD_KEEP_WRITING);
}

void td_keep_written(struct td_keep_unit *u, bool ok, bool dirty)
{
	uint32_t state;

	if (!u || !(u->state & TD_KEEP_WRITING))
		return;
	state = u->state & ~TD_KEEP_WRITING;
	if (!ok) {
		td_keep_state(u, state | TD_KEEP_DIRTY | TD_KEEP_UNSURE);
		return;
	}
	state = (state ^ TD_KEEP_SECOND) & ~(TD_KEEP_DIRTY | TD_KEEP_UNSURE);
	td_keep_state(u, state | (dirty ? TD_KEEP_DIRTY : 0));
}
