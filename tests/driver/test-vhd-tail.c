// SPDX-License-Identifier: BSD-2-Clause
/*
 * A vhd whose first footer is damaged, and behind whose last block is what a crash left, is opened and written to; the
 * power is cut before operation n, for every n, any part of what was not flushed being lost.  Of its two footers one is
 * there at every instant.
 */
#include "simdisk.h"
#include "vhd-fixture.h"

struct run {
	struct fixture f;
	struct simdisk *sim;
	struct simdisk_state *clean;
	unsigned images;
};

/* Two blocks' space, and then a footer. */
static void leave_a_tail(struct run *run)
{
	const uint64_t size = size_of(&run->f, "d"), end = size - VHD_FOOTER + 4 * MIB + 65536;
	static const uint8_t junk[VHD_FOOTER] = { 1, 2, 3 };
	uint8_t footer[VHD_FOOTER];

	peek(&run->f, "d", size - VHD_FOOTER, footer, sizeof(footer));
	patch(&run->f, "d", size - VHD_FOOTER, (uint8_t[VHD_FOOTER]){ 0 }, VHD_FOOTER);
	patch(&run->f, "d", end, footer, sizeof(footer));
	patch(&run->f, "d", 0, junk, sizeof(junk));
}

static void setup(struct run *run)
{
	*run = (struct run){ .sim = simdisk_new(1) };
	assert_int_equal(testenv_open_sim(&run->f.t, run->sim), 0);
	make(&run->f, "d", 8 * MIB, "");
	open_it(&run->f, "d");
	put(&run->f, 0, 65536, 'a');
	close_it(&run->f);
	leave_a_tail(run);
	run->clean = simdisk_save(run->sim);
}

static int use(void *arg)
{
	struct run *run = arg;
	struct td_image *im = NULL;
	char spec[160], data[512] = "b";
	int r, r2;

	(void)snprintf(spec, sizeof(spec), "vhd:%s", at(&run->f, "d"));
	r = td_image_open_text(&run->f.t.env, spec, 0, &im, &run->f.t.err);
	if (r < 0)
		return r;
	r = td_image_pwrite(im, 4 * MIB, data, sizeof(data), 0);
	r2 = td_image_close(im);
	return r < 0 ? r : r2;
}

static void look(struct run *run)
{
	run->images++;
	if (try_open(&run->f, "d", TD_OPEN_RDONLY) < 0)
		fail_msg("%s", run->f.t.err.msg);
	has(&run->f, 0, 65536, 'a');
	close_it(&run->f);
}

static void there_is_always_a_footer(void **state)
{
	struct run run;

	(void)state;
	setup(&run);
	for (uint64_t n = 1;; n++) {
		struct simdisk_state *crash;

		simdisk_restore(run.sim, run.clean);
		simdisk_start(run.sim, n);
		simdisk_cut(run.sim, n);
		(void)testenv_run(&run.f.t, use, &run);
		if (!simdisk_is_cut(run.sim))
			break;
		crash = simdisk_crash(run.sim);
		for (enum simdisk_lost how = 0; how <= SIMDISK_LOSE_PIECES; how++) {
			for (uint64_t i = 0; i < 2; i++) {
				simdisk_make(run.sim, crash, how, n * 7 + i);
				look(&run);
			}
		}
		simdisk_state_free(crash);
	}
	printf("# %u images\n", run.images);
	testenv_close(&run.f.t);
	simdisk_state_free(run.clean);
	simdisk_free(run.sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_is_always_a_footer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
