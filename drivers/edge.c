// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guest's bytes and what goes around them in the clusters they are written to, in one vector.
 */
#include <blktap/edge.h>

#include <blktap/image.h>

static unsigned pieces(const struct td_edge *e)
{
	return e->buf ? 1 : td_zero_pieces(e->len);
}

static unsigned put(const struct td_edge *e, struct iovec *v)
{
	if (!e->buf)
		return td_put_zeros(v, e->len);
	*v = (struct iovec){ .iov_base = e->buf, .iov_len = e->len };
	return 1;
}

int td_edges_join(const struct td_edge *head, const struct td_iov *guest, const struct td_edge *tail,
		  struct iovec **ret_vec, struct td_iov *ret)
{
	unsigned nr = td_iov_count(guest), n;
	td_cleanup(free) struct iovec *v = calloc(pieces(head) + nr + pieces(tail), sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	n = put(head, v);
	r = td_iov_fill(guest, v + n, nr);
	if (r < 0)
		return r;
	n += (unsigned)r;
	n += put(tail, v + n);
	*ret = (struct td_iov){ .vec = v, .nr = n, .len = head->len + guest->len + tail->len };
	*ret_vec = v;
	v = NULL;
	return 0;
}

void td_edge_done(struct td_edge *e)
{
	if (e->buf)
		td_buf_free(e->buf, e->len);
}
