// SPDX-License-Identifier: BSD-2-Clause
/* formats/vmdk-text.c: lines, and changing one of them. */
#include <blktap/vmdk.h>

#include "unit.h"

static struct vmdk_str str(const char *text)
{
	return (struct vmdk_str){ text, strlen(text) };
}

static void changed(const char *text, const char *key, const char *value, const char *result)
{
	char out[256];
	int len = vmdk_desc_change(str(text), key, value, "parentCID", out, sizeof(out));

	assert_int_equal(len, strlen(result));
	assert_memory_equal(out, result, strlen(result));
}

static void one_line_changes_and_no_other_byte(void **state)
{
	(void)state;
	changed("a\r\nCID = 12\r\nb = \"x\"\r\n", "CID", "34", "a\r\nCID=34\r\nb = \"x\"\r\n");
	changed("a\nparentFileNameHint=\"x\"\n#c", "parentFileNameHint", "y z",
		"a\nparentFileNameHint=\"y z\"\n#c");
	changed("a\nparentFileNameHint=\"x\"\n#c", "parentFileNameHint", NULL, "a\n#c");
	changed("a\n", "parentFileNameHint", NULL, "a\n");
}

static void a_new_line_comes_behind_another(void **state)
{
	(void)state;
	changed("a\r\nparentCID=1\r\nb\r\n", "parentFileNameHint", "n",
		"a\r\nparentCID=1\r\nparentFileNameHint=\"n\"\r\nb\r\n");
	changed("parentCID=1", "parentFileNameHint", "n", "parentCID=1\nparentFileNameHint=\"n\"\n");
}

static void what_does_not_fit_is_refused(void **state)
{
	char out[16];

	(void)state;
	for (size_t max = 0; max < 12; max++)
		assert_int_equal(vmdk_desc_change(str("a\nCID=1\nb\n"), "CID", "23", "", out, max),
				 max < 11 ? -ENOSPC : 11);
}

static void a_descriptor_is_known_by_its_first_words(void **state)
{
	(void)state;
#define IS(text) vmdk_desc_is(text, sizeof(text) - 1)
	assert_true(IS("# Disk DescriptorFile\n"));
	assert_true(IS("# Disk DescriptorFile"));
	assert_true(IS("\r\n \n#hi\n# disk descriptorfile and more\n"));
	assert_true(IS("\xef\xbb\xbf# Disk DescriptorFile\n"));
	assert_false(IS(""));
	assert_false(IS("# Disk Descriptor"));
	assert_false(IS("x\n# Disk DescriptorFile\n"));
	assert_false(IS("#!/bin/sh\nversion=1\n"));
#undef IS
}

static void names_come_from_windows(void **state)
{
	char out[32];

	(void)state;
	assert_int_equal(vmdk_name_from_1252(str("f\xfc\x80r"), out, sizeof(out)), 0);
	assert_string_equal(out, "f\xc3\xbc\xe2\x82\xacr");
	assert_int_equal(vmdk_name_from_1252(str("abcdefgh"), out, 8), -ENOSPC);
	assert_int_equal(vmdk_name_base(str("C:\\VMs\\a b.vmdk")).len, 8);
	assert_int_equal(vmdk_name_base(str("/vmfs/x/a.vmdk")).len, 6);
	assert_int_equal(vmdk_name_base(str("a.vmdk")).len, 6);
	assert_int_equal(vmdk_name_base(str("a/")).len, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SAYS("one line changes and no other byte", one_line_changes_and_no_other_byte),
		SAYS("a new line comes behind another", a_new_line_comes_behind_another),
		SAYS("what does not fit is refused", what_does_not_fit_is_refused),
		SAYS("a descriptor is known by its first words", a_descriptor_is_known_by_its_first_words),
		SAYS("names come from Windows", names_come_from_windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
