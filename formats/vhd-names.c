// SPDX-License-Identifier: BSD-2-Clause
/*
 * Names of parents: what locators and the header hold, to a path and back.
 *
 *	W2RU	..\base.vhd				UTF-16LE
 *	W2KU	C:\disks\base.vhd			UTF-16LE
 *	MACX	file://localhost/disks/base.vhd		UTF-8, %xx; XenServer also writes file://./base.vhd
 *	Wi2r, Wi2k	as W2RU, W2KU; older, and not always UTF-16
 *	header	base.vhd, or all of the path		UTF-16BE
 *
 * Source: the specification, "Parent Locator"; RFC 8089; xapi-project/blktap vhd/lib/libvhd.c for what XenServer does.
 */
#include <blktap/vhd.h>

#define URL "file://"

/* ---- UTF-16 ---- */

struct text {
	char *at;
	size_t left; /* for characters; the NUL has its own place */
};

static int put_char(struct text *t, uint32_t c)
{
	uint8_t buf[4];
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (c < 0x20 || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return -EUCLEAN;
	if (n > t->left)
		return -EUCLEAN;
	if (n == 1) {
		buf[0] = (uint8_t)c;
	} else {
		for (size_t i = n; --i > 0; c >>= 6)
			buf[i] = (uint8_t)(0x80 | (c & 0x3f));
		buf[0] = (uint8_t)(0xf00u >> n | c);
	}
	memcpy(t->at, buf, n);
	t->at += n;
	t->left -= n;
	return 0;
}

/* One unit of UTF-16. */
static uint32_t unit(const uint8_t *p, bool big)
{
	return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static int from_utf16(const uint8_t *p, size_t len, bool big, char ret[VHD_NAME_MAX + 1])
{
	struct text t = { ret, VHD_NAME_MAX };
	size_t i = 0;
	int r = 0;

	while (r == 0 && i + 1 < len) {
		uint32_t c = unit(p + i, big);

		i += 2;
		if (c == 0)
			break;
		if (c == 0xfeff) /* a byte order mark */
			continue;
		if (c >= 0xd800 && c < 0xdc00 && i + 1 < len) {
			uint32_t low = unit(p + i, big);

			if (low < 0xdc00 || low > 0xdfff)
				return -EUCLEAN;
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			i += 2;
		}
		r = put_char(&t, c);
	}
	*t.at = '\0';
	return r;
}

/* One character; 0: it is none. */
static uint32_t from_utf8(const uint8_t **p)
{
	const uint8_t *s = *p;
	uint32_t c = s[0], n, min;

	if (c < 0x80) {
		*p = s + 1;
		return c;
	}
	n = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	min = n == 3 ? 0x10000 : n == 2 ? 0x800 : 0x80;
	c &= 0x3fu >> n;
	for (uint32_t i = 1; i <= n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < min || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*p = s + n + 1;
	return c;
}

static void put_unit(uint8_t *p, uint32_t u, bool big)
{
	p[big ? 0 : 1] = (uint8_t)(u >> 8);
	p[big ? 1 : 0] = (uint8_t)u;
}

/* windows: '\' for '/'. */
static int to_utf16(const char *path, bool windows, bool big, uint8_t *ret, size_t room, size_t *ret_len)
{
	const uint8_t *p = (const uint8_t *)path;
	size_t n = 0;

	while (*p) {
		uint32_t c = from_utf8(&p);

		if (c == 0)
			return -EINVAL;
		if (windows && c == '/')
			c = '\\';
		if (room - n < 4)
			return -ENAMETOOLONG;
		if (c >= 0x10000) {
			put_unit(ret + n, 0xd800 + ((c - 0x10000) >> 10), big);
			n += 2;
			c = 0xdc00 + ((c - 0x10000) & 0x3ff);
		}
		put_unit(ret + n, c, big);
		n += 2;
	}
	*ret_len = n;
	return 0;
}

/* ---- Windows' paths ---- */

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* "C:\a\b" to "/a/b", "\\?\C:\a" too; the rest keeps its parts. */
static int to_path(char *s)
{
	const char *from = s;

	for (char *p = s; *p; p++)
		if (*p == '\\')
			*p = '/';
	if (strncmp(from, "//?/", 4) == 0)
		from += 4;
	if (is_letter(from[0]) && from[1] == ':')
		from += 2;
	memmove(s, from, strlen(from) + 1);
	return *s ? 0 : -EUCLEAN;
}

/* ---- URLs ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int unescape(char *s)
{
	char *to = s;

	for (const char *from = s; *from; from++) {
		int c = (unsigned char)*from;

		if (c == '%') {
			int high = hex(from[1]), low = high < 0 ? -1 : hex(from[2]);

			if (low < 0)
				return -EUCLEAN;
			c = high << 4 | low;
			from += 2;
		}
		if (c < 0x20)
			return -EUCLEAN;
		*to++ = (char)c;
	}
	*to = '\0';
	return 0;
}

static int from_url(const uint8_t *data, size_t len, char ret[VHD_NAME_MAX + 1])
{
	static const char local[] = "localhost/";
	size_t n = strnlen((const char *)data, len);
	const char *from = ret + strlen(URL);
	int r;

	if (n > VHD_NAME_MAX)
		return -EUCLEAN;
	memcpy(ret, data, n);
	ret[n] = '\0';
	if (strncmp(ret, URL, strlen(URL)) != 0)
		return -ENOTSUP;
	if (strncmp(from, local, strlen(local)) == 0)
		from += strlen(local) - 1;
	/* A host's name stands where XenServer puts "." or "..": any other is another machine. */
	else if (*from != '/' && *from != '.')
		return -ENOTSUP;
	memmove(ret, from, strlen(from) + 1);
	r = unescape(ret);
	/* "/C:/a": a drive's letter stands behind the '/' here. */
	if (r == 0 && ret[0] == '/' && is_letter(ret[1]) && ret[2] == ':')
		memmove(ret, ret + 3, strlen(ret + 3) + 1);
	return r < 0 || *ret ? r : -EUCLEAN;
}

static int to_url(const char *path, uint8_t *ret, size_t *ret_len)
{
	static const char plain[] = "/-._~!$&'()*+,;=:@", digits[] = "0123456789ABCDEF";
	/* A name that starts with neither would be taken for a host's. */
	const char *head = path[0] == '/' || path[0] == '.' ? URL : URL "./";
	size_t n = 0;

	while (*head)
		ret[n++] = (uint8_t)*head++;
	for (const char *p = path; *p; p++) {
		unsigned c = (unsigned char)*p;

		if (VHD_LOCATOR_MAX - n < 4)
			return -ENAMETOOLONG;
		if (is_letter(*p) || (c >= '0' && c <= '9') || strchr(plain, *p)) {
			ret[n++] = (uint8_t)c;
		} else {
			ret[n++] = '%';
			ret[n++] = (uint8_t)digits[c >> 4];
			ret[n++] = (uint8_t)digits[c & 15];
		}
	}
	*ret_len = n;
	return 0;
}

/* ---- what the driver asks ---- */

static int from_narrow(const uint8_t *data, size_t len, char ret[VHD_NAME_MAX + 1])
{
	size_t n = strnlen((const char *)data, len);

	if (n > VHD_NAME_MAX)
		return -EUCLEAN;
	for (size_t i = 0; i < n; i++)
		if (data[i] < 0x20)
			return -EUCLEAN;
	memcpy(ret, data, n);
	ret[n] = '\0';
	return to_path(ret);
}

int vhd_name_of_locator(uint32_t platform, const uint8_t *data, size_t len, char ret[VHD_NAME_MAX + 1])
{
	int r;

	switch (platform) {
	case VHD_LOC_MACX:
		return from_url(data, len, ret);
	case VHD_LOC_W2RU:
	case VHD_LOC_W2KU:
		r = from_utf16(data, len, false, ret);
		return r < 0 ? r : to_path(ret);
	case VHD_LOC_WI2R:
	case VHD_LOC_WI2K:
		/* Some are text of single bytes: then the second is not the upper half of a Latin letter. */
		if (len >= 2 && data[0] != 0 && data[1] != 0)
			return from_narrow(data, len, ret);
		r = from_utf16(data, len, false, ret);
		return r < 0 ? r : to_path(ret);
	default:
		return -ENOTSUP;
	}
}

int vhd_name_of_header(const uint8_t raw[VHD_PARENT_NAME], char ret[VHD_NAME_MAX + 1])
{
	/* Some write it the wrong way round: then the first letter's empty half comes second. */
	int r = from_utf16(raw, VHD_PARENT_NAME, raw[0] == 0 || raw[1] != 0, ret);

	return r < 0 ? r : to_path(ret);
}

int vhd_name_to_locator(uint32_t platform, const char *path, uint8_t ret[VHD_LOCATOR_MAX], size_t *ret_len)
{
	if (strlen(path) > VHD_NAME_MAX)
		return -ENAMETOOLONG;
	if (platform == VHD_LOC_MACX)
		return to_url(path, ret, ret_len);
	return to_utf16(path, true, false, ret, VHD_LOCATOR_MAX, ret_len);
}

int vhd_name_to_header(const char *path, uint8_t ret[VHD_PARENT_NAME])
{
	const char *slash = strrchr(path, '/');
	size_t len;

	memset(ret, 0, VHD_PARENT_NAME);
	return to_utf16(slash ? slash + 1 : path, false, true, ret, VHD_PARENT_NAME, &len);
}
