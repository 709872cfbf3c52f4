// SPDX-License-Identifier: BSD-2-Clause
/* formats/vhdx-locator.c. */
#include <blktap/vhdx.h>

#include "unit.h"

#define ONE "{83ed0ec3-24c8-49a6-a959-5e4bd1288791}"
#define TWO "00000000-1111-2222-3333-444455556666"

static uint8_t raw[2048];
static uint32_t end;

static uint32_t put_text(const char *text)
{
	const uint32_t at = end;

	for (; *text; text++, end += 2)
		td_put_le16(raw + end, (uint8_t)*text);
	return at;
}

static void add(const char *key, const char *value)
{
	const unsigned nr = td_get_le16(raw + 18);
	uint8_t *p = raw + 20 + (size_t)nr * 12;

	td_put_le32(p, put_text(key));
	td_put_le32(p + 4, put_text(value));
	td_put_le16(p + 8, (uint16_t)(2 * strlen(key)));
	td_put_le16(p + 10, (uint16_t)(2 * strlen(value)));
	td_put_le16(raw + 18, (uint16_t)(nr + 1));
}

static int make(void **state)
{
	(void)state;
	memset(raw, 0, sizeof(raw));
	end = 200;
	return td_guid_parse("b04aefb7-d19e-4a81-b789-25b8e9445913", raw);
}

static void names_and_identities_are_found(void **state)
{
	struct vhdx_locator l;
	char text[TD_GUID_TEXT];

	(void)state;
	add("volume_path", "\\\\?\\Volume{1}\\base.vhdx");
	add("relative_path", ".\\base.vhdx");
	add("parent_linkage", ONE);
	add("absolute_win32_path", "C:\\base.vhdx");
	add("parent_linkage2", TWO);
	assert_int_equal(vhdx_locator_decode(raw, end, &l, NULL), 0);
	assert_int_equal(l.nr_linkage, 2);
	td_guid_text(l.linkage[0], text);
	assert_string_equal(text, "83ed0ec3-24c8-49a6-a959-5e4bd1288791");
	td_guid_text(l.linkage[1], text);
	assert_string_equal(text, TWO);
	assert_int_equal(l.relative.len, 22);
	assert_memory_equal(raw + l.relative.off, ".\0\\\0b\0a\0s\0e\0", 12);
	assert_int_equal(l.absolute.len, 24);
}

static void refused(uint32_t len, int code, const char *part)
{
	struct vhdx_locator l;
	struct td_err err;

	assert_refused(vhdx_locator_decode(raw, len, &l, &err), code, &err, part);
	make(NULL);
}

static void locators_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	add("relative_path", "base.vhdx");
	refused(end, -EUCLEAN, "does not say which parent");
	add("parent_linkage", "83ed0ec3");
	refused(end, -EUCLEAN, "no GUID");
	add("parent_linkage", "");
	refused(end, -EUCLEAN, "no GUID");
	add("parent_linkage", ONE ONE ONE);
	refused(end, -EUCLEAN, "no GUID");
	add("parent_linkage", ONE);
	refused(end - 2, -EUCLEAN, "leads out");
	add("parent_linkage", ONE);
	td_put_le32(raw + 20, 0xffffffff);
	refused(end, -EUCLEAN, "leads out");
	add("parent_linkage", ONE);
	raw[0] ^= 1;
	refused(end, -ENOTSUP, "b04aefb6-d19e-4a81-b789-25b8e9445913");
	refused(19, -EUCLEAN, "too short");
	td_put_le16(raw + 18, 1);
	refused(31, -EUCLEAN, "too short");
	td_put_le16(raw + 18, 0xffff);
	refused(sizeof(raw), -EUCLEAN, "too short");
}

#define FROM_NEW(sentence, fn)                                                                               \
	{                                                                                                    \
		sentence, fn, make, NULL, NULL                                                               \
	}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		FROM_NEW("names and identities are found", names_and_identities_are_found),
		FROM_NEW("locators that make no sense are refused", locators_that_make_no_sense_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
