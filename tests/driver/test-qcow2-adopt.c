// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a killed process left beside a qcow2 image: adopted, refused or dropped.  A child process is really killed here,
 * after a write that nobody flushed; then the file it leaves is damaged, or the image is changed, in one way a test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keep-file.h"
#include "qcow2-fsck.h"
#include "testenv.h"

#define DISK   (8u << 20)
#define BLOCK  4096u
#define CREATE "cluster_size=4K"

struct fixture {
	struct testenv t;
	char image[128], keep[160];
};

static uint8_t old_bytes[BLOCK], new_bytes[BLOCK];

/* ---- an image and its keeper ---- */

static void keep_path(const struct fixture *x, const char *image, char *ret, size_t len)
{
	struct stat st;

	assert_int_equal(stat(image, &st), 0);
	(void)snprintf(ret, len, "%s/keep%llx.%llx", x->t.dir, (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino);
}

static int write_block(struct testenv *t, const char *image, uint64_t off, const void *bytes)
{
	struct td_image *im;
	int r = test_open(t, &im, 0, "qcow2:%s", image), r2;

	if (r < 0)
		return r;
	r = test_write(t, im, off, bytes, BLOCK, 0);
	r2 = test_close(t, im);
	return r < 0 ? r : r2;
}

/* The child: a process of its own with all that belongs to it; writes, and is killed. */
static _Noreturn void be_killed(const char *dir, const char *image, unsigned blocks)
{
	struct testenv t;
	struct td_image *im;

	if (testenv_open(&t, "sync", NULL) < 0)
		_exit(1);
	(void)rmdir(t.dir);
	t.env.keep_dir = dir;
	if (test_open(&t, &im, 0, "qcow2:%s", image) < 0)
		_exit(2);
	for (unsigned i = 0; i < blocks; i++)
		if (test_write(&t, im, (uint64_t)i * BLOCK, new_bytes, BLOCK, 0) < 0)
			_exit(3);
	(void)kill(getpid(), SIGKILL);
	_exit(4);
}

static void kill_one(const struct fixture *x, const char *image, unsigned blocks)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0)
		be_killed(x->t.dir, image, blocks);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* An image with one block on disk, and eight more in what a killed process left. */
static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	memset(old_bytes, 0x11, sizeof(old_bytes));
	memset(new_bytes, 0x22, sizeof(new_bytes));
	assert_int_equal(testenv_open(&x->t, "sync", NULL), 0);
	(void)snprintf(x->image, sizeof(x->image), "%s/disk", x->t.dir);
	assert_int_equal(test_create(&x->t, DISK, CREATE, false, "qcow2:%s", x->image), 0);
	assert_int_equal(write_block(&x->t, x->image, 16 * BLOCK, old_bytes), 0);
	x->t.env.keep_dir = x->t.dir;
	keep_path(x, x->image, x->keep, sizeof(x->keep));
	kill_one(x, x->image, 8);
	assert_int_equal(access(x->keep, F_OK), 0);
	*state = x;
	return 0;
}

/* Another image, with three blocks in what its killed process left. */
static void leave_another(struct fixture *x, char other[160], char keep[200])
{
	(void)snprintf(other, 160, "%s/other", x->t.dir);
	assert_int_equal(test_create(&x->t, DISK, CREATE, false, "qcow2:%s", other), 0);
	kill_one(x, other, 3);
	keep_path(x, other, keep, 200);
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	testenv_close(&x->t);
	free(x);
	return 0;
}

static int try_open(struct fixture *x, unsigned flags, const char *opts)
{
	struct td_image *im;
	int r = test_open(&x->t, &im, flags, "qcow2(%s):%s", opts, x->image);

	return r < 0 ? r : test_close(&x->t, im);
}

static void assert_block(struct fixture *x, const char *image, uint64_t off, int byte)
{
	static uint8_t buf[BLOCK];
	struct td_image *im;

	assert_int_equal(test_open(&x->t, &im, 0, "qcow2(adopt=on):%s", image), 0);
	assert_int_equal(test_read(&x->t, im, off, buf, sizeof(buf), 0), 0);
	assert_int_equal(test_close(&x->t, im), 0);
	for (unsigned i = 0; i < BLOCK; i++)
		assert_int_equal(buf[i], byte);
}

static void assert_sound(const char *image)
{
	struct fsck f;

	assert_int_equal(qcow2_fsck(image, &f), 0);
	assert_int_equal(f.corruptions, 0);
}

/* Refused, by name, with the way out; nothing was touched. */
static void assert_refused(struct fixture *x, int error)
{
	assert_int_equal(try_open(x, 0, ""), error);
	assert_non_null(strstr(x->t.err.msg, x->keep));
	assert_non_null(strstr(x->t.err.msg, "adopt=off"));
	assert_int_equal(access(x->keep, F_OK), 0);
	assert_sound(x->image);
}

static void assert_gone(const struct fixture *x)
{
	assert_int_not_equal(access(x->keep, F_OK), 0);
}

/* ---- bytes of the file ---- */

static void get(const char *path, uint64_t at, void *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, buf, len, (off_t)at), len);
	(void)close(fd);
}

static void put(const char *path, uint64_t at, const void *buf, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, buf, len, (off_t)at), len);
	(void)close(fd);
}

static void copy(const char *from, const char *to)
{
	char cmd[512];

	(void)snprintf(cmd, sizeof(cmd), "cp --sparse=always -p %s %s", from, to);
	assert_int_equal(system(cmd), 0); /* NOLINT: our own files */
}

static struct keep_head get_head(const struct fixture *x)
{
	struct keep_head h;

	get(x->keep, 0, &h, sizeof(h));
	return h;
}

static void put_head(const struct fixture *x, struct keep_head *h)
{
	h->sum = keep_head_sum(h);
	put(x->keep, 0, h, sizeof(*h));
}

/* ---- adopted ---- */

static void what_was_answered_is_there(void **state)
{
	struct fixture *x = *state;

	for (unsigned i = 0; i < 8; i++)
		assert_block(x, x->image, (uint64_t)i * BLOCK, 0x22);
	assert_block(x, x->image, 16 * BLOCK, 0x11);
	assert_gone(x);
	assert_sound(x->image);
}

/* A second try would be told that all is well: by whoever had dropped it. */
static void after_a_failed_flush_it_is_not_adopted(void **state)
{
	struct fixture *x = *state;
	struct td_image *im;

	assert_int_equal(test_open(&x->t, &im, 0, "qcow2/fault(flush-every=1,once=on)/aio:%s", x->image),
			 -EIO);
	assert_non_null(strstr(x->t.err.msg, x->keep));
	assert_refused(x, -EUCLEAN);
	assert_int_equal(try_open(x, 0, "adopt=off"), 0);
	assert_gone(x);
	assert_sound(x->image);
}

/* The refcounts are written then, and not what they count. */
static void what_was_adopted_in_part_is_adopted(void **state)
{
	struct fixture *x = *state;
	struct td_image *im;

	assert_int_equal(test_open(&x->t, &im, 0, "qcow2/fault(write-every=2,once=on)/aio:%s", x->image),
			 -EIO);
	what_was_answered_is_there(state);
}

static void killed_again_and_again(void **state)
{
	struct fixture *x = *state;

	for (unsigned i = 1; i < 6; i++) {
		kill_one(x, x->image, 100 * i);
		assert_sound(x->image);
	}
	assert_block(x, x->image, 499 * BLOCK, 0x22);
	assert_sound(x->image);
}

static void two_images_do_not_meet(void **state)
{
	struct fixture *x = *state;
	char other[160], keep[200];

	leave_another(x, other, keep);
	assert_block(x, x->image, 0, 0x22);
	assert_int_equal(access(keep, F_OK), 0);
	assert_block(x, other, 2 * BLOCK, 0x22);
	assert_block(x, other, 3 * BLOCK, 0);
	assert_int_not_equal(access(keep, F_OK), 0);
}

static void an_image_that_was_moved_is_the_same(void **state)
{
	struct fixture *x = *state;
	char moved[160];

	(void)snprintf(moved, sizeof(moved), "%s/moved", x->t.dir);
	assert_int_equal(rename(x->image, moved), 0);
	assert_block(x, moved, 0, 0x22);
	assert_gone(x);
}

/* ---- not asked for ---- */

static void it_can_be_given_up(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(try_open(x, 0, "adopt=off"), 0);
	assert_gone(x);
	assert_block(x, x->image, 0, 0);
	assert_sound(x->image);
}

static void who_only_reads_is_told(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(try_open(x, TD_OPEN_RDONLY, ""), -EBUSY);
	assert_non_null(strstr(x->t.err.msg, x->keep));
	assert_int_equal(try_open(x, TD_OPEN_RDONLY, "adopt=off"), 0);
	assert_int_equal(try_open(x, TD_OPEN_RDONLY | TD_OPEN_NO_LOCK, ""), 0);
	assert_int_equal(access(x->keep, F_OK), 0);
	assert_block(x, x->image, 0, 0x22);
}

static char noticed[512];

static void note(const char *line)
{
	(void)snprintf(noticed, sizeof(noticed), "%s", line);
}

static uint64_t kept(const struct td_image *im)
{
	struct td_counters c;

	td_image_counters(im, &c);
	for (unsigned i = 0; i < c.nr; i++)
		if (strcmp(c.counter[i].name, "kept") == 0)
			return c.counter[i].value;
	return UINT64_MAX;
}

static void without_a_place_nothing_is_looked_for_and_one_is_told(void **state)
{
	struct fixture *x = *state;
	struct td_image *im;

	x->t.env.notice = note;
	noticed[0] = '\0';
	assert_int_equal(test_open(&x->t, &im, 0, "qcow2:%s", x->image), 0);
	assert_int_equal(kept(im), 1);
	assert_int_equal(test_close(&x->t, im), 0);
	assert_string_equal(noticed, "");
	x->t.env.keep_dir = "/nonexistent/folder";
	assert_int_equal(test_open(&x->t, &im, 0, "qcow2:%s", x->image), 0);
	assert_non_null(strstr(noticed, x->image));
	assert_non_null(strstr(noticed, "/nonexistent/folder"));
	assert_int_equal(kept(im), 0);
	assert_int_equal(test_write(&x->t, im, 64 * BLOCK, new_bytes, BLOCK, 0), 0);
	assert_int_equal(test_close(&x->t, im), 0);
	assert_sound(x->image);
}

static void two_at_a_time_are_refused(void **state)
{
	struct fixture *x = *state;
	struct td_image *im;

	assert_int_equal(test_open(&x->t, &im, 0, "qcow2:%s", x->image), 0);
	assert_int_equal(try_open(x, 0, "lock=off"), -EBUSY);
	assert_int_equal(try_open(x, 0, "lock=off,adopt=off"), -EBUSY);
	assert_int_equal(access(x->keep, F_OK), 0);
	assert_int_equal(test_close(&x->t, im), 0);
	assert_gone(x);
}

/* ---- stale ---- */

static void an_image_changed_since_is_refused(void **state)
{
	struct fixture *x = *state;

	x->t.env.keep_dir = NULL; /* another program, which knows nothing of it */
	assert_int_equal(write_block(&x->t, x->image, 32 * BLOCK, old_bytes), 0);
	x->t.env.keep_dir = x->t.dir;
	assert_refused(x, -ESTALE);
	assert_int_equal(try_open(x, 0, "adopt=off"), 0);
	assert_block(x, x->image, 32 * BLOCK, 0x11);
	assert_block(x, x->image, 0, 0);
}

/*
 * The same number of clusters, which are the same ones: the refcounts are those that were to become, and no table that
 * the killed process changed is another.
 */
static void clusters_that_somebody_took_are_not_shared(void **state)
{
	struct fixture *x = *state;
	struct td_image *im;

	assert_int_equal(write_block(&x->t, x->image, DISK / 2, old_bytes), 0); /* with its table */
	kill_one(x, x->image, 16);
	x->t.env.keep_dir = NULL;
	assert_int_equal(test_open(&x->t, &im, 0, "qcow2:%s", x->image), 0);
	for (unsigned i = 1; i <= 8; i++)
		assert_int_equal(test_write(&x->t, im, DISK / 2 + (uint64_t)i * BLOCK, old_bytes, BLOCK, 0),
				 0);
	assert_int_equal(test_close(&x->t, im), 0);
	x->t.env.keep_dir = x->t.dir;
	assert_refused(x, -ESTALE);
	assert_int_equal(try_open(x, 0, "adopt=off"), 0);
	assert_block(x, x->image, DISK / 2 + 8 * BLOCK, 0x11);
}

static void an_image_made_anew_is_refused(void **state)
{
	struct fixture *x = *state;

	x->t.env.keep_dir = NULL;
	assert_int_equal(test_create(&x->t, DISK, CREATE, true, "qcow2:%s", x->image), 0);
	x->t.env.keep_dir = x->t.dir;
	assert_refused(x, -ESTALE);
}

static void another_cluster_size_is_refused(void **state)
{
	struct fixture *x = *state;

	x->t.env.keep_dir = NULL;
	assert_int_equal(test_create(&x->t, DISK, "cluster_size=64K", true, "qcow2:%s", x->image), 0);
	x->t.env.keep_dir = x->t.dir;
	assert_refused(x, -EUCLEAN);
}

/* Somebody took what is only counted for leaks, and gave it back: as if the counts had been on disk already. */
static void clusters_that_were_given_back_are_not_named(void **state)
{
	struct fixture *x = *state;
	struct keep_areas areas;
	const struct keep_area *a;
	uint32_t none = 0;

	get(x->keep, KEEP_PAGE, &areas, sizeof(areas));
	a = &areas.area[0][areas.which[0]];
	assert_true(a->used > 0);
	for (uint64_t i = 0; i < a->used; i++)
		put(x->keep, a->states_at + i * a->stride + offsetof(struct td_keep_unit, state), &none,
		    sizeof(none));
	assert_refused(x, -ESTALE);
}

static void one_of_an_earlier_boot_is_dropped(void **state)
{
	struct fixture *x = *state;
	struct keep_head h = get_head(x);

	h.boot[0] ^= 1;
	put_head(x, &h);
	assert_block(x, x->image, 0, 0);
	assert_gone(x);
	assert_sound(x->image);
}

static void one_of_a_file_that_is_gone_is_dropped(void **state)
{
	struct fixture *x = *state;
	struct keep_head h = get_head(x);

	h.id.born_ns ^= 1;
	put_head(x, &h);
	assert_block(x, x->image, 0, 0);
	assert_gone(x);
}

/* ---- foreign and broken ---- */

static void one_of_another_image_is_refused(void **state)
{
	struct fixture *x = *state;
	char other[160], keep[200];

	leave_another(x, other, keep);
	copy(keep, x->keep);
	assert_refused(x, -EUCLEAN);
}

static void one_of_another_version_is_refused(void **state)
{
	struct fixture *x = *state;
	struct keep_head h = get_head(x);

	h.version++;
	put_head(x, &h);
	assert_refused(x, -EUCLEAN);
}

/* Wherever it is cut: it is refused, or what is missing was nothing. */
static void a_piece_of_one_is_refused(void **state)
{
	struct fixture *x = *state;
	char whole[160];
	unsigned refused = 0;
	struct stat st;

	(void)snprintf(whole, sizeof(whole), "%s/whole", x->t.dir);
	copy(x->keep, whole);
	assert_int_equal(stat(whole, &st), 0);
	for (off_t len = 0; len < st.st_size; len = len < 1 ? 1 : len * 2 + 100) {
		copy(whole, x->keep);
		assert_int_equal(truncate(x->keep, len), 0);
		if (try_open(x, 0, "") < 0) {
			assert_refused(x, -EUCLEAN);
			refused++;
			continue;
		}
		assert_block(x, x->image, 7 * BLOCK, 0x22);
		break;
	}
	assert_true(refused > 8);
}

/* It stays the same file. */
static void refill(const char *from, const char *to)
{
	struct stat st;
	uint8_t *bytes;

	assert_int_equal(stat(from, &st), 0);
	bytes = malloc((size_t)st.st_size);
	assert_non_null(bytes);
	get(from, 0, bytes, (size_t)st.st_size);
	put(to, 0, bytes, (size_t)st.st_size);
	assert_int_equal(truncate(to, st.st_size), 0);
	free(bytes);
}

static void bytes_of_nobody_harm_nobody(void **state)
{
	struct fixture *x = *state;
	uint64_t random = test_seed();
	char whole[160], disk[160];
	struct keep_areas areas;

	(void)snprintf(whole, sizeof(whole), "%s/whole", x->t.dir);
	(void)snprintf(disk, sizeof(disk), "%s/disk.copy", x->t.dir);
	copy(x->keep, whole);
	copy(x->image, disk);
	get(whole, KEEP_PAGE, &areas, sizeof(areas));
	for (unsigned i = 0; i < test_count("TEST_ROUNDS", 1) * 60; i++) {
		const struct keep_area *a = &areas.area[i % TD_KEEP_KINDS][areas.which[i % TD_KEEP_KINDS]];
		uint64_t at = KEEP_PAGE + test_random(&random) % sizeof(areas), value = test_random(&random);

		if (i % 3 == 1)
			at = a->states_at + test_random(&random) % (a->used * a->stride);
		else if (i % 3 == 2)
			at = a->bytes_at + test_random(&random) % (a->used * a->unit);
		copy(whole, x->keep);
		put(x->keep, at, &value, 1 + test_random(&random) % 8);
		refill(disk, x->image);
		td_ignore(try_open(x, 0, "")); /* opened or refused: it did not crash, nor wait for ever */
	}
}

static void one_that_others_may_write_is_refused(void **state)
{
	struct fixture *x = *state;
	char other[160];

	assert_int_equal(chmod(x->keep, 0666), 0);
	assert_refused(x, -EPERM);
	assert_int_equal(chmod(x->keep, 0600), 0);
	(void)snprintf(other, sizeof(other), "%s/link", x->t.dir);
	assert_int_equal(link(x->keep, other), 0);
	assert_refused(x, -EPERM);
	assert_int_equal(unlink(x->keep), 0);
	assert_int_equal(symlink(other, x->keep), 0);
	assert_refused(x, -EPERM);
	assert_int_equal(unlink(x->keep), 0);
	assert_int_equal(mkfifo(x->keep, 0600), 0);
	assert_refused(x, -EPERM);
}

int main(void)
{
#define ADOPT_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		ADOPT_TEST(what_was_answered_is_there),
		ADOPT_TEST(after_a_failed_flush_it_is_not_adopted),
		ADOPT_TEST(what_was_adopted_in_part_is_adopted),
		ADOPT_TEST(killed_again_and_again),
		ADOPT_TEST(two_images_do_not_meet),
		ADOPT_TEST(an_image_that_was_moved_is_the_same),
		ADOPT_TEST(it_can_be_given_up),
		ADOPT_TEST(who_only_reads_is_told),
		ADOPT_TEST(without_a_place_nothing_is_looked_for_and_one_is_told),
		ADOPT_TEST(two_at_a_time_are_refused),
		ADOPT_TEST(an_image_changed_since_is_refused),
		ADOPT_TEST(clusters_that_somebody_took_are_not_shared),
		ADOPT_TEST(an_image_made_anew_is_refused),
		ADOPT_TEST(another_cluster_size_is_refused),
		ADOPT_TEST(clusters_that_were_given_back_are_not_named),
		ADOPT_TEST(one_of_an_earlier_boot_is_dropped),
		ADOPT_TEST(one_of_a_file_that_is_gone_is_dropped),
		ADOPT_TEST(one_of_another_image_is_refused),
		ADOPT_TEST(one_of_another_version_is_refused),
		ADOPT_TEST(a_piece_of_one_is_refused),
		ADOPT_TEST(bytes_of_nobody_harm_nobody),
		ADOPT_TEST(one_that_others_may_write_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
