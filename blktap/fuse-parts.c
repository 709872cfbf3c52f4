// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk's partitions; see fuse-parts.h.
 *
 * Read are the head and the tail of the disk (GPT stands at both), and, where the first sector names an extended
 * partition, the chain of sectors that describe its logical ones: bounded, for a chain may be a circle.  These bytes
 * are looked at only to know what to read; what they mean is libblkid's to say.
 */
#include "fuse-parts.h"
#include "config.h"

#ifdef HAVE_BLKID

#include <blkid/blkid.h>
#include <blktap/log.h>
#include <endian.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTOR     512u
#define ENDS       (256u << 10) /* the largest usual GPT has 17 KiB, 24 KiB with sectors of 4 KiB */
#define CHAIN_MAX  FUSE_PARTS_MAX
#define ENTRY_AT   446u
#define ENTRY_SIZE 16u
#define SIGN_AT    510u

struct fuse_parts_reader {
	struct td_vbd *vbd;
	struct td_req req;
	struct iovec vec;
	int fd; /* in memory, and as large as the disk */
	char *buf;
	uint64_t size;
	uint64_t extended; /* where the extended partition begins; 0: there is none */
	unsigned chain;    /* sectors of the chain that have been read */
	int failed;
	struct fuse_parts parts;
	void (*done)(void *arg, int result, const struct fuse_parts *parts);
	void *arg;
};

/* ---- what the table says ---- */

static const char *refusal(const struct fuse_parts_reader *r, int n, const struct fuse_part *p)
{
	if (n < 1 || n > FUSE_PARTS_MAX)
		return "has no number from 1 to 128";
	if (r->parts.part[n].len > 0)
		return "has the number of another";
	if (!td_in_range(p->start, p->len, r->size))
		return "reaches beyond the end of the disk";
	for (int i = 1; i <= FUSE_PARTS_MAX; i++) {
		const struct fuse_part *o = &r->parts.part[i];

		if (td_overlap(p->start, p->len, o->start, o->len))
			return "overlaps another";
	}
	return NULL;
}

static void add(struct fuse_parts_reader *r, blkid_partition bp)
{
	uint64_t start = (uint64_t)blkid_partition_get_start(bp),
		 len = (uint64_t)blkid_partition_get_size(bp);
	int n = blkid_partition_get_partno(bp);
	struct fuse_part p = { 0 };
	const char *why;

	if (len == 0 || blkid_partition_is_extended(bp))
		return;
	if (start > UINT64_MAX / SECTOR || len > UINT64_MAX / SECTOR)
		p = (struct fuse_part){ .start = UINT64_MAX, .len = SECTOR };
	else
		p = (struct fuse_part){ .start = start * SECTOR, .len = len * SECTOR };
	why = refusal(r, n, &p);
	if (why)
		td_warn("partition %d is left out: it %s", n, why);
	else
		r->parts.part[n] = p;
}

static void probe(struct fuse_parts_reader *r)
{
	blkid_probe pr = blkid_new_probe();
	blkid_partlist list = NULL;

	if (pr && blkid_probe_set_device(pr, r->fd, 0, 0) == 0)
		list = blkid_probe_get_partitions(pr); /* NULL: no table */
	for (int i = 0; list && i < blkid_partlist_numof_partitions(list); i++) {
		blkid_partition bp = blkid_partlist_get_partition(list, i);

		if (bp)
			add(r, bp);
	}
	blkid_free_probe(pr);
}

/* ---- reading: one piece after the other ---- */

static void finish(struct fuse_parts_reader *r, int result)
{
	if (result == 0)
		result = r->failed;
	if (result == 0)
		probe(r);
	td_ignore(ftruncate(r->fd, 0)); /* its memory back */
	r->done(r->arg, result, &r->parts);
}

static void piece_done(struct td_req *req, int result);

static void read_piece(struct fuse_parts_reader *r, uint64_t off, uint64_t len)
{
	r->req = (struct td_req){ .op = TD_REQ_READ, .off = off, .len = len, .done = piece_done };
	r->req.iov = td_iov_buf(&r->vec, r->buf, len);
	td_vbd_submit(r->vbd, &r->req);
}

/* The first extended partition, or link of the chain, that this sector names: in sectors; 0: none. */
static uint64_t link_in(const char *sector)
{
	if ((unsigned char)sector[SIGN_AT] != 0x55 || (unsigned char)sector[SIGN_AT + 1] != 0xaa)
		return 0;
	for (const char *e = sector + ENTRY_AT; e < sector + SIGN_AT; e += ENTRY_SIZE) {
		unsigned char type = (unsigned char)e[4];
		uint32_t at;

		memcpy(&at, e + 8, sizeof(at));
		if (type == 0x05 || type == 0x0f || type == 0x85)
			return le32toh(at);
	}
	return 0;
}

/* A sector of the chain counts from the beginning of the extended partition. */
static void read_next(struct fuse_parts_reader *r)
{
	uint64_t link = link_in(r->buf) * SECTOR, at = r->extended + link;

	if (r->extended == 0)
		r->extended = link;
	if (link == 0 || r->chain++ == CHAIN_MAX || !td_in_range(at, SECTOR, r->size))
		finish(r, 0);
	else
		read_piece(r, at, SECTOR);
}

/* The tail first, then the head, which is the first sector of a chain. */
static void piece_done(struct td_req *req, int result)
{
	struct fuse_parts_reader *r = td_container_of(req, struct fuse_parts_reader, req);

	if (result == 0 && pwrite(r->fd, r->buf, req->len, (off_t)req->off) != (ssize_t)req->len)
		result = -ENOMEM;
	if (result < 0)
		finish(r, result);
	else if (req->off > 0 && r->chain == 0)
		read_piece(r, 0, TD_MIN(r->size, ENDS));
	else
		read_next(r);
}

void fuse_parts_read(struct fuse_parts_reader *r,
		     void (*done)(void *arg, int result, const struct fuse_parts *parts), void *arg)
{
	r->done = done;
	r->arg = arg;
	r->size = td_align_down(td_vbd_size(r->vbd), SECTOR);
	r->extended = 0;
	r->chain = 0;
	memset(&r->parts, 0, sizeof(r->parts));
	r->failed = ftruncate(r->fd, (off_t)r->size) < 0 ? -errno : 0; /* told when done() may be called */
	if (r->size > ENDS)
		read_piece(r, td_align_down(r->size - TD_MIN(r->size - ENDS, ENDS), SECTOR),
			   TD_MIN(r->size - ENDS, ENDS));
	else
		read_piece(r, 0, r->size);
}

/* ---- */

int fuse_parts_reader_new(struct td_vbd *vbd, struct fuse_parts_reader **ret, struct td_err *ret_err)
{
	struct fuse_parts_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return td_err_set(ret_err, -ENOMEM, "no memory for a partition table");
	r->vbd = vbd;
	r->fd = memfd_create("partition-table", MFD_CLOEXEC);
	r->buf = aligned_alloc(4096, ENDS);
	if (r->fd < 0 || !r->buf) {
		int e = r->fd < 0 ? -errno : -ENOMEM;

		fuse_parts_reader_free(r);
		return td_err_set(ret_err, e, "cannot make room for a partition table: %s",
				  strerrordesc_np(-e));
	}
	*ret = r;
	return 0;
}

void fuse_parts_reader_free(struct fuse_parts_reader *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		close(r->fd);
	free(r->buf);
	free(r);
}

#else

int fuse_parts_reader_new(struct td_vbd *vbd, struct fuse_parts_reader **ret, struct td_err *ret_err)
{
	(void)vbd;
	(void)ret;
	return td_err_set(ret_err, -ENOTSUP,
			  "built without libblkid: the disk is shown, its partitions are not");
}

void fuse_parts_reader_free(struct fuse_parts_reader *r)
{
	(void)r;
}

/* There is no reader that could be given. */
void fuse_parts_read(struct fuse_parts_reader *r,
		     void (*done)(void *arg, int result, const struct fuse_parts *parts), void *arg)
{
	(void)r, (void)done, (void)arg;
}

#endif
