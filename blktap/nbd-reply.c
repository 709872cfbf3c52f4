// SPDX-License-Identifier: BSD-2-Clause
/*
 * Replies out: what the disk answered, as messages, sent all together at the end of the turn.
 */
#include "nbd.h"
#include <sys/socket.h>

#define SEND_JOBS 256 /* in one call: a head and data each */

static void queue_reply(struct nbd_job *job)
{
	STAILQ_INSERT_TAIL(&job->conn->out, job, link);
	nbd_conn_touch(job->conn);
}

/* ---- heads ---- */

static const char *sentence_of(enum nbd_error error)
{
	switch (error) {
	case NBD_EPERM:
		return "the disk is read-only";
	case NBD_EINVAL:
		return "invalid request: its command, flags, range or length";
	case NBD_ENOSPC:
		return "no space, or beyond the end of the disk";
	case NBD_ENOMEM:
		return "out of memory";
	case NBD_ENOTSUP:
		return "cannot be done fast";
	case NBD_ESHUTDOWN:
		return "the disk is being closed";
	default:
		return "the storage failed";
	}
}

/* A structured error, with its sentence, where the client knows how to read one. */
void nbd_reply_error(struct nbd_job *job, enum nbd_error error)
{
	uint64_t cookie = job->wire.cookie;

	if (job->conn->structured)
		job->head_len = nbd_put_error_chunk(job->head, cookie, error, sentence_of(error));
	else
		job->head_len = nbd_put_simple(job->head, cookie, error);
	job->data_len = 0;
	queue_reply(job);
}

static void reply_data(struct nbd_job *job)
{
	const struct nbd_request *q = &job->wire;

	if (!job->conn->structured)
		job->head_len = nbd_put_simple(job->head, q->cookie, 0);
	else if (q->len > 0)
		job->head_len = nbd_put_data_head(job->head, q->cookie, q->off, q->len);
	else
		job->head_len = nbd_put_chunk(job->head, q->cookie, NBD_REPLY_TYPE_NONE, 0);
	job->data_len = q->len;
	queue_reply(job);
}

/* No payload: the simple reply is allowed in every session, and the shortest. */
void nbd_reply_ok(struct nbd_job *job)
{
	job->head_len = nbd_put_simple(job->head, job->wire.cookie, 0);
	job->data_len = 0;
	queue_reply(job);
}

/* ---- block status: one context after the other, and of each one extent after the other ---- */

/*
 * The answers of all contexts are put together in buf, each as a message: only the last says that it is the last.
 *
 *	| head | number | length, state | length, state ... | head | number | ...
 */
void nbd_status_begin(struct nbd_job *job, unsigned context)
{
	struct td_req *req = &job->req;

	job->context = context;
	job->chunk_at = context == 0 ? 0 : job->data_len;
	job->data_len = job->chunk_at + NBD_STRUCTURED_REPLY_SIZE + 4;
	job->nr_extents = 0;
	req->bitmap = job->conn->context[context];
	req->off = job->wire.off;
	req->len = job->wire.len;
}

static uint32_t state_of(const struct td_req *req)
{
	const struct td_extent *x = &req->extent;

	if (req->bitmap)
		return req->dirty ? NBD_STATE_DIRTY : 0;
	if (x->kind != TD_EXTENT_ZERO)
		return 0;
	return x->allocated ? NBD_STATE_ZERO : NBD_STATE_ZERO | NBD_STATE_HOLE;
}

/* Two of the same kind become one. */
static void add_extent(struct nbd_job *job, uint32_t len, uint32_t state)
{
	uint8_t *next = job->buf + job->data_len, *last = next - 8;

	if (job->nr_extents > 0 && td_get_be32(last + 4) == state) {
		td_put_be32(last, td_get_be32(last) + len);
		return;
	}
	td_put_be32(next, len);
	td_put_be32(next + 4, state);
	job->data_len += 8;
	job->nr_extents++;
}

/* This context's answer is whole; the next one's turn, or the client's. */
static void end_context(struct nbd_job *job)
{
	uint8_t *p = job->buf + job->chunk_at;
	uint32_t len = 4 + 8 * job->nr_extents;
	bool last = job->context + 1 == job->conn->nr_contexts;

	if (last)
		p += nbd_put_chunk(p, job->wire.cookie, NBD_REPLY_TYPE_BLOCK_STATUS, len);
	else
		p += nbd_put_chunk_more(p, job->wire.cookie, NBD_REPLY_TYPE_BLOCK_STATUS, len);
	td_put_be32(p, job->context);
	if (last) {
		job->head_len = 0;
		queue_reply(job);
		return;
	}
	nbd_status_begin(job, job->context + 1);
	td_vbd_submit(job->conn->server->e.vbd, &job->req);
}

/* The sum of the lengths is at most the request's, so it fits 32 bits. */
static void extent_done(struct nbd_job *job)
{
	struct td_req *req = &job->req;
	uint32_t len = (uint32_t)TD_MIN(req->extent.len, req->len);

	add_extent(job, len, state_of(req));
	req->off += len;
	req->len -= len;
	if (req->len > 0 && job->nr_extents < NBD_MAX_EXTENTS && !(job->wire.flags & NBD_CMD_FLAG_REQ_ONE))
		td_vbd_submit(job->conn->server->e.vbd, req);
	else
		end_context(job);
}

/* What was found before the error is an answer; the client asks on from there and gets the error then. */
static void extent_failed(struct nbd_job *job, int result)
{
	if (job->nr_extents > 0)
		end_context(job);
	else
		nbd_reply_error(job, nbd_error_of(result, false));
}

/* ---- from the disk ---- */

void nbd_req_done(struct td_req *req, int result)
{
	struct nbd_job *job = td_container_of(req, struct nbd_job, req);
	bool extent = job->wire.cmd == NBD_CMD_BLOCK_STATUS;

	if (job->conn->phase == NBD_DEAD) {
		nbd_conn_touch(job->conn);
		nbd_job_free(job);
	} else if (extent && result == 0) {
		extent_done(job);
	} else if (extent) {
		extent_failed(job, result);
	} else if (result < 0) {
		nbd_reply_error(job, nbd_error_of(result, job->wire.flags & NBD_CMD_FLAG_FAST_ZERO));
	} else if (job->wire.cmd == NBD_CMD_READ) {
		reply_data(job);
	} else {
		nbd_reply_ok(job);
	}
}

/* ---- to the socket ---- */

/* False: the socket takes no more, or the client is gone. */
static bool send_some(struct nbd_conn *c, struct iovec *vec, unsigned nr, size_t want, size_t *ret_sent)
{
	struct msghdr msg = { .msg_iov = vec, .msg_iovlen = nr };
	ssize_t n = sendmsg(c->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		nbd_conn_drop(c);
		return false;
	}
	*ret_sent = n > 0 ? (size_t)n : 0;
	c->blocked = *ret_sent < want;
	if (n > 0)
		c->progress_ns = td_loop_now(c->server->loop);
	c->server->e.bytes_out += *ret_sent;
	return true;
}

static bool send_text(struct nbd_conn *c)
{
	struct iovec vec = { c->text, c->text_len };
	size_t sent;

	if (!send_some(c, &vec, 1, c->text_len, &sent))
		return false;
	c->text_len -= sent;
	memmove(c->text, c->text + sent, c->text_len);
	return c->text_len == 0;
}

/* skip: bytes of it that have been sent. */
static unsigned put_piece(struct iovec *vec, void *base, size_t len, size_t *skip)
{
	size_t gone = TD_MIN(*skip, len);

	*skip -= gone;
	if (len == gone)
		return 0;
	*vec = (struct iovec){ (uint8_t *)base + gone, len - gone };
	return 1;
}

static unsigned gather(struct nbd_conn *c, struct iovec *vec, size_t *ret_want)
{
	size_t skip = c->out_sent, want = 0;
	struct nbd_job *job;
	unsigned nr = 0;

	STAILQ_FOREACH(job, &c->out, link) {
		if (nr + 2 > SEND_JOBS * 2)
			break;
		want += job->head_len + job->data_len;
		nr += put_piece(&vec[nr], job->head, job->head_len, &skip);
		nr += put_piece(&vec[nr], job->buf, job->data_len, &skip);
	}
	*ret_want = want - c->out_sent;
	return nr;
}

static void forget_sent(struct nbd_conn *c, size_t sent)
{
	struct nbd_job *job;

	c->out_sent += sent;
	while ((job = STAILQ_FIRST(&c->out)) && c->out_sent >= job->head_len + job->data_len) {
		c->out_sent -= job->head_len + job->data_len;
		STAILQ_REMOVE_HEAD(&c->out, link);
		nbd_job_free(job);
	}
}

void nbd_send(struct nbd_conn *c)
{
	static struct iovec vec[SEND_JOBS * 2 + 1]; /* one thread, and none of it outlives a call */
	size_t want, sent;
	unsigned nr;

	if (c->phase == NBD_DEAD || c->blocked)
		return;
	if (c->text_len > 0 && !send_text(c))
		return;
	while (!STAILQ_EMPTY(&c->out)) {
		nr = gather(c, vec, &want);
		if (!send_some(c, vec, nr, want, &sent))
			return;
		forget_sent(c, sent);
		if (c->blocked)
			return;
	}
}
