// SPDX-License-Identifier: BSD-2-Clause
/* Disk specifications, as users and Xen's configurations write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <blktap/spec.h>

static struct td_err err;

static struct td_spec *parse(const char *text)
{
	struct td_spec *spec = NULL;

	assert_int_equal(td_spec_parse(text, &spec, &err), 0);
	return spec;
}

static void refused(const char *text, const char *because)
{
	struct td_spec *spec = NULL;

	err.msg[0] = 0;
	assert_int_equal(td_spec_parse(text, &spec, &err), -EINVAL);
	assert_null(spec);
	if (!strstr(err.msg, because))
		fail_msg("'%s' does not say '%s'", err.msg, because);
}

static void one_driver_and_a_path(void **state)
{
	struct td_spec *s = parse("qcow2:/srv/a.qcow2");

	(void)state;
	assert_int_equal(s->nr, 1);
	assert_string_equal(s->node[0].name, "qcow2");
	assert_string_equal(s->path, "/srv/a.qcow2");
	assert_string_equal(s->text, "qcow2:/srv/a.qcow2");
	td_spec_free(s);
}

static void the_path_may_hold_colons_commas_and_brackets(void **state)
{
	struct td_spec *s = parse("aio:/srv/a:b,c(d)=e/f:");

	(void)state;
	assert_int_equal(s->nr, 1);
	assert_string_equal(s->path, "/srv/a:b,c(d)=e/f:");
	td_spec_free(s);
}

static void stacks_are_read_from_the_top(void **state)
{
	struct td_spec *s = parse("fault(read-every=100,once)/qcow2(l2-cache=1M)/aio(direct=off):rel/path");

	(void)state;
	assert_int_equal(s->nr, 3);
	assert_string_equal(s->node[0].name, "fault");
	assert_string_equal(td_opts_get(&s->node[0].opts, "read-every"), "100");
	assert_string_equal(td_opts_get(&s->node[0].opts, "once"), "on");
	assert_string_equal(s->node[1].name, "qcow2");
	assert_string_equal(td_opts_get(&s->node[1].opts, "l2-cache"), "1M");
	assert_string_equal(s->node[2].name, "aio");
	assert_string_equal(td_opts_get(&s->node[2].opts, "direct"), "off");
	assert_string_equal(s->path, "rel/path");
	td_spec_free(s);
}

static void values_may_hold_colons_slashes_and_quoted_brackets(void **state)
{
	struct td_spec *s = parse("qcow2(key-file=/etc/a:b/c\\)d\\,e):/x");

	(void)state;
	assert_int_equal(s->nr, 1);
	assert_string_equal(td_opts_get(&s->node[0].opts, "key-file"), "/etc/a:b/c)d,e");
	assert_string_equal(s->path, "/x");
	td_spec_free(s);
}

static void the_prefixes_of_xen_are_dropped(void **state)
{
	static const char *const texts[] = { "tap:aio:/a", "tap2:aio:/a", "tapdisk:aio:/a",
					     "tap:tapdisk:aio:/a" };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(texts); i++) {
		struct td_spec *s = parse(texts[i]);

		assert_string_equal(s->node[0].name, "aio");
		assert_string_equal(s->path, "/a");
		assert_string_equal(s->text, "aio:/a");
		td_spec_free(s);
	}
}

static void empty_options_and_paths_are_for_the_driver_to_judge(void **state)
{
	struct td_spec *s = parse("null():");

	(void)state;
	assert_int_equal(s->node[0].opts.nr, 0);
	assert_string_equal(s->path, "");
	td_spec_free(s);
}

static void what_is_no_specification_is_refused_with_a_reason(void **state)
{
	(void)state;
	refused("", "no driver");
	refused("/srv/a.img", "no driver");
	refused("aio", "are missing");
	refused("aio/:x", "no driver");
	refused("aio(direct=off:/x", "not closed");
	refused("aio(direct=off)x:/x", "are missing");
	refused("Qcow2:/x", "no driver");
	refused("an-unbelievably-long-name-for-a-driver:/x", "no driver");
	refused("a/b/c/d/e/f/g/h/i:/x", "more than 8");
	refused("aio(direct=on,direct=off):/x", "direct");
	refused("tap:", "no driver");
}

/* text with these options of driver changed; back through the parser to be sure that it is one. */
static void changed(const char *text, const char *driver, const char *options, const char *want)
{
	struct td_opts o = { 0 };
	struct td_spec *s;
	char *now;

	assert_int_equal(td_opts_parse(&o, options, strlen(options), NULL), 0);
	assert_int_equal(td_spec_change(text, driver, &o, &now, NULL), 0);
	assert_string_equal(now, want);
	assert_int_equal(td_spec_parse(now, &s, NULL), 0);
	td_spec_free(s);
	free(now);
	assert_int_equal(td_spec_change(text, "other", &o, &now, NULL), -ENOENT);
	td_opts_done(&o);
}

static void options_are_changed_in_place(void **state)
{
	(void)state;
	changed("tap:throttle/qcow2:/a:b,c", "throttle", "iops=3", "throttle(iops=3)/qcow2:/a:b,c");
	changed("throttle(iops=1,bps=2M)/aio(direct=off):/a", "throttle", "bps=9,iops-read=4",
		"throttle(iops=1,bps=9,iops-read=4)/aio(direct=off):/a");
	changed("a(x=1)/b/a(x=2):", "a", "x=3", "a(x=3)/b/a(x=2):");
	changed("a(x=p\\)\\,\\\\q):", "a", "y=\\)", "a(x=p\\)\\,\\\\q,y=\\)):");
}

static void nothing_to_free_is_fine(void **state)
{
	(void)state;
	td_spec_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_driver_and_a_path),
		cmocka_unit_test(the_path_may_hold_colons_commas_and_brackets),
		cmocka_unit_test(stacks_are_read_from_the_top),
		cmocka_unit_test(values_may_hold_colons_slashes_and_quoted_brackets),
		cmocka_unit_test(the_prefixes_of_xen_are_dropped),
		cmocka_unit_test(empty_options_and_paths_are_for_the_driver_to_judge),
		cmocka_unit_test(what_is_no_specification_is_refused_with_a_reason),
		cmocka_unit_test(options_are_changed_in_place),
		cmocka_unit_test(nothing_to_free_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
