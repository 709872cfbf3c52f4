// SPDX-License-Identifier: BSD-2-Clause
/* formats/guid.c. */
#include <blktap/guid.h>

#include "unit.h"

static const uint8_t bat[TD_GUID] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
				      0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
#define BAT "2dc27766-f623-4200-9d64-115e9bfd4a08"

static void a_guid_reads_as_windows_writes_it(void **state)
{
	char text[TD_GUID_TEXT];

	(void)state;
	td_guid_text(bat, text);
	assert_string_equal(text, BAT);
}

static void text_comes_with_braces_and_without(void **state)
{
	static const char *const good[] = { BAT, "{" BAT "}", "2DC27766-F623-4200-9D64-115E9BFD4A08" };
	uint8_t guid[TD_GUID];

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(good); i++) {
		memset(guid, 0, sizeof(guid));
		assert_int_equal(td_guid_parse(good[i], guid), 0);
		assert_memory_equal(guid, bat, TD_GUID);
	}
}

static void what_is_no_guid_is_refused(void **state)
{
	static const char *const bad[] = {
		"",       "{",
		BAT "}",  "{" BAT,
		BAT "0",  "2dc27766-f623-4200-9d64-115e9bfd4a0",
		"2dc277", "2dc27766+f623-4200-9d64-115e9bfd4a08",
		"{}",     "2dc2776g-f623-4200-9d64-115e9bfd4a08",
	};
	uint8_t guid[TD_GUID];

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(bad); i++)
		assert_int_equal(td_guid_parse(bad[i], guid), -EINVAL);
}

static void only_zeros_are_zero(void **state)
{
	uint8_t guid[TD_GUID] = { 0 };

	(void)state;
	assert_true(td_guid_is_zero(guid));
	guid[15] = 1;
	assert_false(td_guid_is_zero(guid));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SAYS("a GUID reads as Windows writes it", a_guid_reads_as_windows_writes_it),
		SAYS("text comes with braces and without", text_comes_with_braces_and_without),
		SAYS("what is no GUID is refused", what_is_no_guid_is_refused),
		SAYS("only zeros are zero", only_zeros_are_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
