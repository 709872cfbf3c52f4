// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-config's reading of disks and of whole files against libxlu, which is xl's own: on the lines that people write,
 * and on what chance makes of them.  TEST_ROUNDS and TEST_SEED change how many and which.
 */
#include <libxlutil.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lines.h"
#include "tools/tap-config/config.h"
#include "tools/tap-config/disk.h"

/* Its parser loses some of what it has read when a file breaks off: that is not ours to free. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
	return "leak:libxlutil\n";
}

static FILE *null;
static unsigned seed, rounds;

/* ---- one disk ---- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static int defbool(libxl_defbool b)
{
	if (libxl_defbool_is_default(b))
		return BOOL_DEFAULT;
	return libxl_defbool_val(b) ? BOOL_YES : BOOL_NO;
}

/* Their enums by our names: the numbers need not be the same. */
static bool same_disk(const struct disk *d, const libxl_device_disk *x)
{
	static const enum disk_format formats[] = {
		[LIBXL_DISK_FORMAT_RAW] = FORMAT_RAW,     [LIBXL_DISK_FORMAT_QCOW] = FORMAT_QCOW,
		[LIBXL_DISK_FORMAT_QCOW2] = FORMAT_QCOW2, [LIBXL_DISK_FORMAT_VHD] = FORMAT_VHD,
		[LIBXL_DISK_FORMAT_EMPTY] = FORMAT_EMPTY, [LIBXL_DISK_FORMAT_QED] = FORMAT_QED,
	};
	static const enum disk_backend backends[] = {
		[LIBXL_DISK_BACKEND_UNKNOWN] = BACKEND_UNKNOWN,
		[LIBXL_DISK_BACKEND_PHY] = BACKEND_PHY,
		[LIBXL_DISK_BACKEND_TAP] = BACKEND_TAP,
		[LIBXL_DISK_BACKEND_QDISK] = BACKEND_QDISK,
		[LIBXL_DISK_BACKEND_STANDALONE] = BACKEND_STANDALONE,
	};

	return same_text(d->target, x->pdev_path) && same_text(d->vdev, x->vdev) &&
	       same_text(d->script, x->script) && same_text(d->backend_domain, x->backend_domname) &&
	       d->format == formats[x->format] && d->backend == backends[x->backend] &&
	       d->writable == (x->readwrite != 0) && d->cdrom == (x->is_cdrom != 0) &&
	       d->removable == (x->removable != 0) && d->direct_io_safe == x->direct_io_safe &&
	       (int)d->discard == defbool(x->discard_enable) && (int)d->trusted == defbool(x->trusted) &&
	       d->virtio == (x->specification == LIBXL_DISK_SPECIFICATION_VIRTIO) &&
	       d->xen_given == (x->specification == LIBXL_DISK_SPECIFICATION_XEN);
}

/*
 * Words that the libxlu at hand may not have: grant_usage is of Xen 4.19, trusted is in the sources of 4.17 and not in
 * all that was built of them.
 */
static bool too_new(const char *text)
{
	return strstr(text, "grant_usage") || strstr(text, "trusted");
}

/* There libxlu's scanner ends the process ("flex scanner jammed"). */
static bool jams(const char *text)
{
	return strstr(text, "=\n") != NULL;
}

static void compare_disk(const char *text)
{
	XLU_Config *cfg = xlu_cfg_init(null, "test");
	struct td_err err = { .msg = "" };
	libxl_device_disk x;
	struct disk d = { 0 };
	int theirs, ours;

	libxl_device_disk_init(&x);
	theirs = jams(text) ? EINVAL : xlu_disk_parse(cfg, 1, &text, &x);
	ours = disk_parse(text, &d, &err);
	if (too_new(text) || jams(text) || strlen(text) > DISK_TEXT_MAX)
		assert_true(ours == 0 || err.msg[0]);
	else if ((theirs == 0) != (ours == 0))
		fail_msg("'%s': xl says %d, we say %d (%s); TEST_SEED=%u", text, theirs, ours, err.msg, seed);
	else if (ours == 0 && !same_disk(&d, &x))
		fail_msg("'%s' is another disk to xl: target '%s', vdev '%s'; TEST_SEED=%u", text,
			 x.pdev_path, x.vdev, seed);
	if (ours < 0)
		assert_true(err.msg[0]);
	disk_done(&d);
	libxl_device_disk_dispose(&x);
	xlu_cfg_destroy(cfg);
}

static void test_disks(void **state)
{
	(void)state;
	for (size_t i = 0; i < lines_nr; i++)
		compare_disk(lines[i]);
}

/* Lines cut, joined, with pieces of the grammar thrown in. */
static void test_random_disks(void **state)
{
	char text[4 * LINE_MAX_LEN];

	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		random_line(text, sizeof(text));
		compare_disk(text);
	}
}

/* What xl refuses and we understand, written so that xl takes it: the same disk. */
static void test_random_render(void **state)
{
	char text[4 * LINE_MAX_LEN];

	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		struct disk d = { 0 };
		char *rendered;

		random_line(text, sizeof(text));
		for (int to_us = 0; to_us < 2; to_us++) {
			if (disk_parse_wide(text, &d, NULL) == 0 &&
			    disk_render(&d, to_us, &rendered, NULL) == 0) {
				XLU_Config *cfg = xlu_cfg_init(null, "test");
				libxl_device_disk x;

				libxl_device_disk_init(&x);
				if (!too_new(rendered) &&
				    xlu_disk_parse(cfg, 1, (const char *const *)&rendered, &x) != 0)
					fail_msg("'%s' became '%s', which xl refuses; TEST_SEED=%u", text,
						 rendered, seed);
				if (!too_new(rendered) && !same_text(d.vdev, x.vdev))
					fail_msg("'%s' became '%s', which is another disk; TEST_SEED=%u",
						 text, rendered, seed);
				libxl_device_disk_dispose(&x);
				xlu_cfg_destroy(cfg);
				free(rendered);
			}
			disk_done(&d);
		}
	}
}

/* ---- whole files ---- */

/* xl's own disks, "\n" behind each; NULL: it refuses the file. */
static char *their_disks(const char *text)
{
	XLU_Config *cfg = xlu_cfg_init(null, "test");
	XLU_ConfigList *list;
	char *all = NULL;
	size_t size;
	FILE *f;
	int nr;

	if (xlu_cfg_readdata(cfg, text, (int)strlen(text)) == 0) {
		f = open_memstream(&all, &size);
		if (xlu_cfg_get_list(cfg, "disk", &list, &nr, 1) == 0)
			for (int i = 0; i < nr && xlu_cfg_get_listitem(list, i); i++)
				fprintf(f, "%s\n", xlu_cfg_get_listitem(list, i));
		fclose(f);
	}
	xlu_cfg_destroy(cfg);
	return all;
}

/* *ret_strange: what xl reads and we refuse, or the other way round, for reasons that are written in config.h. */
static char *our_disks(const char *text, bool *ret_strange)
{
	const struct cfg_item **items;
	char *all = NULL;
	struct cfg cfg;
	size_t size;
	unsigned nr;
	FILE *f;

	*ret_strange = true;
	if (cfg_parse(text, strlen(text), &cfg, NULL) < 0)
		return NULL;
	if (cfg_list(&cfg, "disk", &items, &nr, NULL) == 0) {
		*ret_strange = false;
		f = open_memstream(&all, &size);
		for (unsigned i = 0; i < nr; i++)
			fprintf(f, "%s\n", items[i]->text);
		fclose(f);
		free(items);
	}
	if (cfg.code_line) {
		free(all);
		all = NULL;
	}
	cfg_free(&cfg);
	return all;
}

static void compare_file(const char *text)
{
	bool strange;
	char *theirs = their_disks(text), *ours = our_disks(text, &strange);

	if (!strange && !same_text(theirs, ours))
		fail_msg("xl reads:\n%swe read:\n%sof:\n%s\nTEST_SEED=%u", theirs ? theirs : "(nothing)\n",
			 ours ? ours : "(nothing)\n", text, seed);
	free(theirs);
	free(ours);
}

static void test_files(void **state)
{
	(void)state;
	for (size_t i = 0; i < files_nr; i++)
		compare_file(files[i]);
}

static void test_random_files(void **state)
{
	char text[4 * FILE_MAX_LEN];

	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		random_file(text, sizeof(text) - 1);
		strcat(text, "\n"); /* without, libxlu misses one stray character at the end */
		/* libxlu trips over its own assertions there. */
		if (!strstr(text, "\\x") && !strpbrk(text, "\r"))
			compare_file(text);
	}
}

static int setup(void **state)
{
	(void)state;
	null = fopen("/dev/null", "w");
	return null ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return fclose(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disks),         cmocka_unit_test(test_random_disks),
		cmocka_unit_test(test_random_render), cmocka_unit_test(test_files),
		cmocka_unit_test(test_random_files),
	};

	rounds = random_rounds(20000);
	seed = random_seed();
	return cmocka_run_group_tests(tests, setup, teardown);
}
