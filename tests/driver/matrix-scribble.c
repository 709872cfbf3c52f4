// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fills every free cluster of a closed qcow2 file with noise, as if its file system could not punch holes: what was
 * freed holds old bytes, and whoever hands it out again has to bear that.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blktap/qcow2.h>

#include "matrix-shape.h"

struct file {
	int fd;
	uint64_t size;
	struct qcow2_header h;
	struct qcow2_geom g;
	uint64_t *reftable;
	uint8_t *block, *noise;
};

/* The whole of it; what is past the end is zeros. */
static int get(const struct file *f, uint64_t off, void *buf, size_t len)
{
	ssize_t n;

	memset(buf, 0, len);
	n = pread(f->fd, buf, len, (off_t)off);
	return n < 0 ? -errno : 0;
}

static int put_noise(struct file *f, uint64_t cluster)
{
	uint64_t off = cluster << f->g.cluster_bits, len = TD_MIN(f->g.cluster_size, f->size - off);

	return pwrite(f->fd, f->noise, len, (off_t)off) == (ssize_t)len ? 0 : -EIO;
}

/* Clusters that one refcount block counts. */
static int scribble_block(struct file *f, uint64_t idx, unsigned *count)
{
	uint64_t first = idx * f->g.refblock_entries, nr = td_div_up(f->size, f->g.cluster_size);
	struct qcow2_reftable_entry e;
	int r = qcow2_reftable_decode(&f->g, be64toh(f->reftable[idx]), &e);

	memset(f->block, 0, f->g.cluster_size);
	if (r == 0 && e.present)
		r = get(f, e.host_off, f->block, f->g.cluster_size);
	for (uint64_t i = 0; r == 0 && i < f->g.refblock_entries && first + i < nr; i++) {
		if (qcow2_refcount_get(&f->g, f->block, i) != 0)
			continue;
		r = put_noise(f, first + i);
		(*count)++;
	}
	return r;
}

static int scribble(struct file *f, uint64_t *rnd, unsigned *count)
{
	uint8_t head[512];
	struct td_err e;
	struct stat st;
	size_t bytes;
	int r = get(f, 0, head, sizeof(head));

	if (r == 0)
		r = qcow2_header_decode(head, sizeof(head), &f->h, &e);
	if (r == 0 && fstat(f->fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return r;
	f->size = (uint64_t)st.st_size;
	qcow2_geom_of(&f->h, &f->g);
	bytes = (size_t)f->h.reftable_clusters << f->g.cluster_bits;
	f->reftable = malloc(bytes);
	f->block = malloc(f->g.cluster_size);
	f->noise = malloc(f->g.cluster_size);
	if (!f->reftable || !f->block || !f->noise)
		return -ENOMEM;
	for (uint64_t i = 0; i < f->g.cluster_size; i += 8) {
		uint64_t word = test_random(rnd);

		memcpy(f->noise + i, &word, 8);
	}
	r = get(f, f->h.reftable_off, f->reftable, bytes);
	for (uint64_t i = 0;
	     r == 0 && i < bytes / 8 && i * f->g.refblock_entries << f->g.cluster_bits < f->size; i++)
		r = scribble_block(f, i, count);
	return r;
}

int shape_scribble(struct shape *s, struct testenv *t, unsigned *ret_count)
{
	struct file f = { .fd = open(testenv_path(t, shape_top(s)->name), O_RDWR | O_CLOEXEC) };
	int r = f.fd < 0 ? -errno : 0;

	*ret_count = 0;
	if (r == 0)
		r = scribble(&f, &s->rnd, ret_count);
	if (f.fd >= 0)
		(void)close(f.fd);
	free(f.reftable);
	free(f.block);
	free(f.noise);
	if (r < 0)
		printf("scribble: %s\n", strerror(-r));
	return r;
}
