// SPDX-License-Identifier: BSD-2-Clause
/*
 * One request, from its slot to its answer.
 *
 *	begin		decode and check; map the pages; one iovec for those that lie next to each other; submit
 *	done		unmap; mark in the journal; write the response
 *
 * A barrier (and a flush that carries data, which some frontends send) waits until everything before it has been
 * answered, flushes, writes with FUA; meanwhile nothing is begun.
 */
#include "ring-private.h"
#include <blktap/export.h>

/* ---- the answer ---- */

static int16_t status_of(int result)
{
	if (result == 0)
		return TD_BLKIF_OKAY;
	return result == -ENOTSUP ? TD_BLKIF_EOPNOTSUPP : TD_BLKIF_ERROR;
}

static void put_big(struct ring_job *job)
{
	if (!job->big)
		return;
	SLIST_INSERT_HEAD(&job->r->bigs, job->big, link);
	job->big = NULL;
}

static void release(struct ring_job *job)
{
	if (job->nr_pages > 0)
		ring_grants_put(&job->r->grants, job->page, job->kept, job->nr_pages);
	job->nr_pages = 0;
	put_big(job);
}

static void answer(struct ring_job *job, int16_t status)
{
	struct ring *r = job->r;
	struct td_blkif_rsp rsp = { .id = job->id, .op = job->op, .status = status };
	struct ring_slot slot;
	size_t len;

	release(job);
	if (status != TD_BLKIF_OKAY)
		r->stats.errors++;
	if (r->journal)
		ring_journal_answer(r->journal, job->entry, r->answered);
	len = td_blkif_encode_rsp(r->abi, &rsp, slot.bytes);
	ring_copy_out((char *)r->shared + td_blkif_slot_offset(r->abi, r->nr_slots, (uint32_t)r->answered),
		      slot.bytes, len);
	r->answered++;
	job->state = RING_JOB_ANSWERED;
	STAILQ_INSERT_TAIL(&r->answers, job, link);
}

/* Its entry stays in the journal: if the guest still waits when another process takes over, it is served there. */
static void let_drop(struct ring_job *job)
{
	release(job);
	job->state = RING_JOB_DROPPED;
}

static void count_bytes(const struct ring_job *job)
{
	struct td_export *e = job->r->export;

	if (e && job->req.op == TD_REQ_READ)
		e->bytes_out += job->req.iov.len;
	else if (e && job->req.op == TD_REQ_WRITE)
		e->bytes_in += job->req.iov.len;
}

static void finish(struct ring_job *job, int result)
{
	if (result == 0)
		count_bytes(job);
	if (job->r->stopping && (result == -ECANCELED || result == -ESHUTDOWN))
		let_drop(job);
	else
		answer(job, status_of(result));
}

/* ---- barriers ---- */

static void start_barrier(struct ring *r);

static void submit(struct ring_job *job)
{
	struct ring *r = job->r;

	job->state = RING_JOB_RUNNING;
	r->running++;
	td_vbd_submit(r->vbd, &job->req);
}

static void done(struct td_req *req, int result)
{
	struct ring_job *job = td_container_of(req, struct ring_job, req);
	struct ring *r = job->r;

	r->running--;
	finish(job, result);
	if (r->running == 0 && r->barrier)
		start_barrier(r);
}

static void barrier_done(struct td_req *req, int result)
{
	struct ring_job *job = td_container_of(req, struct ring_job, req);
	struct ring *r = job->r;

	r->running--;
	r->barrier = NULL;
	finish(job, result);
}

static void barrier_flushed(struct td_req *req, int result)
{
	struct ring_job *job = td_container_of(req, struct ring_job, req);

	if (result < 0 || job->nr_pages == 0) {
		barrier_done(req, result);
		return;
	}
	req->op = TD_REQ_WRITE;
	req->flags = TD_FUA;
	req->done = barrier_done;
	td_vbd_submit(job->r->vbd, req);
}

static void start_barrier(struct ring *r)
{
	struct ring_job *job = r->barrier;

	job->req.op = TD_REQ_FLUSH;
	job->req.flags = 0;
	job->req.len = 0; /* of a write the vbd takes it from the iovecs */
	job->req.done = barrier_flushed;
	submit(job);
}

static void begin_barrier(struct ring_job *job)
{
	struct ring *r = job->r;

	r->barrier = job;
	job->state = RING_JOB_WAITING;
	if (r->running == 0)
		start_barrier(r);
}

/* ---- pages ---- */

/* The job's iovecs from its pages; those that lie next to each other are one. */
static void gather(struct ring_job *job, struct iovec *iov, const struct td_blkif_seg *seg, uint64_t sectors)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < job->nr_pages; i++) {
		char *at = (char *)job->page[i] + (size_t)seg[i].first * TD_BLKIF_SECTOR;
		size_t len = (size_t)(seg[i].last - seg[i].first + 1) * TD_BLKIF_SECTOR;

		if (nr > 0 && (char *)iov[nr - 1].iov_base + iov[nr - 1].iov_len == at)
			iov[nr - 1].iov_len += len;
		else
			iov[nr++] = (struct iovec){ .iov_base = at, .iov_len = len };
	}
	job->req.iov = (struct td_iov){ .vec = iov, .nr = nr, .len = sectors * TD_BLKIF_SECTOR };
}

/* page and kept have room for nr. */
static int map(struct ring_job *job, const struct td_blkif_seg *seg, unsigned nr, bool writable)
{
	struct ring *r = job->r;
	uint32_t grefs[TD_BLKIF_MAX_SEGS];
	int err;

	for (unsigned i = 0; i < nr; i++)
		grefs[i] = seg[i].gref;
	err = ring_grants_get(&r->grants, grefs, nr, writable, job->page, job->kept);
	if (err < 0)
		return err;
	job->nr_pages = (uint16_t)nr;
	r->stats.segs += nr;
	return 0;
}

static struct ring_big *get_big(struct ring *r)
{
	struct ring_big *big = SLIST_FIRST(&r->bigs);

	if (!big)
		return malloc(sizeof(*big));
	SLIST_REMOVE_HEAD(&r->bigs, link);
	return big;
}

/* The segments that an indirect request names: its page is looked at once. */
static int read_segs(struct ring *r, const struct td_blkif_req *q, struct td_blkif_seg *segs)
{
	uint64_t copy[TD_BLKIF_MAX_SEGS];
	struct ring_grant *kept = NULL;
	void *page;
	int err = ring_grants_get(&r->grants, q->ipage, 1, false, &page, &kept);

	if (err < 0)
		return err;
	ring_copy_in(copy, page, q->nr_segs * sizeof(copy[0]));
	ring_grants_put(&r->grants, &page, &kept, 1);
	td_blkif_decode_segs(copy, q->nr_segs, segs);
	return 0;
}

/* ---- begin ---- */

static struct td_log_limit refusals; /* of all rings: the guests' doing */

static void refuse(struct ring_job *job, int status, const char *why)
{
	struct ring *r = job->r;

	if (td_log_allowed(&refusals))
		td_warn("%s: a request of operation %u refused: %s", r->name, job->op, why);
	answer(job, (int16_t)status);
}

static bool refused_write(struct ring_job *job)
{
	if (!td_vbd_read_only(job->r->vbd))
		return false;
	refuse(job, TD_BLKIF_ERROR, "the disk is read-only");
	return true;
}

/* Pages mapped, segments checked: read or write. */
static void transfer(struct ring_job *job, struct iovec *iov, const struct td_blkif_seg *seg, bool write,
		     uint64_t sector, uint64_t sectors)
{
	gather(job, iov, seg, sectors);
	job->req.op = write ? TD_REQ_WRITE : TD_REQ_READ;
	job->req.flags = 0;
	job->req.off = sector * TD_BLKIF_SECTOR;
	job->req.done = done;
}

static uint64_t sum(const struct td_blkif_req *q)
{
	uint64_t sectors = 0;

	for (unsigned i = 0; i < q->nr_segs; i++)
		sectors += q->seg[i].last - q->seg[i].first + 1u;
	return sectors;
}

static void begin_transfer(struct ring_job *job, const struct td_blkif_req *q)
{
	bool write = q->op != TD_BLKIF_READ;

	if (write && refused_write(job))
		return;
	job->page = job->own_page;
	job->kept = job->own_kept;
	if (map(job, q->seg, q->nr_segs, !write) < 0) {
		refuse(job, TD_BLKIF_ERROR, "a page that cannot be mapped");
		return;
	}
	transfer(job, job->iov, q->seg, write, q->sector, sum(q));
	if (q->op == TD_BLKIF_BARRIER || q->op == TD_BLKIF_FLUSH)
		begin_barrier(job);
	else
		submit(job);
}

static void begin_indirect(struct ring_job *job, const struct td_blkif_req *q)
{
	struct ring *r = job->r;
	bool write = q->inner == TD_BLKIF_WRITE;
	const char *why = "a page that cannot be mapped";
	struct td_blkif_seg *seg;
	uint64_t sectors;

	if (write && refused_write(job))
		return;
	job->big = get_big(r);
	if (!job->big) {
		refuse(job, TD_BLKIF_ERROR, "no memory for a large request");
		return;
	}
	seg = job->big->seg;
	job->page = job->big->page;
	job->kept = job->big->kept;
	if (read_segs(r, q, seg) < 0 ||
	    td_blkif_check_segs(seg, q->nr_segs, q->sector, td_vbd_size(r->vbd) / TD_BLKIF_SECTOR, &sectors,
				&why) != 0 ||
	    map(job, seg, q->nr_segs, !write) < 0) {
		refuse(job, TD_BLKIF_ERROR, why);
		return;
	}
	r->stats.indirect_segs += q->nr_segs;
	transfer(job, job->big->iov, seg, write, q->sector, sectors);
	submit(job);
}

static void begin_discard(struct ring_job *job, const struct td_blkif_req *q)
{
	struct ring *r = job->r;

	if (td_vbd_read_only(r->vbd) || td_vbd_limits(r->vbd)->trim_granularity == 0) {
		refuse(job, TD_BLKIF_EOPNOTSUPP, "this disk was not announced to discard");
		return;
	}
	job->req.op = TD_REQ_TRIM;
	job->req.flags = 0;
	job->req.off = q->sector * TD_BLKIF_SECTOR;
	job->req.len = q->nr_sectors * TD_BLKIF_SECTOR;
	job->req.done = done;
	submit(job);
}

static void begin_flush(struct ring_job *job)
{
	job->req.op = TD_REQ_FLUSH;
	job->req.flags = 0;
	job->req.off = job->req.len = 0;
	job->req.done = done;
	submit(job);
}

static void begin_empty_barrier(struct ring_job *job)
{
	job->req.off = 0;
	begin_barrier(job);
}

void ring_request_begin(struct ring_job *job, const struct ring_slot *slot)
{
	struct ring *r = job->r;
	const char *why = "";
	struct td_blkif_req q;
	int status;

	td_blkif_decode_req(r->abi, slot->bytes, &q);
	job->id = q.id;
	job->op = q.op == TD_BLKIF_INDIRECT ? q.inner : q.op;
	r->stats.requests[q.op <= TD_BLKIF_INDIRECT ? q.op : 4]++;
	status = td_blkif_check_req(&q, td_vbd_size(r->vbd) / TD_BLKIF_SECTOR, &why);
	if (status != 0)
		refuse(job, status, why);
	else if (q.op == TD_BLKIF_INDIRECT)
		begin_indirect(job, &q);
	else if (q.op == TD_BLKIF_DISCARD)
		begin_discard(job, &q);
	else if (q.nr_segs > 0)
		begin_transfer(job, &q);
	else if (q.op == TD_BLKIF_FLUSH)
		begin_flush(job);
	else
		begin_empty_barrier(job);
}

void ring_requests_cancel(struct ring *r)
{
	for (unsigned i = 0; i < r->nr_slots; i++)
		if (r->jobs[i].state == RING_JOB_RUNNING)
			(void)td_vbd_cancel(r->vbd, &r->jobs[i].req); /* the others are on their way */
}
