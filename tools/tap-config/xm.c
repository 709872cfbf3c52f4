// SPDX-License-Identifier: BSD-2-Clause
/*
 * disk_parse_wide: see disk.h.
 */
#include <stdio.h>

#include "disk.h"

/* Words that say who serves it, not what it is. */
static bool says_nothing(const char *s, size_t n)
{
	static const char *const words[] = { "tap", "tap2", "tapdisk", "ioemu" };

	for (size_t i = 0; i < TD_NELEMS(words); i++)
		if (strlen(words[i]) == n && memcmp(words[i], s, n) == 0)
			return true;
	return false;
}

static size_t word_before_colon(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789");

	return s[n] == ':' ? n : 0;
}

/* libxl's, so that what it knows stays what it is; FORMAT_UNKNOWN: our driver has to know it. */
static enum disk_format format_of_prefix(const char *word, size_t n)
{
	static const struct {
		const char *word;
		enum disk_format format;
	} known[] = { { "aio", FORMAT_RAW }, { "raw", FORMAT_RAW },   { "file", FORMAT_RAW },
		      { "phy", FORMAT_RAW }, { "qcow", FORMAT_QCOW }, { "qcow2", FORMAT_QCOW2 },
		      { "vhd", FORMAT_VHD }, { "qed", FORMAT_QED } };

	for (size_t i = 0; i < TD_NELEMS(known); i++)
		if (strlen(known[i].word) == n && memcmp(known[i].word, word, n) == 0)
			return known[i].format;
	return FORMAT_UNKNOWN;
}

/* The words in front of the path. */
static int take_prefixes(const char *uname, struct disk *d, struct td_err *ret_err)
{
	size_t n = word_before_colon(uname);

	if (n == 0)
		return td_err_set(ret_err, -EINVAL, "no prefix such as tap: in front");
	while (n > 0 && says_nothing(uname, n)) {
		uname += n + 1;
		n = word_before_colon(uname);
	}
	d->format = FORMAT_RAW;
	if (n > 0) {
		d->format = format_of_prefix(uname, n);
		d->driver = d->format == FORMAT_UNKNOWN ? strndup(uname, n) : NULL;
		if (d->format == FORMAT_UNKNOWN && !d->driver)
			return -ENOMEM;
		if (d->driver)
			d->format = FORMAT_RAW; /* what libxl takes a script's disk for */
		uname += n + 1;
	}
	d->target = strdup(uname);
	return d->target ? 0 : -ENOMEM;
}

static int take_vdev(char *dev, struct disk *d, struct td_err *ret_err)
{
	char *colon = strrchr(dev, ':');

	if (colon) {
		*colon++ = '\0';
		if (strcmp(colon, "cdrom") != 0 && strcmp(colon, "disk") != 0)
			return td_err_set(ret_err, -EINVAL, "%s: it is cdrom or disk", colon);
		d->cdrom = d->removable = strcmp(colon, "cdrom") == 0;
	}
	if (!*dev)
		return td_err_set(ret_err, -EINVAL, "no name of the disk in the guest");
	d->vdev = strdup(dev);
	return d->vdev ? 0 : -ENOMEM;
}

static int take_mode(char *mode, struct disk *d, struct td_err *ret_err)
{
	size_t n = strlen(mode);

	d->force = n > 0 && mode[n - 1] == '!';
	if (d->force)
		mode[n - 1] = '\0';
	d->writable = strchr(mode, 'w') != NULL;
	if (strcmp(mode, "r") != 0 && strcmp(mode, "ro") != 0 && strcmp(mode, "w") != 0 &&
	    strcmp(mode, "rw") != 0)
		return td_err_set(ret_err, -EINVAL, "%s: the mode is r or w", mode);
	d->writable = d->writable && !d->cdrom;
	return 0;
}

/* The last comma of s is cut; what was behind it is returned.  NULL: there is none. */
static char *cut_last(char *s)
{
	char *comma = strrchr(s, ',');

	if (!comma)
		return NULL;
	*comma = '\0';
	return comma + 1;
}

static bool is_mode(const char *s)
{
	return s[0] && strspn(s, "rwo!") == strlen(s);
}

/* From its end, since a path may hold commas; and the domain, a fourth field, may be left out. */
static int parse_xm(const char *text, struct disk *d, struct td_err *ret_err)
{
	td_cleanup(free) char *copy = strdup(text);
	char *mode, *vdev, *domain = NULL;
	int r;

	if (!copy)
		return -ENOMEM;
	mode = cut_last(copy);
	if (mode && !is_mode(mode)) {
		domain = mode;
		mode = cut_last(copy);
	}
	vdev = mode ? cut_last(copy) : NULL;
	if (!vdev)
		return td_err_set(ret_err, -EINVAL, "not PATH,vdev,mode");
	r = take_prefixes(copy, d, ret_err);
	if (r == 0)
		r = take_vdev(vdev, d, ret_err);
	if (r == 0)
		r = take_mode(mode, d, ret_err);
	if (r == 0 && domain && !(d->backend_domain = strdup(domain)))
		r = -ENOMEM;
	if (d->target && !*d->target)
		d->format = FORMAT_EMPTY;
	if (r == 0 && d->format == FORMAT_EMPTY && !d->cdrom)
		r = td_err_set(ret_err, -EINVAL, "no path");
	return r;
}

int disk_parse_wide(const char *text, struct disk *d, struct td_err *ret_err)
{
	int r;

	if (strlen(text) > DISK_TEXT_MAX)
		return td_err_set(ret_err, -EINVAL, "longer than %d bytes", DISK_TEXT_MAX);
	r = parse_xm(text, d, ret_err);
	if (r != -EINVAL)
		return r;
	disk_done(d);
	d->wide = true;
	return disk_parse(text, d, ret_err);
}
