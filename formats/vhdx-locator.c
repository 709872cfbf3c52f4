// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where the parent of a differencing disk is, and which one: keys and values, all of them UTF-16LE.
 */
#include <blktap/vhdx.h>

enum {
	AT_COUNT = 18,
	AT_ENTRIES = 20,
	ENTRY = 12,
};

static const uint8_t guid_vhdx[TD_GUID] = { 0xb7, 0xef, 0x4a, 0xb0, 0x9e, 0xd1, 0x81, 0x4a,
					    0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13 };

/* Is it this, in letters of ASCII? */
static bool is_key(const uint8_t *raw, uint32_t len, const char *key)
{
	if (len != 2 * strlen(key))
		return false;
	for (uint32_t i = 0; i < len / 2; i++)
		if (td_get_le16(raw + (size_t)i * 2) != (uint8_t)key[i])
			return false;
	return true;
}

static int set_linkage(const uint8_t *raw, uint32_t len, struct vhdx_locator *ret, struct td_err *ret_err)
{
	char text[TD_GUID_TEXT + 2];
	uint32_t n = len / 2;

	for (uint32_t i = 0; n < sizeof(text) && i < n; i++) {
		uint16_t c = td_get_le16(raw + (size_t)i * 2);

		text[i] = c < 0x80 ? (char)c : '?';
	}
	text[n < sizeof(text) ? n : 0] = '\0';
	if (td_guid_parse(text, ret->linkage[ret->nr_linkage]) < 0)
		return td_err_set(ret_err, -EUCLEAN, "the identity of its parent is no GUID");
	ret->nr_linkage++;
	return 0;
}

static int add_value(const uint8_t *raw, uint32_t len, const uint8_t *p, struct vhdx_locator *ret,
		     struct td_err *ret_err)
{
	const uint32_t key = td_get_le32(p), key_len = td_get_le16(p + 8);
	const struct vhdx_value value = { .off = td_get_le32(p + 4), .len = td_get_le16(p + 10) };

	if (!td_in_range(key, key_len, len) || !td_in_range(value.off, value.len, len))
		return td_err_set(ret_err, -EUCLEAN, "its parent locator leads out of itself");
	if (is_key(raw + key, key_len, "relative_path"))
		ret->relative = value;
	else if (is_key(raw + key, key_len, "absolute_win32_path"))
		ret->absolute = value;
	else if ((is_key(raw + key, key_len, "parent_linkage") ||
		  is_key(raw + key, key_len, "parent_linkage2")) &&
		 ret->nr_linkage < TD_NELEMS(ret->linkage))
		return set_linkage(raw + value.off, value.len, ret, ret_err);
	return 0;
}

int vhdx_locator_decode(const uint8_t *raw, uint32_t len, struct vhdx_locator *ret, struct td_err *ret_err)
{
	struct vhdx_locator l = { .nr_linkage = 0 };
	char name[TD_GUID_TEXT];
	int r = 0;

	if (len < AT_ENTRIES || td_get_le16(raw + AT_COUNT) > (len - AT_ENTRIES) / ENTRY)
		return td_err_set(ret_err, -EUCLEAN, "its parent locator is too short");
	if (memcmp(raw, guid_vhdx, TD_GUID) != 0) {
		td_guid_text(raw, name);
		return td_err_set(ret_err, -ENOTSUP, "a parent locator of type %s is not supported", name);
	}
	for (unsigned i = 0; r == 0 && i < td_get_le16(raw + AT_COUNT); i++)
		r = add_value(raw, len, raw + AT_ENTRIES + (size_t)i * ENTRY, &l, ret_err);
	if (r == 0 && l.nr_linkage == 0)
		r = td_err_set(ret_err, -EUCLEAN, "its parent locator does not say which parent it has");
	if (r == 0)
		*ret = l;
	return r;
}
