// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-img commit and rebase as they are, on a simulated disk: the power is cut before operation n, or operation n
 * fails, for every n.  Whatever part of the unflushed writes is lost, the guest sees what it saw; run again, the
 * command ends well, and then the base, or the new chain, has it all.
 *
 * The commands' own files are linked with an env.h of ours, whose images lie on the simulated disk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "tests/lib/simdisk.h"
#include "tests/lib/testenv.h"
#include "tools/tap-img/env.h"
#include "tools/tap-img/verbs.h"

#define BLOCK    4096u
#define NR       40u /* blocks of the top */
#define ARGS_MAX 12

static struct testenv env;
static struct simdisk *sim;

/* ---- what the commands ask of their program ---- */

int img_env_run(struct img_env *e, int (*fn)(void *arg), void *arg, struct td_err *ret_err)
{
	(void)ret_err;
	e->env = env.env;
	return testenv_run(&env, fn, arg);
}

int output_is_json(const struct cli_common *common, const char *output, bool *ret, struct td_err *ret_err)
{
	(void)output;
	(void)ret_err;
	*ret = common->json;
	return 0;
}

static const struct cli_cmd *const cmds[] = { &commit_cmd, &rebase_cmd, NULL };
static const struct cli_prog prog = { .name = "tap-img", .summary = "", .cmds = cmds };

/* What it says of a planned failure is not looked at. */
static int run_command(const char *const *args)
{
	char *argv[ARGS_MAX + 1] = { 0 };
	int argc = 0, out = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC), r;

	for (; args[argc]; argc++)
		argv[argc] = strdup(args[argc]);
	(void)dup2(null, STDERR_FILENO);
	r = cli_main(&prog, argc, argv);
	(void)dup2(out, STDERR_FILENO);
	(void)close(out);
	(void)close(null);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	return r;
}

/* ---- three layers ---- */

struct layer {
	const char *name, *create;
	unsigned blocks;
	uint64_t data, zero; /* a bit a block */
};

/* The top is longer than the middle, that longer than the base; "new" has other bytes everywhere. */
static const struct layer layers[] = {
	{ "base", NULL, 24, 0x0000000000ffffff, 0 },
	{ "mid", "cluster_size=4K,backing_file=base,backing_fmt=raw", 32, 0x00000000f0f0000f,
	  0x0000000000000f00 },
	{ "top", "cluster_size=4K,backing_file=mid,backing_fmt=qcow2", NR, 0x0000008181008013,
	  0x0000001000030300 },
	{ "new", NULL, 36, 0x0000000fffffffff, 0 },
};

static const char *path_of(unsigned i)
{
	return testenv_path(&env, layers[i].name);
}

static char byte_of(unsigned layer, unsigned block)
{
	return (char)(1 + layer * 60 + block);
}

/* What the guest sees in a block, by the definition. */
static char expected(unsigned block)
{
	for (unsigned i = 3; i-- > 0;) {
		if (block >= layers[i].blocks)
			return 0;
		if (layers[i].zero & 1ull << block)
			return 0;
		if (layers[i].data & 1ull << block)
			return byte_of(i, block);
	}
	return 0;
}

static void fill_layer(unsigned i)
{
	const struct layer *l = &layers[i];
	static char buf[BLOCK];
	struct td_image *im;

	assert_int_equal(test_open(&env, &im, 0, "%s:%s", l->create ? "qcow2" : "raw", path_of(i)), 0);
	for (unsigned b = 0; b < l->blocks; b++) {
		memset(buf, byte_of(i, b), BLOCK);
		if (l->data & 1ull << b)
			assert_int_equal(test_write(&env, im, (uint64_t)b * BLOCK, buf, BLOCK, 0), 0);
		if (l->zero & 1ull << b)
			assert_int_equal(test_zero(&env, im, (uint64_t)b * BLOCK, BLOCK, TD_MAY_UNMAP), 0);
	}
	assert_int_equal(test_close(&env, im), 0);
}

static struct simdisk_state *setup(void)
{
	sim = simdisk_new(1);
	assert_int_equal(testenv_open_sim(&env, sim), 0);
	for (unsigned i = 0; i < TD_NELEMS(layers); i++) {
		assert_int_equal(test_create(&env, (uint64_t)layers[i].blocks * BLOCK, layers[i].create,
					     false, "%s:%s", layers[i].create ? "qcow2" : "raw", path_of(i)),
				 0);
		fill_layer(i);
		simdisk_add(sim, path_of(i));
	}
	return simdisk_save(sim);
}

static void teardown(struct simdisk_state *clean)
{
	testenv_close(&env);
	simdisk_state_free(clean);
	simdisk_free(sim);
}

/* Does it show what the guest saw, as far as it goes? */
static void shows(const char *driver, const char *name)
{
	static char buf[BLOCK];
	struct td_image *im;
	unsigned nr;

	if (test_open(&env, &im, TD_OPEN_RDONLY, "%s:%s", driver, testenv_path(&env, name)) < 0)
		fail_msg("%s: %s", name, env.err.msg);
	nr = (unsigned)(im->size / BLOCK);
	for (unsigned b = 0; b < TD_MIN(nr, NR); b++) {
		assert_int_equal(test_read(&env, im, (uint64_t)b * BLOCK, buf, BLOCK, 0), 0);
		for (unsigned i = 0; i < BLOCK; i += 512)
			if (buf[i] != expected(b))
				fail_msg("%s: block %u is %d, not %d", name, b, buf[i], expected(b));
	}
	assert_int_equal(test_close(&env, im), 0);
	assert_true(nr >= NR);
}

/* ---- the commands ---- */

struct job {
	const char *const *args;
	const char *driver, *result; /* what shows the same when it is through; NULL: the top alone */
	uint64_t stride;
};

static char top_spec[192], base_path[160];

static const char *const commit_args[] = { "tap-img", "commit", "-q", top_spec, NULL };
static const char *const commit_all_args[] = { "tap-img", "commit", "-q", "-b", base_path, top_spec, NULL };
static const char *const rebase_args[] = {
	"tap-img", "rebase", "-q", "-b", "new", "-F", "raw", top_spec, NULL
};
static const char *const flatten_args[] = { "tap-img", "rebase", "-q", "-b", "", top_spec, NULL };

static const struct job jobs[] = {
	{ commit_args, "qcow2", "mid", 1 },
	{ commit_all_args, "raw", "base", 1 },
	{ rebase_args, NULL, NULL, 1 },
	{ flatten_args, NULL, NULL, 1 },
};

static void look_and_finish(const struct job *job)
{
	shows("qcow2", "top");
	if (run_command(job->args) != 0)
		fail_msg("%s: it does not end well when it is run again", job->args[1]);
	shows("qcow2", "top");
	if (job->result)
		shows(job->driver, job->result);
}

static void begin(const struct simdisk_state *clean, uint64_t n)
{
	simdisk_restore(sim, clean);
	simdisk_start(sim, n);
	(void)snprintf(top_spec, sizeof(top_spec), "qcow2:%s", path_of(2));
	(void)snprintf(base_path, sizeof(base_path), "%s", path_of(0));
}

static void a_power_cut_shows_the_guest_the_same(void **state)
{
	uint64_t stride = test_stride(7);
	struct simdisk_state *clean = setup();
	unsigned images = 0;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(jobs); i++) {
		for (uint64_t n = 1 + i % stride;; n += stride) {
			struct simdisk_state *crash;

			begin(clean, n);
			simdisk_cut(sim, n);
			(void)run_command(jobs[i].args);
			if (!simdisk_is_cut(sim))
				break;
			crash = simdisk_crash(sim);
			for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++, images++) {
				simdisk_make(sim, crash, how, n);
				look_and_finish(&jobs[i]);
			}
			simdisk_state_free(crash);
		}
	}
	printf("# %u images\n", images);
	teardown(clean);
}

static void a_failure_shows_the_guest_the_same(void **state)
{
	uint64_t stride = test_stride(7);
	struct simdisk_state *clean = setup();
	unsigned runs = 0;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(jobs) * SIMDISK_FAULTS; i++) {
		const struct job *job = &jobs[i / SIMDISK_FAULTS];

		for (uint64_t n = 1 + i % stride;; n += stride, runs++) {
			begin(clean, n);
			simdisk_fail(sim, n, i % SIMDISK_FAULTS);
			(void)run_command(job->args);
			if (!simdisk_failed(sim))
				break;
			simdisk_fail(sim, 0, SIMDISK_EIO);
			look_and_finish(job);
		}
	}
	printf("# %u runs with a failure\n", runs);
	teardown(clean);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_power_cut_shows_the_guest_the_same),
		cmocka_unit_test(a_failure_shows_the_guest_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
