// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests in: bytes from the socket, cut into requests, each checked and submitted to the disk.
 *
 * One read brings as many requests as have arrived.  A write's payload is taken from what was read along with its
 * header; the rest is received directly into the buffer that goes to the disk, together with what follows it.
 */
#include "nbd.h"
#include <sys/socket.h>
#include <sys/uio.h>

static size_t unread(const struct nbd_conn *c)
{
	return c->in_end - c->in_start;
}

/* ---- to the disk ---- */

static unsigned request_flags(const struct nbd_request *q)
{
	unsigned flags = q->flags & NBD_CMD_FLAG_FUA ? TD_FUA : 0;

	if (q->cmd != NBD_CMD_WRITE_ZEROES)
		return flags;
	if (!(q->flags & NBD_CMD_FLAG_NO_HOLE))
		flags |= TD_MAY_UNMAP;
	if (q->flags & NBD_CMD_FLAG_FAST_ZERO)
		flags |= TD_FAST;
	return flags;
}

static enum td_req_op request_op(enum nbd_cmd cmd)
{
	switch (cmd) {
	case NBD_CMD_WRITE:
		return TD_REQ_WRITE;
	case NBD_CMD_FLUSH:
		return TD_REQ_FLUSH;
	case NBD_CMD_TRIM:
		return TD_REQ_TRIM;
	case NBD_CMD_WRITE_ZEROES:
		return TD_REQ_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return TD_REQ_EXTENT;
	default:
		return TD_REQ_READ;
	}
}

static void prepare(struct nbd_job *job)
{
	const struct nbd_request *q = &job->wire;
	struct td_req *req = &job->req;

	req->op = request_op(q->cmd);
	req->flags = request_flags(q);
	req->off = q->off;
	req->len = q->len;
	if (q->cmd == NBD_CMD_READ || q->cmd == NBD_CMD_WRITE)
		req->iov = td_iov_buf(&job->vec, job->buf, q->len);
	req->done = nbd_req_done;
	req->owner = job->conn;
	if (q->cmd == NBD_CMD_BLOCK_STATUS)
		nbd_status_begin(job, 0);
}

/* ---- one request ---- */

static size_t buffer_needed(const struct nbd_conn *c, const struct nbd_request *q)
{
	switch (q->cmd) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return q->len;
	case NBD_CMD_BLOCK_STATUS:
		return c->nr_contexts * (size_t)NBD_STATUS_SIZE;
	default:
		return 0;
	}
}

/* A write's payload comes whether the request is wanted or not. */
static void refuse(struct nbd_job *job, enum nbd_error error)
{
	if (job->wire.cmd == NBD_CMD_WRITE)
		job->conn->draining = job->wire.len;
	nbd_reply_error(job, error);
}

/* With its buffer, or without if it needs none.  False: it is held until there is memory. */
static bool start_job(struct nbd_job *job)
{
	struct nbd_conn *c = job->conn;
	size_t len = buffer_needed(c, &job->wire);
	int r = len > 0 ? nbd_job_buffer(job, len) : 0;

	c->held = r == -EAGAIN ? job : NULL;
	if (r == -EAGAIN)
		return false;
	if (r < 0) {
		refuse(job, NBD_ENOMEM);
	} else if (job->wire.cmd == NBD_CMD_WRITE && len > 0) {
		c->filling = job;
		c->filled = 0;
	} else if (job->wire.cmd == NBD_CMD_CACHE) {
		/* A hint: what is read again soon is the page cache's and the drivers' business. */
		nbd_reply_ok(job);
	} else {
		prepare(job);
		td_vbd_submit(c->server->e.vbd, &job->req);
	}
	return true;
}

static int check(const struct nbd_conn *c, const struct nbd_request *q)
{
	const struct td_vbd *vbd = c->server->e.vbd;
	struct nbd_rules rules = {
		.size = td_vbd_size(vbd),
		.max_payload = NBD_MAX_PAYLOAD,
		.read_only = td_vbd_read_only(vbd),
		.structured = c->structured,
		.block_status = c->nr_contexts > 0,
	};

	return nbd_check_request(q, &rules);
}

/* A header. False: not there yet, or not now. */
static bool step_header(struct nbd_conn *c)
{
	struct nbd_request q;
	struct nbd_job *job;
	int error;

	if (c->nr_jobs >= NBD_MAX_JOBS)
		c->full = true;
	if (c->full || unread(c) < NBD_REQUEST_SIZE)
		return false;
	if (nbd_get_request(c->in + c->in_start, &q) < 0) {
		nbd_conn_drop(c);
		return false;
	}
	c->in_start += NBD_REQUEST_SIZE;
	if (q.cmd == NBD_CMD_DISC) {
		nbd_conn_end(c);
		return false;
	}
	job = nbd_job_new(c, &q);
	if (!job) {
		nbd_conn_drop(c); /* not even an answer can be given */
		return false;
	}
	error = check(c, &q);
	if (error == 0)
		return start_job(job);
	refuse(job, error);
	return true;
}

/* ---- payload ---- */

static void payload_arrived(struct nbd_conn *c, size_t len)
{
	struct nbd_job *job = c->filling;

	c->filled += len;
	if (c->filled < job->wire.len)
		return;
	c->filling = NULL;
	prepare(job);
	td_vbd_submit(c->server->e.vbd, &job->req);
}

static bool step_filling(struct nbd_conn *c)
{
	size_t n = TD_MIN(unread(c), c->filling->wire.len - c->filled);

	if (n == 0)
		return false;
	memcpy(c->filling->buf + c->filled, c->in + c->in_start, n);
	c->in_start += n;
	payload_arrived(c, n);
	return true;
}

static bool step_draining(struct nbd_conn *c)
{
	size_t n = TD_MIN(unread(c), c->draining);

	c->in_start += n;
	c->draining -= n;
	return n > 0;
}

unsigned nbd_progress(struct nbd_conn *c)
{
	unsigned nr = 0;
	bool more = true;

	if (c->full && c->nr_jobs <= NBD_RESUME_JOBS)
		c->full = false;
	for (; more; nr += more) {
		if (c->phase == NBD_HELLO)
			more = nbd_step_hello(c);
		else if (c->phase == NBD_OPTIONS)
			more = nbd_step_option(c);
		else if (c->phase != NBD_TRANSMIT)
			more = false;
		else if (c->held)
			more = start_job(c->held);
		else if (c->draining > 0)
			more = step_draining(c);
		else if (c->filling)
			more = step_filling(c);
		else
			more = step_header(c);
	}
	return nr;
}

bool nbd_wants_input(const struct nbd_conn *c)
{
	switch (c->phase) {
	case NBD_HELLO:
	case NBD_OPTIONS:
		return c->text_len < NBD_TEXT_SIZE / 2;
	case NBD_TRANSMIT:
		return !c->held && !c->full;
	case NBD_ENDING:
	case NBD_DEAD:
		break;
	}
	return false;
}

/* ---- from the socket ---- */

/* What is left is part of a header as a rule; it moves to the front, so that there is much room behind it. */
static struct iovec free_space(struct nbd_conn *c)
{
	size_t n = unread(c);

	if (n > 0 && c->in_start > 0)
		memmove(c->in, c->in + c->in_start, n);
	c->in_start = 0;
	c->in_end = n;
	return (struct iovec){ c->in + n, NBD_IN_SIZE - n };
}

/* While a payload is on its way nothing is unread: it was all payload. */
static ssize_t receive(struct nbd_conn *c)
{
	struct iovec vec[2];
	struct msghdr msg = { .msg_iov = vec, .msg_iovlen = 1 };
	size_t payload = 0;
	ssize_t n;

	if (c->filling) {
		payload = c->filling->wire.len - c->filled;
		vec[0] = (struct iovec){ c->filling->buf + c->filled, payload };
		msg.msg_iovlen = 2;
	}
	vec[msg.msg_iovlen - 1] = free_space(c);
	n = recvmsg(c->watch.fd, &msg, MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	if (payload > 0)
		payload_arrived(c, TD_MIN((size_t)n, payload));
	if ((size_t)n > payload)
		c->in_end += (size_t)n - payload;
	return n;
}

void nbd_conn_event(struct td_watch *w, uint32_t epoll_events)
{
	struct nbd_conn *c = td_container_of(w, struct nbd_conn, watch);
	ssize_t n = -EAGAIN;

	nbd_conn_touch(c);
	if (epoll_events & EPOLLOUT)
		c->blocked = false;
	if (!(epoll_events & EPOLLIN) && (epoll_events & (EPOLLHUP | EPOLLERR)))
		n = -ECONNRESET;
	else if ((epoll_events & EPOLLIN) && nbd_wants_input(c))
		n = receive(c);
	if (n > 0) {
		c->progress_ns = td_loop_now(c->server->loop);
		c->server->e.bytes_in += (uint64_t)n;
		td_ignore((int)nbd_progress(c)); /* how many: only the hook needs to know */
	} else if (n == 0) {
		nbd_conn_end(c);
	} else if (n != -EAGAIN && n != -EINTR) {
		nbd_conn_drop(c);
	}
}
