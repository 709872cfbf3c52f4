// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making new images.
 *
 * Create options, called as qemu-img calls them: subformat=KIND, adapter_type=, hwversion=, compat6=, toolsversion=,
 * geometry=CYLINDERS/HEADS/SECTORS, zeroed_grain=, backing_file=, backing_fmt=; of flat kinds also preallocation=.
 *
 * Extents first, then the text that names them; in a file that is both, the header last of all.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "vmdk-create.h"
#include "vmdk-stream.h"

#define TEXT_MAX (1u << 20)

/* ---- the wish ---- */

/* Name, extents' type, what their names get; split at 2 GiB?  sparse?  COWD?  compressed, written once? */
static const struct vmdk_kind kinds[] = {
	{ "monolithicSparse", "SPARSE", NULL, false, true, false, false },
	{ "monolithicFlat", "FLAT", "flat", false, false, false, false },
	{ "twoGbMaxExtentSparse", "SPARSE", "s", true, true, false, false },
	{ "twoGbMaxExtentFlat", "FLAT", "f", true, false, false, false },
	{ "vmfs", "VMFS", "flat", false, false, false, false },
	{ "vmfsSparse", "VMFSSPARSE", "delta", false, true, true, false },
	{ "streamOptimized", "SPARSE", NULL, false, true, false, true },
};

struct wish {
	const struct td_create *c;
	const struct vmdk_kind *kind;
	const char *adapter, *hw_version, *tools, *backing;
	uint64_t sectors, cylinders, heads, track;
	uint32_t parent_cid;
	bool zeroed;
	char *text; /* the descriptor */
	size_t text_len;
};

int vmdk_kind_of(struct td_opts *opts, const struct vmdk_kind **ret, struct td_err *ret_err)
{
	const char *v = td_opts_get(opts, "subformat");

	*ret = &kinds[0];
	if (!v)
		return 0;
	for (unsigned i = 0; i < TD_NELEMS(kinds); i++)
		if (strcmp(kinds[i].name, v) == 0) {
			*ret = &kinds[i];
			return 0;
		}
	return td_err_set(ret_err, -EINVAL,
			  "subformat=%s: it is monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, "
			  "twoGbMaxExtentFlat, vmfs, vmfsSparse or streamOptimized",
			  v);
}

static bool is_number(const char *s)
{
	return *s && strspn(s, "0123456789") == strlen(s) && strlen(s) <= 10;
}

static int read_versions(struct wish *w, struct td_err *ret_err)
{
	bool six = false;
	int r = td_opts_bool(w->c->opts, "compat6", &six, ret_err);

	if (r < 0)
		return r;
	w->hw_version = td_opts_get(w->c->opts, "hwversion");
	w->tools = td_opts_get(w->c->opts, "toolsversion");
	if (six && w->hw_version)
		return td_err_set(ret_err, -EINVAL, "compat6 means hwversion=6: give one of them");
	if (!w->hw_version)
		w->hw_version = six ? "6" : "4";
	if (!w->tools)
		w->tools = "2147483647";
	if (!is_number(w->hw_version))
		return td_err_set(ret_err, -EINVAL, "hwversion=%s: it is a number", w->hw_version);
	if (!is_number(w->tools))
		return td_err_set(ret_err, -EINVAL, "toolsversion=%s: it is a number", w->tools);
	return 0;
}

static int read_adapter(struct wish *w, struct td_err *ret_err)
{
	static const char *const names[] = { "ide", "buslogic", "lsilogic", "legacyESX" };
	const char *v = td_opts_get(w->c->opts, "adapter_type");

	w->adapter = names[0];
	for (unsigned i = 0; v && i < TD_NELEMS(names); i++)
		if (strcmp(names[i], v) == 0) {
			w->adapter = names[i];
			return 0;
		}
	return v ? td_err_set(ret_err, -EINVAL, "adapter_type=%s: it is ide, buslogic, lsilogic or legacyESX",
			      v)
		 : 0;
}

/* One number of a geometry: digits alone, not 0, end behind them. *v moves past end. */
static bool read_number(const char **v, char end, uint32_t *ret)
{
	char *stop;
	unsigned long n = strtoul(*v, &stop, 10);

	if (!isdigit((unsigned char)**v) || *stop != end || n == 0 || n > UINT32_MAX)
		return false;
	*ret = (uint32_t)n;
	*v = stop + 1;
	return true;
}

/* What old BIOSes need of it; of an IDE disk with fewer heads. */
static int read_geometry(struct wish *w, struct td_err *ret_err)
{
	const char *v = td_opts_get(w->c->opts, "geometry"), *at = v;
	uint32_t c, h, s;

	w->heads = strcmp(w->adapter, "ide") == 0 ? 16 : 255;
	w->track = 63;
	w->cylinders = w->sectors / (w->heads * w->track);
	if (!v)
		return 0;
	if (!read_number(&at, '/', &c) || !read_number(&at, '/', &h) || !read_number(&at, '\0', &s))
		return td_err_set(ret_err, -EINVAL,
				  "geometry=%s: it is CYLINDERS/HEADS/SECTORS, none of them 0", v);
	w->cylinders = c;
	w->heads = h;
	w->track = s;
	return 0;
}

/* The CID is read now and recorded: from here on the parent has to stay as it is, or the child refuses it. */
static int read_backing(struct wish *w, struct td_err *ret_err)
{
	const char *fmt = td_opts_get(w->c->opts, "backing_fmt"), *slash = strrchr(w->c->path, '/');
	td_cleanup(free) char *path = NULL;
	int r;

	w->parent_cid = VMDK_NO_PARENT;
	w->backing = td_opts_get(w->c->opts, "backing_file");
	if (!w->backing)
		return fmt ? td_err_set(ret_err, -EINVAL, "backing_fmt is given, but no backing_file") : 0;
	if (fmt && strcmp(fmt, "vmdk") != 0)
		return td_err_set(ret_err, -EINVAL, "backing_fmt=%s: the parent of a vmdk is a vmdk", fmt);
	if (!w->kind->sparse || w->kind->stream)
		return td_err_set(ret_err, -EINVAL,
				  "subformat=%s and a backing file exclude each other: it holds all sectors",
				  w->kind->name);
	r = vmdk_check_name(w->backing, ret_err);
	if (r < 0)
		return r;
	if (asprintf(&path, "%.*s%s", slash && *w->backing != '/' ? (int)(slash - w->c->path) + 1 : 0,
		     w->c->path, w->backing) < 0)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	return vmdk_cid_of(w->c->env, path, &w->parent_cid, ret_err);
}

static int read_options(struct wish *w, struct td_err *ret_err)
{
	int r = vmdk_kind_of(w->c->opts, &w->kind, ret_err);

	if (r == 0)
		r = read_versions(w, ret_err);
	if (r == 0)
		r = read_adapter(w, ret_err);
	if (r == 0)
		r = read_geometry(w, ret_err);
	if (r == 0)
		r = td_opts_bool(w->c->opts, "zeroed_grain", &w->zeroed, ret_err);
	if (r == 0 && w->zeroed && (!w->kind->sparse || w->kind->cowd || w->kind->stream))
		r = td_err_set(ret_err, -EINVAL, "subformat=%s has no zeroed grains", w->kind->name);
	if (r == 0)
		r = read_backing(w, ret_err);
	return r;
}

/* ---- the descriptor ---- */

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static uint64_t nr_extents(const struct wish *w)
{
	return w->kind->split ? TD_MAX(td_div_up(w->sectors, VMDK_PART_SECTORS), (uint64_t)1) : 1;
}

static uint64_t extent_sectors(const struct wish *w, unsigned i)
{
	uint64_t from = (uint64_t)i * VMDK_PART_SECTORS;

	return w->kind->split ? TD_MIN(w->sectors - from, (uint64_t)VMDK_PART_SECTORS) : w->sectors;
}

/* disk.vmdk, disk-flat.vmdk, disk-s001.vmdk.  A new string, NULL: no memory. */
static char *extent_name(const struct wish *w, unsigned i)
{
	const char *base = base_of(w->c->called), *dot = strrchr(base, '.');
	int stem = (int)(dot ? dot - base : (ptrdiff_t)strlen(base)), r;
	char *name;

	if (!w->kind->infix)
		r = asprintf(&name, "%s", *base ? base : "disk.vmdk"); /* it goes to standard output */
	else if (w->kind->split)
		r = asprintf(&name, "%.*s-%s%03u%s", stem, base, w->kind->infix, i + 1, base + stem);
	else
		r = asprintf(&name, "%.*s-%s%s", stem, base, w->kind->infix, base + stem);
	return r < 0 ? NULL : name;
}

static int put_extents(const struct wish *w, FILE *f)
{
	for (unsigned i = 0; i < nr_extents(w); i++) {
		td_cleanup(free) char *name = extent_name(w, i);

		if (!name)
			return -ENOMEM;
		(void)fprintf(f, "RW %" PRIu64 " %s \"%s\"%s\n", extent_sectors(w, i), w->kind->type, name,
			      w->kind->sparse || strcmp(w->kind->type, "VMFS") == 0 ? "" : " 0");
	}
	return 0;
}

static int put_text(const struct wish *w, FILE *f)
{
	int r;

	(void)fprintf(f,
		      "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08x\nparentCID=%08x\n"
		      "createType=\"%s\"\n",
		      vmdk_new_cid(VMDK_NO_PARENT, 8), w->parent_cid, w->kind->name);
	if (w->backing)
		(void)fprintf(f, "parentFileNameHint=\"%s\"\n", w->backing);
	(void)fprintf(f, "\n# Extent description\n");
	r = put_extents(w, f);
	(void)fprintf(f,
		      "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"%s\"\n"
		      "ddb.geometry.cylinders = \"%" PRIu64 "\"\nddb.geometry.heads = \"%" PRIu64 "\"\n"
		      "ddb.geometry.sectors = \"%" PRIu64 "\"\nddb.adapterType = \"%s\"\n"
		      "ddb.toolsVersion = \"%s\"\n",
		      w->hw_version, w->cylinders, w->heads, w->track, w->adapter, w->tools);
	return r;
}

static int make_text(struct wish *w, struct td_err *ret_err)
{
	int r = vmdk_check_name(base_of(w->c->called), ret_err);
	FILE *f;

	if (r < 0)
		return r;
	if (nr_extents(w) > VMDK_MAX_EXTENTS)
		return td_err_set(ret_err, -EFBIG, "subformat=%s would need more than %u files",
				  w->kind->name, VMDK_MAX_EXTENTS);
	f = open_memstream(&w->text, &w->text_len);
	if (!f)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = put_text(w, f);
	if (fclose(f) != 0 || r < 0)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	return w->text_len > TEXT_MAX ? td_err_set(ret_err, -EFBIG, "its descriptor is too long") : 0;
}

/* ---- the files ---- */

/* Closed, and so on the disk, before the text that names it is written. */
static int make_part(const struct wish *w, unsigned i, struct td_err *ret_err)
{
	td_cleanup(free) char *name = extent_name(w, i);
	uint64_t sectors = extent_sectors(w, i);
	struct td_image *part;
	int r, r2;

	if (!name)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = td_image_create_part(w->c, name, w->kind->sparse ? 0 : sectors * VMDK_SECTOR, &part, ret_err);
	if (r < 0)
		return r;
	if (w->kind->cowd)
		r = vmdk_cowd_create(part, sectors, ret_err);
	else if (w->kind->sparse)
		r = vmdk_hosted_create(part, sectors, w->zeroed, NULL, 0, ret_err);
	r2 = td_image_close(part);
	if (r == 0 && r2 < 0)
		r = td_err_set(ret_err, r2, "%s: cannot be written to disk: %s", name, strerror(-r2));
	return r;
}

static int make_files(const struct wish *w, struct td_err *ret_err)
{
	int r = 0;

	if (w->kind->infix && *base_of(w->c->called) == '\0')
		return -ESPIPE; /* there is nothing to name files after: it is no file */
	if (w->kind->stream)
		return vmdk_stream_create(w->c->child, w->sectors, w->text, w->text_len, ret_err);
	if (!w->kind->infix)
		return vmdk_hosted_create(w->c->child, w->sectors, w->zeroed, w->text, w->text_len, ret_err);
	for (unsigned i = 0; r == 0 && i < nr_extents(w); i++)
		r = make_part(w, i, ret_err);
	if (r == 0)
		r = td_image_pwrite(w->c->child, 0, w->text, w->text_len, 0);
	return r;
}

int vmdk_create(const struct td_create *c, struct td_err *ret_err)
{
	struct wish w = { .c = c, .sectors = td_div_up(c->size, VMDK_SECTOR) };
	const char *name = *c->path ? c->path : c->child->name;
	int r;

	if (ret_err)
		ret_err->msg[0] = '\0';
	r = read_options(&w, ret_err);
	if (r == 0)
		r = make_text(&w, ret_err);
	if (r == 0)
		r = make_files(&w, ret_err);
	free(w.text);
	if (r < 0 && ret_err && ret_err->msg[0] == '\0')
		return td_err_set(ret_err, r, "%s: cannot be written: %s", name, strerror(-r));
	return r < 0 ? td_err_prefix(ret_err, r, "%s", name) : 0;
}
