// SPDX-License-Identifier: BSD-2-Clause
/*
 * From the descriptor's list to what is served: each extent's file found, opened once whatever number of extents name
 * it, and long enough.
 */
#include "vmdk-int.h"

static int say(const struct vmdk_extent *e, int code, const char *what, struct td_err *ret_err)
{
	return td_err_set(ret_err, code, "its extent '%.*s' %.*s %s", (int)TD_MIN(e->name.len, 120u),
			  e->name.at, (int)TD_MIN(e->type_name.len, 20u), e->type_name.at, what);
}

/* A descriptor may name thousands of extents: comparing the names alone would take the square of that. */
static uint64_t hash_of(struct vmdk_str s)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (uint8_t)s.at[i]) * 0x100000001b3u;
	return h;
}

static struct vmdk_file *known_file(const struct vmdk *v, struct vmdk_str name, uint64_t hash)
{
	for (unsigned i = 0; i < v->nr_files; i++)
		if (v->file[i].hash == hash && v->file[i].name.len == name.len &&
		    memcmp(v->file[i].name.at, name.at, name.len) == 0) // NOLINT(*NonNull*): all have one
			return &v->file[i];
	return NULL;
}

/* ---- one file ---- */

/* A flat file may end within its last sector: zeros are read there, and a write makes it longer (TD_OPEN_GROW). */
static int open_file(struct vmdk *v, const struct vmdk_extent *e, struct td_opts *opts,
		     struct vmdk_file **ret, struct td_err *ret_err)
{
	const bool flat = e->type == VMDK_FLAT;
	struct vmdk_file *f = &v->file[v->nr_files];
	char *name;
	int r = vmdk_find_file(v, e->name, &name, ret_err);

	if (r < 0)
		return r;
	r = td_image_open_part(v->im, name, flat ? NULL : &vmdk_part_driver, opts, flat ? TD_OPEN_GROW : 0,
			       &f->part, ret_err);
	free(name);
	if (r < 0)
		return r;
	f->name = e->name;
	f->hash = hash_of(e->name);
	v->nr_files++;
	*ret = f;
	return 0;
}

/* ---- one extent ---- */

static bool overlaps_another(const struct vmdk *v, const struct vmdk_piece *p)
{
	for (unsigned i = 0; i < v->nr_pieces; i++)
		if (v->piece[i].at == p->at && td_overlap(v->piece[i].off, v->piece[i].len, p->off, p->len))
			return true;
	return false;
}

/*
 * Before anything is served: an extent that is too short would turn up as errors in the middle of a guest's work, and
 * two that overlap would change each other's data.
 */
static int check_piece(const struct vmdk *v, const struct vmdk_extent *e, const struct vmdk_piece *p,
		       bool shared, struct td_err *ret_err)
{
	if (p->type != VMDK_FLAT && shared)
		return say(e, -EUCLEAN, "is named twice", ret_err);
	if (shared && overlaps_another(v, p))
		return say(e, -EUCLEAN, "lies over another extent", ret_err);
	if (td_in_range(p->off, p->len, td_align_up(p->at->size, VMDK_SECTOR)))
		return 0;
	return say(e, -EUCLEAN,
		   p->type == VMDK_FLAT
			   ? "ends before it should: its file was cut off, or not copied as a whole"
			   : "has a capacity smaller than the descriptor says",
		   ret_err);
}

static int open_piece(struct vmdk *v, const struct vmdk_extent *e, struct vmdk_piece *p, struct td_opts *opts,
		      struct td_err *ret_err)
{
	struct vmdk_file *f = known_file(v, e->name, hash_of(e->name));
	const bool shared = f != NULL;
	int r = f ? 0 : open_file(v, e, opts, &f, ret_err);

	if (r < 0)
		return r;
	p->at = f->part;
	r = check_piece(v, e, p, shared, ret_err);
	if (r == 0 && p->type != VMDK_FLAT && v->im->backing_path &&
	    td_image_part_window(v->im, f->part, p->start, p->len) < 0)
		r = td_err_set(ret_err, -ENOMEM, "no memory");
	return r;
}

static int add_extent(struct vmdk *v, const struct vmdk_extent *e, uint64_t start, struct td_opts *opts,
		      struct td_err *ret_err)
{
	struct vmdk_piece *p = &v->piece[v->nr_pieces];
	int r = 0;

	if (e->sectors == 0)
		return 0;
	*p = (struct vmdk_piece){
		.start = start,
		.len = e->sectors * VMDK_SECTOR,
		.type = e->type,
		.access = e->access,
		.off = e->type == VMDK_FLAT ? e->offset * VMDK_SECTOR : 0,
	};
	if (e->type == VMDK_OTHER)
		return say(e, -ENOTSUP, "is of a type that is not supported", ret_err);
	if (e->type != VMDK_ZERO)
		r = open_piece(v, e, p, opts, ret_err);
	if (r == 0)
		v->nr_pieces++;
	return r;
}

/* ---- all ---- */

/* As if one piece of storage: what is best for all of them. */
static void merge_limits(struct vmdk *v)
{
	struct td_limits *l = &v->im->limits;

	*l = v->im->child->limits;
	l->max_transfer = 0;
	l->zero_efficient = true;
	for (unsigned i = 0; i < v->nr_files; i++) {
		const struct td_limits *f = &v->file[i].part->limits;

		l->block_size =
			TD_MAX(l->block_size, f->block_size); // NOLINT(*NullDereference): all are open
		l->mem_align = TD_MAX(l->mem_align, f->mem_align);
		l->trim_granularity = TD_MAX(l->trim_granularity, f->trim_granularity);
		l->cluster_size = TD_MAX(l->cluster_size, f->cluster_size);
		l->zero_efficient &= f->zero_efficient;
	}
}

/* Options of sparse extents are options of every vmdk: nobody has to know which kind it is. */
static int take_options(struct td_opts *opts, struct td_err *ret_err)
{
	uint64_t cache;
	bool adopt;
	int r = td_opts_size(opts, "l2-cache", &cache, ret_err);

	return r == 0 ? td_opts_bool(opts, "adopt", &adopt, ret_err) : r;
}

static int open_list(struct vmdk *v, struct td_opts *opts, struct td_err *ret_err)
{
	uint64_t start = 0;
	struct vmdk_extent e;
	size_t pos = 0;
	int r = take_options(opts, ret_err);

	if (r < 0)
		return r;
	v->piece = calloc(v->desc.nr_extents, sizeof(*v->piece));
	v->file = calloc(v->desc.nr_extents, sizeof(*v->file));
	if (!v->piece || !v->file)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	while (r == 0 && vmdk_extent_next(v->desc.text, &pos, &e, ret_err) > 0) {
		r = add_extent(v, &e, start, opts, ret_err);
		start += e.sectors * VMDK_SECTOR;
	}
	if (r < 0)
		return r;
	v->im->size = start;
	merge_limits(v);
	return 0;
}

/* The file is the only extent. */
static int open_own(struct vmdk *v, struct td_opts *opts, struct td_err *ret_err)
{
	struct vmdk_extent e = { .access = VMDK_RDONLY };
	size_t pos = 0;
	int r = 0;

	if (!v->text && !v->im->read_only)
		return vmdk_refuse_write("it is an extent without its descriptor: open that one, which says "
					 "what the disk consists of and whether it has a parent",
					 ret_err);
	if (v->text)
		r = vmdk_extent_next(v->desc.text, &pos, &e, ret_err);
	if (r < 0)
		return r;
	if (v->text && (v->desc.nr_extents != 1 || e.type != VMDK_SPARSE))
		return td_err_set(ret_err, -EUCLEAN,
				  "its descriptor lies in a sparse extent and names another, or none");
	if (v->text && e.access != VMDK_RW && !v->im->read_only)
		return vmdk_refuse_write("its descriptor says that it is not to be written", ret_err);
	r = vmdk_sparse_open(v->im, opts, &v->own, ret_err);
	if (r < 0 || !v->text)
		return r;
	if (e.sectors * VMDK_SECTOR > v->im->size)
		return say(&e, -EUCLEAN, "has a capacity smaller than the descriptor says", ret_err);
	v->im->size = e.sectors * VMDK_SECTOR;
	return 0;
}

int vmdk_extents_open(struct vmdk *v, bool sparse, struct td_opts *opts, struct td_err *ret_err)
{
	return sparse ? open_own(v, opts, ret_err) : open_list(v, opts, ret_err);
}

int vmdk_extents_close(struct vmdk *v)
{
	int result = v->own ? vmdk_sparse_close(v->own) : 0;

	for (unsigned i = 0; i < v->nr_files; i++) {
		int r = td_image_close_part(v->im, v->file[i].part);

		if (result == 0)
			result = r;
	}
	free(v->piece);
	free(v->file);
	v->own = NULL;
	v->piece = NULL;
	v->file = NULL;
	v->nr_files = 0;
	return result;
}
