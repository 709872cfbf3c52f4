// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making a streamOptimized extent: from the first byte to the last, nothing is read or written twice, so that it can
 * go to a pipe.
 *
 *	| header | descriptor |  | grain | grain ... | table | grain ... | table | directory | footer | end |
 *
 * Each grain has its marker in front; tables, directory and footer have one in a sector of its own.  A table stands
 * behind the last of its grains.  Grains of zeros are left out, and so are tables that would name none.
 *
 * A request's grains are deflated in the worker pool, together with those of the requests behind it.  Then they are
 * appended in the order in which the requests came.  What is appended is written in large pieces.
 */
#include <blktap/codec.h>
#include <blktap/pool.h>

#include "vmdk-stream.h"

#define WRITE_BYTES (1u << 20)
#define PARALLEL    16u /* grains of one request that are deflated at the same time */

struct vmdk_stream {
	struct td_image *im;
	struct vmdk_header h;
	uint32_t grain_bytes;
	uint32_t *dir, *table; /* entries as numbers; table is that of the grains that come now */
	uint64_t now;          /* its number */
	uint64_t next;         /* what is before this byte of the disk cannot be written any more */
	uint64_t tickets, served;
	struct td_waitq waiting;
	uint8_t *buf; /* WRITE_BYTES, of which `used` are not written yet */
	size_t used;
	uint64_t at; /* where in the file they go */
	int result;  /* the first failure; nothing comes behind it */
};

/* One grain of a request. */
struct packed {
	struct vmdk_stream *s;
	uint64_t off;      /* on the disk */
	struct td_iov iov; /* fewer bytes than a grain has at the end of the disk */
	uint8_t *out;      /* marker, stream, and zeros up to the next sector */
	size_t len;        /* of that; 0: zeros, which are left out */
};

/* ---- appending ---- */

static int write_buf(struct vmdk_stream *s)
{
	int r = td_image_pwrite(s->im->child, s->at, s->buf, s->used, 0);

	s->at += s->used;
	s->used = 0;
	return r;
}

static int append(struct vmdk_stream *s, const uint8_t *bytes, size_t len)
{
	int r = 0;

	for (size_t done = 0, n; r == 0 && done < len; done += n) {
		n = TD_MIN(len - done, WRITE_BYTES - s->used);
		memcpy(s->buf + s->used, bytes + done, n);
		s->used += n;
		if (s->used == WRITE_BYTES)
			r = write_buf(s);
	}
	return r;
}

/* Where the next byte goes, as an entry says it. */
static int place(const struct vmdk_stream *s, uint32_t *ret)
{
	uint64_t sector = (s->at + s->used) / VMDK_SECTOR;

	if (sector > UINT32_MAX)
		return -EFBIG;
	*ret = (uint32_t)sector;
	return 0;
}

static int append_marker(struct vmdk_stream *s, enum vmdk_marker_type type, uint64_t sectors)
{
	const struct vmdk_marker m = { .type = type, .value = sectors };
	uint8_t buf[VMDK_SECTOR];

	vmdk_marker_encode(&m, buf);
	return append(s, buf, sizeof(buf));
}

/* Entries behind their marker; *ret_place is the first one's. */
static int append_entries(struct vmdk_stream *s, enum vmdk_marker_type type, const uint32_t *entries,
			  uint64_t nr, uint32_t *ret_place)
{
	const uint64_t sectors = td_div_up(nr * 4, VMDK_SECTOR);
	uint8_t buf[VMDK_SECTOR];
	int r = append_marker(s, type, sectors);

	if (r == 0)
		r = place(s, ret_place);
	for (uint64_t i = 0; r == 0 && i < nr;) {
		memset(buf, 0, sizeof(buf));
		for (unsigned k = 0; k < VMDK_SECTOR / 4 && i < nr; k++, i++)
			td_put_le32(buf + 4ul * k, entries[i]);
		r = append(s, buf, sizeof(buf));
	}
	return r;
}

static int end_table(struct vmdk_stream *s)
{
	bool any = false;
	int r;

	for (uint32_t i = 0; i < s->h.per_table && !any; i++)
		any = s->table[i] != VMDK_GRAIN_ABSENT;
	if (!any)
		return 0;
	r = append_entries(s, VMDK_MARKER_TABLE, s->table, s->h.per_table, &s->dir[s->now]);
	memset(s->table, 0, s->h.per_table * sizeof(*s->table));
	return r;
}

static int append_grain(struct vmdk_stream *s, const struct packed *p)
{
	const uint64_t grain = p->off / s->grain_bytes, table = grain / s->h.per_table;
	int r = 0;

	if (p->len == 0)
		return 0;
	if (table != s->now)
		r = end_table(s);
	s->now = table;
	if (r == 0)
		r = place(s, &s->table[grain % s->h.per_table]);
	return r == 0 ? append(s, p->out, p->len) : r;
}

/* ---- deflating ---- */

static size_t packed_max(const struct vmdk_stream *s)
{
	return td_align_up(VMDK_GRAIN_MARKER + vmdk_grain_max(s->grain_bytes), VMDK_SECTOR);
}

struct deflate {
	struct packed *p;
	const uint8_t *in;
};

static int deflate_work(void *arg)
{
	const struct deflate *w = arg;
	struct packed *p = w->p;
	struct vmdk_marker m = { .type = VMDK_MARKER_GRAIN, .value = p->off / VMDK_SECTOR };
	struct qcow2_codec *k;
	int64_t n;

	if (td_is_zero(w->in, p->s->grain_bytes))
		return 0;
	k = td_codec_mine();
	n = k ? vmdk_grain_deflate(k, w->in, p->s->grain_bytes, p->out + VMDK_GRAIN_MARKER) : -ENOMEM;
	if (n < 0)
		return (int)n;
	m.size = (uint32_t)n;
	vmdk_marker_encode(&m, p->out);
	p->len = td_align_up(VMDK_GRAIN_MARKER + (size_t)n, VMDK_SECTOR);
	memset(p->out + VMDK_GRAIN_MARKER + n, 0, p->len - VMDK_GRAIN_MARKER - (size_t)n);
	return 0;
}

static int deflate_in(struct packed *p, const uint8_t *in)
{
	struct deflate w = { .p = p, .in = in };

	return td_pool_run(p->s->im->env->pool, deflate_work, &w);
}

/* Behind the end of the disk are zeros. */
static int deflate_copy(struct packed *p)
{
	const uint32_t grain = p->s->grain_bytes;
	uint8_t *copy = td_buf_alloc(grain);
	int r;

	if (!copy)
		return -ENOMEM;
	td_iov_to_buf(&p->iov, copy);
	memset(copy + p->iov.len, 0, grain - p->iov.len);
	r = deflate_in(p, copy);
	td_buf_free(copy, grain);
	return r;
}

static int deflate_grain(void *arg)
{
	struct packed *p = arg;
	const struct iovec *v = p->iov.vec;

	if (p->iov.len == p->s->grain_bytes && v->iov_len - p->iov.skip >= p->iov.len)
		return deflate_in(p, (const uint8_t *)v->iov_base + p->iov.skip);
	return deflate_copy(p);
}

/* ---- requests ---- */

/* Up to PARALLEL grains from *done on. */
static int deflate_some(struct vmdk_stream *s, uint64_t off, const struct td_iov *iov, uint64_t *done,
			struct packed *p, unsigned *ret_nr)
{
	struct td_join j = { 0 };
	unsigned n = 0;
	int r = 0, r2;

	for (; n < PARALLEL && r == 0 && *done < iov->len; n++) {
		const uint64_t len = TD_MIN(iov->len - *done, (uint64_t)s->grain_bytes);

		p[n] = (struct packed){ .s = s, .off = off + *done, .iov = td_iov_slice(iov, *done, len) };
		p[n].out = td_buf_alloc(packed_max(s));
		if (p[n].out)
			td_join_start(&j, deflate_grain, &p[n]);
		else
			r = -ENOMEM;
		*done += len;
	}
	r2 = td_join_wait(&j);
	*ret_nr = n;
	return r < 0 ? r : r2;
}

static void free_packed(const struct vmdk_stream *s, const struct packed *p, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		if (p[i].out)
			td_buf_free(p[i].out, packed_max(s));
}

static void wait_turn(struct vmdk_stream *s, uint64_t ticket)
{
	while (s->served != ticket)
		td_waitq_wait(&s->waiting);
}

/* Whoever comes behind a failure fails, too. */
static int end_turn(struct vmdk_stream *s, int r)
{
	if (s->result == 0)
		s->result = r;
	s->served++;
	td_waitq_wake_all(&s->waiting);
	return s->result;
}

static int write_grains(struct vmdk_stream *s, uint64_t ticket, uint64_t off, const struct td_iov *iov)
{
	struct packed p[PARALLEL];
	uint64_t done = 0;
	int r = 0;

	while (r == 0 && done < iov->len) {
		unsigned nr;

		r = deflate_some(s, off, iov, &done, p, &nr);
		wait_turn(s, ticket);
		if (r == 0)
			r = s->result;
		for (unsigned i = 0; r == 0 && i < nr; i++)
			r = append_grain(s, &p[i]);
		free_packed(s, p, nr);
	}
	return r;
}

/* Whole grains that nobody was behind yet. */
static int take(struct vmdk_stream *s, uint64_t off, uint64_t len)
{
	const uint64_t end = off + len;

	if (s->result < 0)
		return s->result;
	if (off % s->grain_bytes || (end % s->grain_bytes && end != s->im->size) || off < s->next)
		return -EINVAL;
	s->next = end;
	return 0;
}

int vmdk_stream_pwritev(struct vmdk_stream *s, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	uint64_t ticket;
	int r = flags & TD_FUA ? -ENOTSUP : take(s, off, iov->len);

	if (r < 0)
		return r;
	ticket = s->tickets++;
	return end_turn(s, write_grains(s, ticket, off, iov));
}

/* There is nothing in the file then. */
int vmdk_stream_zero(struct vmdk_stream *s, uint64_t off, uint64_t len)
{
	return take(s, off, len);
}

/* Nothing is read, so it matters only that there are zeros behind what was written. */
int vmdk_stream_extent(const struct vmdk_stream *s, uint64_t off, uint64_t len, struct td_extent *ret)
{
	const bool data = off < s->next;

	*ret = (struct td_extent){
		.kind = data ? TD_EXTENT_DATA : TD_EXTENT_ZERO,
		.allocated = data,
		.len = data ? TD_MIN(len, s->next - off) : len,
	};
	return 0;
}

/* ---- from the start to the end ---- */

int vmdk_stream_create(struct td_image *file, uint64_t sectors, const char *text, size_t text_len,
		       struct td_err *ret_err)
{
	struct vmdk_header h;
	uint8_t *buf;
	int r = vmdk_stream_lay_out(sectors, &h, ret_err);

	if (r < 0)
		return r;
	if (sectors == 0)
		return td_err_set(ret_err, -EINVAL,
				  "the size of a stream has to be known when it begins, and it cannot be 0");
	if (file->size > 0)
		return td_err_set(ret_err, -ENOTSUP,
				  "a stream's end has to be its file's: it cannot be made on a device");
	if (text_len > h.desc_len * VMDK_SECTOR)
		return td_err_set(ret_err, -ENAMETOOLONG,
				  "its descriptor does not fit into %u bytes: a shorter name would",
				  (unsigned)(h.desc_len * VMDK_SECTOR));
	buf = td_buf_alloc(h.overhead * VMDK_SECTOR);
	if (!buf)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	memset(buf, 0, h.overhead * VMDK_SECTOR);
	vmdk_header_encode(&h, buf);
	memcpy(buf + h.desc * VMDK_SECTOR, text, text_len);
	r = td_image_pwrite(file, 0, buf, h.overhead * VMDK_SECTOR, 0);
	td_buf_free(buf, h.overhead * VMDK_SECTOR);
	return r < 0 ? td_err_set(ret_err, r, "cannot be written: %s", strerror(-r)) : 0;
}

/* Is it as vmdk_stream_create left it? */
static int check_new(struct vmdk_stream *s, struct td_err *ret_err)
{
	uint8_t head[VMDK_SECTOR], made[VMDK_SECTOR];
	int r = td_image_pread(s->im->child, 0, head, sizeof(head), TD_EXACT);

	if (r < 0)
		return r;
	r = vmdk_header_decode(head, &s->h, ret_err);
	if (r < 0)
		return r;
	r = vmdk_stream_lay_out(s->h.capacity, &s->h, ret_err);
	if (r < 0)
		return r;
	vmdk_header_encode(&s->h, made);
	if (memcmp(head, made, sizeof(head)) != 0 || s->im->child->size != s->h.overhead * VMDK_SECTOR)
		return vmdk_refuse_write("a stream is written once, and this one was", ret_err);
	return 0;
}

static void stream_free(struct vmdk_stream *s)
{
	if (s->buf)
		td_buf_free(s->buf, WRITE_BYTES);
	free(s->dir);
	free(s->table);
	free(s);
}

static void set_limits(const struct vmdk_stream *s)
{
	struct td_image *im = s->im;

	im->size = s->h.capacity * VMDK_SECTOR;
	im->limits = im->child->limits;
	im->limits.max_transfer = 0;
	im->limits.trim_granularity = 0;
	im->limits.zero_efficient = true;
	im->limits.cluster_size = s->grain_bytes;
	im->limits.once = true;
}

int vmdk_stream_open(struct td_image *im, struct vmdk_stream **ret, struct td_err *ret_err)
{
	struct vmdk_stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	s->im = im;
	r = check_new(s, ret_err);
	if (r < 0) {
		stream_free(s);
		return r;
	}
	s->grain_bytes = (uint32_t)(s->h.grain * VMDK_SECTOR);
	s->at = s->h.overhead * VMDK_SECTOR;
	s->dir = calloc(vmdk_tables(&s->h), sizeof(*s->dir));
	s->table = calloc(s->h.per_table, sizeof(*s->table));
	s->buf = td_buf_alloc(WRITE_BYTES);
	if (!s->dir || !s->table || !s->buf) {
		stream_free(s);
		return td_err_set(ret_err, -ENOMEM, "no memory");
	}
	set_limits(s);
	*ret = s;
	return 0;
}

static int finish(struct vmdk_stream *s)
{
	uint8_t footer[VMDK_SECTOR];
	uint32_t gd = 0;
	int r = end_table(s);

	if (r == 0)
		r = append_entries(s, VMDK_MARKER_DIRECTORY, s->dir, vmdk_tables(&s->h), &gd);
	if (r < 0)
		return r;
	s->h.gd = gd;
	vmdk_header_encode(&s->h, footer);
	r = append_marker(s, VMDK_MARKER_FOOTER, 1);
	if (r == 0)
		r = append(s, footer, sizeof(footer));
	if (r == 0)
		r = append_marker(s, VMDK_MARKER_END, 0);
	if (r == 0 && s->used > 0)
		r = write_buf(s);
	return r == 0 ? td_image_flush(s->im->child) : r;
}

int vmdk_stream_close(struct vmdk_stream *s)
{
	int r = s->result;

	if (r == 0)
		r = s->im->frozen ? -EIO : finish(s);
	stream_free(s);
	return r;
}
