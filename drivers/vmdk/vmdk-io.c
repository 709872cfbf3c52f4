// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests: cut at the ends of extents, handed to what serves each.
 */
#include "vmdk-stream.h"

/* The piece that holds off; there is one for each byte of the disk. */
static struct vmdk_piece *find_piece(const struct vmdk *v, uint64_t off)
{
	unsigned from = 0, to = v->nr_pieces;

	while (to - from > 1) {
		unsigned mid = from + (to - from) / 2;

		if (v->piece[mid].start <= off)
			from = mid;
		else
			to = mid;
	}
	return &v->piece[from];
}

/* What of a request lies in one piece. */
struct share {
	const struct vmdk_piece *p;
	uint64_t host, len; /* host: in the file or the part that serves it */
};

static struct share share_of(const struct vmdk *v, uint64_t off, uint64_t len)
{
	const struct vmdk_piece *p = find_piece(v, off);
	uint64_t in_piece = off - p->start;

	return (struct share){ p, p->off + in_piece, TD_MIN(len, p->len - in_piece) };
}

static int read_share(const struct share *s, const struct td_iov *iov, unsigned flags)
{
	if (s->p->type == VMDK_ZERO) {
		td_iov_zero(iov);
		return 0;
	}
	if (s->p->access == VMDK_NOACCESS)
		return -EIO;
	return td_image_preadv(s->p->at, s->host, iov, flags);
}

/* May the guest write there? */
static int check_access(const struct share *s)
{
	return s->p->type != VMDK_ZERO && s->p->access == VMDK_RW ? 0 : -EROFS;
}

int vmdk_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	const struct vmdk *v = im->state;
	int r = 0;

	if (v->stream)
		return -ENOTSUP;
	if (v->own)
		return vmdk_sparse_preadv(v->own, off, iov, flags);
	for (uint64_t done = 0; r == 0 && done < iov->len;) {
		const struct share s = share_of(v, off + done, iov->len - done);
		const struct td_iov part = td_iov_slice(iov, done, s.len);

		r = read_share(&s, &part, flags);
		done += s.len;
	}
	return r;
}

int vmdk_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct vmdk *v = im->state;
	int r;

	if (v->stream)
		return vmdk_stream_pwritev(v->stream, off, iov, flags);
	r = vmdk_touch(v);
	if (r == 0 && v->own)
		return vmdk_sparse_pwritev(v->own, off, iov, flags);
	for (uint64_t done = 0; r == 0 && done < iov->len;) {
		const struct share s = share_of(v, off + done, iov->len - done);
		const struct td_iov part = td_iov_slice(iov, done, s.len);

		r = check_access(&s);
		if (r == 0)
			r = td_image_pwritev(s.p->at, s.host, &part, flags);
		done += s.len;
	}
	return r;
}

int vmdk_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	struct vmdk *v = im->state;
	int r;

	if (v->stream)
		return vmdk_stream_zero(v->stream, off, len);
	r = vmdk_touch(v);
	if (r == 0 && v->own)
		return vmdk_sparse_zero(v->own, off, len, flags);
	for (uint64_t done = 0; r == 0 && done < len;) {
		const struct share s = share_of(v, off + done, len - done);

		if (s.p->type != VMDK_ZERO)
			r = check_access(&s);
		if (r == 0 && s.p->type != VMDK_ZERO)
			r = td_image_zero(s.p->at, s.host, s.len, flags);
		done += s.len;
	}
	return r;
}

int vmdk_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	struct vmdk *v = im->state;
	int r = v->stream ? -ENOTSUP : vmdk_touch(v);

	if (r == 0 && v->own)
		return vmdk_sparse_trim(v->own, off, len);
	for (uint64_t done = 0; r == 0 && done < len;) {
		const struct share s = share_of(v, off + done, len - done);

		if (check_access(&s) == 0)
			r = td_image_trim(s.p->at, s.host, s.len);
		if (r == -ENOTSUP) /* a hint, and another extent may take it */
			r = 0;
		done += s.len;
	}
	return r;
}

/* All of them, also behind one that fails: what was written to the others is to be safe. */
int vmdk_flush(struct td_image *im)
{
	struct vmdk *v = im->state;
	int result = v->own ? vmdk_sparse_flush(v->own) : 0;

	if (v->stream) /* it is no disk before it is closed */
		return td_image_flush(im->child);

	for (unsigned i = 0; i < v->nr_files; i++) {
		int r = td_image_flush(v->file[i].part);

		if (result == 0)
			result = r;
		/* One that has lost something will not flush again: nothing more is to be promised. */
		if (v->file[i].part->frozen)
			td_image_freeze(im);
	}
	return result == 0 ? vmdk_cid_settle(v) : result;
}

static int extent_of_share(const struct share *s, struct td_extent *ret)
{
	int r;

	*ret = (struct td_extent){ .kind = TD_EXTENT_ZERO, .len = s->len };
	if (s->p->type == VMDK_ZERO)
		return 0;
	if (s->p->access == VMDK_NOACCESS) {
		*ret = (struct td_extent){ .kind = TD_EXTENT_DATA, .allocated = true, .len = s->len };
		return 0;
	}
	r = td_layer_extent(s->p->at, s->host, s->len, ret);
	ret->has_host = false; /* it would be in another file */
	return r;
}

int vmdk_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct vmdk *v = im->state;
	struct share s;

	if (v->stream)
		return vmdk_stream_extent(v->stream, off, len, ret);
	if (v->own)
		return vmdk_sparse_extent(v->own, off, len, ret);
	s = share_of(v, off, len);
	return extent_of_share(&s, ret);
}
