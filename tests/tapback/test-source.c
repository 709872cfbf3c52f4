// SPDX-License-Identifier: BSD-2-Clause
/* Which disk a backend folder means, and whether it is ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "source.h"

#define OURS_SCRIPT "/etc/xen/scripts/block-tapdisk"
#define STOCK       "/etc/xen/scripts/block"
#define XENS        "/etc/xen/scripts/block-tap"

static struct source_in in_of(const char *class, const char *script, const char *params)
{
	return (struct source_in){ .class = class,
				   .script = script,
				   .params = params,
				   .mode = "w",
				   .device_type = "disk",
				   .run_dir = "/run/blktap-control",
				   .state = 1 };
}

static void specs(void **state)
{
	static const struct {
		const char *class, *script, *params, *spec; /* spec NULL: bad */
	} rows[] = {
		{ "vbd", OURS_SCRIPT, "qcow2:/img", "qcow2:/img" },
		{ "vbd", OURS_SCRIPT, "aio:/a:b,c", "aio:/a:b,c" },
		{ "vbd", "block-tapdisk", "fault(op=read)/qcow2:/img", "fault(op=read)/qcow2:/img" },
		{ "vbd3", OURS_SCRIPT, "aio:qcow2:/img", "qcow2:/img" },
		{ "vbd3", OURS_SCRIPT, "aio:/img", "/img" },
		{ "vbd", STOCK, "/img", "aio:/img" },
		{ "vbd", STOCK, "/img:x", "aio:/img:x" },
		{ "qdisk", NULL, "qcow2:/img", "qcow2:/img" },
		{ "qdisk", NULL, "aio:/img", "aio:/img" },
		{ "qdisk", NULL, "vhd:/img", "vhd:/img" },
		{ "qdisk", NULL, "aio:", NULL }, /* an empty drive */
		{ "qdisk", NULL, "", NULL },
		{ "qdisk", NULL, NULL, NULL },
		{ "vbd", OURS_SCRIPT, "", NULL },
		{ "vbd", OURS_SCRIPT, NULL, NULL },
		{ "vbd3", OURS_SCRIPT, "aio:", NULL },
		{ "other", OURS_SCRIPT, "aio:qcow2:/img", "qcow2:/img" },
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(rows); i++) {
		struct source_in in = in_of(rows[i].class, rows[i].script, rows[i].params);
		struct td_err err = { "" };
		struct source s;
		enum source_verdict v = source_of(&in, &s, &err);

		assert_int_equal(v, rows[i].spec ? SOURCE_OURS : SOURCE_BAD);
		if (rows[i].spec)
			assert_string_equal(s.spec, rows[i].spec);
		else
			assert_true(err.msg[0]);
		assert_int_equal(s.by_script,
				 rows[i].script && strstr(rows[i].script, "block-tapdisk") != NULL);
		assert_int_equal(s.needs_plug, rows[i].script && !s.by_script);
		source_free(&s);
	}
}

static void a_name_has_a_bound(void **state)
{
	struct td_err err = { "" };
	struct source_in in = in_of("qdisk", NULL, NULL);
	static char longest[4097];
	struct source s;

	(void)state;
	memset(longest, 'a', 4096);
	in.params = longest;
	assert_int_equal(source_of(&in, &s, &err), SOURCE_BAD);
	longest[4000] = '\0';
	assert_int_equal(source_of(&in, &s, &err), SOURCE_OURS);
	source_free(&s);
}

/* What is at another state already, and whose script is not ours, is another daemon's; unless it bears our mark. */
static void found_in_a_state(void **state)
{
	static const struct {
		const char *class, *script;
		bool ours_at_5;
	} rows[] = { { "vbd", OURS_SCRIPT, true }, { "vbd", STOCK, true }, { "qdisk", NULL, false } };

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(rows); i++) {
		for (unsigned be = 1; be <= 7; be++) {
			struct source_in in = in_of(rows[i].class, rows[i].script, "/img");
			bool ours = be == 1 || i == 0 || (be == 5 && rows[i].ours_at_5);
			struct source s;

			in.state = be;
			assert_int_equal(source_of(&in, &s, NULL), ours ? SOURCE_OURS : SOURCE_FOREIGN);
			source_free(&s);
			in.marked = true;
			assert_int_equal(source_of(&in, &s, NULL), SOURCE_OURS);
			source_free(&s);
		}
	}
}

static void block_devices_are_the_kernels_where_it_is_there(void **state)
{
	struct source_in in = in_of("vbd", STOCK, "/dev/vg/a");
	struct source s;

	(void)state;
	in.kind = SOURCE_FILE_BLOCK;
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_OURS);
	source_free(&s);
	in.blkback = true;
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_FOREIGN);
	in.kind = SOURCE_FILE_REGULAR;
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_OURS);
	source_free(&s);
	in.script = OURS_SCRIPT; /* asked for by name */
	in.kind = SOURCE_FILE_BLOCK;
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_OURS);
	source_free(&s);
}

static void what_the_kernel_has_taken(void **state)
{
	struct source_in in = in_of("vbd", OURS_SCRIPT, "aio:/img");
	struct source s;

	(void)state;
	in.taken = in.marked = true;
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_FOREIGN);
	assert_true(s.by_script); /* its user is told */
	assert_non_null(strstr(s.why, "xen-blkback"));
	in.script = STOCK;
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_FOREIGN);
	assert_false(s.by_script);
}

static void modes(void **state)
{
	static const struct {
		const char *mode, *type;
		bool read_only, cdrom;
	} rows[] = { { "w", "disk", false, false }, { "r", "disk", true, false },
		     { "r", "cdrom", true, true },  { "w!", "disk", false, false },
		     { "", NULL, true, false },     { NULL, NULL, true, false } };

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(rows); i++) {
		struct source_in in = in_of("vbd", OURS_SCRIPT, "aio:/img");
		struct source s;

		in.mode = rows[i].mode;
		in.device_type = rows[i].type;
		assert_int_equal(source_of(&in, &s, NULL), SOURCE_OURS);
		assert_int_equal(s.read_only, rows[i].read_only);
		assert_int_equal(s.cdrom, rows[i].cdrom);
		source_free(&s);
	}
}

static void xens_own_script(void **state)
{
	struct source_in in = in_of("vbd3", XENS, "aio:/img");
	struct source s;

	(void)state;
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_LATER);
	in.phys_path = "/run/blktap-control/nbd1234.7";
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_BORROW);
	assert_int_equal(s.pid, 1234);
	assert_int_equal(s.minor, 7);
	assert_true(s.needs_plug);
	in.phys_path = "/run/blktap-control/nbd1234.7 ";
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_FOREIGN);
	in.phys_path = "/run/blktap-control/nbd99999999999.7";
	assert_int_equal(source_of(&in, &s, NULL), SOURCE_FOREIGN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs),
		cmocka_unit_test(a_name_has_a_bound),
		cmocka_unit_test(found_in_a_state),
		cmocka_unit_test(block_devices_are_the_kernels_where_it_is_there),
		cmocka_unit_test(what_the_kernel_has_taken),
		cmocka_unit_test(modes),
		cmocka_unit_test(xens_own_script),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
