// SPDX-License-Identifier: BSD-2-Clause
/*
 * The formats that can be written, and images of many kinds of each: a new format is a struct fmt and a line for each
 * kind that takes other paths (small clusters, a small cache, a backing file, made by somebody else).
 */
#include <stdio.h>

#include "format-run.h"
#include "qcow2-fsck.h"
#include "vhd-fsck.h"

#define THIN 4u /* simple formats: two levels, and nothing is ever freed */

static int fsck_qcow2(const char *path, unsigned *ret_leaks, bool *ret_dirty)
{
	struct fsck f;
	int r = qcow2_fsck(path, &f);

	if (r < 0)
		return r;
	*ret_leaks = (unsigned)f.leaks;
	*ret_dirty = f.dirty;
	return f.corruptions > 0 ? -1 : 0;
}

const struct fmt fmt_qcow2 = {
	.name = "qcow2",
	.fsck = fsck_qcow2,
	.qemu_checks = true,
	.compresses = true,
	.resizes = true,
	.snapshots = true,
	.no_leaks = true,
};
/* With its data in another file. */
static const struct fmt qcow2_data = {
	.name = "qcow2",
	.fsck = fsck_qcow2,
	.qemu_checks = true,
	.resizes = true,
	.no_leaks = true,
};
static const struct fmt qcow = { .name = "qcow", .compresses = true, .thin = THIN };

/* A parent is a vmdk: its descriptor around the raw file. */
static int vmdk_base(const char *path, unsigned sectors)
{
	FILE *f = fopen(path, "w");
	bool ok;

	if (!f)
		return -errno;
	ok = fprintf(f,
		     "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
		     "createType=\"monolithicFlat\"\nRW %u FLAT \"raw\" 0\n",
		     sectors) > 0;
	return fclose(f) == 0 && ok ? 0 : -EIO;
}

static const struct fmt vmdk = { .name = "vmdk", .qemu_checks = true, .make_base = vmdk_base, .thin = THIN };

/* Dirty: the footer at the end is to be written again. */
static int fsck_vhd(const char *path, unsigned *ret_leaks, bool *ret_dirty)
{
	struct vhd_fsck f;
	int r = vhd_fsck(path, &f);

	*ret_leaks = (unsigned)f.holes;
	*ret_dirty = !f.whole;
	return r;
}

static const struct fmt vhd = {
	.name = "vhd",
	.qemu = "vpc",
	.fsck = fsck_vhd,
	.resizes = true,
	.moves_tables = true,
	.no_leaks = true,
	.thin = THIN,
};

/* It has no tables. */
static const struct fmt vhd_fixed = { .name = "vhd", .thin = THIN };

const struct variant variants[] = {
	{ .format = &fmt_qcow2, .name = "v3", .create = "cluster_size=4K", .open = "", .sectors = 512 },
	{ .format = &fmt_qcow2,
	  .name = "tiny",
	  .create = "cluster_size=512,refcount_bits=1",
	  .open = "l2-cache=4K,refcount-cache=4K",
	  .sectors = 1024 },
	{ .format = &fmt_qcow2,
	  .name = "table growth",
	  .create = "cluster_size=512,refcount_bits=64",
	  .open = "l2-cache=4K,refcount-cache=4K",
	  .sectors = 1024,
	  .file_kib = 2046 },
	{ .format = &fmt_qcow2,
	  .name = "lazy",
	  .create = "cluster_size=4K,lazy_refcounts=on",
	  .open = "",
	  .sectors = 512 },
	{ .format = &fmt_qcow2,
	  .name = "lazy tiny",
	  .create = "cluster_size=512,lazy_refcounts=on,refcount_bits=64",
	  .open = "l2-cache=4K,refcount-cache=4K",
	  .sectors = 1024,
	  .file_kib = 2046 },
	{ .format = &fmt_qcow2,
	  .name = "backing",
	  .create = "cluster_size=4K",
	  .open = "",
	  .sectors = 512,
	  .backing = true },
	{ .format = &fmt_qcow2,
	  .name = "64K",
	  .create = "cluster_size=64K",
	  .open = "",
	  .sectors = 1024,
	  .backing = true },
	{ .format = &fmt_qcow2,
	  .name = "v2",
	  .create = "cluster_size=4K,compat=v2",
	  .open = "",
	  .sectors = 512 },
	{ .format = &fmt_qcow2,
	  .name = "v2 backing",
	  .create = "cluster_size=512,compat=v2",
	  .open = "",
	  .sectors = 512,
	  .backing = true },
	{ .format = &fmt_qcow2,
	  .name = "qemu",
	  .create = "cluster_size=4K",
	  .open = "",
	  .sectors = 512,
	  .from_qemu = true },
	{ .format = &fmt_qcow2,
	  .name = "qemu tiny",
	  .create = "cluster_size=512,refcount_bits=8",
	  .open = "l2-cache=4K,refcount-cache=4K",
	  .sectors = 512,
	  .from_qemu = true },
	{ .format = &fmt_qcow2,
	  .name = "preallocated",
	  .create = "cluster_size=4K,preallocation=metadata",
	  .open = "",
	  .sectors = 512 },
	{ .format = &fmt_qcow2,
	  .name = "extended",
	  .create = "cluster_size=16K,extended_l2=on",
	  .open = "l2-cache=4K,refcount-cache=4K",
	  .sectors = 1024 },
	{ .format = &fmt_qcow2,
	  .name = "extended backing",
	  .create = "cluster_size=64K,extended_l2=on",
	  .open = "",
	  .sectors = 1024,
	  .backing = true },
	{ .format = &fmt_qcow2,
	  .name = "page cache",
	  .create = "cluster_size=4K",
	  .open = "direct=off",
	  .sectors = 512 },
	/* A small header: it is read at each open. */
	{ .format = &fmt_qcow2,
	  .name = "luks",
	  .create = "cluster_size=4K,encrypt.format=luks,encrypt.iter-time=1,encrypt.cipher-alg=aes-128,"
		    "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv",
	  .open = "l2-cache=4K,refcount-cache=4K",
	  .sectors = 512,
	  .secret = true },
	{ .format = &fmt_qcow2,
	  .name = "aes",
	  .create = "cluster_size=4K,encrypt.format=aes",
	  .open = "direct=off",
	  .sectors = 512,
	  .backing = true,
	  .secret = true },
	{ .format = &qcow2_data,
	  .name = "data file",
	  .create = "cluster_size=4K,data_file=disk-data",
	  .open = "",
	  .sectors = 512,
	  .data = "disk-data" },
	{ .format = &qcow2_data,
	  .name = "data file tiny",
	  .create = "cluster_size=512,data_file=disk-data,lazy_refcounts=on",
	  .open = "l2-cache=4K,refcount-cache=4K",
	  .sectors = 1024,
	  .backing = true,
	  .data = "disk-data" },
	{ .format = &qcow2_data,
	  .name = "data file raw",
	  .create = "cluster_size=4K,data_file=disk-data,data_file_raw=on",
	  .open = "",
	  .sectors = 512,
	  .data = "disk-data",
	  .data_is_disk = true },
	{ .format = &qcow2_data,
	  .name = "extended data file",
	  .create = "cluster_size=16K,extended_l2=on,data_file=disk-data",
	  .open = "l2-cache=4K,refcount-cache=4K",
	  .sectors = 1024,
	  .backing = true,
	  .data = "disk-data" },
	{ .format = &qcow2_data,
	  .name = "extended data file raw",
	  .create = "cluster_size=16K,extended_l2=on,data_file=disk-data,data_file_raw=on",
	  .open = "",
	  .sectors = 1024,
	  .data = "disk-data",
	  .data_is_disk = true },
	{ .format = &qcow, .name = "qcow", .create = "", .open = "", .sectors = 512 },
	{ .format = &qcow,
	  .name = "qcow tiny",
	  .create = "cluster_size=512",
	  .open = "l2-cache=4K",
	  .sectors = 1024 },
	{ .format = &qcow,
	  .name = "qcow backing",
	  .create = "",
	  .open = "backing-format=raw",
	  .sectors = 512,
	  .backing = true },
	{ .format = &qcow,
	  .name = "qcow 64K",
	  .create = "cluster_size=64K",
	  .open = "backing-format=raw",
	  .sectors = 1024,
	  .backing = true },
	{ .format = &qcow, .name = "qcow qemu", .create = "", .open = "", .sectors = 512, .from_qemu = true },
	{ .format = &qcow,
	  .name = "qcow aes",
	  .create = "cluster_size=4K,encrypt.format=aes",
	  .open = "l2-cache=4K,backing-format=raw",
	  .sectors = 512,
	  .backing = true,
	  .secret = true },
	{ .format = &vmdk, .name = "vmdk", .create = "", .open = "", .sectors = 1024 },
	{ .format = &vmdk,
	  .name = "vmdk zeroed",
	  .create = "zeroed_grain=on",
	  .open = "l2-cache=4K",
	  .sectors = 1024 },
	{ .format = &vmdk,
	  .name = "vmdk delta",
	  .create = "zeroed_grain=on",
	  .open = "",
	  .sectors = 1024,
	  .backing = true },
	{ .format = &vmdk,
	  .name = "vmdk split",
	  .create = "subformat=twoGbMaxExtentSparse",
	  .open = "l2-cache=4K",
	  .sectors = 1024,
	  .part = "disk-s001" },
	{ .format = &vmdk,
	  .name = "vmdk split delta",
	  .create = "subformat=twoGbMaxExtentSparse",
	  .open = "",
	  .sectors = 1024,
	  .backing = true,
	  .part = "disk-s001" },
	{ .format = &vmdk,
	  .name = "vmdk flat",
	  .create = "subformat=monolithicFlat",
	  .open = "",
	  .sectors = 512,
	  .part = "disk-flat" },
	{ .format = &vmdk,
	  .name = "vmdk cowd",
	  .create = "subformat=vmfsSparse",
	  .open = "l2-cache=4K",
	  .sectors = 512,
	  .part = "disk-delta" },
	{ .format = &vmdk,
	  .name = "vmdk cowd delta",
	  .create = "subformat=vmfsSparse",
	  .open = "",
	  .sectors = 512,
	  .backing = true,
	  .part = "disk-delta" },
	{ .format = &vhd, .name = "vhd", .create = "block_size=16K", .open = "", .sectors = 512 },
	{ .format = &vhd,
	  .name = "vhd tiny",
	  .create = "block_size=4K",
	  .open = "l2-cache=4K",
	  .sectors = 1024 },
	{ .format = &vhd,
	  .name = "vhd backing",
	  .create = "block_size=16K",
	  .open = "",
	  .sectors = 512,
	  .backing = true },
	{ .format = &vhd,
	  .name = "vhd tiny backing",
	  .create = "block_size=4K",
	  .open = "l2-cache=4K",
	  .sectors = 1024,
	  .backing = true },
	{ .format = &vhd,
	  .name = "vhd qemu",
	  .create = "force_size=on",
	  .open = "",
	  .sectors = 512,
	  .from_qemu = true },
	{ .format = &vhd_fixed,
	  .name = "vhd fixed",
	  .create = "subformat=fixed",
	  .open = "",
	  .sectors = 256 },
};

const unsigned nr_variants = TD_NELEMS(variants);
