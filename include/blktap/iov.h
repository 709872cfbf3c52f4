// SPDX-License-Identifier: BSD-2-Clause
/*
 * The bytes of one request: a window on somebody's array of iovecs.  A slice is a new window, made without
 * allocation; the array is written out cut to size only where the kernel wants it (td_iov_fill, in the leaf).
 *
 * The array and the memory belong to whoever made the request and live until it ends.
 */
#ifndef BLKTAP_IOV_H
#define BLKTAP_IOV_H

#include <blktap/base.h>
#include <sys/uio.h>

struct td_iov {
	const struct iovec *vec;
	unsigned nr;  /* entries from vec on; more than the window needs is fine */
	size_t skip;  /* bytes of vec[0] before the window; < vec[0].iov_len unless len is 0 */
	uint64_t len; /* bytes in the window */
};

/* A window on one buffer.  *v is storage that has to live as long as the window. */
static inline struct td_iov td_iov_buf(struct iovec *v, void *buf, size_t len)
{
	*v = (struct iovec){ .iov_base = buf, .iov_len = len };
	return (struct td_iov){ .vec = v, .nr = 1, .len = len };
}

/* Bytes [off, off + len) of src; the range must lie inside it. */
struct td_iov td_iov_slice(const struct td_iov *src, uint64_t off, uint64_t len);

/* Write the window as plain iovecs: at most max entries; returns how many, or -EINVAL if max is too small. */
TD_CHECK int td_iov_fill(const struct td_iov *iov, struct iovec *out, unsigned max);

/* How many iovecs td_iov_fill would write. */
unsigned td_iov_count(const struct td_iov *iov);

/* Is each piece's address, and each piece's length, a multiple of align (a power of two)? */
bool td_iov_aligned(const struct td_iov *iov, size_t align);

/* Copy between the window and a flat buffer of iov->len bytes; zero the window. */
void td_iov_to_buf(const struct td_iov *iov, void *buf);
void td_iov_from_buf(const struct td_iov *iov, const void *buf);
void td_iov_zero(const struct td_iov *iov);

#endif
