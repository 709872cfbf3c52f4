// SPDX-License-Identifier: BSD-2-Clause
#include "format-run.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define WORKERS 4u
#define STEPS   10u
#define SMALL   24u /* sectors */
#define LARGE   200u

/* ---- one worker ---- */

static int step_write(struct run *run, uint64_t sector, uint64_t nr, unsigned flags)
{
	char *buf = td_buf_alloc(nr * MODEL_SECTOR);
	uint32_t number = model_begin(run->model, MODEL_WRITE, sector, nr, buf);
	int r = td_image_pwrite(run->im, sector * MODEL_SECTOR, buf, nr * MODEL_SECTOR, flags);

	model_end(run->model, number, r == 0, flags & TD_FUA);
	td_buf_free(buf, nr * MODEL_SECTOR);
	return 0;
}

/* Whole clusters. */
static int step_pack(struct run *run, uint64_t sector, uint64_t nr, unsigned flags)
{
	uint64_t per = run->im->limits.cluster_size / MODEL_SECTOR, end = td_align_up(sector + nr, per);

	sector = td_align_down(sector, per);
	return step_write(run, sector, TD_MIN(end, (uint64_t)run->v->sectors) - sector, flags | TD_COMPRESS);
}

static int step_read(struct run *run, uint64_t sector, uint64_t nr)
{
	char *buf = td_buf_alloc(nr * MODEL_SECTOR);
	uint64_t begun = model_read_begin(run->model);
	int r = td_image_pread(run->im, sector * MODEL_SECTOR, buf, nr * MODEL_SECTOR, 0);

	/* A failure is fine, a lie is not. */
	r = r == 0 ? model_check_live(run->model, begun, sector, nr, buf) : 0;
	model_read_end(run->model);
	td_buf_free(buf, nr * MODEL_SECTOR);
	return r;
}

static int step_clear(struct run *run, enum model_kind kind, uint64_t sector, uint64_t nr, unsigned flags)
{
	uint32_t number = model_begin(run->model, kind, sector, nr, NULL);
	uint64_t off = sector * MODEL_SECTOR, len = nr * MODEL_SECTOR;
	int r = kind == MODEL_TRIM ? td_image_trim(run->im, off, len)
				   : td_image_zero(run->im, off, len, flags);

	model_end(run->model, number, r == 0, flags & TD_FUA);
	return 0;
}

static int step_flush(struct run *run)
{
	uint64_t flush = model_flush_begin(run->model);

	model_flush_end(run->model, flush, td_image_flush(run->im) == 0);
	return 0;
}

static int step(struct run *run)
{
	uint64_t what = test_random(&run->random) % 16, sector = test_random(&run->random) % run->v->sectors;
	uint64_t most = test_random(&run->random) % 8 == 0 ? LARGE : SMALL;
	uint64_t nr = 1 + test_random(&run->random) % TD_MIN(most, run->v->sectors - sector);
	unsigned fua = test_random(&run->random) % 6 == 0 ? TD_FUA : 0;

	if (what < 3 && run->v->format->compresses)
		return step_pack(run, sector, nr, fua);
	if (what < 8)
		return step_write(run, sector, nr, fua);
	if (what < 10)
		return step_read(run, sector, nr);
	if (what < 12)
		return step_clear(run, MODEL_ZERO, sector, nr, fua | (what & 1 ? TD_MAY_UNMAP : 0));
	if (what < 14)
		return step_clear(run, MODEL_TRIM, sector, nr, 0);
	return step_flush(run);
}

/* What is new behind the end reads as zeros; then something is written there.  -1: it does not. */
static int look_behind(struct run *run, uint64_t old)
{
	size_t len = run->im->size - old;
	char *buf = td_buf_alloc(len);
	int r = td_image_pread(run->im, old, buf, len, 0);
	bool zeros = r < 0 || (buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0);

	if (!zeros)
		(void)fprintf(stderr, "resize: not zeros behind the old end of %llu\n",
			      (unsigned long long)old);
	memset(buf, 0xee, len);
	td_ignore(td_image_pwrite(run->im, old, buf, len, 0)); /* or not */
	td_buf_free(buf, len);
	return zeros ? 0 : -1;
}

/* Larger by a table's span or two: the L1 table moves.  Or smaller, of what the model knows nothing of. */
static int resize_one(struct run *run)
{
	uint64_t old = run->im->size, least = (uint64_t)run->v->sectors * MODEL_SECTOR;
	uint64_t by = (1 + test_random(&run->random) % 128) * MODEL_SECTOR;

	if (test_random(&run->random) % 2 && old > least) {
		td_ignore(td_image_resize(run->im, old - TD_MIN(by, old - least), TD_RESIZE_SHRINK, NULL));
		return 0;
	}
	return td_image_resize(run->im, old + by, 0, NULL) == 0 ? look_behind(run, old) : 0;
}

static int step_resize(struct run *run)
{
	int r;

	if (run->resizing)
		return 0;
	run->resizing = true;
	r = resize_one(run);
	run->resizing = false;
	return r;
}

static int worker(void *arg)
{
	struct run *run = arg;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < run->steps; i++) {
		if (run->resizes && run->v->format->resizes && test_random(&run->random) % 8 == 0)
			r = step_resize(run);
		if (r == 0)
			r = step(run);
	}
	return r;
}

int run_workload(void *arg)
{
	struct run *run = arg;
	struct td_join join = { 0 };
	uint64_t flush;
	int r;

	run->closed_ok = false;
	run->im = NULL;
	if (td_image_open_text(&run->t.env, run->spec, 0, &run->im, &run->t.err) < 0)
		return 0; /* a failure at open harms nobody */
	for (unsigned i = 0; i < run->workers; i++)
		td_join_start(&join, worker, run);
	r = td_join_wait(&join);
	flush = model_flush_begin(run->model);
	run->closed_ok = td_image_close(run->im) == 0;
	model_flush_end(run->model, flush, run->closed_ok);
	return r;
}

/* The data file alone, beside what was read through the tables. */
static int look_at_data(struct run *run, size_t len)
{
	char *buf = td_buf_alloc(len);
	int fd = open(testenv_path(&run->t, run->v->data), O_RDONLY | O_CLOEXEC), r = -EIO;

	memset(buf, 0, len);
	if (fd >= 0 && pread(fd, buf, len, 0) >= 0)
		r = model_check_crash(run->model, 0, run->v->sectors, buf);
	if (fd >= 0)
		(void)close(fd);
	td_buf_free(buf, len);
	return r;
}

int run_look(void *arg)
{
	struct run *run = arg;
	size_t len = (size_t)run->v->sectors * MODEL_SECTOR;
	char *buf = td_buf_alloc(len);
	int r = td_image_open_text(&run->t.env, run->spec, 0, &run->im, &run->t.err), r2;

	if (r < 0 && !simdisk_is_cut(run->sim))
		(void)fprintf(stderr, "look: %s\n", run->t.err.msg);
	if (r == 0) {
		r = td_image_pread(run->im, 0, buf, len, 0);
		if (r == 0)
			r = model_check_crash(run->model, 0, run->v->sectors, buf);
		r2 = td_image_close(run->im);
		r = r < 0 ? r : r2;
	}
	td_buf_free(buf, len);
	return r == 0 && run->v->data_is_disk ? look_at_data(run, len) : r;
}

int run_fsck(struct run *run)
{
	int r = 0;

	run->fsck_leaks = 0;
	run->fsck_dirty = false;
	if (run->v->format->fsck)
		r = run->v->format->fsck(run->path, &run->fsck_leaks, &run->fsck_dirty);
	if (r < 0)
		(void)fprintf(stderr, "fsck: %d\n", r);
	return r;
}

static int check_with(struct run *run, unsigned fix, struct td_check *ret)
{
	unsigned flags = TD_OPEN_CHECK | (fix ? 0 : TD_OPEN_RDONLY);
	int r = td_image_open_text(&run->t.env, run->spec, flags, &run->im, &run->t.err), r2;

	if (r < 0)
		return r;
	r = td_image_check(run->im, fix, ret);
	r2 = td_image_close(run->im);
	return r < 0 ? r : r2;
}

static void tell(void *arg, const char *line)
{
	(void)arg;
	if (getenv("TEST_SAY"))
		(void)fprintf(stderr, "  %s\n", line);
}

bool run_knows_leaks(const struct run *run)
{
	return !(run->v->format->moves_tables && run->resizes);
}

/* Counts of a dirty image are not to be held against it. */
static int own_check(void *arg)
{
	struct run *run = arg;
	struct td_check c = { .report = tell };
	int r = check_with(run, 0, &c);
	bool counts = run->v->format->fsck && run_knows_leaks(run);

	if (r == 0 && !run->fsck_dirty &&
	    (c.corruptions > 0 || c.errors > 0 || (counts && c.leaks != run->fsck_leaks)))
		r = -1;
	if (r < 0)
		(void)fprintf(stderr, "check: %d: %llu corruptions, %llu leaks and not %u\n", r,
			      (unsigned long long)c.corruptions, (unsigned long long)c.leaks,
			      run->fsck_leaks);
	return r;
}

static int own_repair(void *arg)
{
	const struct run *run = arg;
	struct td_check c = { .report = tell };
	int r = check_with(arg, TD_FIX_ALL, &c);

	if (r == 0 &&
	    (c.corruptions > 0 || (run->v->format->no_leaks && run_knows_leaks(run) && c.leaks > 0)))
		r = -1;
	if (r < 0)
		(void)fprintf(stderr, "repair: %d: %llu corruptions, %llu leaks\n", r,
			      (unsigned long long)c.corruptions, (unsigned long long)c.leaks);
	return r;
}

int run_verify(struct run *run)
{
	int r = run_fsck(run);

	if (r == 0)
		r = testenv_run(&run->t, own_check, run);
	if (r == 0 && run->verified++ % 4 == 0) {
		r = testenv_run(&run->t, own_repair, run);
		if (r == 0)
			r = run_fsck(run);
		if (r == 0 && run->fsck_leaks > 0 && run_knows_leaks(run))
			r = -1;
	}
	if (r == 0)
		r = testenv_run(&run->t, run_look, run);
	/* What was dirty is repaired by now, so the counts have to be right too. */
	if (r == 0)
		r = run_fsck(run);
	if (r == 0 && run->fsck_dirty) {
		(void)fprintf(stderr, "it is dirty still\n");
		r = -1;
	}
	return r;
}

/* ---- the images to begin with ---- */

static void model_reset(struct run *run)
{
	size_t len = (size_t)run->v->sectors * MODEL_SECTOR;
	uint32_t number;
	char *buf;

	model_free(run->model);
	run->model = model_new(run->v->sectors);
	if (!run->has_data)
		return;
	buf = td_buf_alloc(len);
	number = model_begin(run->model, MODEL_WRITE, 0, run->v->sectors, buf);
	model_end(run->model, number, true, true);
	td_buf_free(buf, len);
}

static int write_raw(struct run *run, const char *path)
{
	size_t len = (size_t)run->v->sectors * MODEL_SECTOR;
	char *buf = td_buf_alloc(len);
	struct model *m = model_new(run->v->sectors);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r;

	(void)model_begin(m, MODEL_WRITE, 0, run->v->sectors, buf);
	r = fd >= 0 && write(fd, buf, len) == (ssize_t)len ? 0 : -EIO;
	if (fd >= 0)
		(void)close(fd);
	model_free(m);
	td_buf_free(buf, len);
	return r;
}

/*
 * Half of it compressed, and all of it in a snapshot, where the format has that.  (Of a qcow image made
 * with -c qemu-img 7.2 says at the end that it failed, though it did not: qemu-io has to like it.)
 */
static int make_by_qemu(struct run *run, const char *raw)
{
	char cmd[1024];

	const struct fmt *f = run->v->format;

	(void)snprintf(cmd, sizeof(cmd),
		       "qemu-img convert %s -O %s %s%s %s %s >/dev/null 2>&1; "
		       "qemu-io -c 'read -q 0 4k' -c 'write -q -s %s 0 100k' %s >/dev/null 2>&1",
		       f->compresses ? "-c" : "", f->qemu ? f->qemu : f->name, run->v->create[0] ? "-o " : "",
		       run->v->create, raw, run->path, raw, run->path);
	if (system(cmd) != 0) /* NOLINT: a fixed command on our own files */
		return -ENOENT;
	if (!f->snapshots)
		return 0;
	(void)snprintf(cmd, sizeof(cmd), "qemu-img snapshot -c one %s >/dev/null 2>&1", run->path);
	return system(cmd) == 0 ? 0 : -ENOENT; /* NOLINT: a fixed command on our own files */
}

/* ",key-file=FILE", and the file. */
static void make_secret(struct run *run, char *ret, size_t len)
{
	FILE *f = fopen(testenv_path(&run->t, "key"), "w");

	if (f) {
		(void)fputs("a pass phrase", f);
		(void)fclose(f);
	}
	(void)snprintf(ret, len, ",key-file=%s", testenv_path(&run->t, "key"));
}

/* Data that are there before the first request, in the file raw; and what is around it as a backing file. */
static int make_data(struct run *run, const char *raw)
{
	int (*make_base)(const char *path, unsigned sectors) = run->v->format->make_base;
	int r = write_raw(run, raw);

	if (r == 0 && run->v->backing && make_base)
		r = make_base(testenv_path(&run->t, "base"), run->v->sectors);
	return r;
}

static void backing_opts(const struct run *run, char *ret, size_t len)
{
	const struct fmt *f = run->v->format;

	(void)snprintf(ret, len, "%s%s%s%s", run->v->create[0] ? "," : "",
		       "backing_file=", f->make_base ? "base,backing_fmt=" : "raw,backing_fmt=",
		       f->make_base ? f->name : "raw");
}

static int make_image(struct run *run)
{
	char opts[256], raw[160], key[100] = "", backing[80] = "";
	int r = 0;

	(void)snprintf(raw, sizeof(raw), "%s/raw", run->t.dir);
	(void)snprintf(run->path, sizeof(run->path), "%s/disk", run->t.dir);
	(void)snprintf(run->part, sizeof(run->part), "%s/%s", run->t.dir,
		       run->v->part ? run->v->part : "disk");
	if (run->v->secret)
		make_secret(run, key, sizeof(key));
	/* An option more: there may be none before the comma. */
	(void)snprintf(run->spec, sizeof(run->spec), "%s(adopt=on%s%s%s):%s", run->v->format->name,
		       *run->v->open ? "," : "", run->v->open, key, run->path);
	run->has_data = run->v->backing || run->v->from_qemu;
	if (run->has_data)
		r = make_data(run, raw);
	if (r < 0)
		return r;
	if (run->v->from_qemu)
		return make_by_qemu(run, raw);
	if (run->v->backing)
		backing_opts(run, backing, sizeof(backing));
	(void)snprintf(opts, sizeof(opts), "%s%s", run->v->create, backing);
	r = test_create(&run->t, (uint64_t)run->v->sectors * MODEL_SECTOR, opts, false, "%s", run->spec);
	if (r == 0 && run->v->file_kib && truncate(run->path, (off_t)run->v->file_kib << 10) < 0)
		r = -errno;
	return r;
}

bool run_setup(struct run *run, const struct variant *v, uint64_t seed)
{
	int r;

	*run = (struct run){ .v = v, .seed = seed, .workers = WORKERS, .steps = STEPS };
	run->sim = simdisk_new(seed);
	r = testenv_open_sim(&run->t, run->sim);
	if (r == 0)
		r = make_image(run);
	if (r < 0) {
		(void)printf("# %s: not made: %s\n", v->name,
			     run->t.err.msg[0] ? run->t.err.msg : strerror(-r));
		run_teardown(run);
		return false;
	}
	/* Where nothing can be punched, what is reused holds old bytes. */
	simdisk_features(run->sim, seed % 2, seed / 2 % 2);
	simdisk_add(run->sim, run->path);
	if (run->v->part)
		simdisk_add(run->sim, run->part);
	if (run->v->data)
		simdisk_add(run->sim, testenv_path(&run->t, run->v->data));
	run->clean = simdisk_save(run->sim);
	return true;
}

void run_teardown(struct run *run)
{
	testenv_close(&run->t);
	if (run->clean)
		simdisk_state_free(run->clean);
	simdisk_free(run->sim);
	model_free(run->model);
}

void run_rounds(unsigned rounds, void (*fn)(struct run *run))
{
	const char *only = getenv("TEST_FORMAT"), *kind = getenv("TEST_KIND");
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < rounds * nr_variants; i++) {
		const struct variant *v = &variants[i % nr_variants];
		struct run run;

		if ((only && strcmp(only, v->format->name) != 0) || (kind && !strstr(v->name, kind)))
			continue;
		if (!run_setup(&run, v, seed + i))
			continue;
		fn(&run);
		run_teardown(&run);
	}
}

unsigned run_stride(const struct run *run, unsigned otherwise)
{
	return test_stride(otherwise * TD_MAX(1u, run->v->format->thin));
}

void run_begin(struct run *run)
{
	model_reset(run);
	simdisk_restore(run->sim, run->clean);
	simdisk_start(run->sim, run->seed);
	run->random = run->seed;
}
