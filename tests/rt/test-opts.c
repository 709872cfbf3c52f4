// SPDX-License-Identifier: BSD-2-Clause
/* Options: quoting, duplicates, unknown names, and numbers at their limits. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <blktap/opts.h>

static struct td_opts opts;
static struct td_err err;

static int teardown(void **state)
{
	(void)state;
	td_opts_done(&opts);
	return 0;
}

static int parse(const char *text)
{
	td_opts_done(&opts);
	memset(&err, 0, sizeof(err));
	return td_opts_parse(&opts, text, strlen(text), &err);
}

static void names_and_values(void **state)
{
	(void)state;
	assert_int_equal(parse("a=1,direct,empty=,eq=x=y"), 0);
	assert_int_equal(opts.nr, 4);
	assert_string_equal(td_opts_get(&opts, "a"), "1");
	assert_string_equal(td_opts_get(&opts, "direct"), "on");
	assert_string_equal(td_opts_get(&opts, "empty"), "");
	assert_string_equal(td_opts_get(&opts, "eq"), "x=y");
	assert_null(td_opts_get(&opts, "b"));
	assert_int_equal(parse(""), 0);
	assert_int_equal(opts.nr, 0);
}

static void only_the_given_length_is_read(void **state)
{
	(void)state;
	assert_int_equal(td_opts_parse(&opts, "a=1)rest", 3, &err), 0);
	assert_int_equal(opts.nr, 1);
	assert_string_equal(td_opts_get(&opts, "a"), "1");
}

static void backslash_quotes_comma_parenthesis_and_itself(void **state)
{
	(void)state;
	assert_int_equal(parse("file=a\\,b\\)c\\\\,dos=C:\\x\\"), 0);
	assert_int_equal(opts.nr, 2);
	assert_string_equal(td_opts_get(&opts, "file"), "a,b)c\\");
	assert_string_equal(td_opts_get(&opts, "dos"), "C:\\x\\"); /* before anything else it is a byte */
}

static void twice_empty_and_nameless_are_refused(void **state)
{
	(void)state;
	assert_int_equal(parse("a=1,b=2,a=3"), -EINVAL);
	assert_non_null(strstr(err.msg, "'a'"));
	assert_int_equal(parse("a=1,,b=2"), -EINVAL);
	assert_int_equal(parse("a=1,"), -EINVAL);
	assert_int_equal(parse(",a=1"), -EINVAL);
	assert_int_equal(parse("=5"), -EINVAL);
	td_opts_done(&opts);
	assert_int_equal(td_opts_parse(&opts, "a=\0b", 4, &err), -EINVAL);
}

static void too_many_are_refused(void **state)
{
	char name[16];

	(void)state;
	td_opts_done(&opts);
	for (int i = 0; i < TD_OPTS_MAX; i++) {
		snprintf(name, sizeof(name), "o%d", i);
		assert_int_equal(td_opts_add(&opts, name, "", &err), 0);
	}
	assert_int_equal(td_opts_add(&opts, "one-more", "", &err), -EINVAL);
	assert_int_equal(opts.nr, TD_OPTS_MAX);
}

static void what_nobody_asked_for_is_named(void **state)
{
	bool b;

	(void)state;
	assert_int_equal(parse("direct=on,dierct=off,size=1"), 0);
	assert_int_equal(td_opts_bool(&opts, "direct", &b, &err), 0);
	assert_string_equal(td_opts_unused(&opts), "dierct");
	assert_non_null(td_opts_get(&opts, "dierct"));
	assert_non_null(td_opts_get(&opts, "size"));
	assert_null(td_opts_unused(&opts));
}

static void bools(void **state)
{
	static const char *const yes[] = { "b", "b=on", "b=yes", "b=true", "b=1" };
	static const char *const no[] = { "b=off", "b=no", "b=false", "b=0" };
	static const char *const bad[] = { "b=", "b=maybe", "b=ON ", "b=2", "b=onn" };
	bool b;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(yes); i++) {
		b = false;
		assert_int_equal(parse(yes[i]), 0);
		assert_int_equal(td_opts_bool(&opts, "b", &b, &err), 0);
		assert_true(b);
	}
	for (unsigned i = 0; i < TD_NELEMS(no); i++) {
		b = true;
		assert_int_equal(parse(no[i]), 0);
		assert_int_equal(td_opts_bool(&opts, "b", &b, &err), 0);
		assert_false(b);
	}
	for (unsigned i = 0; i < TD_NELEMS(bad); i++) {
		b = true;
		assert_int_equal(parse(bad[i]), 0);
		assert_int_equal(td_opts_bool(&opts, "b", &b, &err), -EINVAL);
		assert_true(b); /* written only on success */
		assert_non_null(strstr(err.msg, "'b'"));
	}
	assert_int_equal(td_opts_bool(&opts, "absent", &b, &err), 0);
	assert_true(b);
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t size;
	} rows[] = {
		{ "0", 0, 0 },
		{ "512", 0, 512 },
		{ "64K", 0, 65536 },
		{ "64k", 0, 65536 },
		{ "1M", 0, 1ull << 20 },
		{ "3G", 0, 3ull << 30 },
		{ "2T", 0, 2ull << 40 },
		{ "1P", 0, 1ull << 50 },
		{ "7E", 0, 7ull << 60 },
		{ "9223372036854775807", 0, INT64_MAX },
		{ "9223372036854775808", -ERANGE, 0 },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999999", -ERANGE, 0 },
		{ "8E", -ERANGE, 0 },
		{ "16E", -ERANGE, 0 },
		{ "9007199254740991K", 0, 9007199254740991ull << 10 },
		{ "9007199254740992K", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1KB", -EINVAL, 0 },
		{ "1X", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(rows); i++) {
		uint64_t size = 77;
		int r = td_parse_size(rows[i].text, &size);

		if (r != rows[i].r || size != (r ? 77 : rows[i].size))
			fail_msg("'%s' gave %d, %llu", rows[i].text, r, (unsigned long long)size);
	}
}

static void typed_numbers_name_option_and_value(void **state)
{
	uint64_t v = 5;

	(void)state;
	assert_int_equal(parse("size=64Q,n=70,m=007,big=9E,neg=-1"), 0);
	assert_int_equal(td_opts_size(&opts, "size", &v, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "'size'"));
	assert_non_null(strstr(err.msg, "64Q"));
	assert_int_equal(td_opts_size(&opts, "big", &v, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "9E"));
	assert_int_equal(td_opts_u64(&opts, "n", 1, 64, &v, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "from 1 to 64"));
	assert_int_equal(td_opts_u64(&opts, "neg", 0, UINT64_MAX, &v, &err), -EINVAL);
	assert_int_equal(td_opts_size(&opts, "absent", &v, &err), 0);
	assert_int_equal(v, 5);
	assert_int_equal(td_opts_u64(&opts, "m", 7, 7, &v, &err), 0);
	assert_int_equal(v, 7);
	assert_int_equal(td_opts_u64(&opts, "n", 70, 70, &v, NULL), 0);
	assert_int_equal(v, 70);
}

#define TEST(fn) cmocka_unit_test_teardown(fn, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names_and_values),
		TEST(only_the_given_length_is_read),
		TEST(backslash_quotes_comma_parenthesis_and_itself),
		TEST(twice_empty_and_nameless_are_refused),
		TEST(too_many_are_refused),
		TEST(what_nobody_asked_for_is_named),
		TEST(bools),
		TEST(sizes),
		TEST(typed_numbers_name_option_and_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
