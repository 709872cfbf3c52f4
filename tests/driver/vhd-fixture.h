// SPDX-License-Identifier: BSD-2-Clause
/* What the tests of the vhd driver share: images in a folder of their own, their bytes, and the driver's check. */
#ifndef TESTS_DRIVER_VHD_FIXTURE_H
#define TESTS_DRIVER_VHD_FIXTURE_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/vhd.h>

#include "testenv.h"
#include "vhd-fsck.h"

#define MIB (1ull << 20)

struct fixture {
	struct testenv t;
	struct td_image *im;
};

static inline const char *at(struct fixture *f, const char *name)
{
	return testenv_path(&f->t, name);
}

static inline void start(struct fixture *f)
{
	*f = (struct fixture){ 0 };
	assert_int_equal(testenv_open(&f->t, "sync", NULL), 0);
}

static inline void make(struct fixture *f, const char *name, uint64_t size, const char *opts)
{
	if (test_create(&f->t, size, opts, false, "vhd:%s", at(f, name)) < 0)
		fail_msg("%s", f->t.err.msg);
}

static inline int try_open(struct fixture *f, const char *name, unsigned flags)
{
	return test_open(&f->t, &f->im, flags, "vhd:%s", at(f, name));
}

static inline void open_it(struct fixture *f, const char *name)
{
	if (try_open(f, name, 0) < 0)
		fail_msg("%s", f->t.err.msg);
}

static inline void close_it(struct fixture *f)
{
	assert_int_equal(test_close(&f->t, f->im), 0);
	f->im = NULL;
}

static inline void refused(struct fixture *f, const char *name, int code, const char *word)
{
	int r = try_open(f, name, 0);

	if (r == 0)
		close_it(f);
	if (r != code || !strstr(f->t.err.msg, word))
		fail_msg("%d, not %d: \"%s\" and not \"%s\"", r, code, f->t.err.msg, word);
}

static inline void put(struct fixture *f, uint64_t off, size_t len, int byte)
{
	char *buf = td_buf_alloc(len);

	memset(buf, byte, len);
	assert_int_equal(test_write(&f->t, f->im, off, buf, len, 0), 0);
	td_buf_free(buf, len);
}

static inline void has(struct fixture *f, uint64_t off, size_t len, int byte)
{
	char *buf = td_buf_alloc(len);

	assert_int_equal(test_read(&f->t, f->im, off, buf, len, 0), 0);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)buf[i] != (unsigned)byte)
			fail_msg("byte %llu is %d, not %d", (unsigned long long)(off + i),
				 (unsigned char)buf[i], byte);
	td_buf_free(buf, len);
}

/* ---- the file's bytes ---- */

static inline void peek(struct fixture *f, const char *name, uint64_t off, void *data, size_t len)
{
	int fd = open(at(f, name), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, data, len, (off_t)off), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static inline void patch(struct fixture *f, const char *name, uint64_t off, const void *data, size_t len)
{
	int fd = open(at(f, name), O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, (off_t)off), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static inline uint64_t size_of(struct fixture *f, const char *name)
{
	struct stat st;

	assert_int_equal(stat(at(f, name), &st), 0);
	return (uint64_t)st.st_size;
}

static inline void cut_file(struct fixture *f, const char *name, uint64_t size)
{
	assert_int_equal(truncate(at(f, name), (off_t)size), 0);
}

static inline void patch32(struct fixture *f, const char *name, uint64_t off, uint32_t value)
{
	uint8_t raw[4];

	td_put_be32(raw, value);
	patch(f, name, off, raw, sizeof(raw));
}

static inline uint32_t peek32(struct fixture *f, const char *name, uint64_t off)
{
	uint8_t raw[4];

	peek(f, name, off, raw, sizeof(raw));
	return td_get_be32(raw);
}

/* Another value in a structure, under a right checksum. */
static inline void lie(struct fixture *f, const char *name, uint64_t from, size_t len, size_t sum_at,
		       size_t field, uint32_t value)
{
	uint8_t raw[VHD_HEADER];
	uint32_t sum = 0;

	peek(f, name, from, raw, len);
	td_put_be32(raw + field, value);
	td_put_be32(raw + sum_at, 0);
	for (size_t i = 0; i < len; i++)
		sum += raw[i];
	td_put_be32(raw + sum_at, ~sum);
	patch(f, name, from, raw, len);
}

static inline void lie_in_header(struct fixture *f, const char *name, size_t field, uint32_t value)
{
	lie(f, name, 512, VHD_HEADER, 36, field, value);
}

static inline void sound(struct fixture *f, const char *name)
{
	struct vhd_fsck k;

	assert_int_equal(vhd_fsck(at(f, name), &k), 0);
	assert_true(k.whole);
}

/* ---- check ---- */

struct checking {
	struct fixture *f;
	const char *name;
	unsigned fix;
	struct td_check found;
};

static inline int run_check(void *arg)
{
	struct checking *c = arg;
	struct testenv *t = &c->f->t;
	char spec[160];
	struct td_image *im = NULL;
	int r, r2;

	(void)snprintf(spec, sizeof(spec), "vhd:%s", at(c->f, c->name));
	r = td_image_open_text(&t->env, spec,
			       TD_OPEN_CHECK | TD_OPEN_NO_CHAIN | (c->fix ? 0 : TD_OPEN_RDONLY), &im,
			       &t->err);
	if (r < 0)
		return r;
	r = td_image_check(im, c->fix, &c->found);
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

static inline struct td_check check(struct fixture *f, const char *name, unsigned fix)
{
	struct checking c = { .f = f, .name = name, .fix = fix };

	assert_int_equal(testenv_run(&f->t, run_check, &c), 0);
	return c.found;
}

static inline void finds_and_mends(struct fixture *f, const char *name, uint64_t corruptions, uint64_t leaks)
{
	struct td_check c = check(f, name, 0);

	assert_int_equal(c.corruptions, corruptions);
	assert_int_equal(c.leaks, leaks);
	c = check(f, name, TD_FIX_ALL);
	assert_int_equal(c.corruptions, 0);
	assert_int_equal(c.leaks, 0);
	assert_true(c.corruptions_fixed == corruptions && c.leaks_fixed >= leaks);
	c = check(f, name, 0);
	assert_int_equal(c.corruptions + c.leaks, 0);
	sound(f, name);
}

#endif
