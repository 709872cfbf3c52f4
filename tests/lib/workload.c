// SPDX-License-Identifier: BSD-2-Clause
#include "workload.h"

#include "model.h"
#include "testenv.h"

/* Memory on a page, a sector behind one, or nowhere in particular: all that a guest may come with. */
struct memory {
	char *whole, *buf;
	size_t size;
};

static struct memory take_memory(struct workload *w, uint64_t nr)
{
	static const size_t skip[] = { 0, 0, MODEL_SECTOR, 8 };
	struct memory m = { .size = (nr + 1) * MODEL_SECTOR };

	m.whole = td_buf_alloc(m.size);
	if (!m.whole)
		abort();
	m.buf = m.whole + skip[test_random(&w->random) % TD_NELEMS(skip)];
	return m;
}

static int step_write(struct workload *w, uint64_t sector, uint64_t nr, unsigned flags)
{
	struct memory m = take_memory(w, nr);
	uint32_t number = model_begin(w->model, MODEL_WRITE, sector, nr, m.buf);
	int r = td_image_pwrite(w->im, sector * MODEL_SECTOR, m.buf, nr * MODEL_SECTOR, flags);

	model_end(w->model, number, r == 0, flags & TD_FUA);
	w->failed += r < 0;
	td_buf_free(m.whole, m.size);
	return 0;
}

static int step_read(struct workload *w, uint64_t sector, uint64_t nr)
{
	struct memory m = take_memory(w, nr);
	uint64_t begun = model_read_begin(w->model);
	int r = td_image_pread(w->im, sector * MODEL_SECTOR, m.buf, nr * MODEL_SECTOR, 0);
	bool failed = r < 0;

	w->failed += failed;
	r = failed ? 0 : model_check_live(w->model, begun, sector, nr, m.buf);
	model_read_end(w->model);
	td_buf_free(m.whole, m.size);
	return r;
}

static int step_clear(struct workload *w, enum model_kind kind, uint64_t sector, uint64_t nr, unsigned flags)
{
	uint32_t number = model_begin(w->model, kind, sector, nr, NULL);
	uint64_t off = sector * MODEL_SECTOR, len = nr * MODEL_SECTOR;
	int r = kind == MODEL_TRIM ? td_image_trim(w->im, off, len) : td_image_zero(w->im, off, len, flags);

	model_end(w->model, number, r == 0, flags & TD_FUA);
	w->failed += r < 0 && r != -ENOTSUP;
	return 0;
}

static int step_flush(struct workload *w)
{
	uint64_t flush = model_flush_begin(w->model);
	int r = td_image_flush(w->im);

	model_flush_end(w->model, flush, r == 0);
	w->failed += r < 0;
	return 0;
}

/* A request somewhere in [start, start + len). */
static int step(struct workload *w, uint64_t start, uint64_t len)
{
	uint64_t what = test_random(&w->random) % 16, at = test_random(&w->random) % len;
	uint64_t nr = 1 + test_random(&w->random) % TD_MIN(w->max_nr, len - at);
	unsigned fua = test_random(&w->random) % 4 == 0 ? TD_FUA : 0;

	if (what < 7)
		return step_write(w, start + at, nr, fua);
	if (what < 10)
		return step_read(w, start + at, nr);
	if (what < 12)
		return step_clear(w, MODEL_ZERO, start + at, nr, fua | (what & 1 ? TD_MAY_UNMAP : 0));
	if (what < 13)
		return step_clear(w, MODEL_TRIM, start + at, nr, 0);
	return step_flush(w);
}

struct worker {
	struct workload *w;
	uint64_t start, len;
};

static int worker(void *arg)
{
	struct worker *me = arg;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < me->w->steps; i++)
		r = step(me->w, me->start, me->len);
	return r;
}

int workload_run(struct workload *w)
{
	struct worker workers[WORKLOAD_WORKERS];
	struct td_join join = { 0 };
	unsigned nr = TD_MIN(w->workers, WORKLOAD_WORKERS);

	for (unsigned i = 0; i < nr; i++) {
		uint64_t start = w->apart ? w->sectors * i / nr : 0;
		uint64_t stop = w->apart ? w->sectors * (i + 1) / nr : w->sectors;

		workers[i] = (struct worker){ w, start, stop - start };
		td_join_start(&join, worker, &workers[i]);
	}
	return td_join_wait(&join);
}

int workload_compare(struct workload *w, bool crashed)
{
	char *buf = malloc(w->sectors * MODEL_SECTOR);
	uint64_t begun = model_read_begin(w->model);
	int r = td_image_pread(w->im, 0, buf, w->sectors * MODEL_SECTOR, 0);

	if (r == 0 && crashed)
		r = model_check_crash(w->model, 0, w->sectors, buf);
	else if (r == 0)
		r = model_check_live(w->model, begun, 0, w->sectors, buf);
	model_read_end(w->model);
	free(buf);
	return r;
}
