// SPDX-License-Identifier: BSD-2-Clause
/* A random qcow2 disk of the matrix: its shape from a seed, made by QEMU or by us.  See matrix-shape.h.
 *
 * Nothing here is about our driver but test_create. */
#include "matrix-shape.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#define MIB            (1ull << 20)
#define LINE_MAX_BYTES 8192

uint64_t shape_below(struct shape *s, uint64_t n)
{
	return test_random(&s->rnd) % n;
}

bool shape_chance(struct shape *s, unsigned percent)
{
	return shape_below(s, 100) < percent;
}

int shape_sh(const char *dir, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES], all[LINE_MAX_BYTES + 256];
	va_list ap;
	int status, n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(line))
		return -EIO;
	(void)snprintf(all, sizeof(all), "cd %s && { %s; } >sh.out 2>&1 </dev/null", dir, line);
	status = system(all);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	printf("in %s: %s\n", dir, line);
	(void)fflush(stdout);
	(void)snprintf(all, sizeof(all), "head -c 4000 %s/sh.out", dir);
	(void)!system(all);
	return -EIO;
}

static bool is_encrypted(const struct shape *s, const struct layer *l)
{
	return s->crypt && l == &s->layer[s->nr - 1];
}

const char *shape_image_opts(const struct shape *s)
{
	static char text[256];
	const char *name = s->layer[s->nr - 1].name;

	if (s->crypt)
		(void)snprintf(text, sizeof(text),
			       "--object secret,id=k,file=key --image-opts driver=qcow2,encrypt.format=%s,"
			       "encrypt.key-secret=k,file.filename=%s",
			       s->crypt, name);
	else
		(void)snprintf(text, sizeof(text), "--image-opts %s,file.filename=%s",
			       s->format ? s->qemu_opts : "driver=qcow2", name);
	return text;
}

const char *shape_operand(const struct shape *s, const struct layer *l)
{
	return is_encrypted(s, l) ? shape_image_opts(s) : l->name;
}

/* ---- choosing ---- */

/* Small enough for 200 runs, large enough for several L2 tables where clusters are small. */
static uint64_t choose_size(struct shape *s, uint32_t cluster_bits)
{
	uint64_t most = TD_MIN(TD_MAX(300ull << cluster_bits, MIB), 8 * MIB);
	uint64_t size;

	if (cluster_bits >= 20)
		most = 12ull << cluster_bits;
	if (shape_chance(s, 5))
		most = 4096;
	size = 1 + shape_below(s, most);
	if (shape_chance(s, 50))
		return td_align_up(size, 1ull << cluster_bits);
	return shape_chance(s, 80) ? td_align_up(size, 512) : size;
}

static void choose_qcow2(struct shape *s, struct layer *l)
{
	l->version = shape_chance(s, 20) ? 2 : 3;
	l->cluster_bits = 9 + (uint32_t)shape_below(s, 13);
	l->refcount_order = 4;
	if (l->version == 2)
		return;
	if (shape_chance(s, 70))
		l->refcount_order = (uint32_t)shape_below(s, 7);
	l->lazy = shape_chance(s, 30);
	l->zstd = shape_chance(s, 30);
	l->extended = shape_chance(s, 30);
	if (l->extended && l->cluster_bits < 14)
		l->cluster_bits = 14 + (uint32_t)shape_below(s, 3);
}

static void choose_chain(struct shape *s)
{
	s->nr = 1;
	if (shape_chance(s, 60))
		s->nr += 1 + (unsigned)shape_below(s, SHAPE_LAYERS - 1);
	for (unsigned i = 0; i < s->nr; i++) {
		struct layer *l = &s->layer[i];

		choose_qcow2(s, l);
		l->raw = i == 0 && s->nr > 1 && shape_chance(s, 50);
		(void)snprintf(l->name, sizeof(l->name), "layer%u", i);
	}
	shape_top(s)->size = choose_size(s, shape_top(s)->cluster_bits);
	for (unsigned i = 0; i + 1 < s->nr; i++) {
		uint64_t top = shape_top(s)->size;

		/* Shorter and longer ones, which end inside clusters of others. */
		s->layer[i].size = shape_chance(s, 40) ? top : 1 + shape_below(s, top + top / 4);
	}
}

static void choose_spec(struct shape *s)
{
	char opts[128] = "";
	size_t n = 0;

	/* A few slices: what is dirty is pushed out all the time. */
	if (shape_chance(s, 40))
		n += (size_t)snprintf(opts + n, sizeof(opts) - n, ",l2-cache=%u", 4096u << shape_below(s, 4));
	if (shape_chance(s, 40))
		n += (size_t)snprintf(opts + n, sizeof(opts) - n, ",refcount-cache=%u",
				      4096u << shape_below(s, 4));
	if (shape_chance(s, 20))
		(void)snprintf(opts + n, sizeof(opts) - n, ",direct=off");
	(void)snprintf(s->spec, sizeof(s->spec), "qcow2%s%s%s", *opts ? "(" : "", *opts ? opts + 1 : "",
		       *opts ? ")" : "");
}

static void describe(struct shape *s)
{
	size_t n = (size_t)snprintf(s->text, sizeof(s->text), "%s on %s%s%s%s%s:", s->spec, s->engine,
				    s->ours ? ", made by us" : "", s->snapshot ? ", snapshot" : "",
				    s->crypt ? ", " : "", s->crypt ? s->crypt : "");

	for (unsigned i = s->nr; i-- > 0 && n < sizeof(s->text);) {
		const struct layer *l = &s->layer[i];

		if (l->raw)
			n += (size_t)snprintf(s->text + n, sizeof(s->text) - n, " <- raw %llu",
					      (unsigned long long)l->size);
		else
			n += (size_t)snprintf(s->text + n, sizeof(s->text) - n,
					      "%s v%u/%u/%u%s%s%s%s%s%s %llu", i + 1 < s->nr ? " <-" : "",
					      l->version, 1u << l->cluster_bits, 1u << l->refcount_order,
					      l->lazy ? "/lazy" : "", l->zstd ? "/zstd" : "",
					      l->extended ? "/extended" : "", l->prealloc ? "/" : "",
					      l->prealloc ? l->prealloc : "",
					      l->data_raw ? "/raw data file"
					      : l->data   ? "/data file"
							  : "",
					      (unsigned long long)l->size);
	}
}

/* A random number more or less would make other disks of all seeds: the last to be chosen. */
static void choose_crypt(struct shape *s)
{
	const struct layer *top = shape_top(s);

	/* What was never written would be noise, and version 2 cannot say that it is zeros: that is refused. */
	if (!s->ours || (top->version == 2 && top->prealloc) || !shape_chance(s, 30))
		return;
	s->crypt = shape_chance(s, 50) ? "luks" : "aes";
	s->packs = false; /* the two exclude each other */
}

/* Likewise. */
static void choose_data_file(struct shape *s)
{
	struct layer *l = shape_top(s);

	if (l->version < 3 || s->snapshot || !shape_chance(s, 20))
		return;
	l->data = true;
	l->data_raw = s->nr == 1 && shape_chance(s, 50);
	s->packs = false;
}

void shape_choose(struct shape *s, uint64_t seed)
{
	static const char *const engines[] = { "auto", "libaio", "sync" };
	static const char *const preallocs[] = { "metadata", "metadata", "falloc", "full" };

	*s = (struct shape){ .seed = seed, .rnd = seed, .packs = true };
	choose_chain(s);
	choose_spec(s);
	s->engine = engines[shape_below(s, 3)];
	s->base = shape_chance(s, 20) ? "/var/tmp" : NULL; /* a file system with O_DIRECT, usually */
	s->ours = shape_chance(s, 50);
	/* One snapshot makes refcounts of 2. */
	s->snapshot = shape_top(s)->refcount_order > 0 && shape_chance(s, 25);
	if (s->nr == 1 && shape_chance(s, 15))
		shape_top(s)->prealloc = preallocs[shape_below(s, TD_NELEMS(preallocs))];
	choose_crypt(s);
	choose_data_file(s);
	describe(s);
}

/* ---- making ---- */

static void layer_options(const struct layer *l, char *out, size_t len)
{
	(void)snprintf(out, len, "compat=%s,cluster_size=%u,refcount_bits=%u%s%s%s%s%s%s%s",
		       l->version == 2 ? "0.10" : "1.1", 1u << l->cluster_bits, 1u << l->refcount_order,
		       l->lazy ? ",lazy_refcounts=on" : "", l->zstd ? ",compression_type=zstd" : "",
		       l->extended ? ",extended_l2=on" : "", l->prealloc ? ",preallocation=" : "",
		       l->prealloc ? l->prealloc : "", l->data ? ",data_file=data" : "",
		       l->data_raw ? ",data_file_raw=on" : "");
}

static const char *layer_format(const struct layer *l)
{
	return l->raw ? "raw" : "qcow2";
}

/* The pass phrase, in a file; the specification names it. */
static int make_key(struct shape *s, struct testenv *t)
{
	size_t n = strlen(s->spec);
	bool has_opts = s->spec[n - 1] == ')';

	n -= has_opts;
	(void)snprintf(s->spec + n, sizeof(s->spec) - n, "%ckey-file=%s)", has_opts ? ',' : '(',
		       testenv_path(t, "key"));
	return shape_sh(t->dir, "printf 'a pass phrase' >key; chmod 600 key");
}

/* A small header, which is read fast. */
static void crypt_options(const struct shape *s, struct testenv *t, char *out, size_t len)
{
	(void)snprintf(out, len, ",encrypt.format=%s,encrypt.key-file=%s%s", s->crypt, testenv_path(t, "key"),
		       strcmp(s->crypt, "luks") == 0 ? ",encrypt.iter-time=1,encrypt.cipher-alg=aes-128"
						     : "");
}

static int create_ours(struct shape *s, struct testenv *t)
{
	char opts[768];
	struct layer *l = shape_top(s);
	size_t n;
	int r;

	layer_options(l, opts, sizeof(opts));
	n = strlen(opts);
	if (s->nr > 1)
		(void)snprintf(opts + n, sizeof(opts) - n, ",backing_file=%s,backing_fmt=%s",
			       s->layer[s->nr - 2].name, layer_format(&s->layer[s->nr - 2]));
	n = strlen(opts);
	if (s->crypt)
		crypt_options(s, t, opts + n, sizeof(opts) - n);
	r = test_create(t, l->size, opts, false, "qcow2:%s", testenv_path(t, l->name));
	if (r < 0)
		printf("create %s: %s: %s\n", opts, strerror(-r), t->err.msg);
	return r;
}

static int create_layer(struct shape *s, struct testenv *t, unsigned i)
{
	struct layer *l = &s->layer[i];
	char opts[256], backing[64] = "";

	if (l->raw)
		return shape_sh(t->dir, "truncate -s %llu %s", (unsigned long long)l->size, l->name);
	if (i + 1 == s->nr && s->ours)
		return create_ours(s, t);
	layer_options(l, opts, sizeof(opts));
	if (i > 0)
		(void)snprintf(backing, sizeof(backing), "-b %s -F %s", s->layer[i - 1].name,
			       layer_format(&s->layer[i - 1]));
	return shape_sh(t->dir, "qemu-img create -q -f qcow2 -o %s %s %s %llu", opts, backing, l->name,
			(unsigned long long)l->size);
}

/*
 * Compressed clusters, which QEMU puts only where nothing is yet: so first, and at ascending places.  It packs several
 * into one host cluster.
 */
static size_t packed_writes(struct shape *s, const struct layer *l, char *out, size_t len)
{
	uint64_t cluster = 1ull << l->cluster_bits, nr = l->size >> l->cluster_bits, at = 0;
	size_t n = 0;

	out[0] = '\0';
	if (l->raw || l->prealloc || l->data || is_encrypted(s, l) || !shape_chance(s, 50))
		return 0;
	/* Eight to a host cluster, and the snapshot counts each again: too many for narrow refcounts. */
	if (s->snapshot && l->refcount_order < 3)
		return 0;
	for (unsigned i = 0; i < 8; i++) {
		at += shape_below(s, 4);
		if (at >= nr)
			break;
		n += (size_t)snprintf(out + n, len - n, " -c 'write -q -c -s %s %llu %llu'",
				      shape_chance(s, 70) ? "shrinks" : "noise",
				      (unsigned long long)(at * cluster), (unsigned long long)cluster);
		at++;
	}
	return n;
}

/* One command of qemu-io within the layer. */
static size_t one_write(struct shape *s, const struct layer *l, char *out, size_t len)
{
	uint64_t cluster = l->raw ? 4096 : 1ull << l->cluster_bits;
	uint64_t size = td_align_down(l->size, 512), off, n;

	if (size == 0)
		return 0;
	off = td_align_down(shape_below(s, size), 512);
	n = 512 + td_align_down(shape_below(s, TD_MIN(4 * cluster, size - off)), 512);
	n = TD_MIN(n, size - off);
	switch (shape_below(s, 4)) {
	case 0:
		return (size_t)snprintf(out, len, " -c 'write -q -z%s %llu %llu'",
					shape_chance(s, 50) ? " -u" : "", (unsigned long long)off,
					(unsigned long long)n);
	case 1:
		return (size_t)snprintf(out, len, " -c 'discard -q %llu %llu'", (unsigned long long)off,
					(unsigned long long)n);
	default:
		return (size_t)snprintf(out, len, " -c 'write -q -s noise %llu %llu'",
					(unsigned long long)off, (unsigned long long)n);
	}
}

static int write_layer(struct shape *s, struct testenv *t, const struct layer *l, unsigned most, bool packed)
{
	char line[LINE_MAX_BYTES - 256] = "";
	size_t n = packed ? packed_writes(s, l, line, sizeof(line)) : 0;
	unsigned nr = (unsigned)shape_below(s, most + 1);

	for (unsigned i = 0; i < nr; i++)
		n += one_write(s, l, line + n, sizeof(line) - n);
	if (n == 0)
		return 0;
	return shape_sh(t->dir, "qemu-io -d unmap %s%s%s %s", is_encrypted(s, l) ? "" : "-f ",
			is_encrypted(s, l) ? "" : layer_format(l), line, shape_operand(s, l));
}

/* Free clusters in the middle of the file. */
static int leave_free_clusters(struct shape *s, struct testenv *t)
{
	struct layer *l = shape_top(s);
	int r = shape_sh(t->dir, "qemu-img snapshot -c gone %s", shape_operand(s, l));

	if (r == 0)
		r = write_layer(s, t, l, 8, false);
	return r == 0 ? shape_sh(t->dir, "qemu-img snapshot -d gone %s", shape_operand(s, l)) : r;
}

static int make_snapshot(struct shape *s, struct testenv *t)
{
	struct layer *l = shape_top(s);
	int r;

	r = shape_sh(t->dir, "qemu-img snapshot -c before %s", shape_operand(s, l));
	if (r == 0)
		r = shape_sh(t->dir, "qemu-img convert -l snapshot.name=before -O raw %s snapshot.raw",
			     shape_operand(s, l));
	return r == 0 ? write_layer(s, t, l, 3, false) : r;
}

/* What qemu-io writes: as much from the beginning of such a file as it needs. */
static int make_pattern(struct testenv *t, const char *name, uint64_t seed, uint64_t mask)
{
	FILE *f = fopen(testenv_path(t, name), "w");
	bool ok = f != NULL;

	for (unsigned i = 0; ok && i < (3u << 20) / 2 / 8; i++) {
		uint64_t word = test_random(&seed) & mask;

		ok = fwrite(&word, 8, 1, f) == 1;
	}
	if (f && fclose(f) != 0)
		ok = false;
	return ok ? 0 : -EIO;
}

int shape_make(struct shape *s, struct testenv *t)
{
	int r = make_pattern(t, "noise", s->seed, UINT64_MAX);

	/* Shrinks to about half: compressed clusters that cross into the next host cluster, and leave bytes behind. */
	if (r == 0)
		r = make_pattern(t, "shrinks", s->seed, 0x0f0f0f0f0f0f0f0full);
	if (r == 0 && s->crypt)
		r = make_key(s, t);
	for (unsigned i = 0; r == 0 && i < s->nr; i++) {
		r = create_layer(s, t, i);
		if (r == 0)
			r = write_layer(s, t, &s->layer[i], 8, true);
	}
	if (r == 0 && !shape_top(s)->data && shape_top(s)->refcount_order >= 3 && shape_chance(s, 40))
		r = leave_free_clusters(s, t);
	if (r == 0 && s->snapshot)
		r = make_snapshot(s, t);
	return r;
}
