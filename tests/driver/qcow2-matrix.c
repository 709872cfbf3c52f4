// SPDX-License-Identifier: BSD-2-Clause
/*
 * Random disks, random operations, against a model that is an array of bytes.
 *
 *	qcow2-matrix [RUNS]		so many runs, each with a seed of its own, from $TEST_SEED
 *	qcow2-matrix seed=SEED		one run again; with MATRIX_KEEP=1 its files stay
 *
 * MATRIX_FORMAT: qcow2 if it is not set; other: any other format; qcow, vmdk, vhd.
 *
 * A run: choose and make a disk (matrix-shape.c); let qemu-img say what is in it; then batches of operations of one
 * or many coroutines, on ranges that may overlap; reopening now and then.  At the end our reads and extents agree
 * with the model, qemu-img compare finds no difference, qemu-img check nothing at all, no leak either, and the
 * snapshot and every backing file are what they were.
 *
 * Where operations of one batch overlap, a byte may afterwards be what any of them made it, and is then held to that.
 */
#include <stdarg.h>
#include <stdio.h>

#include "matrix-shape.h"

#define BATCH_MAX 16
#define LOG_LINES 400

enum kind { READ, WRITE, ZERO, TRIM, FLUSH };

struct op {
	enum kind kind;
	uint64_t off, len;
	unsigned flags;
	uint8_t *buf;
	struct iovec vec[4];
	unsigned nr_vec;
	int result;
	struct run *run;
};

struct run {
	struct shape s;
	struct testenv t;
	struct td_image *im;
	uint8_t *model, *got;
	uint64_t size;
	struct op op[BATCH_MAX];
	unsigned nr;
	unsigned long ops;
	char (*log)[96];
	unsigned nr_log;
};

/* ---- saying what happened ---- */

static void TD_PRINTF(2, 3) note(struct run *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(m->log[m->nr_log++ % LOG_LINES], sizeof(m->log[0]), fmt, ap);
	va_end(ap);
}

static int TD_PRINTF(2, 3) wrong(struct run *m, const char *fmt, ...)
{
	va_list ap;
	unsigned first = m->nr_log > LOG_LINES ? m->nr_log - LOG_LINES : 0;

	for (unsigned i = first; i < m->nr_log; i++)
		printf("  %s\n", m->log[i % LOG_LINES]);
	va_start(ap, fmt);
	(void)vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	return -EIO;
}

/* ---- operations ---- */

static int op_run(void *arg)
{
	struct op *o = arg;
	struct td_image *im = o->run->im;
	struct td_iov iov = { .vec = o->vec, .nr = o->nr_vec, .len = o->len };

	switch (o->kind) {
	case READ:
		o->result = td_image_preadv(im, o->off, &iov, o->flags);
		break;
	case WRITE:
		o->result = td_image_pwritev(im, o->off, &iov, o->flags);
		break;
	case ZERO:
		o->result = td_image_zero(im, o->off, o->len, o->flags);
		break;
	case TRIM:
		o->result = td_image_trim(im, o->off, o->len);
		break;
	case FLUSH:
		o->result = td_image_flush(im);
		break;
	}
	return o->result;
}

static int batch_co(void *arg)
{
	struct run *m = arg;
	struct td_join j = { 0 };

	for (unsigned i = 0; i < m->nr; i++)
		td_join_start(&j, op_run, &m->op[i]);
	return td_join_wait(&j);
}

static void fill(struct run *m, uint8_t *buf, uint64_t len)
{
	uint64_t x = test_random(&m->s.rnd);
	uint64_t again = shape_chance(&m->s, 50) ? 200 : UINT64_MAX; /* so that it can be compressed */

	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t word = x * (i % again + 1) ^ x >> 21;

		memcpy(buf + i, &word, TD_MIN(len - i, 8u));
	}
}

/* Up to four pieces of odd lengths. */
static void cut(struct run *m, struct op *o)
{
	uint64_t at = 0;

	o->nr_vec = 0;
	while (at < o->len && o->nr_vec < TD_NELEMS(o->vec)) {
		uint64_t n = o->len - at;

		if (o->nr_vec + 1 < TD_NELEMS(o->vec) && shape_chance(&m->s, 40))
			n = 1 + shape_below(&m->s, n);
		o->vec[o->nr_vec++] = (struct iovec){ .iov_base = o->buf + at, .iov_len = n };
		at += n;
	}
}

/* A range within [lo, hi): a few bytes, about a cluster, or much; aligned to something or to nothing. */
static void choose_range(struct run *m, uint64_t lo, uint64_t hi, struct op *o)
{
	struct shape *s = &m->s;
	uint64_t cluster = 1ull << shape_top(s)->cluster_bits, room;
	static const unsigned aligns[] = { 1, 1, 512, 4096, 0 }; /* 0: a cluster */
	uint64_t align = aligns[shape_below(s, TD_NELEMS(aligns))];

	if (align == 0)
		align = cluster;
	o->off = lo + shape_below(s, hi - lo);
	o->off = TD_MAX(td_align_down(o->off, align), lo);
	room = hi - o->off;
	switch (shape_below(s, 4)) {
	case 0:
		o->len = 1 + shape_below(s, TD_MIN(room, 600u));
		break;
	case 1:
		o->len = 1 + shape_below(s, TD_MIN(room, 2 * cluster));
		break;
	case 2:
		o->len = 1 + shape_below(s, TD_MIN(room, 20 * cluster));
		break;
	default:
		o->len = 1 + shape_below(s, room);
		break;
	}
	o->len = TD_MIN(td_align_up(o->len, align), room);
	o->len = TD_MIN(o->len, 3ull << 19);
}

static bool whole_clusters(struct run *m, const struct op *o)
{
	uint64_t mask = (1ull << shape_top(&m->s)->cluster_bits) - 1;

	return (o->off & mask) == 0 && (((o->off + o->len) & mask) == 0 || o->off + o->len == m->size);
}

static int choose_op(struct run *m, struct op *o, uint64_t lo, uint64_t hi)
{
	static const enum kind kinds[] = { READ,  READ, READ, WRITE, WRITE, WRITE,
					   WRITE, ZERO, ZERO, TRIM,  FLUSH };
	static const char *const names[] = { "read", "write", "zero", "trim", "flush" };

	*o = (struct op){ .run = m, .kind = kinds[shape_below(&m->s, TD_NELEMS(kinds))] };
	choose_range(m, lo, hi, o);
	if (o->kind == READ || o->kind == WRITE) {
		o->buf = malloc(o->len);
		if (!o->buf)
			return -ENOMEM;
		if (o->kind == WRITE)
			fill(m, o->buf, o->len);
		cut(m, o);
	}
	if ((o->kind == WRITE || o->kind == ZERO) && shape_chance(&m->s, 10))
		o->flags |= TD_FUA;
	if (o->kind == WRITE && m->s.packs && whole_clusters(m, o) && shape_chance(&m->s, 60))
		o->flags |= TD_COMPRESS;
	if (o->kind == ZERO && shape_chance(&m->s, 50))
		o->flags |= TD_MAY_UNMAP;
	if (o->kind == ZERO && shape_chance(&m->s, 10))
		o->flags |= TD_FAST;
	note(m, "%s %#llx+%#llx flags %x", names[o->kind], (unsigned long long)o->off,
	     (unsigned long long)o->len, o->flags);
	return 0;
}

/* ---- the model ---- */

static bool changes(const struct op *o)
{
	return o->kind == WRITE || o->kind == ZERO || o->kind == TRIM;
}

static bool covers(const struct op *o, uint64_t at)
{
	return at >= o->off && at - o->off < o->len;
}

/* May the byte at `at` be `value`, seen by a read in the batch (during) or after it? */
static bool allowed(const struct run *m, uint64_t at, uint8_t value, bool during)
{
	bool replaced = false, trimmed = false;

	for (unsigned i = 0; i < m->nr; i++) {
		const struct op *o = &m->op[i];

		if (!changes(o) || !covers(o, at))
			continue;
		if (o->kind == WRITE && o->buf[at - o->off] == value)
			return true;
		if (o->kind != WRITE && value == 0)
			return true;
		replaced |= o->kind != TRIM;
		trimmed |= o->kind == TRIM;
	}
	/* A trim alone may leave what was there. */
	return (during || !replaced || (trimmed && !replaced)) && m->model[at] == value;
}

static int check_reads(struct run *m)
{
	for (unsigned i = 0; i < m->nr; i++) {
		struct op *o = &m->op[i];

		for (uint64_t n = 0; o->kind == READ && n < o->len; n++) {
			if (!allowed(m, o->off + n, o->buf[n], true))
				return wrong(
					m,
					"read %#llx+%#llx: byte %#llx is %02x; before the batch it was %02x",
					(unsigned long long)o->off, (unsigned long long)o->len,
					(unsigned long long)(o->off + n), o->buf[n], m->model[o->off + n]);
		}
	}
	return 0;
}

static bool overlapping(const struct run *m)
{
	for (unsigned i = 0; i < m->nr; i++) {
		for (unsigned j = i + 1; j < m->nr; j++) {
			const struct op *a = &m->op[i], *b = &m->op[j];

			if (changes(a) && changes(b) && td_overlap(a->off, a->len, b->off, b->len))
				return true;
		}
	}
	return false;
}

static bool trims(const struct run *m)
{
	for (unsigned i = 0; i < m->nr; i++) {
		if (m->op[i].kind == TRIM)
			return true;
	}
	return false;
}

/* Nothing overlaps: there is one answer. */
static void apply(struct run *m)
{
	for (unsigned i = 0; i < m->nr; i++) {
		const struct op *o = &m->op[i];

		if (o->kind == WRITE)
			memcpy(m->model + o->off, o->buf, o->len);
		if (o->kind == ZERO)
			memset(m->model + o->off, 0, o->len);
	}
}

/* Look what it became, and whether it may be that. */
static int adopt(struct run *m)
{
	int r;

	for (unsigned i = 0; i < m->nr; i++) {
		const struct op *o = &m->op[i];

		if (!changes(o))
			continue;
		r = test_read(&m->t, m->im, o->off, m->got + o->off, o->len, 0);
		if (r < 0)
			return wrong(m, "read back: %s", strerror(-r));
		for (uint64_t at = o->off; at < o->off + o->len; at++) {
			if (!allowed(m, at, m->got[at], false))
				return wrong(m, "byte %#llx became %02x; it was %02x", (unsigned long long)at,
					     m->got[at], m->model[at]);
		}
	}
	for (unsigned i = 0; i < m->nr; i++) {
		if (changes(&m->op[i]))
			memcpy(m->model + m->op[i].off, m->got + m->op[i].off, m->op[i].len);
	}
	return 0;
}

static int check_results(struct run *m)
{
	for (unsigned i = 0; i < m->nr; i++) {
		struct op *o = &m->op[i];

		/* A fast zero that is not to be had: qcow2 leaves all as it was, others have done some of it. */
		if (o->kind == ZERO && (o->flags & TD_FAST) && o->result == -ENOTSUP)
			o->kind = m->s.format ? TRIM : FLUSH;
		else if (o->result < 0)
			return wrong(m, "operation %u of the batch: %s", i, strerror(-o->result));
	}
	return 0;
}

static int run_batch(struct run *m)
{
	int r;

	td_ignore(testenv_run(&m->t, batch_co, m)); /* each operation has its own result */
	m->ops += m->nr;
	r = check_results(m);
	if (r == 0)
		r = check_reads(m);
	if (r < 0)
		return r;
	if (overlapping(m) || trims(m) || shape_chance(&m->s, 20))
		return adopt(m);
	apply(m);
	return 0;
}

static void drop_batch(struct run *m)
{
	for (unsigned i = 0; i < m->nr; i++)
		free(m->op[i].buf);
	m->nr = 0;
}

/* ---- steps ---- */

/* One; or many in slices that meet inside clusters; or many on top of each other. */
static int step_batch(struct run *m)
{
	unsigned nr = shape_chance(&m->s, 50) ? 1 : 2 + (unsigned)shape_below(&m->s, BATCH_MAX - 1);
	bool apart = shape_chance(&m->s, 50);
	uint64_t slice = m->size / nr, lo = 0, hi = m->size;
	int r = 0;

	nr = TD_MIN(nr, (unsigned)BATCH_MAX);
	if (nr > 1 && !apart) {
		lo = shape_below(&m->s, m->size);
		hi = lo + 1 +
		     shape_below(&m->s, TD_MIN(m->size - lo, 3ull << shape_top(&m->s)->cluster_bits));
		hi = TD_MIN(hi, m->size);
	}
	if (nr > 1)
		note(m, "batch of %u", nr);
	for (m->nr = 0; r == 0 && m->nr < nr; m->nr++) {
		if (nr > 1 && apart && slice > 0) {
			lo = m->nr * slice;
			hi = lo + slice;
		}
		r = choose_op(m, &m->op[m->nr], lo, hi);
	}
	if (r == 0)
		r = run_batch(m);
	drop_batch(m);
	return r;
}

static int open_disk(struct run *m)
{
	int r = test_open(&m->t, &m->im, 0, "%s:%s", m->s.spec, testenv_path(&m->t, shape_top(&m->s)->name));

	if (r < 0) {
		m->im = NULL;
		return wrong(m, "open: %s: %s", strerror(-r), m->t.err.msg);
	}
	return m->im->size == m->size ? 0
				      : wrong(m, "the size is %llu, not %llu",
					      (unsigned long long)m->im->size, (unsigned long long)m->size);
}

static int close_disk(struct run *m)
{
	int r = m->im ? test_close(&m->t, m->im) : 0;

	m->im = NULL;
	return r < 0 ? wrong(m, "close: %s", strerror(-r)) : 0;
}

static int qemu_check(struct run *m)
{
	if (m->s.format)
		return shape_check_other(&m->s, &m->t) < 0 ? wrong(m, "our check does not like it") : 0;
	if (shape_sh(m->t.dir, "qemu-img check %s", shape_operand(&m->s, shape_top(&m->s))) < 0)
		return wrong(m, "qemu-img check does not like it");
	return 0;
}

/* What is free holds old bytes from here on. */
static int scribble(struct run *m)
{
	unsigned count = 0;
	int r = m->s.format ? 0 : shape_scribble(&m->s, &m->t, &count);

	note(m, "noise in %u free clusters", count);
	return r;
}

static int step_reopen(struct run *m)
{
	int r = close_disk(m);

	note(m, "reopen");
	if (r == 0 && shape_chance(&m->s, 30))
		r = qemu_check(m);
	if (r == 0 && shape_chance(&m->s, 50))
		r = scribble(m);
	return r == 0 ? open_disk(m) : r;
}

/* Longer: the new part reads as zeros, whatever a longer backing file has there. */
static int step_grow(struct run *m)
{
	uint64_t size = td_align_up(m->size + 1 + shape_below(&m->s, m->size / 4 + 4096), 512);
	uint8_t *model;
	int r;

	if (!m->im->drv->resize)
		return 0;
	m->s.may_leak = true; /* vhd: tables that moved to the end leave room where they were */
	note(m, "resize %#llx to %#llx", (unsigned long long)m->size, (unsigned long long)size);
	r = test_resize(&m->t, m->im, size);
	if (r < 0)
		return wrong(m, "resize to %llu: %s: %s", (unsigned long long)size, strerror(-r),
			     m->t.err.msg);
	model = realloc(m->model, size);
	if (!model)
		return -ENOMEM;
	m->model = model;
	memset(m->model + m->size, 0, size - m->size);
	free(m->got);
	m->got = malloc(size);
	m->size = size;
	return m->got ? 0 : -ENOMEM;
}

static bool is_zero(const uint8_t *p, uint64_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Extents cover the disk; what they call zeros reads as zeros. */
static int check_extents(struct run *m)
{
	for (uint64_t off = 0; off < m->size;) {
		struct td_extent e;
		int r = test_extent(&m->t, m->im, off, m->size - off, &e);

		if (r < 0 || e.len == 0 || e.len > m->size - off || e.kind == TD_EXTENT_BACKING)
			return wrong(m, "extent at %#llx: %d, kind %d, %llu bytes", (unsigned long long)off,
				     r, e.kind, (unsigned long long)e.len);
		if (e.kind == TD_EXTENT_ZERO && !is_zero(m->model + off, e.len))
			return wrong(m, "extent at %#llx+%#llx claims zeros", (unsigned long long)off,
				     (unsigned long long)e.len);
		off += e.len;
	}
	return 0;
}

static int check_all_bytes(struct run *m)
{
	int r = test_read(&m->t, m->im, 0, m->got, m->size, 0);

	if (r < 0)
		return wrong(m, "read all: %s", strerror(-r));
	for (uint64_t i = 0; i < m->size; i++) {
		if (m->got[i] != m->model[i])
			return wrong(m, "at the end byte %#llx is %02x, not %02x", (unsigned long long)i,
				     m->got[i], m->model[i]);
	}
	return 0;
}

/* ---- a run ---- */

static int load_model(struct run *m)
{
	struct layer *top = shape_top(&m->s);
	FILE *f;
	int r;

	m->size = td_align_up(top->size, 512);
	m->model = malloc(m->size);
	m->got = malloc(m->size);
	m->log = calloc(LOG_LINES, sizeof(m->log[0]));
	if (!m->model || !m->got || !m->log)
		return -ENOMEM;
	r = m->s.format
		    ? 0
		    : shape_sh(m->t.dir, "qemu-img convert -O raw %s model.raw", shape_operand(&m->s, top));
	if (r < 0)
		return r;
	f = fopen(testenv_path(&m->t, "model.raw"), "r");
	if (!f)
		return -errno;
	r = fread(m->model, 1, m->size, f) == m->size && fgetc(f) == EOF ? 0 : -EIO;
	(void)fclose(f);
	return r < 0 ? wrong(m, "qemu-img's idea of the size is another") : 0;
}

static int keep_backing_files(struct run *m)
{
	int r = shape_sh(m->t.dir, "mkdir copy");

	for (unsigned i = 0; r == 0 && i + 1 < m->s.nr; i++)
		r = shape_sh(m->t.dir, "cp --sparse=always %s* copy", m->s.layer[i].name);
	return r;
}

static int check_backing_files(struct run *m)
{
	for (unsigned i = 0; i + 1 < m->s.nr; i++) {
		if (shape_sh(m->t.dir, "for f in %s*; do cmp $f copy/$f || exit 1; done",
			     m->s.layer[i].name) < 0)
			return wrong(m, "a backing file was written to");
	}
	return 0;
}

static int check_snapshot(struct run *m)
{
	if (!m->s.snapshot)
		return 0;
	if (shape_sh(m->t.dir,
		     "qemu-img convert -l snapshot.name=before -O raw %s now.raw && cmp snapshot.raw now.raw",
		     shape_operand(&m->s, shape_top(&m->s))) < 0)
		return wrong(m, "the snapshot is not what it was");
	return 0;
}

static int compare_by_qemu(struct run *m)
{
	const char *image = shape_image_opts(&m->s);
	int r = shape_sh(m->t.dir,
			 "qemu-img compare -s %s driver=raw,file.filename=model.raw || "
			 "qemu-img compare %s driver=raw,file.filename=model.raw",
			 image, image);
	return r < 0 ? wrong(m, "qemu-img compare finds a difference") : 0;
}

static int check_with_qemu(struct run *m)
{
	FILE *f = fopen(testenv_path(&m->t, "model.raw"), "w");
	bool ok;
	int r;

	if (!f)
		return -errno;
	ok = fwrite(m->model, 1, m->size, f) == m->size;
	if (fclose(f) != 0 || !ok)
		return -EIO;
	r = qemu_check(m);
	if (r == 0 && (!m->s.format || m->s.qemu_reads))
		r = compare_by_qemu(m);
	/* What qemu-img makes ends with a whole cluster. */
	if (r == 0 && shape_top(&m->s)->data_raw && !m->s.crypt &&
	    shape_sh(m->t.dir, "cmp -n %zu data model.raw", m->size) < 0)
		r = wrong(m, "the raw data file is not the disk");
	return r;
}

static int work(struct run *m)
{
	unsigned steps = 20 + (unsigned)shape_below(&m->s, 60);
	int r = shape_chance(&m->s, 50) ? scribble(m) : 0;

	if (r == 0)
		r = open_disk(m);
	for (unsigned i = 0; r == 0 && i < steps; i++) {
		if (shape_chance(&m->s, 6))
			r = step_reopen(m);
		else if (!m->s.snapshot && shape_chance(&m->s, 2))
			r = step_grow(m);
		else if (shape_chance(&m->s, 3))
			r = check_extents(m);
		else
			r = step_batch(m);
	}
	if (r == 0)
		r = check_extents(m);
	if (r == 0)
		r = check_all_bytes(m);
	return r;
}

static int run_in(struct run *m)
{
	int r = m->s.format ? shape_make_other(&m->s, &m->t) : shape_make(&m->s, &m->t);

	if (r == 0)
		r = load_model(m);
	if (r == 0)
		r = keep_backing_files(m);
	if (r == 0)
		r = work(m);
	if (r < 0)
		return r;
	r = close_disk(m);
	if (r == 0)
		r = check_with_qemu(m);
	if (r == 0)
		r = check_snapshot(m);
	if (r == 0)
		r = check_backing_files(m);
	/* And again by us, from the disk. */
	if (r == 0)
		r = open_disk(m);
	if (r == 0)
		r = check_all_bytes(m);
	return r;
}

static int run_one(uint64_t seed, unsigned long *ops)
{
	const char *format = getenv("MATRIX_FORMAT");
	struct run *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	if (!format || strcmp(format, "qcow2") == 0)
		shape_choose(&m->s, seed);
	else
		shape_choose_other(&m->s, seed, format);
	r = testenv_open(&m->t, m->s.engine, m->s.base);
	if (r < 0)
		printf("engine %s: %s\n", m->s.engine, m->t.err.msg);
	if (r == 0)
		r = run_in(m);
	if (r < 0)
		printf("FAILED: %s\nagain: MATRIX_FORMAT=%s tests/driver/qcow2-matrix seed=%#llx\n",
		       m->s.text, format ? format : "qcow2", (unsigned long long)seed);
	if (m->im && test_close(&m->t, m->im) < 0 && r == 0)
		r = -EIO;
	if (r < 0 && getenv("MATRIX_KEEP"))
		printf("its files are in %s\n", m->t.dir);
	else
		testenv_close(&m->t);
	*ops += m->ops;
	free(m->model);
	free(m->got);
	free(m->log);
	free(m);
	return r;
}

int main(int argc, char **argv)
{
	unsigned runs = test_count("MATRIX_RUNS", 10), failed = 0;
	unsigned long ops = 0;
	uint64_t seed;

	if (system("command -v qemu-img >/dev/null && command -v qemu-io >/dev/null") != 0) {
		puts("skipped: qemu-img and qemu-io are not installed (Debian: qemu-utils)");
		return 77;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && strncmp(argv[1], "seed=", 5) == 0)
		return run_one(strtoull(argv[1] + 5, NULL, 0), &ops) < 0;
	if (argc > 1)
		runs = (unsigned)strtoul(argv[1], NULL, 0);
	seed = test_seed();
	for (unsigned i = 0; i < runs && failed < 3; i++)
		failed += run_one(test_random(&seed), &ops) < 0;
	printf("%u runs, %lu operations, %u failed\n", runs, ops, failed);
	return failed > 0;
}
