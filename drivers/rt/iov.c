// SPDX-License-Identifier: BSD-2-Clause
/*
 * Windows on arrays of iovecs: a request is cut into runs by moving the window, so the array is copied only by whoever
 * hands it on to the kernel.  Nothing here allocates or writes to the array.
 */
#include <assert.h>

#include <blktap/iov.h>

/* Walks the pieces of a window, empty iovecs left out: clients send such, and nobody below is to think of them. */
struct walk {
	const struct iovec *vec;
	unsigned nr;
	size_t skip;
	uint64_t left;
};

static struct walk walk_start(const struct td_iov *iov)
{
	return (struct walk){ iov->vec, iov->nr, iov->skip, iov->len };
}

static bool walk_next(struct walk *w, struct iovec *ret_piece)
{
	while (w->left > 0) {
		const struct iovec *v = w->vec++;
		size_t skip = w->skip;

		assert(w->nr > 0); /* the window is longer than its array */
		w->nr--;
		w->skip = 0;
		if (v->iov_len == skip)
			continue;
		ret_piece->iov_base = (char *)v->iov_base + skip;
		ret_piece->iov_len = TD_MIN(v->iov_len - skip, w->left);
		w->left -= ret_piece->iov_len;
		return true;
	}
	return false;
}

struct td_iov td_iov_slice(const struct td_iov *src, uint64_t off, uint64_t len)
{
	struct td_iov out = { .vec = src->vec, .nr = src->nr, .len = len };
	uint64_t pos = src->skip + off;

	assert(td_in_range(off, len, src->len));
	if (len == 0)
		return out;
	/* There is a byte at pos, so this ends inside the array. */
	for (; pos >= out.vec->iov_len; out.vec++, out.nr--)
		pos -= out.vec->iov_len;
	out.skip = pos;
	return out;
}

int td_iov_fill(const struct td_iov *iov, struct iovec *out, unsigned max)
{
	struct walk w = walk_start(iov);
	struct iovec piece;
	unsigned nr = 0;

	while (walk_next(&w, &piece)) {
		if (nr == max)
			return -EINVAL;
		out[nr++] = piece;
	}
	return (int)nr;
}

unsigned td_iov_count(const struct td_iov *iov)
{
	struct walk w = walk_start(iov);
	struct iovec piece;
	unsigned nr = 0;

	while (walk_next(&w, &piece))
		nr++;
	return nr;
}

/* O_DIRECT asks it of each piece, of its address and of its length. */
bool td_iov_aligned(const struct td_iov *iov, size_t align)
{
	struct walk w = walk_start(iov);
	struct iovec piece;

	while (walk_next(&w, &piece))
		if (((uintptr_t)piece.iov_base | piece.iov_len) & (align - 1))
			return false;
	return true;
}

void td_iov_to_buf(const struct td_iov *iov, void *buf)
{
	struct walk w = walk_start(iov);
	struct iovec piece;
	char *p = buf;

	for (; walk_next(&w, &piece); p += piece.iov_len)
		memcpy(p, piece.iov_base, piece.iov_len);
}

void td_iov_from_buf(const struct td_iov *iov, const void *buf)
{
	struct walk w = walk_start(iov);
	struct iovec piece;
	const char *p = buf;

	for (; walk_next(&w, &piece); p += piece.iov_len)
		memcpy(piece.iov_base, p, piece.iov_len);
}

void td_iov_zero(const struct td_iov *iov)
{
	struct walk w = walk_start(iov);
	struct iovec piece;

	while (walk_next(&w, &piece))
		memset(piece.iov_base, 0, piece.iov_len);
}
