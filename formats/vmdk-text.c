// SPDX-License-Identifier: BSD-2-Clause
/*
 * Descriptors as text: lines, pairs, names, and changing one line without touching another.  What the lines mean is
 * vmdk-desc.c's.
 *
 * Nobody wrote down what a descriptor may look like.  Found in the wild: lines that end in CR LF or CR, spaces around
 * '=', values with and without quotes, keys in other case, text that no NUL ends.
 */
#include <blktap/vmdk.h>

#define MARK "# Disk DescriptorFile"

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_end(char c)
{
	return c == '\n' || c == '\r' || c == '\0';
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static struct vmdk_str trim(struct vmdk_str s)
{
	while (s.len > 0 && is_space(s.at[0])) {
		s.at++;
		s.len--;
	}
	while (s.len > 0 && is_space(s.at[s.len - 1]))
		s.len--;
	return s;
}

bool vmdk_str_is(struct vmdk_str s, const char *word)
{
	size_t i = 0;

	for (; i < s.len && word[i] != '\0'; i++)
		if (lower(s.at[i]) != lower(word[i]))
			return false;
	return i == s.len && word[i] == '\0';
}

/* ---- lines ---- */

static bool begins_with_access(struct vmdk_str s)
{
	static const char *const words[] = { "rw", "rdonly", "noaccess" };
	size_t len = 0;

	while (len < s.len && !is_space(s.at[len]))
		len++;
	for (unsigned i = 0; i < TD_NELEMS(words); i++)
		if (len < s.len && vmdk_str_is((struct vmdk_str){ s.at, len }, words[i]))
			return true;
	return false;
}

static void split_pair(struct vmdk_str s, struct vmdk_line *l)
{
	const char *eq = memchr(s.at, '=', s.len);
	size_t key_len;

	if (!eq)
		return;
	key_len = (size_t)(eq - s.at);
	l->kind = VMDK_LINE_PAIR;
	l->key = trim((struct vmdk_str){ s.at, key_len });
	l->value = trim((struct vmdk_str){ eq + 1, s.len - key_len - 1 });
	if (l->value.len >= 2 && l->value.at[0] == '"' && l->value.at[l->value.len - 1] == '"') {
		l->value.at++;
		l->value.len -= 2;
	}
}

bool vmdk_line_next(struct vmdk_str text, size_t *pos, struct vmdk_line *ret)
{
	size_t at = *pos, end = at;
	struct vmdk_str s;

	if (at >= text.len || text.at[at] == '\0')
		return false;
	while (end < text.len && !is_end(text.at[end]))
		end++;
	*ret = (struct vmdk_line){ .kind = VMDK_LINE_UNKNOWN, .all = { text.at + at, end - at } };
	*pos = end;
	if (end < text.len && text.at[end] != '\0')
		*pos += text.at[end] == '\r' && end + 1 < text.len && text.at[end + 1] == '\n' ? 2 : 1;
	s = trim(ret->all);
	if (s.len == 0 || s.at[0] == '#')
		ret->kind = VMDK_LINE_NOTHING;
	else if (begins_with_access(s))
		ret->kind = VMDK_LINE_EXTENT;
	else
		split_pair(s, ret);
	return true;
}

bool vmdk_desc_is(const char *text, size_t len)
{
	struct vmdk_str all = { text, len };
	struct vmdk_line l;
	size_t pos = 0;

	/* A byte order mark, as Windows' editor puts it. */
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		pos = 3;
	while (vmdk_line_next(all, &pos, &l)) {
		struct vmdk_str s = trim(l.all);

		if (s.len >= sizeof(MARK) - 1)
			s.len = sizeof(MARK) - 1;
		if (l.kind != VMDK_LINE_NOTHING)
			return false;
		if (vmdk_str_is(s, MARK))
			return true;
	}
	return false;
}

/* ---- changing a line ---- */

struct writer {
	char *out;
	size_t len, max;
	bool full;
};

static void put(struct writer *w, const char *at, size_t len)
{
	if (len > w->max - w->len) {
		w->full = true;
		return;
	}
	memcpy(w->out + w->len, at, len);
	w->len += len;
}

static void put_pair(struct writer *w, const char *key, const char *value, const char *eol, size_t eol_len)
{
	/* Numbers of the header stand without quotes. */
	const bool quote = strcmp(key, "CID") != 0 && strcmp(key, "parentCID") != 0;

	put(w, key, strlen(key));
	put(w, quote ? "=\"" : "=", quote ? 2 : 1);
	put(w, value, strlen(value));
	put(w, "\"", quote ? 1 : 0);
	put(w, eol, eol_len);
}

/* How this text ends its lines: as its first one. */
static size_t line_end(struct vmdk_str text, const char **ret)
{
	for (size_t i = 0; i < text.len && text.at[i] != '\0'; i++) {
		if (!is_end(text.at[i]))
			continue;
		*ret = text.at + i;
		return text.at[i] == '\r' && i + 1 < text.len && text.at[i + 1] == '\n' ? 2 : 1;
	}
	*ret = "\n";
	return 1;
}

static bool has_key(struct vmdk_str text, const char *key)
{
	struct vmdk_line l;

	for (size_t pos = 0; vmdk_line_next(text, &pos, &l);)
		if (l.kind == VMDK_LINE_PAIR && vmdk_str_is(l.key, key))
			return true;
	return false;
}

int vmdk_desc_change(struct vmdk_str text, const char *key, const char *value, const char *after, char *out,
		     size_t max)
{
	const bool replace = has_key(text, key);
	struct writer w = { .out = out, .max = max };
	const char *eol;
	const size_t eol_len = line_end(text, &eol);
	size_t pos = 0, from = 0;
	bool done = value == NULL;
	struct vmdk_line l;

	for (; vmdk_line_next(text, &pos, &l); from = pos) {
		const bool mine = replace && l.kind == VMDK_LINE_PAIR && vmdk_str_is(l.key, key);

		if (!mine)
			put(&w, text.at + from, pos - from);
		/* The last line may have no end of its own. */
		if (!mine && !replace && !done && l.kind == VMDK_LINE_PAIR && vmdk_str_is(l.key, after) &&
		    pos == from + l.all.len)
			put(&w, eol, eol_len);
		if (!done && (mine || (!replace && l.kind == VMDK_LINE_PAIR && vmdk_str_is(l.key, after)))) {
			put_pair(&w, key, value, eol, eol_len);
			done = true;
		}
	}
	if (!done && w.len > 0 && !is_end(out[w.len - 1]))
		put(&w, eol, eol_len);
	if (!done)
		put_pair(&w, key, value, eol, eol_len);
	return w.full || w.len > INT32_MAX ? -ENOSPC : (int)w.len;
}

/* ---- names ---- */

/* What windows-1252 has at 0x80 to 0x9f; elsewhere it is as Unicode. */
static const uint16_t cp1252[32] = {
	0x20ac, 0x0081, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
	0x2039, 0x0152, 0x008d, 0x017d, 0x008f, 0x0090, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
	0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x009d, 0x017e, 0x0178,
};

static size_t put_utf8(uint32_t c, char *out)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	out[0] = (char)(0xe0 | c >> 12);
	out[1] = (char)(0x80 | (c >> 6 & 0x3f));
	out[2] = (char)(0x80 | (c & 0x3f));
	return 3;
}

int vmdk_name_from_1252(struct vmdk_str name, char *out, size_t max)
{
	size_t len = 0;

	for (size_t i = 0; i < name.len; i++) {
		const uint8_t c = (uint8_t)name.at[i];

		if (max - len < 4)
			return -ENOSPC;
		len += put_utf8(c >= 0x80 && c < 0xa0 ? cp1252[c - 0x80] : c, out + len);
	}
	if (max == len)
		return -ENOSPC;
	out[len] = '\0';
	return 0;
}

struct vmdk_str vmdk_name_base(struct vmdk_str name)
{
	for (size_t i = name.len; i-- > 0;)
		if (name.at[i] == '/' || name.at[i] == '\\')
			return (struct vmdk_str){ name.at + i + 1, name.len - i - 1 };
	return name;
}
