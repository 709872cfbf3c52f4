// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a descriptor says: who it is, who its parent is, which extents it has.  Lines that nobody knows are let stand:
 * every version of every product has some of its own.
 *
 * Source: VMware, "Virtual Disk Format 5.0", "The Descriptor File".
 */
#include <blktap/vmdk.h>

/* ---- words of an extent's line ---- */

struct cursor {
	struct vmdk_str s;
	size_t pos;
};

/* Between blanks, or between quotes; a quote that is not closed is a letter like any other. */
static struct vmdk_str next_word(struct cursor *c)
{
	const char *at;
	size_t len;

	while (c->pos < c->s.len && (c->s.at[c->pos] == ' ' || c->s.at[c->pos] == '\t'))
		c->pos++;
	at = c->s.at + c->pos;
	if (c->pos < c->s.len && *at == '"') {
		const char *end = memchr(at + 1, '"', c->s.len - c->pos - 1);

		if (end) {
			c->pos += (size_t)(end - at) + 1;
			return (struct vmdk_str){ at + 1, (size_t)(end - at) - 1 };
		}
	}
	for (len = 0; c->pos < c->s.len && c->s.at[c->pos] != ' ' && c->s.at[c->pos] != '\t'; len++)
		c->pos++;
	return (struct vmdk_str){ at, len };
}

/* 18 digits at most, so that nothing wraps here. */
static int to_number(struct vmdk_str s, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.len == 0 || s.len > 18)
		return -EUCLEAN;
	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] < '0' || s.at[i] > '9')
			return -EUCLEAN;
		v = v * 10 + (uint64_t)(s.at[i] - '0');
	}
	*ret = v;
	return 0;
}

static enum vmdk_access to_access(struct vmdk_str s)
{
	if (vmdk_str_is(s, "RW"))
		return VMDK_RW;
	return vmdk_str_is(s, "RDONLY") ? VMDK_RDONLY : VMDK_NOACCESS;
}

static enum vmdk_extent_type to_type(struct vmdk_str s)
{
	static const struct {
		const char *name;
		enum vmdk_extent_type type;
	} types[] = {
		{ "FLAT", VMDK_FLAT },
		{ "VMFS", VMDK_FLAT },
		{ "SPARSE", VMDK_SPARSE },
		{ "ZERO", VMDK_ZERO },
		{ "VMFSSPARSE", VMDK_VMFSSPARSE },
		{ "SESPARSE", VMDK_SESPARSE },
	};

	for (unsigned i = 0; i < TD_NELEMS(types); i++)
		if (vmdk_str_is(s, types[i].name))
			return types[i].type;
	return VMDK_OTHER;
}

static int bad_line(struct vmdk_str line, const char *what, struct td_err *ret_err)
{
	return td_err_set(ret_err, -EUCLEAN, "the descriptor's line '%.*s' %s", (int)TD_MIN(line.len, 160u),
			  line.at, what);
}

/* RW 4192256 SPARSE "disk-s001.vmdk" [0]: access, sectors, type, file, and where in it a flat one begins. */
static int decode_extent(struct vmdk_str line, struct vmdk_extent *ret, struct td_err *ret_err)
{
	struct cursor c = { .s = line };
	struct vmdk_extent e = { .access = to_access(next_word(&c)) };
	struct vmdk_str word;

	if (to_number(next_word(&c), &e.sectors) < 0 || e.sectors > VMDK_MAX_SECTORS)
		return bad_line(line, "has no valid length", ret_err);
	e.type_name = next_word(&c);
	e.type = to_type(e.type_name);
	e.name = next_word(&c);
	word = next_word(&c);
	if (e.type == VMDK_ZERO)
		e.name.len = 0;
	else if (e.name.len == 0)
		return bad_line(line, "names no file", ret_err);
	if (e.name.len > VMDK_MAX_NAME || memchr(e.name.at, '\0', e.name.len))
		return bad_line(line, "has a name that no file can have", ret_err);
	if (e.type == VMDK_FLAT && word.len > 0 && to_number(word, &e.offset) < 0)
		return bad_line(line, "has no valid offset", ret_err);
	if (!td_in_range(e.offset, e.sectors, VMDK_MAX_SECTORS))
		return bad_line(line, "names sectors that no file has", ret_err);
	*ret = e;
	return 0;
}

int vmdk_extent_next(struct vmdk_str text, size_t *pos, struct vmdk_extent *ret, struct td_err *ret_err)
{
	struct vmdk_line l;

	while (vmdk_line_next(text, pos, &l)) {
		int r;

		if (l.kind != VMDK_LINE_EXTENT)
			continue;
		while (l.all.len > 0 && (l.all.at[0] == ' ' || l.all.at[0] == '\t')) {
			l.all.at++;
			l.all.len--;
		}
		r = decode_extent(l.all, ret, ret_err);
		return r < 0 ? r : 1;
	}
	return 0;
}

/* ---- the header ---- */

static int to_cid(struct vmdk_str s, uint32_t *ret)
{
	uint32_t v = 0;

	if (s.len == 0 || s.len > 8)
		return -EUCLEAN;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.at[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint32_t)(c - '0');
		else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
			v = v << 4 | (uint32_t)((c & 0xf) + 9);
		else
			return -EUCLEAN;
	}
	*ret = v;
	return 0;
}

/* The first that says something counts. */
static void take(struct vmdk_str *field, struct vmdk_str value)
{
	if (!field->at)
		*field = value;
}

static int take_pair(const struct vmdk_line *l, struct vmdk_desc *d, struct td_err *ret_err)
{
	const struct {
		const char *key;
		struct vmdk_str *field;
	} fields[] = {
		{ "createType", &d->create_type },
		{ "parentFileNameHint", &d->parent_hint },
		{ "encoding", &d->encoding },
		{ "ddb.longContentID", &d->long_id },
		{ "ddb.adapterType", &d->adapter },
		{ "ddb.virtualHWVersion", &d->hw_version },
		{ "ddb.geometry.cylinders", &d->cylinders },
		{ "ddb.geometry.heads", &d->heads },
		{ "ddb.geometry.sectors", &d->sectors },
	};
	uint64_t version;

	if (vmdk_str_is(l->key, "CID") && !d->cid_digits.at) {
		d->cid_digits = l->value;
		return to_cid(l->value, &d->cid) < 0 ? bad_line(l->all, "has no valid CID", ret_err) : 0;
	}
	if (vmdk_str_is(l->key, "parentCID")) {
		d->parent_digits = l->value;
		return to_cid(l->value, &d->parent_cid) < 0 ? bad_line(l->all, "has no valid CID", ret_err)
							    : 0;
	}
	if (vmdk_str_is(l->key, "version") && (to_number(l->value, &version) < 0 || version > 4))
		return td_err_set(ret_err, -ENOTSUP,
				  "descriptors of version '%.*s' are not supported (1 to 4 are)",
				  (int)TD_MIN(l->value.len, 20u), l->value.at);
	for (unsigned i = 0; i < TD_NELEMS(fields); i++)
		if (vmdk_str_is(l->key, fields[i].key))
			take(fields[i].field, l->value);
	return 0;
}

static int take_pairs(struct vmdk_desc *d, struct td_err *ret_err)
{
	struct vmdk_line l;
	int r = 0;

	for (size_t pos = 0; r == 0 && vmdk_line_next(d->text, &pos, &l);)
		if (l.kind == VMDK_LINE_PAIR)
			r = take_pair(&l, d, ret_err);
	return r;
}

static int count_extents(struct vmdk_desc *d, struct td_err *ret_err)
{
	struct vmdk_extent e;
	size_t pos = 0;
	int r;

	while ((r = vmdk_extent_next(d->text, &pos, &e, ret_err)) > 0) {
		if (d->nr_extents == VMDK_MAX_EXTENTS)
			return td_err_set(ret_err, -E2BIG, "the descriptor has more than %u extents",
					  VMDK_MAX_EXTENTS);
		if (e.sectors > VMDK_MAX_SECTORS - d->capacity)
			return td_err_set(ret_err, -EUCLEAN,
					  "the descriptor's extents are longer than any disk can be");
		d->nr_extents++;
		d->capacity += e.sectors;
	}
	return r;
}

int vmdk_desc_decode(const char *text, size_t len, struct vmdk_desc *ret, struct td_err *ret_err)
{
	struct vmdk_desc d = { .text = { text, strnlen(text, len) }, .parent_cid = VMDK_NO_PARENT };
	int r;

	r = take_pairs(&d, ret_err);
	if (r == 0 && !d.cid_digits.at && !vmdk_desc_is(text, len))
		r = td_err_set(ret_err, -EUCLEAN,
			       "there is no descriptor: it would begin with '# Disk DescriptorFile'");
	if (r == 0 && !d.cid_digits.at)
		r = td_err_set(ret_err, -EUCLEAN, "the descriptor has no line CID=");
	if (r == 0)
		r = count_extents(&d, ret_err);
	if (r == 0 && d.nr_extents == 0)
		r = td_err_set(ret_err, -EUCLEAN, "the descriptor names no extent");
	if (r == 0)
		*ret = d;
	return r;
}
