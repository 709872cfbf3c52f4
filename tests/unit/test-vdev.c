// SPDX-License-Identifier: BSD-2-Clause
/*
 * Names and numbers of virtual disks (xen/vdev.c), by the examples of xen-vbd-interface(7), and there and back for all.
 */
#include "unit.h"

#include <blktap/xs.h>

static void test_names(void **state)
{
	static const struct {
		const char *name;
		uint32_t number;
	} cases[] = {
		{ "xvda", 51712 },
		{ "xvda1", 51713 },
		{ "xvda15", 51727 },
		{ "xvda16", 0x10000010 },
		{ "xvda255", 0x100000ff },
		{ "xvdb", 51728 },
		{ "xvdp", 51952 },
		{ "xvdp15", 51967 },
		{ "xvdq", 268439552 },
		{ "xvdq1", 268439553 },
		{ "xvdz", 0x10001900 },
		{ "xvdaa", 0x10001a00 },
		{ "xvdtq37", 0x10021825 }, /* disk 536 */
		{ "xvdzz", 0x1002bd00 },
		{ "xvdaaa", 0x1002be00 },
		{ "d0p0", 51712 },
		{ "d0p3", 51715 },
		{ "d5p1", 51793 },
		{ "d16p0", 268439552 },
		{ "d536p37", 0x10021825 },
		{ "d1048575p255", 0x1fffffff },
		{ "sda", 2048 },
		{ "sda1", 2049 },
		{ "sdp15", 2303 },
		{ "hda", 768 },
		{ "hda1", 769 },
		{ "hdb", 832 },
		{ "hdb63", 895 },
		{ "hdc", 5632 },
		{ "hdd2", 5698 },
		{ "51712", 51712 },
		{ "0xca00", 51712 },
		{ "0xCA01", 51713 },
		{ "0x10001000", 268439552 },
		{ "536870911", 0x1fffffff },
		{ "/dev/xvda", 51712 },
		{ "/dev/xvdb7", 51735 },
	};
	uint32_t number;

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(cases); i++) {
		number = 0;
		if (td_vdev_parse(cases[i].name, &number) < 0)
			fail_msg("%s is refused", cases[i].name);
		if (number != cases[i].number)
			fail_msg("%s is %u, not %u", cases[i].name, number, cases[i].number);
	}
}

static void test_refused(void **state)
{
	static const char *const names[] = {
		"",
		"x",
		"xvd",
		"xvdA",
		"xvd1",
		"xvda ",
		" xvda",
		"xvda0",
		"xvda01",
		"xvda256",
		"xvda-1",
		"xvda+1",
		"xvda1x",
		"xvdbglxoz", /* disk 2^26 and more */
		"xvdbglxpaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"xvda99999999999999999999999999",
		"sdq",
		"sda16",
		"hde",
		"hda64",
		"vda",
		"d0",
		"d1",
		"dp1",
		"d5p",
		"d05p1",
		"d5p01",
		"d5p256",
		"d1048576p0",
		"d-1p0",
		"-1",
		"+5",
		"051712",
		"51712 ",
		"51712x",
		"536870912",
		"99999999999999999999",
		"0x",
		"0xg",
		"0x20000000",
		"0x100000000ca00",
		"/dev/",
		"/dev//xvda",
		"../xvda",
		"xvda/b",
	};
	uint32_t number = 12345;

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(names); i++)
		if (td_vdev_parse(names[i], &number) != -EINVAL)
			fail_msg("'%s' is taken as %u", names[i], number);
	assert_int_equal(number, 12345);
}

static void check_round(uint32_t number)
{
	char name[24];
	uint32_t again = 0;

	td_vdev_name(number, name, sizeof(name));
	if (td_vdev_parse(name, &again) < 0)
		fail_msg("%u is called %s, which is refused", number, name);
	/* One disk has two numbers: an extended one that fits the old form is called by the old form's name. */
	if (again != number &&
	    !(number >= 1u << 28 && (number & 0xfffffff) >> 8 < 16 && (number & 0xff) < 16))
		fail_msg("%u is called %s, which is %u", number, name, again);
}

static void test_there_and_back(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < 1u << 17; n++)
		check_round(n);
	for (uint32_t n = 1u << 28; n < 1u << 29; n += n % 4096 < 300 ? 1 : 997)
		check_round(n);
	check_round((1u << 29) - 1);
}

static void test_called(void **state)
{
	static const struct {
		uint32_t number;
		const char *name;
	} cases[] = {
		{ 51712, "xvda" },
		{ 51967, "xvdp15" },
		{ 268439552, "xvdq" },
		{ 0x10001a05, "xvdaa5" },
		{ 768, "hda" },
		{ 5698, "hdd2" },
		{ 2049, "sda1" },
		{ 4711, "4711" },
		{ 0x10000001, "268435457" },
		{ 3 << 8 | 128, "896" },
		{ 0x1fffffff, "xvdbgqcv255" },
	};
	char name[24];

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(cases); i++) {
		td_vdev_name(cases[i].number, name, sizeof(name));
		assert_string_equal(name, cases[i].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("names have the numbers of xen-vbd-interface(7)", test_names),
		SAYS("what is no name or number is refused", test_refused),
		SAYS("a number's name parses to the number", test_there_and_back),
		SAYS("numbers have the names of xen-vbd-interface(7)", test_called),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
