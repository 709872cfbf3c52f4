// SPDX-License-Identifier: BSD-2-Clause
/*
 * The disks of the matrix that are not qcow2: a chain of up to three images of one format, written one after the other
 * while model.raw beside them says what the disk holds.  The lowest may be qemu-img's.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "matrix-shape.h"

#define LAYERS  3u
#define WRITES  6u
#define LONGEST 200000u

struct kind {
	const char *opts;    /* of create */
	const char *qemu;    /* qemu-img convert makes such an image, of these options; NULL: it does not */
	uint32_t block_bits; /* of a grain, a block, a cluster */
	bool alone;          /* has no backing file */
};

struct format {
	const char *name, *qemu_name; /* qemu_name: as qemu-img's --image-opts say it */
	const struct kind *kinds;
	unsigned nr_kinds;
	bool qemu_chains; /* it reads those with a backing file */
};

static const struct kind qcow[] = {
	{ "cluster_size=512", NULL, 9, false },
	{ "", "", 12, false },
	{ "cluster_size=64K", NULL, 16, false },
};

static const struct kind vmdk[] = {
	{ "", "subformat=monolithicSparse", 16, false },
	{ "zeroed_grain=on", "zeroed_grain=on", 16, false },
	{ "subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentSparse", 16, false },
	{ "subformat=monolithicFlat", "subformat=monolithicFlat", 16, true },
	{ "subformat=twoGbMaxExtentFlat", "subformat=twoGbMaxExtentFlat", 16, true },
	{ "subformat=vmfs", NULL, 16, true },
	{ "subformat=vmfsSparse", NULL, 9, false },
};

static const struct kind vhd[] = {
	{ "", "force_size=on", 21, false },
	{ "block_size=4K", NULL, 12, false },
	{ "block_size=64K", NULL, 16, false },
	{ "subformat=fixed", "subformat=fixed,force_size=on", 16, true },
};

static const struct format formats[] = {
	{ "qcow", "driver=qcow", qcow, TD_NELEMS(qcow), true },
	{ "vmdk", "driver=vmdk", vmdk, TD_NELEMS(vmdk), true },
	{ "vhd", "driver=vpc,force_size_calc=current_size", vhd, TD_NELEMS(vhd), false },
};

static const struct format *choose_format(struct shape *s, const char *only)
{
	const struct format *f = &formats[shape_below(s, TD_NELEMS(formats))];

	for (unsigned i = 0; only && i < TD_NELEMS(formats); i++)
		if (strcmp(formats[i].name, only) == 0)
			f = &formats[i];
	return f;
}

static void choose_layer(struct shape *s, const struct format *f, unsigned i, uint64_t size)
{
	const struct kind *k = &f->kinds[shape_below(s, f->nr_kinds)];
	struct layer *l = &s->layer[i];
	size_t n = strlen(s->text);

	while (i > 0 && k->alone)
		k = &f->kinds[shape_below(s, f->nr_kinds)];
	l->opts = k->opts;
	l->qemu = i == 0 && shape_chance(s, 50) ? k->qemu : NULL;
	l->cluster_bits = k->block_bits;
	l->size = size;
	(void)snprintf(l->name, sizeof(l->name), "layer%u", i);
	(void)snprintf(s->text + n, sizeof(s->text) - n, "%s %s%s", i ? " <-" : "", l->qemu ? "qemu's " : "",
		       *l->opts ? l->opts : "default");
}

void shape_choose_other(struct shape *s, uint64_t seed, const char *only)
{
	static const char *const engines[] = { "auto", "libaio", "sync" };
	const struct format *f;
	uint64_t size;

	*s = (struct shape){ .seed = seed, .rnd = seed };
	f = choose_format(s, only);
	s->format = f->name;
	s->qemu_opts = f->qemu_name;
	s->engine = engines[shape_below(s, 3)];
	s->base = shape_chance(s, 20) ? "/var/tmp" : NULL;
	s->nr = 1 + (unsigned)shape_below(s, LAYERS);
	s->packs = strcmp(f->name, "qcow") == 0;
	s->may_leak = s->packs; /* what was compressed and is written over: it cannot count */
	s->qemu_reads = s->nr == 1 || f->qemu_chains;
	size = 512 + td_align_down(shape_below(s, shape_chance(s, 20) ? 65536 : 6u << 20), 512);
	(void)snprintf(s->spec, sizeof(s->spec), "%s%s", f->name, shape_chance(s, 50) ? "(l2-cache=4K)" : "");
	(void)snprintf(s->text, sizeof(s->text), "%s on %s, %llu bytes:", s->spec, s->engine,
		       (unsigned long long)size);
	for (unsigned i = 0; i < s->nr; i++)
		choose_layer(s, f, i, size);
}

/* ---- making ---- */

/* Noise at some places of the model. */
static int model_noise(struct shape *s, struct testenv *t, uint64_t *ret_off, size_t *ret_len, uint8_t *buf)
{
	uint64_t size = s->layer[0].size, off = td_align_down(shape_below(s, size), 512);
	size_t len = TD_MIN(512 + td_align_down(shape_below(s, LONGEST), 512), size - off);
	int fd = open(testenv_path(t, "model.raw"), O_WRONLY | O_CLOEXEC), r = 0;

	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)test_random(&s->rnd);
	if (fd < 0 || pwrite(fd, buf, len, (off_t)off) != (ssize_t)len)
		r = -EIO;
	if (fd >= 0)
		(void)close(fd);
	*ret_off = off;
	*ret_len = len;
	return r;
}

static int write_layer(struct shape *s, struct testenv *t, struct td_image *im)
{
	unsigned nr = (unsigned)shape_below(s, WRITES);
	uint8_t *buf = td_buf_alloc(LONGEST + 512);
	uint64_t off;
	size_t len;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < nr; i++) {
		r = model_noise(s, t, &off, &len, buf);
		if (r == 0 && im)
			r = test_write(t, im, off, buf, len, 0);
	}
	td_buf_free(buf, LONGEST + 512);
	return r;
}

static int make_theirs(struct shape *s, struct testenv *t, const struct layer *l)
{
	int r = write_layer(s, t, NULL);

	if (r < 0)
		return r;
	return shape_sh(t->dir, "qemu-img convert -q -f raw -O %s %s %s model.raw %s",
			strcmp(s->format, "vhd") == 0 ? "vpc" : s->format, *l->qemu ? "-o" : "", l->qemu,
			l->name);
}

static int make_ours(struct shape *s, struct testenv *t, unsigned i)
{
	const struct layer *l = &s->layer[i];
	struct td_image *im;
	char opts[200];
	int r, r2;

	(void)snprintf(opts, sizeof(opts), "%s", l->opts);
	if (i > 0)
		(void)snprintf(opts, sizeof(opts), "%s%sbacking_file=%s,backing_fmt=%s", l->opts,
			       *l->opts ? "," : "", s->layer[i - 1].name, s->format);
	r = test_create(t, l->size, opts, false, "%s:%s", s->format, testenv_path(t, l->name));
	if (r == 0)
		r = test_open(t, &im, 0, "%s:%s", s->spec, testenv_path(t, l->name));
	if (r < 0) {
		printf("create %s: %s: %s\n", opts, strerror(-r), t->err.msg);
		return r;
	}
	r = write_layer(s, t, im);
	r2 = test_close(t, im);
	return r < 0 ? r : r2;
}

int shape_make_other(struct shape *s, struct testenv *t)
{
	int r = shape_sh(t->dir, "truncate -s %llu model.raw", (unsigned long long)s->layer[0].size);

	t->policy.probe_backing = true; /* a qcow image does not say what its backing file is */
	for (unsigned i = 0; r == 0 && i < s->nr; i++)
		r = s->layer[i].qemu ? make_theirs(s, t, &s->layer[i]) : make_ours(s, t, i);
	return r;
}

/* ---- judging ---- */

struct verdict {
	struct shape *s;
	struct testenv *t;
	struct td_check c;
};

static int check_co(void *arg)
{
	struct verdict *v = arg;
	char spec[512];
	struct td_image *im;
	int r, r2;

	(void)snprintf(spec, sizeof(spec), "%s:%s", v->s->spec, testenv_path(v->t, shape_top(v->s)->name));
	r = td_image_open_text(&v->t->env, spec, TD_OPEN_CHECK | TD_OPEN_RDONLY, &im, &v->t->err);
	if (r < 0)
		return r;
	r = td_image_check(im, 0, &v->c);
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

int shape_check_other(struct shape *s, struct testenv *t)
{
	struct verdict v = { .s = s, .t = t };
	int r = testenv_run(t, check_co, &v);

	if (r < 0 || v.c.corruptions > 0 || v.c.errors > 0 || (v.c.leaks > 0 && !s->may_leak)) {
		printf("check: %s; %llu corruptions, %llu leaks\n", r < 0 ? t->err.msg : "",
		       (unsigned long long)v.c.corruptions, (unsigned long long)v.c.leaks);
		return -EIO;
	}
	return 0;
}
