// SPDX-License-Identifier: BSD-2-Clause
/*
 * Recording another parent: its CID and its name, in the same instant.
 *
 * The descriptor is changed where it is, because others look for it there without asking, and only one sector is
 * written in one piece, whatever happens.  What a descriptor says ends at a NUL.  So the first sector decides:
 *
 *	one that ends in its first sector	what the new one has behind it is written first; nobody sees it yet
 *	one that is to end in its first sector	the first sector alone; what was behind it is not seen any more
 *	a longer one, not to be longer yet	the line of the name is filled up to its old length, in one sector
 *
 * Anything else would take two writes between which the descriptor is torn, and is refused.
 */
#include <stdio.h>

#include "vmdk-int.h"

#define TEXT_MAX (64u << 10) /* longer ones are not rewritten: they have thousands of extents */

struct change {
	struct vmdk *v;
	char *text; /* the new descriptor, with zeros behind it up to the end of its sector */
	size_t len, room;
};

/* ---- the new text ---- */

/* A line that fills one up. */
static bool is_filler(const struct vmdk_line *l)
{
	if (l->all.len < 2 || l->all.at[0] != '#')
		return false;
	for (size_t i = 1; i < l->all.len; i++)
		if (l->all.at[i] != ' ')
			return false;
	return true;
}

static void drop_fillers(struct change *c)
{
	const struct vmdk_str text = { c->text, c->len };
	size_t pos = 0, from = 0, to = 0;
	struct vmdk_line l;

	for (; vmdk_line_next(text, &pos, &l); from = pos) {
		if (is_filler(&l))
			continue;
		memmove(c->text + to, c->text + from, pos - from);
		to += pos - from;
	}
	c->len = to;
}

/* Make it as long as it was, by a comment behind the line of this key. */
static void fill_up(struct change *c, const char *key, size_t old_len)
{
	const struct vmdk_str text = { c->text, c->len };
	const size_t n = old_len - c->len;
	size_t pos = 0;
	struct vmdk_line l;

	while (vmdk_line_next(text, &pos, &l))
		if (l.kind == VMDK_LINE_PAIR && vmdk_str_is(l.key, key))
			break;
	if (n == 0 || pos == 0 || (c->text[pos - 1] != '\n' && c->text[pos - 1] != '\r'))
		return;
	memmove(c->text + pos + n, c->text + pos, c->len - pos);
	memset(c->text + pos, ' ', n);
	if (n > 1)
		c->text[pos] = '#';
	c->text[pos + n - 1] = '\n';
	c->len += n;
}

static int set_key(struct change *c, const char *key, const char *value, const char *after)
{
	char *out = malloc(c->room);
	int r = out ? vmdk_desc_change((struct vmdk_str){ c->text, c->len }, key, value, after, out, c->room)
		    : -ENOMEM;

	if (r < 0) {
		free(out);
		return r;
	}
	free(c->text);
	c->text = out;
	c->len = (size_t)r;
	return 0;
}

static int make_text(struct change *c, const char *parent, uint32_t cid)
{
	const size_t old_len = c->v->text_len;
	char digits[9];
	int r;

	c->text = malloc(c->room);
	if (!c->text)
		return -ENOMEM;
	memcpy(c->text, c->v->text, old_len);
	c->len = old_len;
	(void)snprintf(digits, sizeof(digits), "%08x", cid);
	drop_fillers(c);
	r = set_key(c, "parentCID", digits, "CID");
	if (r == 0)
		r = set_key(c, "parentFileNameHint", parent, "createType");
	if (r < 0)
		return r;
	if (old_len >= VMDK_SECTOR && c->len >= VMDK_SECTOR && c->len < old_len)
		fill_up(c, parent ? "parentFileNameHint" : "parentCID", old_len);
	memset(c->text + c->len, 0, c->room - c->len);
	return 0;
}

/* ---- on disk ---- */

static int write_sectors(const struct change *c, size_t from, size_t end)
{
	struct td_image *child = c->v->im->child;
	int r = td_image_pwrite(child, c->v->text_at + from, c->text + from, end - from, 0);

	return r == 0 ? td_image_flush(child) : r;
}

/* The only sector in which old and new differ; -ENOSPC: there are more. */
static int one_sector(const struct change *c, size_t *ret_from)
{
	const char *old = c->v->text;
	size_t first = 0, last = c->len;

	if (c->len != c->v->text_len)
		return -ENOSPC;
	while (first < last && old[first] == c->text[first])
		first++;
	while (last > first && old[last - 1] == c->text[last - 1])
		last--;
	*ret_from = td_align_down(first, VMDK_SECTOR);
	return last > *ret_from + VMDK_SECTOR ? -ENOSPC : 0;
}

static int put_text(const struct change *c)
{
	const struct vmdk *v = c->v;
	size_t end = td_align_up(TD_MAX(c->len, v->text_len) + 1, VMDK_SECTOR), from = 0;
	int r = 0;

	if (v->text_room)
		end = TD_MIN(end, v->text_room);
	if (v->text_len >= VMDK_SECTOR && c->len >= VMDK_SECTOR) {
		r = one_sector(c, &from);
		if (r == 0)
			r = write_sectors(c, from, TD_MIN(from + VMDK_SECTOR, c->len));
		return r;
	}
	if (v->text_len < VMDK_SECTOR && end > VMDK_SECTOR)
		r = write_sectors(c, VMDK_SECTOR, end);
	if (r == 0)
		r = write_sectors(c, 0, VMDK_SECTOR);
	if (r == 0 && v->text_len >= VMDK_SECTOR)
		r = write_sectors(c, VMDK_SECTOR, end);
	/* In a file of its own others may not expect zeros behind it; they do no harm. */
	if (r == 0 && v->text_room == 0)
		td_ignore(td_image_resize(v->im->child, c->len, TD_RESIZE_SHRINK, NULL));
	return r;
}

/* ---- what may be recorded ---- */

int vmdk_check_name(const char *name, struct td_err *ret_err)
{
	if (strpbrk(name, "\"\n\r"))
		return td_err_set(ret_err, -EINVAL,
				  "'%s': a vmdk cannot name a file with \" or a line end in it", name);
	return strlen(name) > VMDK_MAX_NAME ? td_err_set(ret_err, -ENAMETOOLONG, "%s: too long", name) : 0;
}

static bool is_ascii(const char *s)
{
	while (*s && !(*s & 0x80))
		s++;
	return *s == '\0';
}

static int check_kind(const struct vmdk *v, const char *path, const char *format, struct td_err *ret_err)
{
	bool holds_all = v->stream != NULL;

	if (!v->text)
		return td_err_set(ret_err, -ENOTSUP, "it has no descriptor");
	for (unsigned i = 0; i < v->nr_pieces; i++)
		holds_all |= !v->piece[i].at || v->piece[i].at->drv != &vmdk_part_driver;
	if (holds_all)
		return td_err_set(ret_err, -ENOTSUP, "it holds all sectors itself, and so has no parent");
	if (v->text_len > TEXT_MAX)
		return td_err_set(ret_err, -EFBIG, "its descriptor is too long to be changed");
	if (!path)
		return 0;
	if (format && strcmp(format, v->im->drv->name) != 0)
		return td_err_set(ret_err, -EINVAL, "the parent of a vmdk is a vmdk, not %s", format);
	if (v->desc.encoding.at && !vmdk_str_is(v->desc.encoding, "UTF-8") && !is_ascii(path))
		return td_err_set(ret_err, -EINVAL,
				  "its descriptor is not in UTF-8: the parent's name has to be ASCII");
	return vmdk_check_name(path, ret_err);
}

/* By its CID, so it has to be there. */
static int parent_cid(struct vmdk *v, const char *path, uint32_t *ret, struct td_err *ret_err)
{
	td_cleanup(free) char *where = NULL;
	int r;

	*ret = VMDK_NO_PARENT;
	if (!path)
		return 0;
	r = td_image_backing_path(v->im, path, &where, ret_err);
	return r < 0 ? r : vmdk_cid_of(v->im->env, where, ret, ret_err);
}

/* The new text is ours.  Names of files were looked up in the old one, and are not needed any more. */
static int adopt(struct change *c, struct td_err *ret_err)
{
	struct vmdk *v = c->v;
	int r;

	for (unsigned i = 0; i < v->nr_files; i++)
		v->file[i].name = (struct vmdk_str){ 0 };
	free(v->text);
	v->text = c->text;
	v->text_len = c->len;
	c->text = NULL;
	r = vmdk_desc_decode(v->text, v->text_len, &v->desc, ret_err);
	if (r < 0)
		td_image_freeze(v->im);
	return r;
}

static int change(struct change *c, const char *path, uint32_t cid, struct td_err *ret_err)
{
	const struct vmdk *v = c->v;
	struct vmdk_desc d;
	int r = make_text(c, path, cid);

	if (r == 0 && v->text_room && c->len >= v->text_room)
		r = -ENOSPC;
	if (r == 0) /* nothing is written that we would not read */
		r = vmdk_desc_decode(c->text, c->len, &d, ret_err);
	if (r == 0)
		r = put_text(c);
	if (r == -ENOSPC)
		return td_err_set(ret_err, r,
				  "its descriptor has no room for a name as long as '%s' in one sector: a "
				  "shorter one may fit",
				  path ? path : "");
	if (r < 0)
		return td_err_set(ret_err, r, "its descriptor cannot be changed: %s", strerror(-r));
	return adopt(c, ret_err);
}

int vmdk_set_backing(struct td_image *im, const char *path, const char *format, struct td_err *ret_err)
{
	struct vmdk *v = im->state;
	struct change c = { .v = v };
	uint32_t cid = 0;
	int r = check_kind(v, path, format, ret_err);

	if (r == 0)
		r = parent_cid(v, path, &cid, ret_err);
	if (r == 0) {
		td_co_guard(&v->cid_lock);

		c.room = td_align_up(v->text_len + VMDK_MAX_NAME + 256, VMDK_SECTOR) + VMDK_SECTOR;
		r = change(&c, path, cid, ret_err);
		free(c.text);
	}
	return r < 0 ? td_err_prefix(ret_err, r, "%s", im->name) : 0;
}
