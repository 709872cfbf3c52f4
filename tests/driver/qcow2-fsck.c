// SPDX-License-Identifier: BSD-2-Clause
/*
 * Count the references to each cluster, compare with the refcounts.  Small files: all of it is in memory.
 */
#include "qcow2-fsck.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPORT_MAX 8u

struct image {
	uint8_t *bytes;
	uint64_t size; /* of the file */
	uint64_t nr;   /* clusters */
	uint32_t *refs;
	bool *whole; /* somebody has all of it, not only a stream in it */
	struct qcow2_geom g;
	struct fsck *f;
};

static void corrupt(struct image *im, const char *what, uint64_t at)
{
	if (im->f->corruptions++ < REPORT_MAX)
		(void)fprintf(stderr, "fsck: %s: %#llx\n", what, (unsigned long long)at);
}

static void add_ref(struct image *im, const char *what, uint64_t host_off, uint64_t len, bool whole)
{
	uint64_t first = host_off / im->g.cluster_size;

	if (len == 0)
		return;
	for (uint64_t c = first; c <= (host_off + len - 1) / im->g.cluster_size; c++) {
		if (c >= im->nr) {
			corrupt(im, what, host_off);
			continue;
		}
		im->refs[c]++;
		im->whole[c] |= whole;
	}
}

static void ref(struct image *im, const char *what, uint64_t host_off, uint64_t len)
{
	add_ref(im, what, host_off, len, true);
}

/* 0 where no block counts it. */
static uint64_t count(const struct image *im, uint64_t cluster)
{
	uint64_t region = cluster / im->g.refblock_entries;
	struct qcow2_reftable_entry e;
	uint64_t entries = (uint64_t)im->f->h.reftable_clusters * im->g.cluster_size / 8;

	if (region >= entries)
		return 0;
	if (qcow2_reftable_decode(&im->g, td_get_be64(im->bytes + im->f->h.reftable_off + region * 8), &e) <
		    0 ||
	    !e.present || !td_in_range(e.host_off, im->g.cluster_size, im->size))
		return 0;
	return qcow2_refcount_get(&im->g, im->bytes + e.host_off, cluster % im->g.refblock_entries);
}

static void check_copied(struct image *im, const char *what, uint64_t host_off, bool copied)
{
	uint64_t n = count(im, host_off / im->g.cluster_size);

	if (!im->f->dirty && copied != (n == 1))
		corrupt(im, what, host_off);
}

/* In a data file each cluster has one place, and nobody else can have it. */
static void check_place(struct image *im, const struct qcow2_l2e *e, uint64_t guest_off)
{
	if (e->host_off != guest_off)
		corrupt(im, "another place in the data file than the guest's own", e->host_off);
	if (!e->copied)
		corrupt(im, "COPIED flag of data in the data file", e->host_off);
}

/* It maps the disk from guest_off on. */
static void walk_l2(struct image *im, uint64_t table, uint64_t guest_off, bool active)
{
	for (uint64_t i = 0; i < im->g.cluster_size; i += 1u << im->g.l2_entry_bits) {
		struct qcow2_l2e e;

		if (qcow2_l2e_read(&im->g, im->f->h.version, im->bytes + table + i, &e) < 0) {
			corrupt(im, "bad L2 entry in table", table);
			continue;
		}
		if (e.kind == QCOW2_HOLE || e.kind == QCOW2_ZERO)
			continue;
		if (im->g.data_file) {
			check_place(im, &e, guest_off + (i >> im->g.l2_entry_bits << im->g.cluster_bits));
		} else if (e.host_off >= im->size) {
			corrupt(im, "data behind the end of the file", e.host_off);
		} else if (e.kind == QCOW2_PACKED) {
			add_ref(im, "packed", e.host_off, TD_MIN(e.packed_len, im->size - e.host_off), false);
		} else {
			ref(im, "data", e.host_off, im->g.cluster_size);
			if (active)
				check_copied(im, "COPIED flag of data", e.host_off, e.copied);
		}
	}
}

static void walk_l1(struct image *im, uint64_t l1_off, uint64_t l1_size, bool active)
{
	if (!td_in_range(l1_off, l1_size * 8, im->size)) {
		corrupt(im, "L1 outside the file", l1_off);
		return;
	}
	ref(im, "L1", l1_off, l1_size * 8);
	for (uint64_t i = 0; i < l1_size; i++) {
		struct qcow2_l1e e;

		if (qcow2_l1e_decode(&im->g, td_get_be64(im->bytes + l1_off + i * 8), &e) < 0)
			corrupt(im, "bad L1 entry", i);
		else if (e.present && !td_in_range(e.host_off, im->g.cluster_size, im->size))
			corrupt(im, "L2 table outside the file", e.host_off);
		else if (e.present) {
			ref(im, "L2 table", e.host_off, im->g.cluster_size);
			if (active)
				check_copied(im, "COPIED flag of an L2 table", e.host_off, e.copied);
			walk_l2(im, e.host_off, i << (im->g.cluster_bits + im->g.l2_bits), active);
		}
	}
}

static void walk_snapshots(struct image *im)
{
	uint64_t at = im->f->h.snapshots_off;

	for (uint32_t i = 0; i < im->f->h.nr_snapshots; i++) {
		struct qcow2_snapshot s;

		if (at >= im->size || qcow2_snapshot_decode(&im->g, im->bytes + at, im->size - at, &s) < 0) {
			corrupt(im, "bad snapshot", at);
			return;
		}
		walk_l1(im, s.l1_off, s.l1_size, false);
		at += s.entry_len;
	}
	ref(im, "snapshot table", im->f->h.snapshots_off, at - im->f->h.snapshots_off);
}

static void walk_crypt(struct image *im)
{
	size_t pos = im->f->h.version == 2 ? QCOW2_HEADER_V2 : im->f->h.header_len;
	struct qcow2_ext e;

	while (qcow2_ext_next(&im->f->h, im->bytes, TD_MIN(im->size, im->g.cluster_size), &pos, &e, NULL) > 0)
		if (e.type == QCOW2_EXT_CRYPT && e.len == 16)
			ref(im, "encryption header", td_get_be64(e.data), td_get_be64(e.data + 8));
}

static void walk_blocks(struct image *im)
{
	uint64_t len = (uint64_t)im->f->h.reftable_clusters * im->g.cluster_size;

	if (!td_in_range(im->f->h.reftable_off, len, im->size)) {
		corrupt(im, "refcount table outside the file", im->f->h.reftable_off);
		im->f->h.reftable_clusters = 0;
		return;
	}
	ref(im, "refcount table", im->f->h.reftable_off, len);
	for (uint64_t i = 0; i < len / 8; i++) {
		struct qcow2_reftable_entry e;

		if (qcow2_reftable_decode(&im->g, td_get_be64(im->bytes + im->f->h.reftable_off + i * 8),
					  &e) < 0)
			corrupt(im, "bad refcount table entry", i);
		else if (e.present && !td_in_range(e.host_off, im->g.cluster_size, im->size))
			corrupt(im, "refcount block outside the file", e.host_off);
		else if (e.present)
			ref(im, "refcount block", e.host_off, im->g.cluster_size);
	}
}

static void compare(struct image *im)
{
	for (uint64_t c = 0; c < im->nr; c++) {
		uint64_t n = count(im, c);

		if (n > im->refs[c])
			im->f->leaks++;
		if (n < im->refs[c] && !im->f->dirty)
			corrupt(im, "referenced more often than counted, cluster", c);
		/* Even where nothing is counted, nobody may share what no snapshot shares. */
		if (im->refs[c] > 1 && im->whole[c] && im->f->dirty && im->f->h.nr_snapshots == 0)
			corrupt(im, "two references to cluster", c);
	}
}

static int load(const char *path, struct image *im)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		r = -errno;
	im->size = r == 0 ? (uint64_t)st.st_size : 0;
	/* Room for a last cluster of which the file has only a part. */
	im->bytes = calloc(1, im->size + (2u << 20));
	if (r == 0 && (!im->bytes || pread(fd, im->bytes, im->size, 0) != st.st_size))
		r = -EIO;
	(void)close(fd);
	return r;
}

int qcow2_fsck(const char *path, struct fsck *ret)
{
	struct image im = { .f = ret };
	struct td_err err;
	int r;

	*ret = (struct fsck){ 0 };
	r = load(path, &im);
	if (r == 0)
		r = qcow2_header_decode(im.bytes, im.size, &ret->h, &err);
	if (r == 0) {
		qcow2_geom_of(&ret->h, &im.g);
		ret->dirty = ret->h.incompatible & QCOW2_INCOMPAT_DIRTY;
		im.nr = ret->clusters = td_div_up(im.size, im.g.cluster_size);
		im.refs = calloc(im.nr + 1, sizeof(im.refs[0]));
		im.whole = calloc(im.nr + 1, sizeof(im.whole[0]));
		ref(&im, "header", 0, im.g.cluster_size);
		walk_blocks(&im);
		walk_l1(&im, ret->h.l1_off, ret->h.l1_size, true);
		walk_snapshots(&im);
		walk_crypt(&im);
		compare(&im);
	}
	free(im.refs);
	free(im.whole);
	free(im.bytes);
	return r;
}
