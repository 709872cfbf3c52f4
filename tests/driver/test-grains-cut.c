// SPDX-License-Identifier: BSD-2-Clause
/*
 * A file that was cut inside its directory of tables: what is missing of it is nowhere taken for holes, also where the
 * sector in which the directory ends is there in part.  Behind the last entry the file may end, and inside the last
 * grain.
 */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include <blktap/qcow.h>
#include <blktap/vmdk.h>

#include "testenv.h"

#define TABLES 5u /* of the disk, the last one in part */

static struct testenv env;
static char path[128];

static void make(const char *format, const char *opts, uint64_t span)
{
	(void)snprintf(path, sizeof(path), "%s/disk", env.dir);
	assert_int_equal(test_create(&env, (TABLES - 1) * span + 512, opts, true, "%s:%s", format, path), 0);
}

static void head(uint8_t *buf, size_t len)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, buf, len, 0), len);
	assert_int_equal(close(fd), 0);
}

/* Cut to size, it cannot be opened; nor to be checked. */
static void is_refused(const char *format, uint64_t size)
{
	static const unsigned flags[] = { TD_OPEN_RDONLY, 0, TD_OPEN_RDONLY | TD_OPEN_CHECK };
	struct td_image *im = NULL;

	assert_int_equal(truncate(path, (off_t)size), 0);
	for (unsigned i = 0; i < TD_NELEMS(flags); i++) {
		assert_int_equal(test_open(&env, &im, flags[i], "%s:%s", format, path), -EUCLEAN);
		if (strstr(env.err.msg, "director") == NULL)
			fail_msg("cut to %llu bytes: %s", (unsigned long long)size, env.err.msg);
	}
}

static void a_cut_qcow(void **state)
{
	uint8_t raw[QCOW_HEADER], data[512];
	struct td_image *im = NULL;
	struct qcow_header h;
	uint64_t span, end;

	(void)state;
	make("qcow", "cluster_size=4k", 2u << 20);
	head(raw, sizeof(raw));
	assert_int_equal(qcow_header_decode(raw, sizeof(raw), &h, NULL), 0);
	assert_int_equal(qcow_l1_entries(&h), TABLES);
	span = 1ull << (h.cluster_bits + h.l2_bits);
	end = h.l1_off + TABLES * 8ull;
	assert_int_not_equal(end % 512, 0);

	/* Nothing behind the last entry: an empty disk, to which can be written. */
	assert_int_equal(truncate(path, (off_t)end), 0);
	assert_int_equal(test_open(&env, &im, 0, "qcow:%s", path), 0);
	assert_int_equal(test_read(&env, im, (TABLES - 1) * span, data, sizeof(data), 0), 0);
	assert_true(td_is_zero(data, sizeof(data)));
	memset(data, 'x', sizeof(data));
	assert_int_equal(test_write(&env, im, (TABLES - 1) * span, data, sizeof(data), 0), 0);
	assert_int_equal(test_close(&env, im), 0);

	for (uint64_t cut = 1; cut <= TABLES * 8; cut++)
		is_refused("qcow", end - cut);
}

static void a_cut_vmdk(void **state)
{
	uint8_t raw[VMDK_SECTOR];
	struct vmdk_header h;
	uint64_t end;

	(void)state;
	make("vmdk", "subformat=monolithicSparse", 32u << 20);
	head(raw, sizeof(raw));
	assert_int_equal(vmdk_header_decode(raw, &h, NULL), 0);
	end = h.gd * VMDK_SECTOR + TABLES * 4ull;
	for (uint64_t cut = 1; cut <= TABLES * 4; cut++)
		is_refused("vmdk", end - cut);
}

/* ---- inside the last grain ---- */

#define GRAIN (64u << 10)

/* The first entry of both tables: a grain that begins at a sector, as VirtualBox places them. */
static void put_entry(const struct vmdk_header *h, uint32_t sector)
{
	const uint64_t directory[] = { h->gd, h->rgd };
	const int fd = open(path, O_RDWR | O_CLOEXEC);

	for (unsigned i = 0; i < TD_NELEMS(directory); i++) {
		uint32_t table = 0, entry = htole32(sector);

		assert_int_equal(pread(fd, &table, 4, (off_t)(directory[i] * VMDK_SECTOR)), 4);
		assert_int_equal(pwrite(fd, &entry, 4, (off_t)le32toh(table) * VMDK_SECTOR), 4);
	}
	assert_int_equal(close(fd), 0);
}

/* What is missing of it are zeros, which no other grain changes; and there is nothing to give back. */
static void a_file_that_ends_in_its_last_grain(void **state)
{
	static uint8_t data[GRAIN], zeros[GRAIN];
	uint8_t raw[VMDK_SECTOR];
	struct td_image *im = NULL;
	struct vmdk_header h;

	(void)state;
	make("vmdk", "subformat=monolithicSparse", 1u << 20);
	head(raw, sizeof(raw));
	assert_int_equal(vmdk_header_decode(raw, &h, NULL), 0);
	put_entry(&h, (uint32_t)h.overhead + 1);
	assert_int_equal(truncate(path, (off_t)(h.overhead + 3) * VMDK_SECTOR), 0);

	assert_int_equal(test_open(&env, &im, 0, "vmdk:%s", path), 0);
	assert_int_equal(test_trim(&env, im, GRAIN / 2, GRAIN / 4), 0);
	assert_int_equal(test_trim(&env, im, 0, GRAIN), 0);
	memset(data, 'x', sizeof(data));
	assert_int_equal(test_write(&env, im, GRAIN, data, GRAIN, 0), 0);
	assert_int_equal(test_read(&env, im, 0, data, GRAIN, 0), 0);
	assert_memory_equal(data, zeros, GRAIN);
	memset(data, 'y', sizeof(data));
	assert_int_equal(test_write(&env, im, 0, data, GRAIN, 0), 0);
	assert_int_equal(test_zero(&env, im, 0, GRAIN, 0), 0);
	assert_int_equal(test_read(&env, im, GRAIN, data, GRAIN, 0), 0);
	for (unsigned i = 0; i < GRAIN; i++)
		assert_int_equal(data[i], 'x');
	assert_int_equal(test_close(&env, im), 0);
}

static int setup(void **state)
{
	(void)state;
	return testenv_open(&env, "auto", NULL);
}

static int teardown(void **state)
{
	(void)state;
	testenv_close(&env);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_qcow),
		cmocka_unit_test(a_cut_vmdk),
		cmocka_unit_test(a_file_that_ends_in_its_last_grain),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
