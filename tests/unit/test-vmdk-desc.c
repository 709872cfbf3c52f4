// SPDX-License-Identifier: BSD-2-Clause
/* formats/vmdk-desc.c: descriptors as they are found, and as nobody should make them. */
#include <blktap/vmdk.h>

#include "unit.h"

#define HEAD "# Disk DescriptorFile\nversion=1\nCID=12ab\nparentCID=ffffffff\n"

static int decode(const char *text, struct vmdk_desc *ret, struct td_err *err)
{
	return vmdk_desc_decode(text, strlen(text), ret, err);
}

static void is(struct vmdk_str s, const char *text)
{
	assert_int_equal(s.len, strlen(text));
	assert_memory_equal(s.at, text, s.len);
}

static void a_descriptor_says_who_it_is(void **state)
{
	static const char text[] =
		"# Disk DescriptorFile\nversion=1\nencoding=\"windows-1252\"\nCID=0172e8a4\n"
		"parentCID=c80e763b\ncreateType=\"twoGbMaxExtentSparse\"\n"
		"parentFileNameHint=\"my disk.vmdk\"\n\n# Extent description\n"
		"RW 4192256 SPARSE \"disk-s001.vmdk\"\nRW 2048 SPARSE \"disk-s002.vmdk\"\n\n"
		"# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\n"
		"ddb.geometry.cylinders = \"261\"\nddb.longContentID = "
		"\"c493b057f416b9534001df440172e8a4\"\n";
	struct vmdk_desc d;
	struct td_err err;

	(void)state;
	assert_int_equal(decode(text, &d, &err), 0);
	assert_int_equal(d.cid, 0x0172e8a4);
	assert_int_equal(d.parent_cid, 0xc80e763b);
	is(d.create_type, "twoGbMaxExtentSparse");
	is(d.parent_hint, "my disk.vmdk");
	is(d.encoding, "windows-1252");
	is(d.adapter, "lsilogic");
	is(d.cylinders, "261");
	is(d.cid_digits, "0172e8a4");
	is(d.long_id, "c493b057f416b9534001df440172e8a4");
	assert_int_equal(d.nr_extents, 2);
	assert_int_equal(d.capacity, 4192256 + 2048);
}

static void it_is_read_however_it_is_written(void **state)
{
	static const char *const texts[] = {
		"# Disk DescriptorFile\r\nversion=1\r\nCID=12AB\r\nparentCID=FFFFFFFF\r\nRW 8 FLAT \"a\" "
		"0\r\n",
		"# Disk DescriptorFile\rversion=1\rCID=12ab\rparentCID=ffffffff\rRW 8 FLAT \"a\" 0",
		"\n  \n# mine\n# disk descriptorfile\nVERSION = 1\ncid = 12ab \nPARENTcid\t=\tffffffff\n"
		"rw\t8  flat\t\"a\"\t0\n",
		"version=1\nCID=\"12ab\"\nRW 8 FLAT a\n",
		"\xef\xbb\xbf# Disk DescriptorFile\nversion=1\nCID=000012ab\n  RW 8 VMFS \"a\"\n\n\n",
		HEAD "RW 8 FLAT \"a\"\nno.such.line\n=\n=x\ny=\n\"\n",
	};
	struct vmdk_desc d;
	struct td_err err;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(texts); i++) {
		struct vmdk_extent e;
		size_t pos = 0;

		err.msg[0] = '\0';
		if (decode(texts[i], &d, &err) < 0)
			fail_msg("%u: %s", i, err.msg);
		assert_int_equal(d.cid, 0x12ab);
		assert_int_equal(d.parent_cid, VMDK_NO_PARENT);
		assert_int_equal(vmdk_extent_next(d.text, &pos, &e, &err), 1);
		assert_int_equal(e.access, VMDK_RW);
		assert_int_equal(e.type, VMDK_FLAT);
		assert_int_equal(e.sectors, 8);
		is(e.name, "a");
		assert_int_equal(vmdk_extent_next(d.text, &pos, &e, &err), 0);
	}
}

static void what_follows_a_nul_is_not_text(void **state)
{
	static const char text[] = HEAD "RW 8 FLAT \"a\"\n\0RW 8 FLAT \"b\"\n";
	struct vmdk_desc d;
	struct td_err err;

	(void)state;
	assert_int_equal(vmdk_desc_decode(text, sizeof(text), &d, &err), 0);
	assert_int_equal(d.nr_extents, 1);
	/* And none is needed. */
	assert_int_equal(vmdk_desc_decode(text, strlen(text) - 1, &d, &err), 0);
	assert_int_equal(d.capacity, 8);
}

static void every_kind_of_extent_is_told(void **state)
{
	static const struct {
		const char *line;
		enum vmdk_access access;
		enum vmdk_extent_type type;
		uint64_t sectors, offset;
		const char *name;
	} x[] = {
		{ "RW 63 FLAT \"dev sda\" 7", VMDK_RW, VMDK_FLAT, 63, 7, "dev sda" },
		{ "RDONLY 5 SPARSE \"s\"", VMDK_RDONLY, VMDK_SPARSE, 5, 0, "s" },
		{ "NOACCESS 1 FLAT \"x\" 9", VMDK_NOACCESS, VMDK_FLAT, 1, 9, "x" },
		{ "RW 77 ZERO", VMDK_RW, VMDK_ZERO, 77, 0, "" },
		{ "RW 3 VMFSSPARSE \"d-delta.vmdk\"", VMDK_RW, VMDK_VMFSSPARSE, 3, 0, "d-delta.vmdk" },
		{ "RW 3 SESPARSE \"d\"", VMDK_RW, VMDK_SESPARSE, 3, 0, "d" },
		{ "RW 3 VMFSRDM \"d\"", VMDK_RW, VMDK_OTHER, 3, 0, "d" },
		{ "RW 0 SPARSE \"d\"", VMDK_RW, VMDK_SPARSE, 0, 0, "d" },
	};

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(x); i++) {
		struct vmdk_str text = { x[i].line, strlen(x[i].line) };
		struct vmdk_extent e;
		struct td_err err;
		size_t pos = 0;

		assert_int_equal(vmdk_extent_next(text, &pos, &e, &err), 1);
		assert_int_equal(e.access, x[i].access);
		assert_int_equal(e.type, x[i].type);
		assert_int_equal(e.sectors, x[i].sectors);
		assert_int_equal(e.offset, x[i].offset);
		is(e.name, x[i].name);
	}
}

static void damage_is_named(void **state)
{
	static const struct {
		const char *text, *because;
		int error;
	} x[] = {
		{ "", "no descriptor", -EUCLEAN },
		{ "hello\n", "no descriptor", -EUCLEAN },
		{ "# Disk DescriptorFile\nversion=1\nRW 8 FLAT \"a\"\n", "no line CID", -EUCLEAN },
		{ "# Disk DescriptorFile\nversion=9\nCID=1\n", "version", -ENOTSUP },
		{ "CID=123456789\nRW 8 FLAT \"a\"\n", "valid CID", -EUCLEAN },
		{ "CID=\nRW 8 FLAT \"a\"\n", "valid CID", -EUCLEAN },
		{ "CID=12x4\nRW 8 FLAT \"a\"\n", "valid CID", -EUCLEAN },
		{ "CID=1\nparentCID=no\nRW 8 FLAT \"a\"\n", "valid CID", -EUCLEAN },
		{ HEAD, "names no extent", -EUCLEAN },
		{ HEAD "RW FLAT \"a\"\n", "valid length", -EUCLEAN },
		{ HEAD "RW -8 FLAT \"a\"\n", "valid length", -EUCLEAN },
		{ HEAD "RW 99999999999999999999 FLAT \"a\"\n", "valid length", -EUCLEAN },
		{ HEAD "RW 18014398509481984 FLAT \"a\"\n", "valid length", -EUCLEAN },
		{ HEAD "RW 8 FLAT\n", "names no file", -EUCLEAN },
		{ HEAD "RW 8 FLAT \"\"\n", "names no file", -EUCLEAN },
		{ HEAD "RW 8 FLAT \"a\" x\n", "valid offset", -EUCLEAN },
		{ HEAD "RW 8 FLAT \"a\" 18014398509481983\n", "no file has", -EUCLEAN },
		{ HEAD "RW 18014398509481983 ZERO\nRW 1 ZERO\n", "longer than any disk", -EUCLEAN },
	};
	struct vmdk_desc d;
	struct td_err err;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(x); i++)
		assert_refused(decode(x[i].text, &d, &err), x[i].error, &err, x[i].because);
}

static void there_is_a_limit_to_extents_and_names(void **state)
{
	static char text[VMDK_MAX_DESCRIPTOR];
	size_t len = (size_t)sprintf(text, HEAD);
	struct vmdk_desc d;
	struct td_err err;

	(void)state;
	for (unsigned i = 0; i < VMDK_MAX_EXTENTS; i++)
		len += (size_t)sprintf(text + len, "RW 1 FLAT \"%u\"\n", i);
	assert_int_equal(vmdk_desc_decode(text, len, &d, &err), 0);
	assert_int_equal(d.nr_extents, VMDK_MAX_EXTENTS);
	len += (size_t)sprintf(text + len, "RW 1 ZERO\n");
	assert_refused(vmdk_desc_decode(text, len, &d, &err), -E2BIG, &err, "more than");
	len = (size_t)sprintf(text, HEAD "RW 1 FLAT \"");
	memset(text + len, 'a', sizeof(text) - len);
	assert_refused(vmdk_desc_decode(text, sizeof(text), &d, &err), -EUCLEAN, &err, "no file can have");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		SAYS("a descriptor says who it is", a_descriptor_says_who_it_is),
		SAYS("it is read however it is written", it_is_read_however_it_is_written),
		SAYS("what follows a NUL is not text", what_follows_a_nul_is_not_text),
		SAYS("every kind of extent is told", every_kind_of_extent_is_told),
		SAYS("damage is named", damage_is_named),
		SAYS("there is a limit to extents and names", there_is_a_limit_to_extents_and_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
