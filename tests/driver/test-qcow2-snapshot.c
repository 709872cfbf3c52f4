// SPDX-License-Identifier: BSD-2-Clause
/*
 * Snapshots inside an image: random writes, snapshots made, applied and deleted, the image amended, while a model keeps
 * what the disk and each snapshot have to show.
 *
 * Then the same with one operation that fails, and with a power cut: a snapshot operation is there as a whole or not at
 * all, and every other snapshot shows what it always did.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "format-run.h"
#include "qcow2-fsck.h"
#include "qcow2/qcow2-shadow.h"

#define STEPS     16u
#define SNAPS_MAX 4u

enum what { NOTHING, CREATE, APPLY, DELETE };

struct known {
	char name[16];
	uint8_t *bytes;
};

/* Of the whole disk: [0] is durable, each later one is after one more change. */
struct past {
	uint8_t *at[STEPS * 2 + 2];
	unsigned nr;
};

struct story {
	struct run *run;
	size_t len; /* of the disk */
	uint8_t *live;
	struct past past;
	struct known snap[SNAPS_MAX];
	unsigned nr, made;
	enum what doing; /* it failed, or was under way when the power went */
	char name[16];
	unsigned ops, amended; /* that succeeded */
};

/* ---- the model ---- */

static void remember(struct story *s, const uint8_t *bytes)
{
	uint8_t *copy = malloc(s->len);

	if (!copy || s->past.nr == TD_NELEMS(s->past.at))
		abort();
	memcpy(copy, bytes, s->len);
	s->past.at[s->past.nr++] = copy;
}

static void forget(struct story *s)
{
	while (s->past.nr > 0)
		free(s->past.at[--s->past.nr]);
}

static void durable(struct story *s)
{
	forget(s);
	remember(s, s->live);
}

static struct known *known(struct story *s, const char *name)
{
	for (unsigned i = 0; i < s->nr; i++)
		if (strcmp(s->snap[i].name, name) == 0)
			return &s->snap[i];
	return NULL;
}

static void learn(struct story *s, const char *name)
{
	struct known *k = &s->snap[s->nr++];

	(void)snprintf(k->name, sizeof(k->name), "%s", name);
	k->bytes = malloc(s->len);
	if (!k->bytes)
		abort();
	memcpy(k->bytes, s->live, s->len);
}

static void unlearn(struct story *s, const char *name)
{
	struct known *k = known(s, name);

	free(k->bytes);
	*k = s->snap[--s->nr];
}

static void story_done(struct story *s)
{
	forget(s);
	while (s->nr > 0)
		free(s->snap[--s->nr].bytes);
	free(s->live);
	*s = (struct story){ 0 };
}

static uint64_t below(struct story *s, uint64_t n)
{
	return test_random(&s->run->random) % n;
}

/* ---- steps; in a coroutine ---- */

/* What is there after something that may have happened in part. */
static int read_back(struct story *s)
{
	int r = td_image_pread(s->run->im, 0, s->live, s->len, 0);

	if (r < 0) /* that was the one that had to fail */
		r = td_image_pread(s->run->im, 0, s->live, s->len, 0);
	if (r == 0)
		remember(s, s->live);
	return r;
}

static int step_write(struct story *s)
{
	uint32_t cluster = s->run->im->limits.cluster_size;
	uint64_t at = below(s, s->len), nr = 1 + below(s, TD_MIN(s->len - at, 5ull * cluster));
	bool pack = below(s, 4) == 0;
	uint64_t tag = test_random(&s->run->random);
	int r;

	if (pack) {
		nr = TD_MIN(td_align_up(at + nr, cluster), (uint64_t)s->len);
		at = td_align_down(at, cluster);
		nr -= at;
	}
	for (uint64_t i = 0; i < nr; i++)
		s->live[at + i] = (uint8_t)(tag >> (pack ? 0 : i % 7));
	remember(s, s->live);
	r = td_image_pwrite(s->run->im, at, s->live + at, nr, pack ? TD_COMPRESS : 0);
	return r < 0 ? read_back(s) : 0;
}

static int step_clear(struct story *s)
{
	uint64_t at = below(s, s->len), nr = 1 + below(s, s->len - at);
	bool trim = below(s, 2);

	memset(s->live + at, 0, nr);
	remember(s, s->live);
	if (trim)
		td_ignore(td_image_trim(s->run->im, at, nr));
	else
		td_ignore(td_image_zero(s->run->im, at, nr, below(s, 2) ? TD_MAY_UNMAP : 0));
	return read_back(s);
}

static int step_flush(struct story *s)
{
	if (td_image_flush(s->run->im) == 0)
		durable(s);
	return 0;
}

/* 0: it is done; 1: it has failed and nothing has changed; -1: nobody knows. */
static int operate(struct story *s, enum what what, const char *name)
{
	static const enum td_snap_op ops[] = {
		[CREATE] = TD_SNAP_CREATE, [APPLY] = TD_SNAP_APPLY, [DELETE] = TD_SNAP_DELETE
	};
	struct run *run = s->run;
	int r;

	s->doing = what;
	(void)snprintf(s->name, sizeof(s->name), "%s", name);
	r = td_image_snapshot(run->im, ops[what], name, NULL, &run->t.err);
	if (r < 0 && (run->im->frozen || simdisk_is_cut(run->sim)))
		return -1;
	s->doing = NOTHING;
	s->ops += r == 0;
	if (getenv("TEST_SAY"))
		(void)fprintf(stderr, "%u %s: %d\n", what, name, r);
	return r < 0;
}

static int step_create(struct story *s)
{
	char name[16];
	int r;

	if (s->nr == SNAPS_MAX)
		return 0;
	(void)snprintf(name, sizeof(name), "s%u", s->made++);
	r = operate(s, CREATE, name);
	if (r != 0)
		return r < 0 ? r : 0;
	learn(s, name);
	durable(s);
	return 0;
}

static int step_apply(struct story *s)
{
	const struct known *k = s->nr > 0 ? &s->snap[below(s, s->nr)] : NULL;
	int r;

	if (!k)
		return 0;
	r = operate(s, APPLY, k->name);
	if (r != 0)
		return r < 0 ? r : 0;
	memcpy(s->live, k->bytes, s->len);
	durable(s);
	return 0;
}

static int step_delete(struct story *s)
{
	char name[16];
	int r;

	if (s->nr == 0)
		return 0;
	(void)snprintf(name, sizeof(name), "%s", s->snap[below(s, s->nr)].name);
	r = operate(s, DELETE, name);
	if (r == 0)
		unlearn(s, name);
	return r < 0 ? r : 0;
}

/* It may be refused, but the disk and its snapshots show what they did. */
static int step_amend(struct story *s)
{
	static const char *const options[] = {
		"refcount_bits=8",
		"compat=1.1,refcount_bits=64",
		"compat=1.1,refcount_bits=4",
		"compat=0.10,refcount_bits=16,lazy_refcounts=off",
		"compat=1.1,lazy_refcounts=on",
		"compat=1.1,lazy_refcounts=off",
	};
	const char *text = options[below(s, TD_NELEMS(options))];
	struct td_opts opts = { 0 };
	int r = td_opts_parse(&opts, text, strlen(text), &s->run->t.err);

	if (r == 0)
		r = td_image_amend(s->run->im, &opts, NULL, &s->run->t.err);
	s->amended += r == 0;
	if (getenv("TEST_SAY"))
		(void)fprintf(stderr, "amend %s: %d\n", text, r);
	td_opts_done(&opts);
	if (r < 0 && r != -ENOTSUP && r != -ERANGE && !simdisk_failed(s->run->sim) &&
	    !simdisk_is_cut(s->run->sim)) {
		(void)fprintf(stderr, "amend %s: %s\n", text, s->run->t.err.msg);
		return -EIO;
	}
	return 0;
}

static int step(struct story *s)
{
	static int (*const steps[])(struct story *) = {
		step_write,  step_write, step_write, step_write,  step_clear,  step_flush, step_write,
		step_create, step_apply, step_write, step_delete, step_create, step_amend, step_amend,
	};

	return steps[below(s, TD_NELEMS(steps))](s);
}

static int differs(const struct story *s, const uint8_t *a, const uint8_t *b)
{
	for (size_t i = 0; i < s->len; i++)
		if (a[i] != b[i]) {
			(void)fprintf(stderr, "byte %#zx is %02x, not %02x\n", i, a[i], b[i]);
			return -1;
		}
	return 0;
}

/* Nothing else runs: there is one answer. */
static int compare_live(struct story *s)
{
	uint8_t *buf = td_buf_alloc(s->len);
	int r = td_image_pread(s->run->im, 0, buf, s->len, 0);

	r = r < 0 ? 0 : differs(s, buf, s->live);
	td_buf_free(buf, s->len);
	return r;
}

static int tell(void *arg)
{
	struct story *s = arg;
	struct run *run = s->run;
	int r = td_image_open_text(&run->t.env, run->spec, 0, &run->im, &run->t.err);

	if (r < 0)
		return 0; /* a failure at open harms nobody */
	s->len = run->im->size;
	s->live = calloc(1, s->len);
	r = td_image_pread(run->im, 0, s->live, s->len, 0);
	if (r == 0)
		durable(s);
	if (r == 0 && run->v->from_qemu)
		learn(s, "one");
	if (r < 0) /* as it was made: nothing was written to it, or the first write of the model */
		s->len = 0;
	for (unsigned i = 0; r == 0 && i < STEPS && !run->im->frozen; i++)
		r = step(s);
	r = s->len > 0 ? compare_live(s) : 0;
	if (td_image_close(run->im) == 0 && s->len > 0)
		durable(s);
	return r;
}

/* ---- what is found afterwards ---- */

static bool may_be(const struct story *s, const uint8_t *buf)
{
	for (size_t at = 0; at < s->len; at += MODEL_SECTOR) {
		size_t n = TD_MIN(s->len - at, (size_t)MODEL_SECTOR);
		bool ok = false;

		for (unsigned i = 0; !ok && i < s->past.nr; i++)
			ok = memcmp(buf + at, s->past.at[i] + at, n) == 0;
		if (!ok)
			return false;
	}
	return true;
}

static int look_at_disk(struct story *s, uint8_t *buf)
{
	const struct known *k = s->doing == APPLY ? known(s, s->name) : NULL;
	int r = td_image_pread(s->run->im, 0, buf, s->len, 0);

	if (r == 0 && !may_be(s, buf) && !(k && memcmp(buf, k->bytes, s->len) == 0)) {
		(void)fprintf(stderr, "the disk holds what it never held\n");
		r = -1;
	}
	return r;
}

static int look_at_snapshot(struct story *s, const char *name, uint8_t *buf)
{
	const struct known *k = known(s, name);
	struct run *run = s->run;
	struct td_image *im;
	char spec[320];
	int r, r2;

	if (!k && !(s->doing == CREATE && strcmp(name, s->name) == 0)) {
		(void)fprintf(stderr, "nobody made snapshot %s, or it was deleted\n", name);
		return -1;
	}
	/* "qcow2(OPTIONS):PATH" */
	(void)snprintf(spec, sizeof(spec), "qcow2(snapshot=%s%s%s", name, run->spec[6] == ')' ? "" : ",",
		       run->spec + 6);
	r = td_image_open_text(&run->t.env, spec, TD_OPEN_RDONLY, &im, &run->t.err);
	if (r < 0) {
		(void)fprintf(stderr, "%s\n", run->t.err.msg);
		return r;
	}
	r = td_image_pread(im, 0, buf, s->len, 0);
	if (r == 0)
		r = differs(s, buf, k ? k->bytes : s->live);
	r2 = td_image_close(im);
	if (r < 0)
		(void)fprintf(stderr, "snapshot %s shows what it never held\n", name);
	return r < 0 ? r : r2;
}

static int look_at_snapshots(struct story *s, const struct td_snaps *list, uint8_t *buf)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < s->nr; i++) {
		bool there = s->doing == DELETE && strcmp(s->snap[i].name, s->name) == 0;

		for (size_t n = 0; n < list->nr; n++)
			there |= strcmp(list->at[n].name, s->snap[i].name) == 0;
		if (!there)
			r = -1;
	}
	if (r < 0)
		(void)fprintf(stderr, "a snapshot is gone\n");
	for (size_t n = 0; r == 0 && n < list->nr; n++)
		r = look_at_snapshot(s, list->at[n].name, buf);
	return r;
}

static int look(void *arg)
{
	struct story *s = arg;
	struct run *run = s->run;
	struct td_snaps list = { 0 };
	uint8_t *buf = td_buf_alloc(s->len);
	int r = td_image_open_text(&run->t.env, run->spec, 0, &run->im, &run->t.err), r2;

	if (r < 0)
		(void)fprintf(stderr, "look: %s\n", run->t.err.msg);
	if (r == 0) {
		r = look_at_disk(s, buf);
		if (r == 0)
			r = td_image_snapshots(run->im, &list, &run->t.err);
		r2 = td_image_close(run->im);
		r = r < 0 ? r : r2;
	}
	if (r == 0)
		r = look_at_snapshots(s, &list, buf);
	td_snaps_done(&list);
	td_buf_free(buf, s->len);
	return r;
}

static void verify(struct story *s)
{
	if (s->len == 0)
		return;
	assert_int_equal(run_fsck(s->run), 0);
	assert_int_equal(testenv_run(&s->run->t, look, s), 0);
	assert_int_equal(run_fsck(s->run), 0);
}

/* ---- the loops ---- */

static void begin(struct story *s, struct run *run, uint64_t seed)
{
	*s = (struct story){ .run = run };
	run_begin(run);
	run->random = seed;
	/* Many windows of a small image. */
	qcow2_shadow_window = seed % 2 ? 1 : 4u << 20;
}

static bool fault_point(struct run *run, uint64_t story, uint64_t n, enum simdisk_fault kind)
{
	struct story s;
	bool failed;

	begin(&s, run, story);
	simdisk_fail(run->sim, n, kind);
	assert_int_equal(testenv_run(&run->t, tell, &s), 0);
	failed = simdisk_failed(run->sim);
	if (getenv("TEST_SAY"))
		(void)fprintf(stderr, "%s: seed %llu story %llu: fault %d at %llu\n", run->v->name,
			      (unsigned long long)run->seed, (unsigned long long)story, (int)kind,
			      (unsigned long long)n);
	simdisk_fail(run->sim, 0, SIMDISK_EIO);
	simdisk_drop_cache(run->sim); /* what an fsync has lost is not to be seen any more */
	verify(&s);
	story_done(&s);
	return failed;
}

static bool crash_point(struct run *run, uint64_t story, uint64_t n, unsigned *images)
{
	struct simdisk_state *crash;
	struct story s;

	begin(&s, run, story);
	simdisk_cut(run->sim, n);
	assert_int_equal(testenv_run(&run->t, tell, &s), 0);
	if (!simdisk_is_cut(run->sim)) {
		simdisk_cut(run->sim, 0);
		verify(&s);
		story_done(&s);
		return false;
	}
	crash = simdisk_crash(run->sim);
	for (unsigned i = 0; i < 4; i++, ++*images) {
		static const enum simdisk_lost lost[] = { SIMDISK_LOSE_ALL, SIMDISK_LOSE_NONE,
							  SIMDISK_LOSE_OPS, SIMDISK_LOSE_PIECES };

		if (getenv("TEST_SAY"))
			(void)fprintf(stderr, "%s: seed %llu story %llu: cut at %llu, lost %d\n",
				      run->v->name, (unsigned long long)run->seed, (unsigned long long)story,
				      (unsigned long long)n, (int)lost[i]);
		simdisk_make(run->sim, crash, lost[i], story * 1000 + n);
		verify(&s);
	}
	simdisk_state_free(crash);
	story_done(&s);
	return true;
}

/* Kinds of image that can have snapshots; each with so many stories. */
static void each_story(void (*fn)(struct run *run, uint64_t story))
{
	uint64_t seed = test_seed();
	unsigned rounds = test_count("TEST_ROUNDS", 1), every = test_count("TEST_EVERY", 4);

	for (unsigned i = 0; i < rounds * nr_variants; i++) {
		const struct variant *v = &variants[i % nr_variants];
		struct run run;

		if (v->format != &fmt_qcow2 || strstr(v->create, "refcount_bits=1") ||
		    (i + seed) % every != 0 || !run_setup(&run, v, seed + i))
			continue;
		fn(&run, (seed + i) * 7);
		run_teardown(&run);
	}
}

static void crash_story(struct run *run, uint64_t story)
{
	unsigned images = 0, points = 0, stride = test_stride(11);

	for (uint64_t n = 1 + story % stride; crash_point(run, story, n, &images); n += stride)
		points++;
	printf("# %s: seed %llu: %u power cuts, %u images\n", run->v->name, (unsigned long long)run->seed,
	       points, images);
}

static void fault_story(struct run *run, uint64_t story)
{
	unsigned points = 0, stride = test_stride(11);

	for (uint64_t n = 1 + story % stride; fault_point(run, story, n, (story + n) % SIMDISK_FAULTS);
	     n += stride)
		points++;
	printf("# %s: seed %llu: %u faults\n", run->v->name, (unsigned long long)run->seed, points);
}

/* Nothing fails: every operation has to succeed, and nothing leaks. */
static void quiet_story(struct run *run, uint64_t story)
{
	struct story s;

	for (unsigned i = 0; i < test_count("TEST_STORIES", 4); i++) {
		begin(&s, run, story + i);
		assert_int_equal(testenv_run(&run->t, tell, &s), 0);
		assert_int_equal(s.doing, NOTHING);
		verify(&s);
		assert_int_equal(run->fsck_leaks, 0);
		story_done(&s);
	}
}

static void snapshots_show_what_they_always_did(void **state)
{
	(void)state;
	each_story(quiet_story);
}

static void a_crash_leaves_all_of_an_operation_or_nothing(void **state)
{
	(void)state;
	each_story(crash_story);
}

static void a_failure_leaves_all_of_an_operation_or_nothing(void **state)
{
	(void)state;
	each_story(fault_story);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(snapshots_show_what_they_always_did),
		cmocka_unit_test(a_crash_leaves_all_of_an_operation_or_nothing),
		cmocka_unit_test(a_failure_leaves_all_of_an_operation_or_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
