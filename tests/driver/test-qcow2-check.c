// SPDX-License-Identifier: BSD-2-Clause
/*
 * Check and repair on a simulated disk: what is damaged is found; after a repair nothing is found, and the guest reads
 * what it did, or an error where its data was lost; and a power cut before any operation of a repair leaves an image
 * that says nothing else, and that the next repair puts right.  (Agreement with qemu-img: tests/e2e/check-damaged.sh.)
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "format-run.h"
#include "qcow2-fsck.h"

/* What one sector reads as: 0: an error. */
typedef uint64_t sum_t;

struct fixture {
	struct run run;
	struct simdisk_state *damaged;
	sum_t *before, *now; /* of each sector */
	struct td_check res;
	uint64_t under; /* clusters with more references than their refcount says */
	unsigned fix;
	bool may_lose; /* the damage hits data of the guest */
};

/* ---- bytes of the file ---- */

static uint64_t peek(const char *path, uint64_t at)
{
	uint8_t raw[8] = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, raw, sizeof(raw), (off_t)at), sizeof(raw));
	assert_int_equal(close(fd), 0);
	return td_get_be64(raw);
}

static void patch(const char *path, uint64_t at, uint64_t value)
{
	uint8_t raw[8];
	int fd = open(path, O_RDWR | O_CLOEXEC);

	td_put_be64(raw, value);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, raw, sizeof(raw), (off_t)at), sizeof(raw));
	assert_int_equal(close(fd), 0);
}

/* Where things are in an image. */
struct place {
	const char *path;
	struct qcow2_header h;
	struct qcow2_geom g;
	uint64_t size;
	uint64_t l1e, l2; /* the first L1 entry that is used; its table */
	uint64_t l2e[2];  /* entries of data */
	uint64_t block;
};

static void find_places(struct place *p, const char *path)
{
	uint8_t head[512];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	*p = (struct place){ .path = path };
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
	p->size = (uint64_t)lseek(fd, 0, SEEK_END);
	assert_int_equal(close(fd), 0);
	assert_int_equal(qcow2_header_decode(head, sizeof(head), &p->h, NULL), 0);
	qcow2_geom_of(&p->h, &p->g);
	for (p->l1e = p->h.l1_off; !(peek(path, p->l1e) & QCOW2_OFF_MASK);)
		p->l1e += 8;
	p->l2 = peek(path, p->l1e) & QCOW2_OFF_MASK;
	for (uint64_t at = p->l2, n = 0; n < 2 && at < p->l2 + p->g.cluster_size; at += 8) {
		uint64_t raw = peek(path, at);

		if ((raw & QCOW2_OFF_MASK) && !(raw & (QCOW2_L2_COMPRESSED | QCOW2_L2_ZERO)))
			p->l2e[n++] = at;
	}
	assert_true(p->l2e[1] != 0);
	p->block = peek(path, p->h.reftable_off);
}

/* ---- damage ---- */

static void counts_of_nothing(const struct place *p)
{
	uint64_t first = td_div_up(p->size, p->g.cluster_size);
	uint64_t at = td_align_up(first * p->g.refcount_bits / 8 + 1, 8);

	if (at + 8 > p->g.cluster_size) {
		patch(p->path, p->block, 7); /* wide counts: of the header, which is there once */
		return;
	}
	/* Of clusters that the file has. */
	patch(p->path, p->block + at, UINT64_MAX);
	assert_int_equal(truncate(p->path, (off_t)((at * 8 / p->g.refcount_bits + 1) << p->g.cluster_bits)),
			 0);
}

static void counts_gone(const struct place *p)
{
	patch(p->path, p->block, 0);
	patch(p->path, p->block + 8, 0);
}

static void block_behind_the_end(const struct place *p)
{
	patch(p->path, p->h.reftable_off, td_align_up(p->size, p->g.cluster_size) + 5 * p->g.cluster_size);
}

static void no_reftable(const struct place *p)
{
	patch(p->path, 48, td_align_up(p->size, p->g.cluster_size) + 2 * p->g.cluster_size);
}

static void data_behind_the_end(const struct place *p)
{
	patch(p->path, p->l2e[0],
	      QCOW2_COPIED | (td_align_up(p->size, p->g.cluster_size) + 3 * p->g.cluster_size));
}

static void table_behind_the_end(const struct place *p)
{
	patch(p->path, p->l1e, QCOW2_COPIED | td_align_up(p->size, p->g.cluster_size));
}

static void data_twice(const struct place *p)
{
	patch(p->path, p->l2e[0], peek(p->path, p->l2e[1]));
}

static void data_in_the_tables(const struct place *p)
{
	patch(p->path, p->l2e[0], QCOW2_COPIED | p->h.l1_off);
}

static void flags_wrong(const struct place *p)
{
	patch(p->path, p->l1e, peek(p->path, p->l1e) ^ QCOW2_COPIED);
	patch(p->path, p->l2e[1], peek(p->path, p->l2e[1]) ^ QCOW2_COPIED);
}

static const struct damage {
	const char *name;
	void (*fn)(const struct place *p);
	bool may_lose;
} damages[] = {
	{ "counts of nothing", counts_of_nothing, false },
	{ "counts gone", counts_gone, false },
	{ "block behind the end", block_behind_the_end, false },
	{ "no refcount table", no_reftable, false },
	{ "data behind the end", data_behind_the_end, true },
	{ "table behind the end", table_behind_the_end, true },
	{ "data twice", data_twice, true },
	{ "data in the tables", data_in_the_tables, true },
	{ "flags wrong", flags_wrong, false },
};

/* ---- in coroutines ---- */

static int fill_disk(void *arg)
{
	struct fixture *x = arg;
	uint64_t sectors = x->run.v->sectors, piece = 24;
	char *buf = td_buf_alloc(piece * MODEL_SECTOR);
	struct td_image *im;
	int r = td_image_open_text(&x->run.t.env, x->run.spec, 0, &im, &x->run.t.err), r2;

	for (uint64_t at = 0; r == 0 && at + piece <= sectors; at += 3 * piece) {
		memset(buf, (int)(1 + at / piece % 250), piece * MODEL_SECTOR);
		r = td_image_pwrite(im, at * MODEL_SECTOR, buf, piece * MODEL_SECTOR, 0);
	}
	td_buf_free(buf, piece * MODEL_SECTOR);
	if (r < 0)
		return r;
	r2 = td_image_close(im);
	return r2;
}

static sum_t sum_of(const uint8_t *p)
{
	sum_t s = 1;

	for (unsigned i = 0; i < MODEL_SECTOR; i++)
		s = s * 31 + p[i];
	return s | 1;
}

/* Into x->now.  0: read sector by sector, each may fail. */
static int read_disk(void *arg)
{
	struct fixture *x = arg;
	uint8_t *buf = td_buf_alloc(MODEL_SECTOR);
	char spec[256];
	struct td_image *im;
	int r;

	/* A damaged header is no reason: whoever checks may read. */
	(void)snprintf(spec, sizeof(spec), "qcow2:%s", x->run.path);
	r = td_image_open_text(&x->run.t.env, spec, TD_OPEN_RDONLY | TD_OPEN_CHECK, &im, &x->run.t.err);
	for (uint64_t i = 0; r == 0 && i < x->run.v->sectors; i++)
		x->now[i] = td_image_pread(im, i * MODEL_SECTOR, buf, MODEL_SECTOR, 0) < 0 ? 0 : sum_of(buf);
	td_buf_free(buf, MODEL_SECTOR);
	return r < 0 ? r : td_image_close(im);
}

static void on_finding(void *arg, const char *line)
{
	struct fixture *x = arg;
	unsigned long long first, last;

	if (sscanf(line, "clusters %llu to %llu:", &first, &last) == 2)
		x->under += last - first + 1;
}

static int check_disk(void *arg)
{
	struct fixture *x = arg;
	unsigned flags = TD_OPEN_CHECK | (x->fix ? 0 : TD_OPEN_RDONLY);
	char spec[256];
	struct td_image *im;
	int r, r2;

	x->res = (struct td_check){ .report = on_finding, .report_arg = x };
	x->under = 0;
	(void)snprintf(spec, sizeof(spec), "qcow2:%s", x->run.path);
	r = td_image_open_text(&x->run.t.env, spec, flags, &im, &x->run.t.err);
	if (r < 0)
		return r;
	r = td_image_check(im, x->fix, &x->res);
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

static int check(struct fixture *x, unsigned fix)
{
	x->fix = fix;
	return testenv_run(&x->run.t, check_disk, x);
}

/* ---- what has to hold ---- */

/* Nothing reads as anything else; what was damaged may read as an error, and nothing else may. */
static void assert_same_guest(struct fixture *x, const char *when)
{
	assert_int_equal(testenv_run(&x->run.t, read_disk, x), 0);
	for (uint64_t i = 0; i < x->run.v->sectors; i++) {
		if (x->now[i] == x->before[i] || (x->may_lose && x->now[i] == 0))
			continue;
		fail_msg("%s: sector %llu reads otherwise %s", x->run.v->name, (unsigned long long)i, when);
	}
}

static void assert_repairs(struct fixture *x, const char *when)
{
	assert_int_equal(check(x, TD_FIX_ALL), 0);
	if (x->res.corruptions || x->res.leaks || x->res.errors)
		fail_msg("%s: %llu corruptions, %llu leaks, %llu errors are left %s", x->run.v->name,
			 (unsigned long long)x->res.corruptions, (unsigned long long)x->res.leaks,
			 (unsigned long long)x->res.errors, when);
	assert_same_guest(x, when);
	assert_int_equal(run_fsck(&x->run), 0);
	assert_int_equal(x->run.fsck_leaks, 0);
}

static bool setup(struct fixture *x, const struct variant *v, const struct damage *d, uint64_t seed)
{
	struct place p;

	*x = (struct fixture){ .may_lose = d->may_lose };
	if (v->format != &fmt_qcow2 || !run_setup(&x->run, v, seed))
		return false;
	run_begin(&x->run);
	x->before = calloc(v->sectors, sizeof(*x->before));
	x->now = calloc(v->sectors, sizeof(*x->now));
	assert_non_null(x->before);
	assert_non_null(x->now);
	assert_int_equal(testenv_run(&x->run.t, fill_disk, x), 0);
	find_places(&p, x->run.path);
	d->fn(&p);
	x->damaged = simdisk_save(x->run.sim);
	/* As a reader sees it that looks no further than it has to. */
	assert_int_equal(testenv_run(&x->run.t, read_disk, x), 0);
	memcpy(x->before, x->now, v->sectors * sizeof(*x->before));
	return true;
}

static void teardown(struct fixture *x)
{
	if (x->damaged)
		simdisk_state_free(x->damaged);
	run_teardown(&x->run);
	free(x->before);
	free(x->now);
}

/* ---- tests ---- */

static void check_finds_and_repairs(struct fixture *x, const struct damage *d)
{
	assert_int_equal(check(x, 0), 0);
	if (d == &damages[0] ? x->res.leaks == 0 : x->res.corruptions == 0)
		fail_msg("%s: %s: is not found", x->run.v->name, d->name);
	assert_repairs(x, d->name);
	/* What it did once it need not do again. */
	assert_int_equal(check(x, TD_FIX_ALL), 0);
	assert_int_equal(x->res.corruptions_fixed + x->res.leaks_fixed, 0);
}

static unsigned cut_at(struct fixture *x, uint64_t n, uint64_t under, const struct damage *d)
{
	struct run *run = &x->run;
	struct simdisk_state *crash;
	unsigned images = 0;
	char when[128];

	simdisk_restore(run->sim, x->damaged);
	simdisk_start(run->sim, run->seed);
	simdisk_cut(run->sim, n);
	td_ignore(check(x, TD_FIX_ALL)); /* it fails, or was done before the cut */
	if (!simdisk_is_cut(run->sim))
		return 0;
	crash = simdisk_crash(run->sim);
	for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++, images++) {
		simdisk_make(run->sim, crash, how, run->seed * 1000 + n);
		(void)snprintf(when, sizeof(when), "%s: cut at %llu, lost %d, seed %llu", d->name,
			       (unsigned long long)n, (int)how, (unsigned long long)run->seed);
		assert_same_guest(x, when);
		assert_int_equal(check(x, 0), 0);
		/* Flags are put right after the counts: in between they differ, which is harmless. */
		if (x->under > under)
			fail_msg("%s: %llu clusters are counted too low, there were %llu, %s", run->v->name,
				 (unsigned long long)x->under, (unsigned long long)under, when);
		assert_repairs(x, when);
	}
	simdisk_state_free(crash);
	return images;
}

static void a_repair_finds_and_repairs_what_is_damaged(void **state)
{
	uint64_t seed = test_seed();
	unsigned nr = 0;

	(void)state;
	for (unsigned v = 0; v < nr_variants; v++) {
		for (unsigned d = 0; d < TD_NELEMS(damages); d++) {
			struct fixture x;

			if (!setup(&x, &variants[v], &damages[d], seed))
				continue;
			check_finds_and_repairs(&x, &damages[d]);
			teardown(&x);
			nr++;
		}
	}
	printf("# %u images repaired\n", nr);
}

/* Some kinds of damage to some kinds of image, others with another seed; all of them with a stride of 1. */
static void a_power_cut_in_a_repair_leaves_it_no_worse(void **state)
{
	uint64_t seed = test_seed();
	unsigned stride = test_stride(107), points = 0, images = 0, made;

	(void)state;
	for (unsigned i = 0; i < nr_variants * TD_NELEMS(damages); i++) {
		const struct damage *d = &damages[i % TD_NELEMS(damages)];
		struct fixture x;
		uint64_t under;

		if ((i + seed) % stride || !setup(&x, &variants[i / TD_NELEMS(damages)], d, seed + i))
			continue;
		assert_int_equal(check(&x, 0), 0);
		under = x.under;
		for (uint64_t n = 1; (made = cut_at(&x, n, under, d)) > 0; n++, points++)
			images += made;
		teardown(&x);
	}
	printf("# %u power cuts in repairs, %u images\n", points, images);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_repair_finds_and_repairs_what_is_damaged),
		cmocka_unit_test(a_power_cut_in_a_repair_leaves_it_no_worse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
