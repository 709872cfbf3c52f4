// SPDX-License-Identifier: BSD-2-Clause
/*
 * Another parent is recorded in a vmdk, or none, and the power is cut before operation n, for every n, any part of what
 * was not flushed being lost: the name and the CID are both the old ones or both the new ones, and all else that the
 * descriptor says is there.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "simdisk.h"
#include "testenv.h"

#define SIZE (1u << 20)

/* So long that the descriptor takes more than a sector with it; and one that is a little shorter. */
#define TEN     "0123456789"
#define LONG    TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define LONGEST LONG TEN TEN

static const char *const parents[] = { "a.vmdk", "b.vmdk", LONG ".vmdk", LONGEST ".vmdk" };

static const struct {
	const char *subformat, *from;
} shapes[] = {
	{ "monolithicSparse", NULL },
	{ "monolithicSparse", "a.vmdk" },
	{ "monolithicSparse", LONGEST ".vmdk" },
	{ "twoGbMaxExtentSparse", "b.vmdk" },
	{ "twoGbMaxExtentSparse", LONGEST ".vmdk" },
	{ "vmfsSparse", "a.vmdk" },
};

struct run {
	struct testenv t;
	struct simdisk *sim;
	struct simdisk_state *clean;
	const char *from, *to;
	char spec[160];
	int result;
	unsigned images;
};

static int change(void *arg)
{
	struct run *run = arg;
	struct td_image *im = NULL;
	int r = td_image_open_text(&run->t.env, run->spec, TD_OPEN_NO_CHAIN, &im, &run->t.err);

	if (r < 0)
		return r;
	run->result = td_image_set_backing(im, run->to, run->to ? "vmdk" : NULL, &run->t.err);
	td_ignore(td_image_close(im)); /* after a cut it fails */
	return 0;
}

static bool is_named(const struct td_image *im, const char *name)
{
	const char *slash = im->backing_path ? strrchr(im->backing_path, '/') : NULL;

	if (!name || !im->backing_path)
		return !name && !im->backing_path;
	return strcmp(slash ? slash + 1 : im->backing_path, name) == 0;
}

static const char *fact(struct td_opts *facts, const char *name)
{
	const char *v = td_opts_get(facts, name);

	return v ? v : "(none)";
}

/* Opened with its parent, whose CID has to be the one that is recorded. */
static void look(struct run *run, bool may_be_old, bool may_be_new)
{
	struct td_image *im = NULL;
	struct td_opts facts = { 0 };

	run->images++;
	if (test_open(&run->t, &im, TD_OPEN_RDONLY, "%s", run->spec) < 0)
		fail_msg("from %s to %s: %s", run->from, run->to, run->t.err.msg);
	if (!(may_be_old && is_named(im, run->from)) && !(may_be_new && is_named(im, run->to)))
		fail_msg("from %s to %s: it names %s", run->from, run->to, im->backing_path);
	assert_true((im->backing != NULL) == (im->backing_path != NULL));
	assert_int_equal(im->drv->info(im, &facts), 0);
	assert_string_equal(fact(&facts, "adapter-type"), "lsilogic");
	assert_string_equal(fact(&facts, "hw-version"), "7");
	assert_string_equal(fact(&facts, "geometry"), "5/6/7");
	assert_int_equal(im->size, SIZE);
	td_opts_done(&facts);
	assert_int_equal(test_close(&run->t, im), 0);
}

static void all_crashes(struct run *run)
{
	for (uint64_t n = 1;; n++) {
		struct simdisk_state *crash;

		simdisk_restore(run->sim, run->clean);
		simdisk_start(run->sim, n);
		simdisk_cut(run->sim, n);
		(void)testenv_run(&run->t, change, run);
		if (!simdisk_is_cut(run->sim))
			return;
		crash = simdisk_crash(run->sim);
		for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++) {
			for (uint64_t i = 0; i < 2; i++) {
				simdisk_make(run->sim, crash, how, n * 7 + i);
				look(run, true, true);
			}
		}
		simdisk_state_free(crash);
	}
}

static void one_change(struct run *run)
{
	simdisk_restore(run->sim, run->clean);
	simdisk_start(run->sim, 1);
	assert_int_equal(testenv_run(&run->t, change, run), 0);
	/* Only from a long descriptor to a longer one. */
	if (run->result < 0 && !(run->result == -ENOSPC && run->from && strlen(run->from) > 100 && run->to &&
				 strlen(run->to) > strlen(run->from)))
		fail_msg("from %s to %s: %s", run->from, run->to, run->t.err.msg);
	look(run, run->result < 0, run->result == 0);
	all_crashes(run);
}

static void make(struct run *run, const char *subformat, const char *from)
{
	char opts[1024];

	(void)snprintf(opts, sizeof(opts),
		       "subformat=%s,adapter_type=lsilogic,hwversion=7,geometry=5/6/7%s%s", subformat,
		       from ? ",backing_fmt=vmdk,backing_file=" : "", from ? from : "");
	assert_int_equal(test_create(&run->t, SIZE, opts, true, "%s", run->spec), 0);
}

static void setup(struct run *run, const char *subformat, const char *from)
{
	*run = (struct run){ .from = from };
	run->sim = simdisk_new(1);
	assert_int_equal(testenv_open_sim(&run->t, run->sim), 0);
	(void)snprintf(run->spec, sizeof(run->spec), "vmdk:%s/disk.vmdk", run->t.dir);
	for (unsigned i = 0; i < TD_NELEMS(parents); i++)
		assert_int_equal(test_create(&run->t, SIZE, "", true, "vmdk:%s/%s", run->t.dir, parents[i]),
				 0);
	make(run, subformat, from);
	run->clean = simdisk_save(run->sim);
}

static void teardown(struct run *run)
{
	testenv_close(&run->t);
	simdisk_state_free(run->clean);
	simdisk_free(run->sim);
}

static void a_crash_leaves_the_old_parent_or_the_new(void **state)
{
	unsigned images = 0;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(shapes); i++) {
		struct run run;

		setup(&run, shapes[i].subformat, shapes[i].from);
		for (unsigned k = 0; k <= TD_NELEMS(parents); k++) {
			run.to = k < TD_NELEMS(parents) ? parents[k] : NULL;
			one_change(&run);
		}
		images += run.images;
		teardown(&run);
	}
	printf("# %u images\n", images);
}

/* One after the other on the same image: what was filled up is room again. */
static void changes_follow_each_other(void **state)
{
	static const unsigned order[] = { 0, 3, 2, 3, 2, 2, 1, 0, 3, 0, 2, 1 };

	(void)state;
	for (unsigned i = 0; i < 4; i += 3) {
		struct run run;

		setup(&run, shapes[i].subformat, shapes[i].from);
		for (unsigned k = 0; k < TD_NELEMS(order); k++) {
			run.to = parents[order[k]];
			assert_int_equal(testenv_run(&run.t, change, &run), 0);
			if (run.result < 0)
				fail_msg("%u: %s", k, run.t.err.msg);
			look(&run, false, true);
		}
		run.to = NULL;
		assert_int_equal(testenv_run(&run.t, change, &run), 0);
		look(&run, false, true);
		teardown(&run);
	}
}

static void refused(struct run *run, const char *to, int code, const char *says)
{
	run->to = to;
	assert_int_equal(testenv_run(&run->t, change, run), 0);
	assert_int_equal(run->result, code);
	if (!strstr(run->t.err.msg, says))
		fail_msg("'%s' does not say '%s'", run->t.err.msg, says);
}

static void what_cannot_be_recorded_is_refused(void **state)
{
	struct run run;

	(void)state;
	setup(&run, "monolithicSparse", "a.vmdk");
	refused(&run, "missing.vmdk", -ENOENT, "missing.vmdk");
	refused(&run, "a\"b.vmdk", -EINVAL, "cannot name a file");
	run.to = "a.vmdk";
	look(&run, true, false);
	make(&run, "monolithicFlat", NULL);
	refused(&run, "a.vmdk", -ENOTSUP, "holds all sectors");
	teardown(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crash_leaves_the_old_parent_or_the_new),
		cmocka_unit_test(changes_follow_each_other),
		cmocka_unit_test(what_cannot_be_recorded_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
