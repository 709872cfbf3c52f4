// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: refcounts that lie.  A small sound image, of a refcount width that the first byte chooses, gets bytes of
 * its refcount table and blocks changed: an input is two bytes of where and one of what, again and again.  It is marked
 * dirty and opened for writing, which counts anew; and it is checked and repaired.
 *
 * What has been repaired is sound in the eyes of another checker, and holds the guest's bytes.  What is refused still
 * reads as it was: no refcount keeps anybody from his data.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include "qcow2-fsck.h"
#include "testenv.h"

#define DISK       (48u << 10)
#define CLUSTER    512u
#define INCOMPAT   72u /* where the incompatible features stand */
#define FILE_MAX   (256u << 10)
#define AREAS_MAX  64u
#define ORDERS     (QCOW2_MAX_REFCOUNT_ORDER + 1u)
#define CHANGE_LEN 3u

static struct testenv t;
static char path[128];

static struct image {
	uint8_t bytes[FILE_MAX];
	size_t len;
	uint64_t area[AREAS_MAX]; /* clusters of refcounts: the table's, then the blocks' */
	unsigned nr_areas;
} images[ORDERS];

static uint8_t guest[DISK];

/* ---- the images to begin with ---- */

static void note_areas(struct image *im)
{
	struct qcow2_header h;
	struct qcow2_geom g;

	FUZZ_CHECK(qcow2_header_decode(im->bytes, im->len, &h, NULL) == 0);
	qcow2_geom_of(&h, &g);
	for (unsigned i = 0; i < h.reftable_clusters; i++)
		im->area[im->nr_areas++] = h.reftable_off + i * CLUSTER;
	for (unsigned i = 0; i < h.reftable_clusters * CLUSTER / 8; i++) {
		struct qcow2_reftable_entry e;

		FUZZ_CHECK(qcow2_reftable_decode(&g, td_get_be64(im->bytes + h.reftable_off + 8 * i), &e) ==
			   0);
		if (e.present && im->nr_areas < AREAS_MAX)
			im->area[im->nr_areas++] = e.host_off;
	}
}

static void load(struct image *im)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, im->bytes, sizeof(im->bytes)) : -1;

	FUZZ_CHECK(n > 0 && n < (ssize_t)sizeof(im->bytes));
	(void)close(fd);
	im->len = (size_t)n;
}

/* Half of the disk, in turns; and a hole in the file. */
static void make(unsigned order)
{
	struct td_image *im;
	char opts[64];

	(void)snprintf(opts, sizeof(opts), "cluster_size=%u,refcount_bits=%u", CLUSTER, 1u << order);
	FUZZ_CHECK(test_create(&t, DISK, opts, true, "qcow2:%s", path) == 0);
	FUZZ_CHECK(test_open(&t, &im, 0, "qcow2(lock=off,direct=off):%s", path) == 0);
	for (uint64_t at = 0; at < DISK; at += 8192)
		FUZZ_CHECK(test_write(&t, im, at, guest + at, 4096, 0) == 0);
	FUZZ_CHECK(test_write(&t, im, 4096, guest, 4096, 0) == 0 && test_flush(&t, im) == 0);
	FUZZ_CHECK(test_write(&t, im, 12288, guest, 4096, 0) == 0);
	FUZZ_CHECK(test_trim(&t, im, 4096, 4096) == 0 && test_flush(&t, im) == 0);
	FUZZ_CHECK(test_close(&t, im) == 0);
	load(&images[order]);
	note_areas(&images[order]);
}

static void leave(void)
{
	testenv_close(&t);
}

static void set_up_once(void)
{
	if (t.env.loop)
		return;
	FUZZ_CHECK(testenv_open(&t, "sync", NULL) == 0);
	(void)atexit(leave);
	(void)snprintf(path, sizeof(path), "%s/image", t.dir);
	memset(guest + 12288, 1, 4096);
	for (uint64_t at = 0; at < DISK; at += 8192)
		memset(guest + at, 1 + (int)(at >> 13), 4096);
	for (unsigned order = 0; order < ORDERS; order++)
		make(order);
}

/* ---- one input ---- */

static void put(const struct image *im, const uint8_t *data, size_t size, bool dirty)
{
	static uint8_t copy[FILE_MAX];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	memcpy(copy, im->bytes, im->len);
	if (dirty)
		copy[INCOMPAT + 7] |= QCOW2_INCOMPAT_DIRTY;
	for (; size >= CHANGE_LEN; data += CHANGE_LEN, size -= CHANGE_LEN) {
		unsigned where = td_get_be16(data) % (im->nr_areas * CLUSTER);

		copy[im->area[where / CLUSTER] + where % CLUSTER] = data[2];
	}
	FUZZ_CHECK(fd >= 0 && write(fd, copy, im->len) == (ssize_t)im->len);
	(void)close(fd);
}

static void check_data(unsigned flags)
{
	static uint8_t got[DISK];
	struct td_image *im;

	FUZZ_CHECK(test_open(&t, &im, flags, "qcow2(lock=off,direct=off):%s", path) == 0);
	FUZZ_CHECK(test_read(&t, im, 0, got, DISK, 0) == 0 && memcmp(got, guest, DISK) == 0);
	FUZZ_CHECK(test_close(&t, im) == 0);
}

static void check_sound(void)
{
	struct fsck f;

	FUZZ_CHECK(qcow2_fsck(path, &f) == 0 && f.corruptions == 0 && f.leaks == 0 && !f.dirty);
}

/* Opening it counts anew. */
static void by_opening(void)
{
	struct td_image *im;
	int r = test_open(&t, &im, 0, "qcow2(lock=off,direct=off):%s", path);

	FUZZ_CHECK(r == 0 || r == -EUCLEAN);
	if (r == 0) {
		FUZZ_CHECK(test_close(&t, im) == 0);
		check_sound();
	}
	check_data(TD_OPEN_RDONLY);
}

static int check_it(void *arg)
{
	struct td_image *im = arg;
	struct td_check found = { 0 }, after = { 0 };
	int r = td_image_check(im, TD_FIX_ALL, &found);

	return r < 0 ? r : td_image_check(im, 0, &after);
}

static void by_check(void)
{
	struct td_image *im;
	int r = test_open(&t, &im, TD_OPEN_CHECK, "qcow2(lock=off,direct=off):%s", path);

	if (r < 0)
		return;
	r = testenv_run(&t, check_it, im);
	td_ignore(test_close(&t, im));
	if (r == 0)
		check_sound();
	check_data(TD_OPEN_RDONLY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct image *im;

	set_up_once();
	if (size < 1)
		return 0;
	im = &images[data[0] % ORDERS];
	put(im, data + 1, size - 1, true);
	by_opening();
	put(im, data + 1, size - 1, data[0] & 0x80);
	by_check();
	return 0;
}
