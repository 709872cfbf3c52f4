// SPDX-License-Identifier: BSD-2-Clause
/*
 * One sparse extent, in its own file or in that of the descriptor: three kinds of header ("KDMV", "COWD", seSparse),
 * one map (blktap/grains.h).  The kinds' own files load the header; here is what the map asks of all of them.
 */
#include <inttypes.h>
#include <stdio.h>

#include "vmdk-sparse.h"

/* ---- what entries mean ---- */

/*
 * An entry is a sector of the file.  How long a compressed grain is stands before its data only, so its length is left
 * open (0) here.
 */
static int decode(const struct td_image *im, uint64_t raw, struct td_grain *ret)
{
	const struct vmdk_sparse *s = vmdk_sparse_of(im);

	if (raw == VMDK_GRAIN_ABSENT)
		*ret = (struct td_grain){ .kind = TD_GRAIN_HOLE };
	else if (raw == VMDK_GRAIN_ZERO && s->config.has_zero)
		*ret = (struct td_grain){ .kind = TD_GRAIN_ZERO };
	else
		*ret = (struct td_grain){
			.kind = s->h.flags & VMDK_COMPRESSED ? TD_GRAIN_PACKED : TD_GRAIN_DATA,
			.host_off = raw * VMDK_SECTOR,
		};
	return 0;
}

static uint64_t encode(const struct td_image *im, const struct td_grain *g)
{
	(void)im;
	if (g->kind == TD_GRAIN_HOLE)
		return VMDK_GRAIN_ABSENT;
	return g->kind == TD_GRAIN_ZERO ? VMDK_GRAIN_ZERO : g->host_off / VMDK_SECTOR;
}

static uint64_t table_at(const struct td_image *im, uint64_t raw)
{
	(void)im;
	return raw * VMDK_SECTOR;
}

static uint64_t table_raw(const struct td_image *im, uint64_t host_off)
{
	(void)im;
	return host_off / VMDK_SECTOR;
}

static int grow(struct td_image *im, uint64_t end)
{
	return vmdk_cowd_grow(vmdk_sparse_of(im), end);
}

static uint64_t copy_at(struct td_image *im, unsigned level, uint64_t off)
{
	return level == TD_GRAINS_TABLES ? vmdk_copy_at(vmdk_sparse_of(im), off) : 0;
}

static const struct td_grains_ops hosted_ops = {
	.decode = decode,
	.encode = encode,
	.table_at = table_at,
	.table_raw = table_raw,
	.inflate = vmdk_unpack,
};

static const struct td_grains_ops cowd_ops = {
	.decode = decode,
	.encode = encode,
	.table_at = table_at,
	.table_raw = table_raw,
	.grow = grow,
};

/* ---- open and close ---- */

static int load_kind(struct vmdk_sparse *s, const uint8_t *head, struct td_err *ret_err)
{
	switch (s->kind) {
	case VMDK_SE:
		return vmdk_sesparse_load(s, head, ret_err);
	case VMDK_COWD:
		return vmdk_cowd_load(s, ret_err);
	case VMDK_HOSTED:
		break;
	}
	return vmdk_hosted_load(s, head, ret_err);
}

/* Whatever has no other mark is taken for "KDMV"; its decoder refuses what is not. */
static int load(struct vmdk_sparse *s, struct td_err *ret_err)
{
	uint8_t head[VMDK_SECTOR];
	int r;

	if (s->im->child->size < VMDK_SECTOR)
		return td_err_set(ret_err, -EUCLEAN, "it is too short for a sparse extent");
	r = td_image_pread(s->im->child, 0, head, sizeof(head), TD_EXACT);
	if (r < 0)
		return td_err_set(ret_err, r, "cannot read its header: %s", strerror(-r));
	if (vmdk_is_sesparse(head))
		s->kind = VMDK_SE;
	else if (td_get_le32(head) == VMDK_MAGIC_COWD)
		s->kind = VMDK_COWD;
	return load_kind(s, head, ret_err);
}

static int open_map(struct vmdk_sparse *s, struct td_opts *opts, struct td_err *ret_err)
{
	struct td_image *im = s->im;
	int r = load(s, ret_err);

	if (r < 0)
		return r;
	im->limits = im->child->limits;
	im->limits.max_transfer = 0;
	if (s->kind == VMDK_HOSTED && !im->read_only)
		r = vmdk_directories_load(s, ret_err);
	if (r == -EUCLEAN && (im->flags & TD_OPEN_CHECK)) /* that is for the check to say */
		r = 0;
	if (r < 0)
		return r;
	/* Entries of 32 bits that count sectors: no extent is longer than 2 TiB.  seSparse has set its own. */
	if (s->kind != VMDK_SE) {
		s->config.ops = s->kind == VMDK_COWD ? &cowd_ops : &hosted_ops;
		s->config.entry_size = 4;
		s->config.max_host = ((uint64_t)UINT32_MAX + 1) * VMDK_SECTOR;
	}
	s->config.copy_at = s->copies ? copy_at : NULL;
	return td_grains_open(im, &s->config, opts, &s->grains, ret_err);
}

int vmdk_sparse_open(struct td_image *im, struct td_opts *opts, struct vmdk_sparse **ret,
		     struct td_err *ret_err)
{
	struct vmdk_sparse *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	s->im = im;
	*ret = s; /* the map asks for it */
	r = open_map(s, opts, ret_err);
	if (r < 0) {
		free(s->copies);
		free(s);
		*ret = NULL;
	}
	return r;
}

int vmdk_sparse_close(struct vmdk_sparse *s)
{
	int r = td_grains_close(s->grains);

	/*
	 * The header promised room ahead of what was handed out; now it says where the file ends.  Not after a failure:
	 * then the promise is what keeps the next writer away from what may be ours.
	 */
	if (r == 0 && s->kind == VMDK_COWD && !s->im->read_only && !s->im->frozen)
		r = vmdk_cowd_settle(s);
	free(s->copies);
	free(s);
	return r;
}

/* ---- requests ---- */

int vmdk_sparse_preadv(struct vmdk_sparse *s, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	(void)flags;
	return td_grains_preadv(s->grains, off, iov);
}

int vmdk_sparse_pwritev(struct vmdk_sparse *s, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	return td_grains_pwritev(s->grains, off, iov, flags);
}

int vmdk_sparse_zero(struct vmdk_sparse *s, uint64_t off, uint64_t len, unsigned flags)
{
	return td_grains_zero(s->grains, off, len, flags);
}

int vmdk_sparse_trim(struct vmdk_sparse *s, uint64_t off, uint64_t len)
{
	return td_grains_trim(s->grains, off, len);
}

int vmdk_sparse_flush(struct vmdk_sparse *s)
{
	return td_grains_flush(s->grains);
}

int vmdk_sparse_extent(struct vmdk_sparse *s, uint64_t off, uint64_t len, struct td_extent *ret)
{
	return td_grains_extent(s->grains, off, len, ret);
}

int vmdk_sparse_empty(struct vmdk_sparse *s)
{
	return td_grains_empty(s->grains);
}

/* ---- facts ---- */

static const char *truth(bool yes)
{
	return yes ? "true" : "false";
}

static int hosted_info(const struct vmdk_sparse *s, struct td_opts *ret)
{
	int r = td_opts_add(ret, "compressed", truth(s->h.flags & VMDK_COMPRESSED), NULL);

	if (r == 0)
		r = td_opts_add(ret, "zeroed-grain", truth(s->config.has_zero), NULL);
	if (r == 0 && s->h.unclean)
		r = td_opts_add(ret, "dirty", "true", NULL);
	return r;
}

int vmdk_sparse_info(struct vmdk_sparse *s, struct td_opts *ret)
{
	char grain[24], version[12];
	int r;

	(void)snprintf(grain, sizeof(grain), "%" PRIu64, (uint64_t)1 << s->config.grain_bits);
	(void)snprintf(version, sizeof(version), "%u", s->kind == VMDK_COWD ? s->c.version : s->h.version);
	r = td_opts_add(ret, "cluster-size", grain, NULL);
	if (r == 0 && s->kind != VMDK_SE)
		r = td_opts_add(ret, "header-version", version, NULL);
	return r == 0 && s->kind == VMDK_HOSTED ? hosted_info(s, ret) : r;
}

void vmdk_sparse_counters(const struct vmdk_sparse *s, struct td_counters *ret)
{
	td_grains_counters(s->grains, ret);
}
