// SPDX-License-Identifier: BSD-2-Clause
/*
 * Key slots of a LUKS image changed while an operation fails, or the power is cut: whatever happens, a pass phrase that
 * is to stay, or one of those that take each other's place, opens the image, and the data are what they were.  Then the
 * change is asked for again, and done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "simdisk.h"
#include "testenv.h"

#define DISK 65536u

enum { A = 1, B = 2 }; /* pass phrases, as bits */

struct change {
	const char *name;
	const char *options; /* of amend; @A and @B are the files */
	unsigned before;     /* who opens the image */
	unsigned after;
	const char *again; /* by slot, where the first try may have spoiled what the pass phrase opens */
};

static const struct change changes[] = {
	{ "one more", "encrypt.new-key-file=@B,encrypt.keyslot=6,encrypt.iter-time=1", A, A | B, NULL },
	{ "another", "encrypt.new-key-file=@B,encrypt.old-key-file=@A,encrypt.iter-time=1", A, B,
	  "encrypt.state=inactive,encrypt.keyslot=0" },
	{ "one less", "encrypt.old-key-file=@A", A | B, B, "encrypt.state=inactive,encrypt.keyslot=0" },
	{ "one slot less", "encrypt.state=inactive,encrypt.keyslot=6", A | B, A,
	  "encrypt.state=inactive,encrypt.keyslot=6" },
};

struct test {
	struct testenv t;
	struct simdisk *sim;
	struct simdisk_state *clean;
	const struct change *c;
	char dir[64], path[96];
	uint8_t data[DISK];
};

/* ---- steps ---- */

static void spec_of(const struct test *x, unsigned key, char *ret, size_t len)
{
	(void)snprintf(ret, len, "qcow2(key-file=%s/%c):%s", x->dir, key == A ? 'a' : 'b', x->path);
}

static const char *options_of(const struct test *x, const char *text, char *ret, size_t len)
{
	size_t n = 0;

	for (; *text && n + sizeof(x->dir) + 3 < len; text++) {
		if (*text == '@')
			n += (size_t)snprintf(ret + n, len - n, "%s/%c", x->dir, *++text == 'A' ? 'a' : 'b');
		else
			ret[n++] = *text;
	}
	ret[n] = '\0';
	return ret;
}

struct amend_job {
	struct test *x;
	unsigned key;
	const char *options;
};

static int amend_co(void *arg)
{
	const struct amend_job *job = arg;
	struct test *x = job->x;
	struct td_opts opts = { 0 };
	struct td_image *im;
	char spec[256], text[512];
	int r, r2;

	spec_of(x, job->key, spec, sizeof(spec));
	r = td_image_open_text(&x->t.env, spec, 0, &im, &x->t.err);
	if (r < 0)
		return r;
	options_of(x, job->options, text, sizeof(text));
	r = td_opts_parse(&opts, text, strlen(text), &x->t.err);
	if (r == 0)
		r = td_image_amend(im, &opts, NULL, &x->t.err);
	td_opts_done(&opts);
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

/* Opened by the first pass phrase of those in keys. */
static int amend(struct test *x, unsigned keys, const char *options)
{
	struct amend_job job = { x, keys & A ? A : B, options };

	return testenv_run(&x->t, amend_co, &job);
}

struct look_job {
	struct test *x;
	unsigned key;
};

/* 0: it opens the image and all is there; -EACCES: it does not; -1: there is something else. */
static int look_co(void *arg)
{
	const struct look_job *job = arg;
	struct test *x = job->x;
	uint8_t *buf = td_buf_alloc(DISK);
	struct td_image *im;
	char spec[256];
	int r, r2;

	spec_of(x, job->key, spec, sizeof(spec));
	r = td_image_open_text(&x->t.env, spec, TD_OPEN_RDONLY, &im, &x->t.err);
	if (r == 0) {
		r = td_image_pread(im, 0, buf, DISK, 0);
		if (r == 0 && memcmp(buf, x->data, DISK) != 0)
			r = -1;
		r2 = td_image_close(im);
		r = r < 0 ? r : r2;
	}
	td_buf_free(buf, DISK);
	return r;
}

static unsigned who_opens(struct test *x)
{
	unsigned keys = 0;

	for (unsigned key = A; key <= B; key++) {
		struct look_job job = { x, key };
		int r = testenv_run(&x->t, look_co, &job);

		if (r != 0 && r != -EACCES)
			fail_msg("%s: pass phrase %u: %d %s", x->c->name, key, r, x->t.err.msg);
		keys |= r == 0 ? key : 0;
	}
	return keys;
}

/* ---- images ---- */

static void write_key(const struct test *x, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", x->dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void setup(struct test *x, const struct change *c, uint64_t seed)
{
	struct td_image *im;
	char opts[400];

	*x = (struct test){ .c = c };
	x->sim = simdisk_new(seed);
	assert_int_equal(testenv_open_sim(&x->t, x->sim), 0);
	(void)snprintf(x->dir, sizeof(x->dir), "%s", x->t.dir);
	(void)snprintf(x->path, sizeof(x->path), "%s/disk", x->dir);
	write_key(x, "a", "the first");
	write_key(x, "b", "the second");
	(void)snprintf(opts, sizeof(opts),
		       "cluster_size=4K,encrypt.format=luks,encrypt.key-file=%s/a,encrypt.iter-time=1,"
		       "encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv",
		       x->dir);
	if (test_create(&x->t, DISK, opts, false, "qcow2:%s", x->path) < 0)
		fail_msg("%s", x->t.err.msg);
	for (unsigned i = 0; i < DISK; i++)
		x->data[i] = (uint8_t)test_random(&seed);
	assert_int_equal(test_open(&x->t, &im, 0, "qcow2(key-file=%s/a):%s", x->dir, x->path), 0);
	assert_int_equal(test_write(&x->t, im, 0, x->data, DISK, 0), 0);
	assert_int_equal(test_close(&x->t, im), 0);
	if (c->before & B)
		assert_int_equal(amend(x, A, changes[0].options), 0);
	simdisk_add(x->sim, x->path);
	x->clean = simdisk_save(x->sim);
}

static void teardown(struct test *x)
{
	testenv_close(&x->t);
	simdisk_state_free(x->clean);
	simdisk_free(x->sim);
}

/* ---- what is found afterwards ---- */

static void finish(struct test *x, unsigned keys)
{
	const struct change *c = x->c;
	int r;

	if (keys == c->after && !c->again)
		return;
	/* What is to be let in first; then who is to go. */
	if (c->after & ~keys)
		assert_int_equal(amend(x, keys, "encrypt.new-key-file=@B,encrypt.iter-time=1"), 0);
	if (!c->again)
		return;
	r = amend(x, c->after, c->again);
	if (r != 0 && r != -ENOENT)
		fail_msg("%s: again: %s", c->name, x->t.err.msg);
}

/* done: it was said that it is. */
static void verify(struct test *x, bool done)
{
	unsigned keys = who_opens(x), stays = x->c->before & x->c->after;

	if (keys == 0 || (keys & stays) != stays || (done && keys != x->c->after))
		fail_msg("%s: pass phrases %u open the image", x->c->name, keys);
	finish(x, keys);
	assert_int_equal(who_opens(x), x->c->after);
}

static void begin(struct test *x, uint64_t seed)
{
	simdisk_restore(x->sim, x->clean);
	simdisk_start(x->sim, seed);
}

/* ---- the loops ---- */

static void no_failure(struct test *x)
{
	begin(x, 1);
	assert_int_equal(who_opens(x), x->c->before);
	if (amend(x, x->c->before, x->c->options) != 0)
		fail_msg("%s: %s", x->c->name, x->t.err.msg);
	assert_int_equal(who_opens(x), x->c->after);
}

static bool cut_point(struct test *x, uint64_t seed, uint64_t n)
{
	static const enum simdisk_lost lost[] = { SIMDISK_LOSE_ALL, SIMDISK_LOSE_NONE, SIMDISK_LOSE_PIECES };
	struct simdisk_state *crash;
	int r;

	begin(x, seed);
	simdisk_cut(x->sim, n);
	r = amend(x, x->c->before, x->c->options);
	if (!simdisk_is_cut(x->sim))
		return false;
	crash = simdisk_crash(x->sim);
	for (unsigned i = 0; i < TD_NELEMS(lost); i++) {
		simdisk_make(x->sim, crash, lost[i], seed + n);
		verify(x, r == 0);
	}
	simdisk_state_free(crash);
	return true;
}

static void cut_each(struct test *x, uint64_t seed)
{
	unsigned points = 0, stride = test_stride(5);

	no_failure(x);
	for (uint64_t n = 1 + seed % stride; cut_point(x, seed, n); n += stride)
		points++;
	assert_true(points > 1 || stride > 5); /* an operation has some ten */
	printf("# %s: seed %llu: %u power cuts\n", x->c->name, (unsigned long long)seed, points);
}

static bool fault_point(struct test *x, uint64_t seed, uint64_t n, enum simdisk_fault kind)
{
	int r;

	begin(x, seed);
	simdisk_fail(x->sim, n, kind);
	r = amend(x, x->c->before, x->c->options);
	if (!simdisk_failed(x->sim))
		return false;
	simdisk_fail(x->sim, 0, kind);
	simdisk_drop_cache(x->sim);
	verify(x, r == 0);
	return true;
}

static void fail_each(struct test *x, uint64_t seed)
{
	unsigned points = 0, stride = test_stride(13);

	for (enum simdisk_fault kind = 0; kind < SIMDISK_FAULTS; kind++)
		for (uint64_t n = 1 + (seed + kind) % stride; fault_point(x, seed, n, kind); n += stride)
			points++;
	printf("# %s: seed %llu: %u failures\n", x->c->name, (unsigned long long)seed, points);
}

static void each(void (*fn)(struct test *x, uint64_t seed))
{
	struct test *x = malloc(sizeof(*x));
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < test_count("TEST_ROUNDS", 1) * TD_NELEMS(changes); i++) {
		setup(x, &changes[i % TD_NELEMS(changes)], seed + i);
		fn(x, seed + i);
		teardown(x);
	}
	free(x);
}

static void a_power_cut_leaves_a_pass_phrase_that_opens(void **state)
{
	(void)state;
	each(cut_each);
}

static void a_failure_leaves_a_pass_phrase_that_opens(void **state)
{
	(void)state;
	each(fail_each);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_power_cut_leaves_a_pass_phrase_that_opens),
		cmocka_unit_test(a_failure_leaves_a_pass_phrase_that_opens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
