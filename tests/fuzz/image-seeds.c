// SPDX-License-Identifier: BSD-2-Clause
/*
 * Seeds: our create, some writes, zeros and holes, and by hand what this driver does not write: compressed clusters.
 */
#include "image-seeds.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "image-input.h"
#include "testenv.h"

struct seed {
	uint64_t size;
	const char *opts;
	bool dirty;  /* not closed */
	bool packed; /* one compressed cluster */
};

static const struct seed seeds[] = {
	{ 1 << 20, "cluster_size=512", false, false },
	{ 1 << 20, "cluster_size=512,refcount_bits=64", false, false },
	{ 1 << 20, "cluster_size=4096,refcount_bits=1", false, false },
	{ 3 << 20, "cluster_size=65536", false, false },
	{ 1ull << 40, "cluster_size=65536", false, false },
	{ 5 << 20, "cluster_size=2M,refcount_bits=2", false, false },
	{ 3 << 20, "cluster_size=16K,extended_l2=on", false, false },
	{ 3 << 20, "cluster_size=64K,extended_l2=on,backing_file=base.raw,backing_fmt=raw", false, false },
	{ 1 << 20, "cluster_size=4096,compat=0.10", false, false },
	{ 1 << 20, "cluster_size=512,lazy_refcounts=on", true, false },
	{ 1 << 20, "cluster_size=65536,lazy_refcounts=on", true, false },
	{ 1 << 20, "cluster_size=4096,backing_file=base.raw,backing_fmt=raw", false, false },
	{ 1 << 20, "cluster_size=512,backing_file=base.raw,backing_fmt=raw,compat=0.10", false, false },
	{ 1 << 20, "cluster_size=4096", false, true },
	{ 1 << 20, "cluster_size=65536,compression_type=zstd", false, true },
	{ (1 << 20) + 512, "cluster_size=1024,refcount_bits=8", false, true },
};

static void fill(struct testenv *t, struct td_image *im)
{
	uint8_t buf[3000];

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + i / 256);
	FUZZ_CHECK(test_write(t, im, 0, buf, 1024, 0) == 0);
	FUZZ_CHECK(test_write(t, im, 300000, buf, sizeof(buf), 0) == 0);
	FUZZ_CHECK(test_write(t, im, 700 << 10, buf, 512, 0) == 0);
	td_ignore(test_zero(t, im, 128 << 10, 128 << 10, 0)); /* version 2 with a backing image cannot */
	td_ignore(test_zero(t, im, 300000, 1000, TD_MAY_UNMAP));
}

static uint8_t *load(const char *path, uint64_t *ret_len)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	uint8_t *raw;

	FUZZ_CHECK(fd >= 0 && fstat(fd, &st) == 0);
	/* A grown file that was not closed ends in zeros. */
	*ret_len = (uint64_t)st.st_size;
	raw = malloc(*ret_len + 1);
	FUZZ_CHECK(raw && read(fd, raw, *ret_len) == (ssize_t)*ret_len);
	close(fd);
	return raw;
}

/* The first cluster, compressed, at the end of the file. */
static uint8_t *pack_first(uint8_t *raw, uint64_t *len)
{
	struct qcow2_header h;
	struct qcow2_geom g;
	struct qcow2_l2e e = { .kind = QCOW2_PACKED, .host_off = *len };
	uint64_t l2;
	int64_t n;

	FUZZ_CHECK(qcow2_header_decode(raw, *len, &h, NULL) == 0);
	qcow2_geom_of(&h, &g);
	l2 = td_get_be64(raw + h.l1_off) & QCOW2_OFF_MASK;
	raw = realloc(raw, *len + g.cluster_size);
	FUZZ_CHECK(raw);
	n = qcow2_deflate(h.compression, raw + (td_get_be64(raw + l2) & QCOW2_OFF_MASK), g.cluster_size,
			  raw + *len, g.cluster_size);
	FUZZ_CHECK(n > 0);
	e.packed_len = (uint64_t)n;
	td_put_be64(raw + l2, qcow2_l2e_encode(&g, &e));
	*len += (uint64_t)n;
	return raw;
}

size_t image_seed(unsigned i, uint8_t *buf, size_t max)
{
	struct testenv *t = fuzz_env();
	const char *path = testenv_path(t, "seed");
	struct td_image *im;
	uint64_t raw_len;
	uint8_t *raw;
	size_t len;

	if (i >= TD_NELEMS(seeds))
		return 0;
	unlink(path);
	FUZZ_CHECK(test_create(t, seeds[i].size, seeds[i].opts, true, "qcow2(direct=off):%s", path) == 0);
	FUZZ_CHECK(test_open(t, &im, 0, "qcow2(direct=off):%s", path) == 0);
	fill(t, im);
	if (seeds[i].dirty)
		FUZZ_CHECK(test_flush(t, im) == 0);
	else
		FUZZ_CHECK(test_close(t, im) == 0);
	raw = load(path, &raw_len);
	if (seeds[i].dirty)
		FUZZ_CHECK(test_close(t, im) == 0);
	if (seeds[i].packed)
		raw = pack_first(raw, &raw_len);
	len = input_encode(i, raw, raw_len, buf, max);
	FUZZ_CHECK(len > 0);
	free(raw);
	return len;
}
