// SPDX-License-Identifier: BSD-2-Clause
/*
 * The codec against QEMU: what qemu-img writes decodes, walks and encodes again to the same bytes; what our
 * layout and encoders make is clean to qemu-img check.  Skipped where qemu-img is not installed.
 */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

static char dir[] = "/tmp/td-interop-XXXXXX";
static char image[64];

/* Exit code of a shell command line. */
static int sh(const char *line)
{
	int status = system(line);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static uint8_t *slurp(size_t *ret_len)
{
	FILE *f = fopen(image, "r");
	uint8_t *buf;
	long len;

	assert_non_null(f);
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	len = ftell(f);
	assert_true(len > 0);
	rewind(f);
	buf = malloc((size_t)len);
	assert_non_null(buf);
	assert_int_equal(fread(buf, 1, (size_t)len, f), len);
	fclose(f);
	*ret_len = (size_t)len;
	return buf;
}

/* Each entry decodes to what it encodes from; each compressed cluster inflates. */
static void walk_l2(const struct qcow2_header *h, const struct qcow2_geom *g, const uint8_t *file, size_t len,
		    uint64_t l2_off)
{
	td_cleanup(free) uint8_t *out = malloc(g->cluster_size);
	struct qcow2_l2e e;

	assert_non_null(out);
	assert_true(td_in_range(l2_off, g->cluster_size, len));
	for (uint64_t i = 0; i < 1ull << g->l2_bits; i++) {
		uint64_t raw = td_get_be64(file + l2_off + 8 * i);

		assert_int_equal(qcow2_l2e_decode(g, h->version, raw, &e), 0);
		assert_false(e.reserved);
		assert_int_equal(qcow2_l2e_encode(g, &e), raw);
		if (e.kind == QCOW2_PACKED)
			assert_int_equal(qcow2_inflate(h->compression, file + e.host_off,
						       TD_MIN(e.packed_len, len - e.host_off), out,
						       g->cluster_size),
					 0);
	}
}

static unsigned walk_l1(const struct qcow2_header *h, const struct qcow2_geom *g, const uint8_t *file,
			size_t len)
{
	struct qcow2_l1e e;
	unsigned present = 0;

	for (uint32_t i = 0; i < h->l1_size; i++) {
		uint64_t raw = td_get_be64(file + h->l1_off + 8ull * i);

		assert_int_equal(qcow2_l1e_decode(g, raw, &e), 0);
		assert_false(e.reserved);
		assert_int_equal(qcow2_l1e_encode(&e), raw);
		present += e.present;
		if (e.present)
			walk_l2(h, g, file, len, e.host_off);
	}
	return present;
}

/* Clusters with a refcount that is not 0. */
static uint64_t count_refcounts(const struct qcow2_header *h, const struct qcow2_geom *g, const uint8_t *file)
{
	uint64_t n = 0, entries = h->reftable_clusters * g->cluster_size / 8;
	struct qcow2_reftable_entry e;

	for (uint64_t i = 0; i < entries; i++) {
		assert_int_equal(qcow2_reftable_decode(g, td_get_be64(file + h->reftable_off + 8 * i), &e),
				 0);
		for (uint64_t j = 0; e.present && j < g->refblock_entries; j++)
			n += qcow2_refcount_get(g, file + e.host_off, j) != 0;
	}
	return n;
}

static void qemus_images_decode_and_encode_to_the_same_bytes(void **state)
{
	static const char *const options[] = {
		"compat=0.10",
		"cluster_size=512",
		"cluster_size=2M",
		"refcount_bits=1",
		"refcount_bits=64",
		"cluster_size=4k,refcount_bits=2,lazy_refcounts=on",
		"compat=0.10,cluster_size=1k",
		"compression_type=zlib,refcount_bits=8",
	};
	char line[512];

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(options); i++) {
		td_cleanup(free) uint8_t *file = NULL;
		struct qcow2_header h;
		struct qcow2_geom g;
		uint8_t again[112];
		struct td_err e;
		size_t len;

		snprintf(line, sizeof(line),
			 "exec >&2; qemu-img create -q -f qcow2 -o %s %s 30M && "
			 "qemu-io -f qcow2 -c 'write -q -P 7 5M 100k' -c 'write -q -z 6M 300k' %s",
			 options[i], image, image);
		assert_int_equal(sh(line), 0);
		file = slurp(&len);
		if (qcow2_header_decode(file, len, &h, &e) < 0)
			fail_msg("%s: %s", options[i], e.msg);
		assert_int_equal(qcow2_header_supported(&h, 0, NULL, 0, &e), 0);
		memcpy(again, file, sizeof(again));
		memset(again, 0xee, TD_MIN(h.header_len, 104u));
		assert_int_equal(qcow2_header_encode(&h, again, sizeof(again)), h.header_len);
		assert_memory_equal(again, file, sizeof(again));
		qcow2_geom_of(&h, &g);
		assert_true(walk_l1(&h, &g, file, len) >= 1);
		assert_true(count_refcounts(&h, &g, file) >= 5);
	}
}

static void qemus_compressed_clusters_inflate(void **state)
{
	static const char *const options[] = { "cluster_size=512", "cluster_size=64k", "cluster_size=2M",
#ifdef HAVE_ZSTD
					       "compression_type=zstd",
#endif
					       "compat=0.10" };
	char line[512];

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(options); i++) {
		td_cleanup(free) uint8_t *file = NULL;
		struct qcow2_header h;
		struct qcow2_geom g;
		size_t len;

		snprintf(line, sizeof(line), "exec >&2; qemu-img convert -c -f raw -O qcow2 -o %s /bin/sh %s",
			 options[i], image);
		assert_int_equal(sh(line), 0);
		file = slurp(&len);
		assert_int_equal(qcow2_header_decode(file, len, &h, NULL), 0);
		qcow2_geom_of(&h, &g);
		assert_true(walk_l1(&h, &g, file, len) >= 1);
	}
}

static void qemus_snapshots_are_understood(void **state)
{
	td_cleanup(free) uint8_t *file = NULL;
	struct qcow2_header h;
	struct qcow2_geom g;
	struct qcow2_snapshot s;
	char line[512];
	size_t len, at;

	(void)state;
	snprintf(line, sizeof(line),
		 "exec >&2; qemu-img create -q -f qcow2 %s 30M && qemu-img snapshot -c one %s && "
		 "qemu-img resize -q %s 50M && qemu-img snapshot -c second %s",
		 image, image, image, image);
	assert_int_equal(sh(line), 0);
	file = slurp(&len);
	assert_int_equal(qcow2_header_decode(file, len, &h, NULL), 0);
	qcow2_geom_of(&h, &g);
	assert_int_equal(h.nr_snapshots, 2);
	at = h.snapshots_off;
	assert_int_equal(qcow2_snapshot_decode(&g, file + at, len - at, &s), 0);
	assert_int_equal(s.name_len, 3);
	assert_memory_equal(s.name, "one", 3);
	assert_int_equal(s.disk_size, 30u << 20);
	at += s.entry_len;
	assert_int_equal(qcow2_snapshot_decode(&g, file + at, len - at, &s), 0);
	assert_int_equal(s.name_len, 6);
	assert_memory_equal(s.name, "second", 6);
	assert_memory_equal(s.id, "2", 1);
	assert_int_equal(s.disk_size, 50u << 20);
}

/* An empty image as our layout has it: header, refcount table, blocks of ones, an L1 of zeros. */
static void write_new(struct qcow2_header *h)
{
	struct qcow2_layout l;
	struct qcow2_geom g;
	struct td_err e;
	uint8_t *file;
	size_t pos;
	int fd;

	if (qcow2_layout_new(h, &l, &e) < 0)
		fail_msg("%s", e.msg);
	qcow2_geom_of(h, &g);
	file = calloc(1, l.end);
	assert_non_null(file);
	pos = qcow2_header_encode(h, file, l.end);
	assert_int_equal(qcow2_ext_put(file, g.cluster_size, &pos, 0x5a5a5a5a, "unknown", 7), 0);
	assert_int_equal(qcow2_ext_put(file, g.cluster_size, &pos, QCOW2_EXT_END, NULL, 0), 0);
	for (uint64_t i = 0; i < l.refblocks; i++)
		td_put_be64(file + l.reftable_off + 8 * i, l.refblock_off + i * g.cluster_size);
	/* The blocks are contiguous: one array of refcounts. */
	for (uint64_t i = 0; i < l.end / g.cluster_size; i++)
		assert_int_equal(qcow2_refcount_set(&g, file + l.refblock_off, i, 1), 0);
	fd = open(image, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, file, l.end), l.end);
	close(fd);
	free(file);
}

static void our_layouts_are_clean_to_qemu(void **state)
{
	static const struct {
		uint32_t version, cluster_bits, order;
		uint64_t size, compatible;
		enum qcow2_compression compression;
	} t[] = {
		{ 2, 16, 4, 1ull << 30, 0, QCOW2_DEFLATE },
		{ 2, 9, 4, 8ull << 30, 0, QCOW2_DEFLATE }, /* an L1 of 2 MiB in 512-byte clusters */
		{ 3, 9, 6, 8ull << 30, 0, QCOW2_DEFLATE },
		{ 3, 9, 0, 1ull << 30, 0, QCOW2_DEFLATE },
		{ 3, 12, 1, 512, QCOW2_COMPAT_LAZY, QCOW2_DEFLATE },
		{ 3, 21, 2, 1ull << 40, 0, QCOW2_ZSTD },
		{ 3, 16, 3, 0, 0, QCOW2_DEFLATE },
		{ 3, 16, 5, 1ull << 50, 0, QCOW2_DEFLATE },
	};
	char line[512];

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(t); i++) {
		struct qcow2_header h = {
			.version = t[i].version,
			.cluster_bits = t[i].cluster_bits,
			.refcount_order = t[i].order,
			.size = t[i].size,
			.compatible = t[i].compatible,
			.compression = t[i].compression,
		};

		write_new(&h);
		snprintf(line, sizeof(line), "qemu-img check -q -f qcow2 %s >&2", image);
		if (sh(line) != 0)
			fail_msg("qemu-img check does not like layout %zu", i);
		if (t[i].size < 1 << 20)
			continue;
		/* And QEMU can write into it. */
		snprintf(line, sizeof(line),
			 "exec >&2; qemu-io -f qcow2 -c 'write -q -P 3 %llu 64k' %s && qemu-img check -q -f "
			 "qcow2 %s",
			 (unsigned long long)(t[i].size / 2), image, image);
		assert_int_equal(sh(line), 0);
	}
}

static int set_up(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(image, sizeof(image), "%s/image.qcow2", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(image);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("QEMU's images decode, walk and encode to the same bytes",
		     qemus_images_decode_and_encode_to_the_same_bytes),
		SAYS("QEMU's compressed clusters inflate", qemus_compressed_clusters_inflate),
		SAYS("QEMU's snapshots are understood", qemus_snapshots_are_understood),
		SAYS("our layouts are clean to qemu-img check", our_layouts_are_clean_to_qemu),
	};

	if (sh("command -v qemu-img >/dev/null && command -v qemu-io >/dev/null") != 0) {
		puts("skipped: qemu-img and qemu-io are not installed (Debian: qemu-utils)");
		return 77;
	}
	return cmocka_run_group_tests_name("qcow2 codec and QEMU", tests, set_up, tear_down);
}
