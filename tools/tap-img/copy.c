// SPDX-License-Identifier: BSD-2-Clause
/*
 * Copying a disk by several coroutines, which write in the order of the disk.  See copy.h.
 */
#include "copy.h"

#include <blktap/iov.h>

#include "zeros.h"

#define SECTOR 512u

/* A worker: its buffers, and the piece that it is at. */
struct job {
	struct copy *c;
	uint8_t *buf, *old; /* old: what the target reads now */
	struct piece p;
	int wrote; /* result of the half that writes */
};

/* The first failure is the one to tell; the others stop. */
static int failed(struct copy *c, int r, const char *what, const char *name, const struct piece *p)
{
	if (c->result < 0 || r >= 0)
		return r;
	c->result = r;
	return td_err_set(c->err, r, "%s: cannot be %s at bytes %llu to %llu: %s", name, what,
			  (unsigned long long)p->off, (unsigned long long)(p->off + p->len - 1),
			  strerror(-r));
}

/* ---- writing one piece to an image ---- */

enum kind { ZERO, SAME, DATA };

static int write_data(struct job *j, uint64_t at, uint64_t len)
{
	struct copy *c = j->c;
	struct iovec v;
	struct td_iov iov = td_iov_buf(&v, j->buf + at, len);
	int r = td_image_pwritev(c->target->im, j->p.off + at, &iov, c->compress ? TD_COMPRESS : 0);

	if (r == 0)
		c->written_bytes += len;
	return r;
}

static int write_zero(struct job *j, uint64_t at, uint64_t len)
{
	struct copy *c = j->c;

	c->zero_bytes += len;
	return c->target->reads_zero ? 0 : target_zero(c->target, j->p.off + at, len);
}

/* Over a backing file: clusters that read as they should already are left out of the target. */
static uint64_t same_run(const struct job *j, uint64_t at, bool *ret_same)
{
	uint64_t unit = j->c->plan.unit, n = 0;

	for (uint64_t len; at + n < j->p.len; n += len) {
		bool same;

		len = TD_MIN(unit, j->p.len - at - n);
		same = memcmp(j->buf + at + n, j->old + at + n, len) == 0;
		if (n == 0)
			*ret_same = same;
		else if (same != *ret_same)
			break;
	}
	return n;
}

static uint64_t run_at(const struct job *j, uint64_t at, enum kind *ret)
{
	const struct copy *c = j->c;
	uint64_t len = j->p.len - at;
	bool same = false, zero;

	*ret = DATA;
	if (c->min_zeros == 0)
		return len;
	if (c->over_backing)
		len = same_run(j, at, &same);
	if (same) {
		*ret = SAME;
		return len;
	}
	len = zeros_run(j->buf + at, len, c->plan.unit, c->min_zeros, &zero);
	*ret = zero ? ZERO : DATA;
	return len;
}

static int write_runs(struct job *j)
{
	struct copy *c = j->c;
	enum kind kind;
	int r = 0;

	/* In one go: the turn was passed on, and the next run would come behind the next piece. */
	if (c->target->im->limits.once)
		return write_data(j, 0, j->p.len);
	if (c->over_backing && c->min_zeros > 0)
		r = td_image_pread(c->target->im, j->p.off, j->old, j->p.len, 0);
	for (uint64_t at = 0, len; r == 0 && at < j->p.len; at += len) {
		len = run_at(j, at, &kind);
		if (kind == SAME)
			c->same_bytes += len;
		else
			r = kind == ZERO ? write_zero(j, at, len) : write_data(j, at, len);
	}
	return r;
}

/*
 * Passing the turn on before writing is enough for an order: whoever comes next runs only when this write has queued
 * what it could.
 */
static int write_image(struct job *j)
{
	struct copy *c = j->c;

	if (!c->any_order || c->target->im->limits.once) {
		turns_wait(&c->writing, j->p.number);
		turns_pass(&c->writing);
	}
	if (c->result < 0)
		return 0;
	return failed(c, j->p.zero ? write_zero(j, 0, j->p.len) : write_runs(j), "written",
		      target_name(c->target), &j->p);
}

/* Every byte, one piece after the other. */
static int write_stream(struct job *j)
{
	struct copy *c = j->c;
	int r = 0;

	turns_wait(&c->writing, j->p.number);
	if (c->result == 0)
		r = stream_out_write(c->env->pool, j->p.zero ? NULL : j->buf, j->p.len);
	turns_pass(&c->writing);
	if (r == 0 && j->p.zero)
		c->zero_bytes += j->p.len;
	else if (r == 0)
		c->written_bytes += j->p.len;
	return failed(c, r, "written", target_name(c->target), &j->p);
}

static int write_piece(void *arg)
{
	struct job *j = arg;

	return j->c->target->im ? write_image(j) : write_stream(j);
}

/* ---- reading ---- */

static int read_piece(struct job *j)
{
	struct copy *c = j->c;
	struct iovec v;
	struct td_iov iov = td_iov_buf(&v, j->buf, j->p.len);
	int r;

	if (j->p.zero || j->p.filled)
		return 0;
	rate_wait(&c->rate, j->p.len);
	if (c->result < 0)
		return 0;
	r = source_read(c->source, j->p.off, &iov);
	if (r == 0)
		c->read_bytes += j->p.len;
	return failed(c, r, "read", source_part_at(c->source, j->p.off)->im->name, &j->p);
}

/*
 * A stream without a known end: the target grows ahead of it, to twice its size each time, and is cut at the end.  No
 * piece is on its way meanwhile.
 */
static int grow_target(struct copy *c, uint64_t end)
{
	struct td_image *im = c->target->im;
	uint64_t size;

	if (c->size != UINT64_MAX || !im || end <= im->size)
		return 0;
	size = TD_MAX(td_align_up(end, 64u << 20), TD_MIN(2 * im->size, im->size + (64ull << 30)));
	while (c->busy > 0)
		td_waitq_wait(&c->idle);
	return td_image_resize(im, size, 0, c->err);
}

static int stream_ended(const struct copy *c, uint64_t size)
{
	if (c->size == UINT64_MAX || size == c->size)
		return 0;
	return td_err_set(c->err, -EIO, "standard input ended after %llu bytes of %llu",
			  (unsigned long long)size, (unsigned long long)c->size);
}

static int stream_is_over(struct copy *c)
{
	char more;

	if (c->size == UINT64_MAX || stream_in_read(c->in, &more, 1) <= 0)
		return 0;
	return td_err_set(c->err, -EFBIG, "standard input holds more than the %llu bytes that --size says",
			  (unsigned long long)c->size);
}

/* The next piece of a stream, read while the plan is held: it has no other order. */
static int next_of_stream(struct job *j)
{
	struct copy *c = j->c;
	struct plan *plan = &c->plan;
	uint64_t want = TD_MIN(plan->chunk, c->size - plan->at);
	int64_t n;
	int r;

	if (want == 0)
		return stream_is_over(c);
	rate_wait(&c->rate, want);
	n = stream_in_read(c->in, j->buf, want);
	if (n < 0)
		return c->result < 0 ? c->result
				     : td_err_set(c->err, (int)n, "standard input: %s", strerror((int)-n));
	if (n == 0)
		return stream_ended(c, plan->at);
	c->read_bytes += (uint64_t)n;
	/* A disk has whole sectors. */
	memset(j->buf + n, 0, td_align_up((uint64_t)n, SECTOR) - (uint64_t)n);
	j->p = (struct piece){ .number = plan->number, .off = plan->at, .filled = true };
	j->p.len = td_align_up((uint64_t)n, SECTOR);
	r = grow_target(c, plan->at + j->p.len);
	if (r < 0)
		return r;
	plan->at += (uint64_t)n;
	plan->number++;
	return 1;
}

static int next_piece(struct job *j)
{
	struct copy *c = j->c;
	int r;

	td_co_guard(&c->plan_lock);
	if (c->result < 0)
		return c->result;
	if (c->in)
		r = next_of_stream(j);
	else
		r = plan_next(&c->plan, &j->p);
	if (r < 0 && c->result == 0) {
		c->result = r;
		if (!c->in)
			td_err_set(c->err, r, "%s: cannot tell what is at byte %llu: %s",
				   source_part_at(c->source, c->plan.at)->im->name,
				   (unsigned long long)c->plan.at, strerror(-r));
	}
	c->busy += r > 0;
	return r;
}

/* ---- the workers ---- */

static void do_piece(struct job *j)
{
	struct copy *c = j->c;
	struct td_join both = { 0 };
	int r = read_piece(j);

	if (r < 0 && c->result == 0)
		c->result = r;
	/* Also after a failure: others wait for this piece's turns. */
	td_join_start(&both, write_piece, j);
	r = digest_add(&c->digest, j->p.number, j->p.zero ? NULL : j->buf, j->p.len);
	if (r < 0 && c->result == 0) {
		c->result = r;
		td_err_set(c->err, r, "the digest cannot be computed: %s", strerror(-r));
	}
	td_ignore(td_join_wait(&both)); /* it is in c->result */
	if (c->result == 0)
		progress_add(&c->progress, j->p.len);
	if (--c->busy == 0)
		td_waitq_wake_all(&c->idle);
}

static int worker(void *arg)
{
	struct copy *c = arg;
	struct job j = { .c = c, .buf = td_buf_alloc(c->plan.chunk) };

	if (c->over_backing)
		j.old = td_buf_alloc(c->plan.chunk);
	if (!j.buf || (c->over_backing && !j.old))
		c->result = c->result < 0 ? c->result : -ENOMEM;
	while (c->result == 0 && next_piece(&j) > 0)
		do_piece(&j);
	td_buf_free(j.buf, c->plan.chunk);
	td_buf_free(j.old, c->plan.chunk);
	return c->result;
}

static void set_up_plan(struct copy *c)
{
	const struct td_image *im = c->target->im;
	uint64_t unit = 4096;

	if (im && im->limits.cluster_size)
		unit = im->limits.cluster_size;
	else if (im && c->min_zeros > 0 && c->min_zeros < unit)
		unit = TD_MAX((uint64_t)SECTOR, td_align_down(c->min_zeros, SECTOR));
	while (!td_is_pow2(unit))
		unit &= unit - 1;
	c->plan = (struct plan){ .source = c->source, .unit = unit };
	c->plan.chunk = TD_MAX(unit, (uint64_t)COPY_CHUNK);
	c->plan.max_zero = c->digest.ctx || !im ? 64u << 20 : 1u << 30;
	c->plan.all_data = c->min_zeros == 0 && im;
}

/* Better known before the stream has gone by than after it. */
static int try_cutting(struct copy *c)
{
	struct td_image *im = c->target->im;
	int r;

	if (c->size != UINT64_MAX || !im)
		return 0;
	r = td_image_resize(im, im->size + SECTOR, 0, c->err);
	if (r == 0)
		r = td_image_resize(im, im->size - SECTOR, TD_RESIZE_SHRINK, c->err);
	return r < 0 ? td_err_set(c->err, r, "%s: its size cannot follow the stream's: give --size (%s)",
				  im->name, c->err->msg)
		     : 0;
}

/* The stream's end is the disk's. */
static int cut_target(struct copy *c)
{
	uint64_t end = td_align_up(c->plan.at, SECTOR);

	if (c->size != UINT64_MAX || !c->target->im || c->target->im->size == end)
		return 0;
	return td_image_resize(c->target->im, end, TD_RESIZE_SHRINK, c->err);
}

int copy_run(struct copy *c, struct td_err *ret_err)
{
	struct td_join all = { 0 };
	int r;

	c->err = ret_err;
	set_up_plan(c);
	r = try_cutting(c);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < c->workers; i++)
		td_join_start(&all, worker, c);
	r = td_join_wait(&all);
	if (r == 0)
		r = cut_target(c);
	if (r == -ECANCELED)
		return td_err_set(ret_err, r, "interrupted");
	return r;
}

void copy_cancel(struct copy *c)
{
	if (c->result < 0)
		return;
	c->result = -ECANCELED;
	if (c->in)
		stream_in_cancel(c->in);
}
