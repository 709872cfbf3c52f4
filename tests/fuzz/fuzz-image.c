// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: a whole qcow2 image, through the driver.  Opened read-only, for check, and for writing; read over the
 * guest's range, changed, closed, opened again.
 *
 * Beyond not crashing: what is read is what a second reader finds, or an error; reading changes no byte of the file; an
 * image that the driver calls broken takes no write any more and carries the mark; one input takes neither long nor
 * much memory.
 */
#include "image-model.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "image-seeds.h"
#include "testenv.h"

#define CPU_SECONDS 10.0 /* five opens and what is done between them, sanitizers included */
#define RSS_KIB     (256L << 10)
#define READ_MAX    (64u << 10)
#define BASE_LEN    100100u /* an odd one */
#define CHANGES     14u     /* that one input makes */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static struct testenv env;
static char image_path[128];

struct run {
	const struct input *in;
	struct model_image model;
	bool has_model;
	uint64_t random;
	uint8_t buf[READ_MAX], want[READ_MAX];
};

/* ---- the file ---- */

static void put_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	FUZZ_CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	close(fd);
}

static void put_image(const struct input *in)
{
	int fd = open(image_path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	FUZZ_CHECK(fd >= 0);
	for (unsigned i = 0; i < in->nr; i++) {
		uint64_t at = in->unit[i].sector * INPUT_SECTOR;

		if (at < in->file_len)
			FUZZ_CHECK(pwrite(fd, in->unit[i].data, INPUT_SECTOR, (off_t)at) == INPUT_SECTOR);
	}
	FUZZ_CHECK(ftruncate(fd, (off_t)in->file_len) == 0);
	close(fd);
}

static void check_unchanged(const struct input *in)
{
	uint8_t there[INPUT_SECTOR], was[INPUT_SECTOR];
	int fd = open(image_path, O_RDONLY);
	struct stat st;

	FUZZ_CHECK(fd >= 0 && fstat(fd, &st) == 0);
	FUZZ_CHECK((uint64_t)st.st_size == in->file_len);
	for (unsigned i = 0; i < in->nr; i++) {
		uint64_t at = in->unit[i].sector * INPUT_SECTOR;
		ssize_t n = pread(fd, there, sizeof(there), (off_t)at);

		input_read(in, at, was, sizeof(was));
		FUZZ_CHECK(n >= 0 && memcmp(there, was, (size_t)n) == 0);
	}
	close(fd);
}

/* The bit is set, unless version 2 has no place for it. */
static void check_marked(void)
{
	uint8_t head[80] = { 0 };
	int fd = open(image_path, O_RDONLY);

	FUZZ_CHECK(fd >= 0 && pread(fd, head, sizeof(head), 0) >= 72);
	FUZZ_CHECK(td_get_be32(head + 4) == 2 || (td_get_be64(head + 72) & QCOW2_INCOMPAT_CORRUPT));
	close(fd);
}

/* ---- reading ---- */

static void compare(struct run *r, uint64_t off, size_t len, int result)
{
	enum model_answer a = image_model_read(&r->model, off, r->want, len);

	if (getenv("FUZZ_VERBOSE"))
		printf("read %#llx+%zu: %d, the model %d\n", (unsigned long long)off, len, result, (int)a);
	/* What is opened to be checked need not be readable: encrypted, or with its data elsewhere. */
	if (result == -ENOTSUP) {
		FUZZ_CHECK(r->model.h.incompatible & QCOW2_INCOMPAT_DATA_FILE);
		return;
	}
	if (result == -ENOKEY) {
		FUZZ_CHECK(r->model.h.crypt != 0);
		return;
	}
	if (result == 0) {
		FUZZ_CHECK(a != MODEL_FAIL);
		FUZZ_CHECK(a == MODEL_BELOW || memcmp(r->buf, r->want, len) == 0);
	} else {
		FUZZ_CHECK(a != MODEL_BYTES);
		FUZZ_CHECK(a != MODEL_BELOW || r->model.h.backing_len > 0);
	}
}

/* The start of one cluster (part of it, if it is large), compared if the file is as it was. */
static void read_one(struct run *r, struct td_image *im, uint64_t off, bool pristine)
{
	uint64_t cluster = r->has_model ? 1ull << r->model.g.sub_bits : 4096;
	uint64_t room = TD_MIN(cluster - off % cluster, im->size - off);
	size_t len = TD_MIN(room, READ_MAX);

	memset(r->buf, 0x5c, len);
	int result = td_image_pread(im, off, r->buf, len, 0);

	if (pristine && r->has_model)
		compare(r, off, len, result);
}

static void walk_extents(struct run *r, struct td_image *im, bool pristine)
{
	uint64_t off = 0;

	for (unsigned i = 0; i < 100 && off < im->size; i++) {
		struct td_extent e;

		if (td_image_extent(im, off, TD_MIN(im->size - off, 1ull << 30), &e) < 0)
			e.len = TD_MIN(im->size - off, 65536u);
		FUZZ_CHECK(e.len > 0 && e.len <= im->size - off);
		read_one(r, im, off, pristine);
		if (e.len > 4096)
			read_one(r, im, off + e.len - 1, pristine);
		off += e.len;
	}
}

static void read_all(struct run *r, struct td_image *im, bool pristine)
{
	uint64_t mapped[64];
	unsigned nr = r->has_model ? image_model_mapped(&r->model, mapped, TD_NELEMS(mapped)) : 0;

	if (im->size == 0)
		return;
	for (unsigned i = 0; i < nr; i++)
		if (mapped[i] < im->size)
			read_one(r, im, mapped[i], pristine);
	for (unsigned i = 0; i < 8; i++)
		read_one(r, im, test_random(&r->random) % im->size, pristine);
	walk_extents(r, im, pristine);
	/* In one request, many runs at the same time. */
	td_ignore(td_image_pread(im, 0, r->buf, TD_MIN(im->size, READ_MAX), 0));
}

/* ---- changing ---- */

static uint64_t some_off(struct run *r, const struct td_image *im)
{
	uint64_t off = test_random(&r->random);

	if (r->random & 3)
		off %= TD_MIN(im->size, 1u << 20);
	return off % im->size;
}

static int change_once(struct run *r, struct td_image *im)
{
	uint64_t off = some_off(r, im), room = im->size - off, what = test_random(&r->random) % 10;
	uint64_t len = TD_MIN(room, 1 + test_random(&r->random) % READ_MAX);

	if (what >= 6 && test_random(&r->random) % 4 == 0)
		len = room;
	switch (what) {
	case 6:
		return td_image_zero(im, off, len, TD_MAY_UNMAP);
	case 7:
		return td_image_zero(im, off, TD_MIN(len, 1u << 22), 0);
	case 8:
		return td_image_trim(im, off, len);
	case 9:
		return td_image_flush(im);
	default:
		memset(r->buf, (int)what + 1, len);
		return td_image_pwrite(im, off, r->buf, len, what ? 0 : TD_FUA);
	}
}

static void change(struct run *r, struct td_image *im)
{
	for (unsigned i = 0; i < CHANGES && im->size > 0; i++) {
		bool frozen = im->frozen;
		int result = change_once(r, im);

		FUZZ_CHECK(!frozen || result < 0);
	}
}

/* ---- one image ---- */

static int open_it(unsigned flags, struct td_image **ret)
{
	char spec[192];

	(void)snprintf(spec, sizeof(spec), "qcow2(direct=off,lock=off,l2-cache=32K,refcount-cache=32K):%s",
		       image_path);
	*env.err.msg = '\0';
	int r = td_image_open_text(&env.env, spec, flags, ret, &env.err);

	FUZZ_CHECK(r == 0 || (*env.err.msg && !strchr(env.err.msg, '\n')));
	return r;
}

static void only_read(struct run *r, unsigned flags)
{
	struct td_image *im;

	if (open_it(flags, &im) == 0) {
		read_all(r, im, true);
		td_ignore(td_image_close(im)); /* a broken image may say so here too */
	}
}

static void write_too(struct run *r)
{
	struct td_image *im;
	bool frozen;

	if (open_it(0, &im) < 0) {
		/* Refused: not a byte is changed, unless repairing it was begun. */
		if (!r->has_model || !(r->model.h.incompatible & QCOW2_INCOMPAT_DIRTY))
			check_unchanged(r->in);
		return;
	}
	read_all(r, im, true);
	change(r, im);
	read_all(r, im, false);
	frozen = im->frozen;
	td_ignore(td_image_close(im));
	if (frozen)
		check_marked();
	if (open_it(0, &im) < 0)
		return;
	read_all(r, im, false);
	change(r, im);
	td_ignore(td_image_close(im));
}

static int run_image(void *arg)
{
	struct run *r = arg;

	put_image(r->in);
	only_read(r, TD_OPEN_RDONLY);
	only_read(r, TD_OPEN_RDONLY | TD_OPEN_CHECK);
	check_unchanged(r->in);
	only_read(r, TD_OPEN_CHECK); /* may leave the mark of a broken image */
	put_image(r->in);
	write_too(r);
	return 0;
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check_cost(double since)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	FUZZ_CHECK(cpu_seconds() - since < CPU_SECONDS);
#ifndef SANITIZED
	FUZZ_CHECK(u.ru_maxrss < RSS_KIB);
#endif
}

static void leave(void)
{
	testenv_close(&env);
}

static void start(void)
{
	static uint8_t base[BASE_LEN];
	int r = testenv_open(&env, "sync", NULL);

	if (r < 0) {
		fprintf(stderr, "no test environment: %s\n", strerror(-r));
		exit(1);
	}
	(void)atexit(leave);
	(void)snprintf(image_path, sizeof(image_path), "%s/image", env.dir);
	for (size_t i = 0; i < sizeof(base); i++)
		base[i] = (uint8_t)(i / 512 + i);
	put_file(testenv_path(&env, "base.raw"), base, sizeof(base));
}

struct testenv *fuzz_env(void)
{
	if (!env.env.loop)
		start();
	return &env;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct input in;
	static struct run r;
	double since = cpu_seconds();

	(void)fuzz_env();
	if (input_decode(data, size, &in) < 0)
		return 0;
	r.in = &in;
	r.random = in.todo;
	r.has_model = image_model_open(&in, &r.model) == 0;
	FUZZ_CHECK(testenv_run(&env, run_image, &r) == 0);
	check_cost(since);
	return 0;
}
