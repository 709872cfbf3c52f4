// SPDX-License-Identifier: BSD-2-Clause
#include "simfile.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

void *sim_alloc(size_t len)
{
	void *p = calloc(1, len ? len : 1);

	if (!p)
		sim_die("no memory");
	return p;
}

void sim_die(const char *what)
{
	(void)fprintf(stderr, "simdisk: %s: %m\n", what);
	abort();
}

/* ---- content ---- */

/* Before a change: the bytes are this content's alone, and none else sees it. */
static void content_own(struct sim_content *c)
{
	const struct sim_content old = *c;

	if (old.sharers && *old.sharers == 1)
		return;
	c->sharers = sim_alloc(sizeof(*c->sharers));
	*c->sharers = 1;
	c->max = old.size;
	c->bytes = old.size ? malloc(old.size) : NULL;
	if (old.size && !c->bytes)
		sim_die("no memory");
	if (old.size)
		memcpy(c->bytes, old.bytes, old.size);
	if (old.sharers)
		--*old.sharers;
}

static void content_drop(struct sim_content *c)
{
	if (c->sharers && --*c->sharers == 0) {
		free(c->bytes);
		free(c->sharers);
	}
	*c = (struct sim_content){ 0 };
}

static void content_resize(struct sim_content *c, uint64_t size)
{
	if (size > SIM_FILE_MAX)
		sim_die("a file of more than 64 MiB");
	content_own(c);
	if (size > c->max) {
		c->max = TD_MAX(size, 2 * c->max);
		c->bytes = realloc(c->bytes, c->max);
		if (!c->bytes)
			sim_die("no memory");
	}
	if (size > c->size)
		memset(c->bytes + c->size, 0, size - c->size);
	c->size = size;
}

struct sim_content sim_content_copy(const struct sim_content *c)
{
	if (c->sharers)
		++*c->sharers;
	return *c;
}

uint64_t sim_op_pieces(const struct sim_op *op)
{
	if (op->op == TD_IO_TRUNCATE || op->len == 0)
		return 1;
	return (op->off + op->len - 1) / SIM_SECTOR - op->off / SIM_SECTOR + 1;
}

/* [off, off + len) of the operation, which lies in one sector. */
static void apply_piece(struct sim_content *c, const struct sim_op *op, uint64_t off, uint64_t len)
{
	bool grows = op->op == TD_IO_WRITE || !(op->mode & FALLOC_FL_KEEP_SIZE);

	if (off + len > c->size && grows)
		content_resize(c, off + len);
	if (off >= c->size)
		return;
	content_own(c);
	len = TD_MIN(len, c->size - off);
	if (op->op == TD_IO_WRITE)
		memcpy(c->bytes + off, op->data + (off - op->off), len);
	else if (op->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(c->bytes + off, 0, len);
}

void sim_op_apply(struct sim_content *c, const struct sim_op *op, bool (*keep)(void *arg), void *arg)
{
	uint64_t n;

	if (op->op == TD_IO_TRUNCATE) {
		if (!keep || keep(arg))
			content_resize(c, op->off);
		return;
	}
	for (uint64_t off = op->off; off < op->off + op->len; off += n) {
		n = TD_MIN(SIM_SECTOR - off % SIM_SECTOR, op->off + op->len - off);
		if (!keep || keep(arg))
			apply_piece(c, op, off, n);
	}
}

/* ---- operations ---- */

static void op_unref(struct sim_op *op)
{
	if (--op->refs > 0)
		return;
	free(op->data);
	free(op);
}

void sim_file_note(struct sim_file *f, enum td_io_op op, int mode, uint64_t off, uint64_t len, char *data)
{
	struct sim_op *new = sim_alloc(sizeof(*new));

	*new = (struct sim_op){ .refs = 1, .op = op, .mode = mode, .off = off, .len = len, .data = data };
	if (f->nr_ops == f->max_ops) {
		f->max_ops = f->max_ops ? 2 * f->max_ops : 16;
		f->op = reallocarray(f->op, f->max_ops, sizeof(void *));
		if (!f->op)
			sim_die("no memory");
	}
	f->op[f->nr_ops++] = new;
}

void sim_file_sync(struct sim_file *f, uint64_t mark, bool (*keep)(void *arg), void *arg)
{
	uint64_t n = mark > f->gone ? TD_MIN(mark - f->gone, f->nr_ops) : 0;

	for (uint64_t i = 0; i < n; i++) {
		sim_op_apply(&f->durable, f->op[i], keep, arg);
		op_unref(f->op[i]);
	}
	if (n > 0)
		memmove(f->op, f->op + n, (f->nr_ops - n) * sizeof(void *));
	f->nr_ops -= n;
	f->gone += n;
}

/* ---- files ---- */

static int reopen(int fd)
{
	char path[64];
	int copy;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	copy = open(path, O_RDWR | O_CLOEXEC);
	if (copy < 0)
		sim_die("cannot open a file for itself");
	return copy;
}

struct sim_file *sim_file_new(int fd)
{
	struct sim_file *f = sim_alloc(sizeof(*f));
	struct stat st;

	f->fd = reopen(fd);
	if (fstat(f->fd, &st) < 0)
		sim_die("fstat");
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	sim_file_settle(f);
	return f;
}

struct sim_file *sim_file_clone(const struct sim_file *f)
{
	struct sim_file *copy = sim_alloc(sizeof(*copy));

	*copy = *f;
	copy->fd = reopen(f->fd);
	copy->durable = sim_content_copy(&f->durable);
	copy->max_ops = f->nr_ops;
	copy->op = sim_alloc(f->nr_ops * sizeof(void *));
	for (uint64_t i = 0; i < f->nr_ops; i++) {
		copy->op[i] = f->op[i];
		f->op[i]->refs++;
	}
	return copy;
}

static void drop_ops(struct sim_file *f)
{
	for (uint64_t i = 0; i < f->nr_ops; i++)
		op_unref(f->op[i]);
	f->gone += f->nr_ops;
	f->nr_ops = 0;
}

void sim_file_free(struct sim_file *f)
{
	drop_ops(f);
	free(f->op);
	content_drop(&f->durable);
	(void)close(f->fd);
	free(f);
}

void sim_file_settle(struct sim_file *f)
{
	struct stat st;

	drop_ops(f);
	if (fstat(f->fd, &st) < 0)
		sim_die("fstat");
	f->durable.size = 0;
	content_resize(&f->durable, (uint64_t)st.st_size);
	if (pread(f->fd, f->durable.bytes, f->durable.size, 0) != (ssize_t)f->durable.size)
		sim_die("cannot read a file");
}

static bool all_zero(const char *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

void sim_file_fill(struct sim_file *f, struct sim_content c)
{
	const uint64_t block = 4096;

	drop_ops(f);
	content_drop(&f->durable);
	f->durable = c;
	if (ftruncate(f->fd, 0) < 0 || ftruncate(f->fd, (off_t)c.size) < 0)
		sim_die("ftruncate");
	for (uint64_t off = 0, n; off < c.size; off += n) {
		n = TD_MIN(block, c.size - off);
		if (!all_zero(c.bytes + off, n) && pwrite(f->fd, c.bytes + off, n, (off_t)off) != (ssize_t)n)
			sim_die("cannot write a file");
	}
}
