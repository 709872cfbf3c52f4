// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading what a killed process left (keep.h).  The file may be cut short or hold anything: it is read, never mapped,
 * every number in it is checked before it is used, and memory is taken only for what the file really holds.
 */
#include "keep-file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct old_area {
	struct keep_area a;
	uint8_t *states; /* used * stride */
};

struct td_keep_old {
	int fd;
	char *path;
	uint64_t size, held; /* bytes of the file, and those that are not holes */
	struct keep_areas areas;
	struct old_area area[TD_KEEP_KINDS];
};

#define WAYS_OUT                                                                                             \
	"remove it to give up the writes that it holds (or open the image with the option adopt=off, which " \
	"does)"

static int read_at(const struct td_keep_old *o, uint64_t at, void *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = pread(o->fd, buf, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EUCLEAN;
		buf = (uint8_t *)buf + n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* ---- whose is it ---- */

enum verdict { MINE, USELESS, FOREIGN };

/* Foreign is refused, useless is dropped: after a start of the machine only what was flushed was ever promised. */
static enum verdict judge(const struct keep_head *h, const struct keep_id *id, const struct td_keep_tag *tag)
{
	char boot[40];

	if (h->magic != KEEP_MAGIC || h->version != KEEP_VERSION || h->size != sizeof(*h) ||
	    h->sum != keep_head_sum(h))
		return FOREIGN;
	if (h->id.dev != id->dev || h->id.ino != id->ino)
		return FOREIGN;
	keep_boot_id(boot);
	if (memcmp(boot, h->boot, sizeof(boot)) != 0)
		return USELESS;
	/* The image it was made for is gone: another file has got its number. */
	if (h->id.born_s != id->born_s || h->id.born_ns != id->born_ns)
		return USELESS;
	return memcmp(tag, &h->tag, sizeof(*tag)) == 0 ? MINE : FOREIGN;
}

/* ---- areas ---- */

/* Within the file, and not of holes: memory is taken for what somebody wrote, not for a length that is claimed. */
static bool area_ok(const struct td_keep_old *o, const struct keep_area *a)
{
	uint64_t states, bytes;

	if (a->unit < TD_KEEP_SECTOR || a->unit > KEEP_PAGE || a->unit % TD_KEEP_SECTOR ||
	    a->stride != keep_stride(a->unit / TD_KEEP_SECTOR) || a->used > a->nr ||
	    a->nr > KEEP_AREA_MAX / a->unit)
		return false;
	states = a->used * a->stride;
	bytes = a->used * a->unit;
	return td_in_range(a->states_at, states, o->size) && td_in_range(a->bytes_at, bytes, o->size) &&
	       states + bytes <= o->held;
}

static int load_area(struct td_keep_old *o, unsigned kind)
{
	struct old_area *to = &o->area[kind];
	const struct keep_area *a;

	if (o->areas.which[kind] > 1)
		return -EUCLEAN;
	a = &o->areas.area[kind][o->areas.which[kind]];
	if (a->used == 0)
		return 0;
	if (!area_ok(o, a))
		return -EUCLEAN;
	to->states = malloc(a->used * a->stride);
	if (!to->states)
		return -ENOMEM;
	to->a = *a;
	return read_at(o, a->states_at, to->states, a->used * a->stride);
}

static int load(struct td_keep_old *o, const struct keep_id *id, const struct td_keep_tag *tag,
		enum verdict *ret_verdict)
{
	struct keep_head h;
	struct stat st;
	int r;

	if (fstat(o->fd, &st) < 0)
		return -errno;
	o->size = (uint64_t)st.st_size;
	o->held = (uint64_t)st.st_blocks * 512;
	r = read_at(o, 0, &h, sizeof(h));
	if (r < 0)
		return r;
	*ret_verdict = judge(&h, id, tag);
	if (*ret_verdict == FOREIGN)
		return -EUCLEAN;
	if (*ret_verdict == MINE)
		r = read_at(o, KEEP_PAGE, &o->areas, sizeof(o->areas));
	for (unsigned kind = 0; r == 0 && *ret_verdict == MINE && kind < TD_KEEP_KINDS; kind++)
		r = load_area(o, kind);
	return r;
}

/* ---- finding it ---- */

static int refuse(const char *path, int r, struct td_err *ret_err)
{
	if (r == -EBUSY)
		return td_err_set(ret_err, r, "another tapdisk has it open for writing: it holds %s", path);
	if (r == -EUCLEAN)
		return td_err_set(
			ret_err, r,
			"%s is not, or not wholly, what a killed tapdisk left for this image: " WAYS_OUT,
			path);
	if (r == -EPERM || r == -ELOOP)
		return td_err_set(
			ret_err, -EPERM,
			"%s has to be a file of this user that nobody else may read or write: " WAYS_OUT,
			path);
	return td_err_set(ret_err, r, "cannot read %s, which a killed tapdisk left: %s", path, strerror(-r));
}

static int find_at(struct td_keep_old *o, const struct td_image *im, const struct keep_id *id,
		   const struct td_keep_tag *tag, enum verdict *ret_verdict)
{
	int r = keep_open(o->path, !im->read_only, &o->fd);

	return r < 0 ? r : load(o, id, tag, ret_verdict);
}

int td_keep_find(struct td_image *im, const struct td_keep_tag *tag, struct td_keep_old **ret,
		 struct td_err *ret_err)
{
	enum verdict verdict = USELESS;
	struct td_keep_old *o;
	struct keep_id id;
	char *path;
	int r = keep_where(im, &path, &id);

	*ret = NULL;
	if (r < 0 || !path)
		return r < 0 ? td_err_set(ret_err, r, "no memory for a path") : 0;
	o = calloc(1, sizeof(*o));
	if (!o) {
		free(path);
		return td_err_set(ret_err, -ENOMEM, "no memory");
	}
	o->fd = -1;
	o->path = path;
	r = find_at(o, im, &id, tag, &verdict);
	if (r == 0 && verdict == MINE) {
		*ret = o;
		return 0;
	}
	/* Whoever only reads shares an image with its writer at his own wish (lock=off). */
	if (r == -ENOENT || (r == -EBUSY && im->read_only))
		r = 0;
	else if (r < 0)
		r = refuse(path, r, ret_err);
	td_keep_old_free(o, r == 0 && o->fd >= 0 && !im->read_only);
	return r;
}

/* The head's sum becomes a wrong one: whoever comes next is told that the file is damaged, and adopts nothing. */
void td_keep_old_spoil(const struct td_keep_old *o)
{
	const uint64_t none = 0;

	/* tmpfs: it cannot fail but for a file that is no good anyway. */
	if (pwrite(o->fd, &none, sizeof(none), offsetof(struct keep_head, sum)) < 0)
		(void)ftruncate(o->fd, 0);
}

void td_keep_old_free(struct td_keep_old *o, bool remove)
{
	if (!o)
		return;
	if (remove)
		(void)unlink(o->path);
	if (o->fd >= 0)
		(void)close(o->fd);
	for (unsigned i = 0; i < TD_KEEP_KINDS; i++)
		free(o->area[i].states);
	free(o->path);
	free(o);
}

int td_keep_forget(struct td_image *im, struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	struct keep_id id;
	int fd = -1, r = keep_where(im, &path, &id);

	if (r < 0 || !path)
		return r < 0 ? td_err_set(ret_err, r, "no memory for a path") : 0;
	r = keep_open(path, true, &fd);
	if (r == -ENOENT)
		return 0;
	if (r == -EBUSY)
		return refuse(path, r, ret_err);
	if (unlink(path) < 0)
		r = td_err_set(ret_err, -errno, "cannot remove %s: %m", path);
	else
		r = 0;
	if (fd >= 0)
		(void)close(fd);
	return r;
}

/* ---- one of an image that is not known ---- */

/*
 * Another start of the machine, or another file in the image's place: as judge() has it.  An image that is not where
 * it was may have been moved, or its disk unmounted.
 */
static bool is_useless(const struct keep_head *h)
{
	struct keep_id now;
	char boot[40];

	keep_boot_id(boot);
	if (memcmp(boot, h->boot, sizeof(boot)) != 0)
		return true;
	return keep_identify(h->image, &now) == 0 && now.dev == h->id.dev && now.ino == h->id.ino &&
	       (now.born_s != h->id.born_s || now.born_ns != h->id.born_ns);
}

int td_keep_look(const char *file, struct td_keep_about *ret, int *ret_fd)
{
	struct td_keep_old o = { 0 };
	struct keep_head h;
	int r = keep_open(file, true, &o.fd);

	if (r < 0)
		return r;
	r = read_at(&o, 0, &h, sizeof(h));
	if (r == 0 && (h.magic != KEEP_MAGIC || h.version != KEEP_VERSION || h.size != sizeof(h) ||
		       h.sum != keep_head_sum(&h)))
		r = -EUCLEAN;
	if (r < 0) {
		(void)close(o.fd);
		return r;
	}
	*ret = (struct td_keep_about){ .pid = (int)h.pid, .useless = is_useless(&h) };
	memcpy(ret->image, h.image, sizeof(ret->image) - 1);
	*ret_fd = o.fd;
	return 0;
}

/* ---- looking into it ---- */

const char *td_keep_old_path(const struct td_keep_old *o)
{
	return o->path;
}

uint64_t td_keep_old_nr(const struct td_keep_old *o, unsigned kind)
{
	return o->area[kind].a.used;
}

size_t td_keep_old_unit_size(const struct td_keep_old *o, unsigned kind)
{
	return o->area[kind].a.unit;
}

const struct td_keep_unit *td_keep_old_unit(const struct td_keep_old *o, unsigned kind, uint64_t i)
{
	const struct old_area *a = &o->area[kind];

	return (const struct td_keep_unit *)(const void *)(a->states + i * a->a.stride);
}

int td_keep_old_bytes(const struct td_keep_old *o, unsigned kind, uint64_t i, void *ret_bytes)
{
	const struct keep_area *a = &o->area[kind].a;

	return read_at(o, a->bytes_at + i * a->unit, ret_bytes, a->unit);
}

/* ---- is the image as it was left? ---- */

/*
 * A sector is as it was when it was last seen on the disk, as it was going to be, or, while a write was under way, as
 * that write would have made it.
 */
static bool sector_fits(const struct td_keep_unit *u, unsigned i, unsigned sectors, const uint8_t *have,
			const uint8_t *want)
{
	unsigned disk = u->state & TD_KEEP_SECOND ? sectors : 0;
	uint32_t sum = td_keep_sum(have);

	if (u->sum[disk + i] == sum || memcmp(have, want, TD_KEEP_SECTOR) == 0)
		return true;
	return (u->state & TD_KEEP_WRITING) && u->sum[sectors - disk + i] == sum;
}

bool td_keep_old_fits(const struct td_keep_unit *u, unsigned sectors, const uint8_t *have,
		      const uint8_t *want)
{
	if (u->state & TD_KEEP_UNSURE)
		return true;
	for (unsigned i = 0; i < sectors; i++) {
		size_t at = (size_t)i * TD_KEEP_SECTOR;

		if (!sector_fits(u, i, sectors, have + at, want + at))
			return false;
	}
	return true;
}

bool td_keep_old_untouched(const struct td_keep_unit *u, unsigned sectors, const uint8_t *have)
{
	const uint32_t *disk = u->sum + (u->state & TD_KEEP_SECOND ? sectors : 0);

	for (unsigned i = 0; i < sectors; i++)
		if (disk[i] != td_keep_sum(have + (size_t)i * TD_KEEP_SECTOR))
			return false;
	return true;
}

int td_keep_old_error(const struct td_keep_old *o, int r, struct td_err *ret_err)
{
	if (r == -ESTALE)
		return td_err_set(
			ret_err, r,
			"%s holds writes that a killed tapdisk had answered, but another program has "
			"changed the image since: the option adopt=off gives them up (copy the image first)",
			o->path);
	if (r == -EUCLEAN)
		return td_err_set(
			ret_err, r,
			"%s, which a killed tapdisk left, is damaged: the option adopt=off gives up the "
			"writes that it holds",
			o->path);
	if (r == -EBUSY)
		return td_err_set(
			ret_err, r,
			"%s holds writes that a killed tapdisk had answered: open it writable once, which "
			"puts them into the image, or without them by the option adopt=off",
			o->path);
	return td_err_set(ret_err, r, "cannot compare the image with %s, which a killed tapdisk left: %s",
			  o->path, strerror(-r));
}
