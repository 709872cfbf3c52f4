// SPDX-License-Identifier: BSD-2-Clause
/*
 * The vmdk driver: opening, closing, facts, and the table.  README.md beside this file says how the other files work
 * together.
 */
#include <inttypes.h>
#include <stdio.h>

#include "vmdk-stream.h"

static int vmdk_probe(const void *head, size_t len)
{
	if (len >= 4 && (td_get_le32(head) == VMDK_MAGIC_HOSTED || td_get_le32(head) == VMDK_MAGIC_COWD))
		return 100;
	if (len >= VMDK_SECTOR && vmdk_is_sesparse(head))
		return 100;
	return vmdk_desc_is(head, len) ? 100 : 0;
}

/* Only this one has compressed grains; written in place they are not. */
static bool vmdk_compresses(struct td_opts *opts)
{
	const char *kind = td_opts_get(opts, "subformat");

	return kind && strcmp(kind, "streamOptimized") == 0;
}

/* ---- open and close ---- */

/* A kind that nobody writes in place, by the descriptor's word. */
static bool is_stream(const struct vmdk *v)
{
	return v->text && vmdk_str_is(v->desc.create_type, "streamOptimized");
}

static int open_writable_stream(struct vmdk *v, struct td_err *ret_err)
{
	if (v->im->flags & TD_OPEN_ONCE)
		return vmdk_stream_open(v->im, &v->stream, ret_err);
	return vmdk_refuse_write("streamOptimized is made to be sent, not to be served; tap-img convert "
				 "makes another kind of it",
				 ret_err);
}

static void state_done(struct vmdk *v)
{
	free(v->text);
	v->text = NULL;
}

/* A stream that is being written has no directory yet: there is nothing to open but the place to go on. */
static int open_state(struct vmdk *v, struct td_opts *opts, struct td_err *ret_err)
{
	bool sparse;
	int r = vmdk_load(v, &sparse, ret_err);

	if (r == 0 && !v->im->read_only && is_stream(v))
		return open_writable_stream(v, ret_err);
	if (r == 0)
		r = vmdk_parent_name(v, ret_err);
	return r == 0 ? vmdk_extents_open(v, sparse, opts, ret_err) : r;
}

static int vmdk_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct vmdk *v = im->state;
	int r;

	v->im = im;
	im->read_only = im->child->read_only || (im->flags & (TD_OPEN_RDONLY | TD_OPEN_BACKING));
	r = open_state(v, opts, ret_err);
	im->limits.compresses = v->stream != NULL;
	if (r == 0)
		return 0;
	(void)vmdk_extents_close(v); /* the first error is the one to tell */
	state_done(v);
	free(im->backing_path);
	free(im->backing_format);
	im->backing_path = im->backing_format = NULL;
	return td_err_prefix(ret_err, r, "%s", im->name);
}

static int vmdk_close(struct td_image *im)
{
	struct vmdk *v = im->state;
	int r = v->stream ? vmdk_stream_close(v->stream) : vmdk_extents_close(v);

	state_done(v);
	return r;
}

static bool is_flat(const struct vmdk_piece *p)
{
	return !p->at || p->at->drv != &vmdk_part_driver;
}

/* What this disk holds was committed into the parent: it has another CID now, and is the same disk below us. */
static int follow_parent(struct vmdk *v)
{
	const struct vmdk *parent = v->im->backing ? v->im->backing->state : NULL;

	return parent ? vmdk_follow(v, parent->desc.cid) : 0;
}

/* As with any write: no child goes on believing in a parent that has changed. */
static int vmdk_empty(struct td_image *im, struct td_err *ret_err)
{
	struct vmdk *v = im->state;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < v->nr_pieces; i++)
		r = is_flat(&v->piece[i]) ? -ENOTSUP : 0; /* flat bytes are there for good */
	if (r == 0)
		r = vmdk_touch(v);
	if (r == 0)
		r = follow_parent(v);
	if (r == 0 && v->own)
		r = vmdk_sparse_empty(v->own);
	for (unsigned i = 0; r == 0 && i < v->nr_pieces; i++)
		r = vmdk_sparse_empty(vmdk_part_sparse(v->piece[i].at));
	return r < 0 ? td_err_set(ret_err, r, "%s: it cannot be emptied: %s", im->name, strerror(-r)) : 0;
}

/* ---- facts ---- */

static int add_text(struct td_opts *o, const char *name, struct vmdk_str s)
{
	td_cleanup(free) char *text = s.at ? strndup(s.at, s.len) : NULL;

	if (!s.at)
		return 0;
	return text ? td_opts_add(o, name, text, NULL) : -ENOMEM;
}

static int add_cid(struct td_opts *o, const char *name, uint32_t cid)
{
	char text[12];

	(void)snprintf(text, sizeof(text), "%08" PRIx32, cid);
	return td_opts_add(o, name, text, NULL);
}

static int descriptor_info(const struct vmdk *v, struct td_opts *ret)
{
	const struct vmdk_desc *d = &v->desc;
	char extents[16];
	int r = add_text(ret, "create-type", d->create_type);

	(void)snprintf(extents, sizeof(extents), "%u", d->nr_extents);
	if (r == 0)
		r = add_cid(ret, "cid", d->cid);
	if (r == 0)
		r = add_cid(ret, "parent-cid", d->parent_cid);
	if (r == 0)
		r = td_opts_add(ret, "extents", extents, NULL);
	if (r == 0)
		r = add_text(ret, "adapter-type", d->adapter);
	if (r == 0)
		r = add_text(ret, "hw-version", d->hw_version);
	return r;
}

static int geometry_info(const struct vmdk *v, struct td_opts *ret)
{
	const struct vmdk_desc *d = &v->desc;
	char text[64];

	if (!d->cylinders.at || !d->heads.at || !d->sectors.at)
		return 0;
	(void)snprintf(text, sizeof(text), "%.*s/%.*s/%.*s", (int)TD_MIN(d->cylinders.len, 16u),
		       d->cylinders.at, (int)TD_MIN(d->heads.len, 16u), d->heads.at,
		       (int)TD_MIN(d->sectors.len, 16u), d->sectors.at);
	return td_opts_add(ret, "geometry", text, NULL);
}

static int vmdk_info(struct td_image *im, struct td_opts *ret)
{
	struct vmdk *v = im->state;
	int r = v->text ? descriptor_info(v, ret) : 0;

	if (r == 0 && v->text)
		r = geometry_info(v, ret);
	if (r == 0 && v->own)
		r = vmdk_sparse_info(v->own, ret);
	return r;
}

static void add_counters(struct td_counters *sum, const struct td_counters *c)
{
	for (unsigned i = 0; i < c->nr; i++) {
		unsigned k = 0;

		while (k < sum->nr && strcmp(sum->counter[k].name, c->counter[i].name) != 0)
			k++;
		if (k < sum->nr)
			sum->counter[k].value += c->counter[i].value;
		else
			td_counter(sum, c->counter[i].name, c->counter[i].value);
	}
}

/* Those of all extents together. */
static void vmdk_counters(const struct td_image *im, struct td_counters *ret)
{
	const struct vmdk *v = im->state;

	if (v->own)
		vmdk_sparse_counters(v->own, ret);
	for (unsigned i = 0; i < v->nr_files; i++) {
		struct td_counters c = { 0 };

		if (v->file[i].part->drv != &vmdk_part_driver)
			continue;
		vmdk_sparse_counters(vmdk_part_sparse(v->file[i].part), &c);
		add_counters(ret, &c);
	}
}

const struct td_driver td_vmdk = {
	.name = "vmdk",
	.flags = TD_FORMAT | TD_KNOWS_FUA | TD_COMPRESSES | TD_STREAMS,
	.state_size = sizeof(struct vmdk),
	.probe = vmdk_probe,
	.create = vmdk_create,
	.compresses = vmdk_compresses,
	.measure = vmdk_measure,
	.open = vmdk_open,
	.check_backing = vmdk_check_backing,
	.close = vmdk_close,
	.preadv = vmdk_preadv,
	.pwritev = vmdk_pwritev,
	.zero = vmdk_zero,
	.trim = vmdk_trim,
	.flush = vmdk_flush,
	.extent = vmdk_extent,
	.check = vmdk_check,
	.set_backing = vmdk_set_backing,
	.empty = vmdk_empty,
	.info = vmdk_info,
	.counters = vmdk_counters,
};
