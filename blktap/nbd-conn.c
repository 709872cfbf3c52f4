// SPDX-License-Identifier: BSD-2-Clause
/*
 * One connection: its requests in flight, what they may take of memory, and its end.
 *
 * Memory.  Payload in flight (being received, in the disk, being sent) is bounded for each connection and in total.
 * Who gets nothing waits in order of arrival, and is not read from meanwhile.  A connection that has nothing in
 * flight always gets a small buffer, so somebody who never reads his replies cannot stop the others' small requests;
 * their large ones he stops for NBD_STALL_NS, then he is dropped.
 */
#include "nbd.h"
#include <unistd.h>

/* ---- memory ---- */

static void starve(struct nbd_conn *c)
{
	struct nbd_server *s = c->server;

	if (c->starving)
		return;
	c->starving = true;
	TAILQ_INSERT_TAIL(&s->starving, c, starving_link);
	if (!s->stall_timer.loop)
		td_timer_arm(s->loop, &s->stall_timer, NBD_STALL_NS);
}

static void fed(struct nbd_conn *c)
{
	struct nbd_server *s = c->server;

	if (!c->starving)
		return;
	c->starving = false;
	TAILQ_REMOVE(&s->starving, c, starving_link);
	if (!TAILQ_EMPTY(&s->starving))
		nbd_conn_touch(TAILQ_FIRST(&s->starving));
}

/* The connection's own limit is not starving: its own replies will make room. */
static bool may_take(struct nbd_conn *c, size_t len)
{
	struct nbd_server *s = c->server;
	bool others_first = !TAILQ_EMPTY(&s->starving) && TAILQ_FIRST(&s->starving) != c;

	if (c->bytes == 0 && len <= NBD_FREE_BYTES)
		return true;
	if (c->bytes > 0 && c->bytes + len > NBD_MAX_CONN_BYTES)
		return false;
	if (!others_first && s->bytes + len <= NBD_MAX_BYTES)
		return true;
	starve(c);
	return false;
}

int nbd_job_buffer(struct nbd_job *job, size_t len)
{
	struct nbd_conn *c = job->conn;

	if (!may_take(c, len))
		return -EAGAIN;
	fed(c);
	job->buf = td_buf_alloc(len);
	if (!job->buf)
		return -ENOMEM;
	job->buf_len = len;
	c->bytes += len;
	c->server->bytes += len;
	return 0;
}

static void free_buffer(struct nbd_job *job)
{
	struct nbd_server *s = job->conn->server;

	if (!job->buf)
		return;
	td_buf_free(job->buf, job->buf_len);
	job->buf = NULL;
	job->conn->bytes -= job->buf_len;
	s->bytes -= job->buf_len;
	if (!TAILQ_EMPTY(&s->starving))
		nbd_conn_touch(TAILQ_FIRST(&s->starving));
}

struct nbd_job *nbd_job_new(struct nbd_conn *c, const struct nbd_request *q)
{
	struct nbd_server *s = c->server;
	struct nbd_job *job = STAILQ_FIRST(&s->pool);

	if (job)
		STAILQ_REMOVE_HEAD(&s->pool, link);
	else
		job = malloc(sizeof(*job));
	if (!job)
		return NULL;
	job->conn = c;
	job->wire = *q;
	job->buf = NULL;
	job->head_len = job->data_len = 0;
	c->nr_jobs++;
	return job;
}

void nbd_job_free(struct nbd_job *job)
{
	free_buffer(job);
	job->conn->nr_jobs--;
	STAILQ_INSERT_HEAD(&job->conn->server->pool, job, link);
}

/* ---- a connection's end ---- */

void nbd_conn_touch(struct nbd_conn *c)
{
	if (c->touched)
		return;
	c->touched = true;
	TAILQ_INSERT_TAIL(&c->server->touched, c, touched_link);
}

/* Jobs that the disk does not have. */
static void free_incoming(struct nbd_conn *c)
{
	if (c->held)
		nbd_job_free(c->held);
	if (c->filling)
		nbd_job_free(c->filling);
	c->held = c->filling = NULL;
	c->draining = 0;
}

void nbd_conn_end(struct nbd_conn *c)
{
	c->phase = NBD_ENDING;
	free_incoming(c);
	fed(c);
	nbd_conn_touch(c);
}

void nbd_conn_drop(struct nbd_conn *c)
{
	struct nbd_job *job;

	if (c->phase == NBD_DEAD)
		return;
	c->phase = NBD_DEAD;
	c->server->e.clients--;
	td_timer_cancel(&c->timer);
	td_loop_unwatch(&c->watch);
	close(c->watch.fd);
	free_incoming(c);
	fed(c);
	while ((job = STAILQ_FIRST(&c->out))) {
		STAILQ_REMOVE_HEAD(&c->out, link);
		nbd_job_free(job);
	}
	/* Nobody waits for them, and who comes back asks again: an old write must not come after his new one. */
	td_vbd_cancel_all(c->server->e.vbd, c);
	nbd_conn_touch(c);
}
