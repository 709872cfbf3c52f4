// SPDX-License-Identifier: BSD-2-Clause
/* formats/vhd-names.c: names as Windows, Mac OS and XenServer write them. */
#include <blktap/vhd.h>

#include "unit.h"

/* ASCII as UTF-16. */
static size_t wide(const char *s, bool big, uint8_t *ret)
{
	size_t n = 0;

	for (; *s; s++, n += 2) {
		ret[n + !!big] = (uint8_t)*s;
		ret[n + !big] = 0;
	}
	return n;
}

static const char *wide_name(uint32_t platform, const char *s)
{
	static char name[VHD_NAME_MAX + 1];
	uint8_t buf[256];

	return vhd_name_of_locator(platform, buf, wide(s, false, buf), name) == 0 ? name : NULL;
}

static const char *plain_name(uint32_t platform, const char *s)
{
	static char name[VHD_NAME_MAX + 1];

	return vhd_name_of_locator(platform, (const uint8_t *)s, strlen(s), name) == 0 ? name : NULL;
}

static void locators_become_paths(void **state)
{
	(void)state;
	assert_string_equal(wide_name(VHD_LOC_W2RU, ".\\base.vhd"), "./base.vhd");
	assert_string_equal(wide_name(VHD_LOC_W2RU, "..\\a b\\base.vhd"), "../a b/base.vhd");
	assert_string_equal(wide_name(VHD_LOC_W2KU, "C:\\disks\\base.vhd"), "/disks/base.vhd");
	assert_string_equal(wide_name(VHD_LOC_W2KU, "\\\\?\\C:\\disks\\base.vhd"), "/disks/base.vhd");
	assert_string_equal(wide_name(VHD_LOC_W2KU, "./base.vhd"), "./base.vhd"); /* XenServer */
	assert_string_equal(wide_name(VHD_LOC_WI2R, "base.vhd"), "base.vhd");
	assert_string_equal(plain_name(VHD_LOC_WI2R, ".\\base.vhd"), "./base.vhd");
	assert_string_equal(plain_name(VHD_LOC_WI2K, "d:\\base.vhd"), "/base.vhd");
	assert_string_equal(plain_name(VHD_LOC_MACX, "file://localhost/a%20b/base.vhd"), "/a b/base.vhd");
	assert_string_equal(plain_name(VHD_LOC_MACX, "file:///base.vhd"), "/base.vhd");
	assert_string_equal(plain_name(VHD_LOC_MACX, "file:///C:/base.vhd"), "/base.vhd");
	assert_string_equal(plain_name(VHD_LOC_MACX, "file://./base.vhd"), "./base.vhd");
	assert_string_equal(plain_name(VHD_LOC_MACX, "file://../up/base.vhd"), "../up/base.vhd");
}

static void what_is_no_name_is_refused(void **state)
{
	static const uint8_t half_pair[] = { 0x00, 0xd8, 'a', 0 }, lone[] = { 0x00, 0xdc };
	static char name[VHD_NAME_MAX + 1];
	uint8_t longer[4096];

	(void)state;
	assert_null(plain_name(VHD_LOC_MAC, "alias"));
	assert_null(plain_name(0x12345678, "x"));
	assert_null(plain_name(VHD_LOC_MACX, "http://x/base.vhd"));
	assert_null(plain_name(VHD_LOC_MACX, "file://server/base.vhd"));
	assert_null(plain_name(VHD_LOC_MACX, "file:///a%0ab"));
	assert_null(plain_name(VHD_LOC_MACX, "file:///a%2"));
	assert_null(plain_name(VHD_LOC_MACX, "file:///a%00b"));
	assert_null(plain_name(VHD_LOC_MACX, ""));
	assert_null(plain_name(VHD_LOC_WI2R, "a\tb"));
	assert_null(wide_name(VHD_LOC_W2RU, ""));
	assert_null(wide_name(VHD_LOC_W2RU, "a\nb"));
	assert_null(wide_name(VHD_LOC_W2KU, "C:"));
	assert_int_equal(vhd_name_of_locator(VHD_LOC_W2RU, half_pair, sizeof(half_pair), name), -EUCLEAN);
	assert_int_equal(vhd_name_of_locator(VHD_LOC_W2RU, lone, sizeof(lone), name), -EUCLEAN);
	assert_int_equal(vhd_name_of_locator(VHD_LOC_W2RU, lone, 1, name), -EUCLEAN);
	memset(longer, 'a', sizeof(longer));
	assert_int_equal(vhd_name_of_locator(VHD_LOC_W2RU, longer, sizeof(longer), name), -EUCLEAN);
	assert_int_equal(vhd_name_of_locator(VHD_LOC_WI2R, longer, sizeof(longer), name), -EUCLEAN);
	assert_int_equal(vhd_name_of_locator(VHD_LOC_MACX, longer, sizeof(longer), name), -EUCLEAN);
}

static void names_survive_both_ways(void **state)
{
	static const char *const names[] = { "base.vhd", "./base.vhd", "../x/base 1.vhd", "/srv/b#%?.vhd",
					     "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80.vhd" };
	static const uint32_t platforms[] = { VHD_LOC_W2RU, VHD_LOC_W2KU, VHD_LOC_MACX };
	static char name[VHD_NAME_MAX + 1];
	uint8_t buf[VHD_LOCATOR_MAX];
	size_t len;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(names); i++) {
		for (unsigned p = 0; p < TD_NELEMS(platforms); p++) {
			const char *got = name;

			assert_int_equal(vhd_name_to_locator(platforms[p], names[i], buf, &len), 0);
			assert_int_equal(vhd_name_of_locator(platforms[p], buf, len, name), 0);
			if (names[i][0] != '.' && names[i][0] != '/' && strncmp(got, "./", 2) == 0)
				got += 2;
			assert_string_equal(got, names[i]);
		}
	}
	assert_int_equal(vhd_name_to_locator(VHD_LOC_W2RU, "a/b.vhd", buf, &len), 0);
	assert_memory_equal(buf, "a\0\\\0b\0", 6);
	assert_int_equal(vhd_name_to_locator(VHD_LOC_W2RU, "a\xff", buf, &len), -EINVAL);
	assert_int_equal(vhd_name_to_locator(VHD_LOC_W2RU, "a\xc0\x80", buf, &len), -EINVAL);
	assert_int_equal(vhd_name_to_locator(VHD_LOC_W2RU, "\xed\xa0\x80", buf, &len), -EINVAL);
}

static void the_header_s_name_is_big_endian(void **state)
{
	static char name[VHD_NAME_MAX + 1];
	uint8_t raw[VHD_PARENT_NAME];

	(void)state;
	assert_int_equal(vhd_name_to_header("/srv/disks/base.vhd", raw), 0);
	assert_memory_equal(raw, "\0b\0a\0s\0e", 8);
	assert_int_equal(vhd_name_of_header(raw, name), 0);
	assert_string_equal(name, "base.vhd");
	memset(raw, 0, sizeof(raw));
	assert_int_equal(vhd_name_of_header(raw, name), -EUCLEAN);
	(void)wide("C:\\x\\base.vhd", true, raw);
	assert_int_equal(vhd_name_of_header(raw, name), 0);
	assert_string_equal(name, "/x/base.vhd");
	memset(raw, 0, sizeof(raw));
	(void)wide("base.vhd", false, raw); /* the wrong way round */
	assert_int_equal(vhd_name_of_header(raw, name), 0);
	assert_string_equal(name, "base.vhd");
	memset(name, 'a', 300);
	name[300] = '\0';
	assert_int_equal(vhd_name_to_header(name, raw), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(locators_become_paths),
		cmocka_unit_test(what_is_no_name_is_refused),
		cmocka_unit_test(names_survive_both_ways),
		cmocka_unit_test(the_header_s_name_is_big_endian),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
