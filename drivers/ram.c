// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk in memory, gone when it is closed.  Space is taken in chunks as it is written, and given back by trim and
 * zero.  For tests, and for measuring without a disk below.
 *
 * Options: size=SIZE (64M if not given, up to 64G).
 */
#include "drivers.h"

#define CHUNK   65536u
#define RAM_MAX ((uint64_t)64 << 30)

struct ram {
	void **chunk; /* NULL: zeros */
	uint64_t nr;
};

/* Room for size bytes. */
static int ram_reserve(struct ram *ram, uint64_t size)
{
	uint64_t nr = td_div_up(size, CHUNK);
	void **chunk;

	if (size > RAM_MAX)
		return -EFBIG;
	if (nr <= ram->nr)
		return 0;
	chunk = reallocarray(ram->chunk, nr, sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	memset(chunk + ram->nr, 0, (nr - ram->nr) * sizeof(*chunk));
	ram->chunk = chunk;
	ram->nr = nr;
	return 0;
}

static int ram_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct ram *ram = im->state;
	uint64_t size = (uint64_t)64 << 20;
	int r = td_opts_size(opts, "size", &size, ret_err);

	if (r < 0)
		return r;
	r = ram_reserve(ram, size);
	if (r < 0)
		return td_err_set(ret_err, r, "ram: no memory disk of this size can be had: %s",
				  strerror(-r));
	im->size = size;
	im->limits.block_size = 512;
	im->limits.mem_align = 1;
	im->limits.trim_granularity = CHUNK;
	im->limits.zero_efficient = true;
	return 0;
}

static int ram_close(struct td_image *im)
{
	struct ram *ram = im->state;

	for (uint64_t i = 0; i < ram->nr; i++)
		free(ram->chunk[i]);
	free(ram->chunk);
	return 0;
}

/* How much of [off, off + len) lies in one chunk. */
static uint64_t ram_piece(uint64_t off, uint64_t len)
{
	return TD_MIN(len, CHUNK - off % CHUNK);
}

static int ram_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct ram *ram = im->state;

	(void)flags;
	for (uint64_t done = 0, n; done < iov->len; done += n) {
		uint64_t at = off + done;
		struct td_iov part;
		char *chunk = ram->chunk[at / CHUNK];

		n = ram_piece(at, iov->len - done);
		part = td_iov_slice(iov, done, n);
		if (chunk)
			td_iov_from_buf(&part, chunk + at % CHUNK);
		else
			td_iov_zero(&part);
	}
	return 0;
}

static int ram_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct ram *ram = im->state;
	int r = ram_reserve(ram, off + iov->len);

	(void)flags;
	for (uint64_t done = 0, n; r == 0 && done < iov->len; done += n) {
		uint64_t at = off + done;
		struct td_iov part;
		char *chunk = ram->chunk[at / CHUNK];

		n = ram_piece(at, iov->len - done);
		part = td_iov_slice(iov, done, n);
		if (!chunk)
			chunk = ram->chunk[at / CHUNK] = calloc(1, CHUNK);
		if (chunk)
			td_iov_to_buf(&part, chunk + at % CHUNK);
		else
			r = -ENOMEM;
	}
	return r;
}

static int ram_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	struct ram *ram = im->state;
	int r = ram_reserve(ram, off + len);

	(void)flags;
	for (uint64_t done = 0, n; r == 0 && done < len; done += n) {
		uint64_t at = off + done;
		void **chunk = &ram->chunk[at / CHUNK];

		n = ram_piece(at, len - done);
		if (n == CHUNK) {
			free(*chunk);
			*chunk = NULL;
		} else if (*chunk) {
			memset((char *)*chunk + at % CHUNK, 0, n);
		}
	}
	return r;
}

static int ram_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	return ram_zero(im, off, len, 0);
}

static int ram_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct ram *ram = im->state;
	bool data = ram->chunk[off / CHUNK] != NULL;
	uint64_t n = ram_piece(off, len);

	while (n < len && (ram->chunk[(off + n) / CHUNK] != NULL) == data)
		n += ram_piece(off + n, len - n);
	*ret = (struct td_extent){ .kind = data ? TD_EXTENT_DATA : TD_EXTENT_ZERO,
				   .allocated = data,
				   .len = n };
	return 0;
}

static int ram_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	struct ram *ram = im->state;
	int r = ram_reserve(ram, size);

	if (r == 0 && size < im->size)
		r = ram_zero(im, size, im->size - size, 0); /* so that it is zeros if it grows again */
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot be resized: %s", im->name, strerror(-r)) : 0;
}

const struct td_driver td_ram = {
	.name = "ram",
	.flags = TD_LEAF | TD_KNOWS_FUA,
	.state_size = sizeof(struct ram),
	.open = ram_open,
	.close = ram_close,
	.preadv = ram_preadv,
	.pwritev = ram_pwritev,
	.zero = ram_zero,
	.trim = ram_trim,
	.extent = ram_extent,
	.resize = ram_resize,
};
