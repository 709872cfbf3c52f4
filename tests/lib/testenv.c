// SPDX-License-Identifier: BSD-2-Clause
#include "testenv.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "simdisk.h"

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

/* Folders to remove at the end of the program: a test that fails does not come to its testenv_close. */
#define MAX_DIRS 256
static char dirs[MAX_DIRS][64];
static unsigned nr_dirs;

static void remove_dir(const char *dir)
{
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_dirs(void)
{
	for (unsigned i = 0; i < nr_dirs; i++)
		if (access(dirs[i], F_OK) == 0)
			remove_dir(dirs[i]);
}

static int make_dir(struct testenv *t, const char *base)
{
	(void)snprintf(t->dir, sizeof(t->dir), "%s/blktap-test.XXXXXX", base ? base : "/dev/shm");
	if (!mkdtemp(t->dir))
		return -errno;
	if (nr_dirs == 0 && atexit(remove_dirs) != 0)
		return -ENOMEM;
	if (nr_dirs < MAX_DIRS)
		memcpy(dirs[nr_dirs++], t->dir, sizeof(t->dir));
	return 0;
}

static int make_base(struct testenv *t, const char *base)
{
	int r;

	*t = (struct testenv){ 0 };
	r = make_dir(t, base);
	if (r < 0)
		return r;
	t->env.policy = &t->policy;
	t->env.loop = td_loop_new();
	t->env.pool = t->env.loop ? td_pool_new(t->env.loop, 4) : NULL;
	return t->env.pool ? 0 : -ENOMEM;
}

int testenv_open(struct testenv *t, const char *engine, const char *base)
{
	int r = make_base(t, base);

	return r < 0 ? r : td_engine_new(engine, t->env.loop, t->env.pool, 64, &t->env.engine, &t->err);
}

int testenv_open_sim(struct testenv *t, struct simdisk *sim)
{
	int r = make_base(t, NULL);

	return r < 0 ? r : simdisk_engine(sim, t->env.loop, t->env.pool, &t->env.engine);
}

void testenv_close(struct testenv *t)
{
	if (t->env.engine)
		td_engine_free(t->env.engine);
	if (t->env.pool)
		td_pool_free(t->env.pool);
	if (t->env.loop)
		td_loop_free(t->env.loop);
	td_policy_done(&t->policy);
	if (*t->dir)
		remove_dir(t->dir);
	td_co_thread_done();
}

int testenv_run(struct testenv *t, int (*fn)(void *arg), void *arg)
{
	return td_loop_call(t->env.loop, fn, arg);
}

const char *testenv_path(struct testenv *t, const char *name)
{
	static char ring[8][256];
	static unsigned next;
	char *out = ring[next++ % 8];

	(void)snprintf(out, sizeof(ring[0]), "%s/%s", t->dir, name);
	return out;
}

/* One call of an image, to be made in a coroutine. */
struct call {
	enum {
		CALL_OPEN,
		CALL_CREATE,
		CALL_CLOSE,
		CALL_READ,
		CALL_WRITE,
		CALL_ZERO,
		CALL_TRIM,
		CALL_FLUSH,
		CALL_EXTENT,
		CALL_RESIZE
	} kind;
	struct testenv *t;
	struct td_image *im, **ret_im;
	char spec[512];
	const char *opts;
	void *buf;
	uint64_t off, len;
	unsigned flags;
	bool force;
	struct td_extent *ret_extent;
};

static int call_create(struct call *c)
{
	struct td_opts opts = { 0 };
	struct td_spec *spec;
	int r = td_spec_parse(c->spec, &spec, &c->t->err);

	if (r < 0)
		return r;
	if (c->opts)
		r = td_opts_parse(&opts, c->opts, strlen(c->opts), &c->t->err);
	if (r == 0)
		r = td_image_create(&c->t->env, spec, c->len, &opts, c->force, &c->t->err);
	td_opts_done(&opts);
	td_spec_free(spec);
	return r;
}

static int call_co(void *arg)
{
	struct call *c = arg;

	switch (c->kind) {
	case CALL_OPEN:
		return td_image_open_text(&c->t->env, c->spec, c->flags, c->ret_im, &c->t->err);
	case CALL_CREATE:
		return call_create(c);
	case CALL_CLOSE:
		return td_image_close(c->im);
	case CALL_READ:
		return td_image_pread(c->im, c->off, c->buf, c->len, c->flags);
	case CALL_WRITE:
		return td_image_pwrite(c->im, c->off, c->buf, c->len, c->flags);
	case CALL_ZERO:
		return td_image_zero(c->im, c->off, c->len, c->flags);
	case CALL_TRIM:
		return td_image_trim(c->im, c->off, c->len);
	case CALL_FLUSH:
		return td_image_flush(c->im);
	case CALL_EXTENT:
		return td_image_extent(c->im, c->off, c->len, c->ret_extent);
	case CALL_RESIZE:
		return td_image_resize(c->im, c->len, TD_RESIZE_SHRINK, &c->t->err);
	}
	return -EINVAL;
}

static int run(struct testenv *t, struct call c)
{
	c.t = t;
	return testenv_run(t, call_co, &c);
}

int test_open(struct testenv *t, struct td_image **ret_im, unsigned flags, const char *spec_fmt, ...)
{
	struct call c = { .kind = CALL_OPEN, .ret_im = ret_im, .flags = flags };
	va_list ap;

	va_start(ap, spec_fmt);
	(void)vsnprintf(c.spec, sizeof(c.spec), spec_fmt, ap);
	va_end(ap);
	return run(t, c);
}

int test_create(struct testenv *t, uint64_t size, const char *opts, bool force, const char *spec_fmt, ...)
{
	struct call c = { .kind = CALL_CREATE, .len = size, .opts = opts, .force = force };
	va_list ap;

	va_start(ap, spec_fmt);
	(void)vsnprintf(c.spec, sizeof(c.spec), spec_fmt, ap);
	va_end(ap);
	return run(t, c);
}

int test_close(struct testenv *t, struct td_image *im)
{
	return run(t, (struct call){ .kind = CALL_CLOSE, .im = im });
}

int test_read(struct testenv *t, struct td_image *im, uint64_t off, void *buf, size_t len, unsigned flags)
{
	return run(t,
		   (struct call){
			   .kind = CALL_READ, .im = im, .off = off, .buf = buf, .len = len, .flags = flags });
}

int test_write(struct testenv *t, struct td_image *im, uint64_t off, const void *buf, size_t len,
	       unsigned flags)
{
	return run(t, (struct call){ .kind = CALL_WRITE,
				     .im = im,
				     .off = off,
				     .buf = (void *)(uintptr_t)buf,
				     .len = len,
				     .flags = flags });
}

int test_zero(struct testenv *t, struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	return run(t, (struct call){ .kind = CALL_ZERO, .im = im, .off = off, .len = len, .flags = flags });
}

int test_trim(struct testenv *t, struct td_image *im, uint64_t off, uint64_t len)
{
	return run(t, (struct call){ .kind = CALL_TRIM, .im = im, .off = off, .len = len });
}

int test_flush(struct testenv *t, struct td_image *im)
{
	return run(t, (struct call){ .kind = CALL_FLUSH, .im = im });
}

int test_extent(struct testenv *t, struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	return run(t,
		   (struct call){ .kind = CALL_EXTENT, .im = im, .off = off, .len = len, .ret_extent = ret });
}

int test_resize(struct testenv *t, struct td_image *im, uint64_t size)
{
	return run(t, (struct call){ .kind = CALL_RESIZE, .im = im, .len = size });
}

uint64_t test_seed(void)
{
	const char *text = getenv("TEST_SEED");
	struct timespec now;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = text ? strtoull(text, NULL, 0)
		    : (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20 ^ (uint64_t)getpid();
	(void)setvbuf(stdout, NULL, _IOLBF, 0); /* long loops say as they go what they did */
	printf("# TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

uint64_t test_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

unsigned test_count(const char *name, unsigned otherwise)
{
	const char *text = getenv(name);

	return text ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

unsigned test_stride(unsigned otherwise)
{
#ifdef __SANITIZE_ADDRESS__
	otherwise = otherwise * 2 + 1;
#endif
	return test_count("TEST_STRIDE", otherwise);
}
