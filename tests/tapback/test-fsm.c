// SPDX-License-Identifier: BSD-2-Clause
/*
 * The state machine over all combinations of what it can be told: never a step that makes no sense, and from everywhere
 * it comes to rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "fsm.h"

/* Every combination, one after the other. false: that was the last. */
static bool next_of_all(struct fsm_in *in)
{
#define COUNT(field, type, end)                                                                              \
	do {                                                                                                 \
		unsigned n_ = (unsigned)in->field + 1;                                                       \
		in->field = (type)(n_ % (end));                                                              \
		if (n_ < (end))                                                                              \
			return true;                                                                         \
	} while (0)
	COUNT(be, enum xs_state, XS_STATES);
	COUNT(fe, enum xs_state, XS_STATES);
	COUNT(written, enum xs_state, XS_STATES);
	COUNT(disk, enum fsm_disk, DISK_STATES);
	COUNT(ring, enum fsm_ring, RING_STATES);
	COUNT(online, bool, 2);
	COUNT(plugged, bool, 2);
	COUNT(by_script, bool, 2);
	COUNT(given_up, bool, 2);
	COUNT(wait, bool, 2);
	return false;
#undef COUNT
}

/* What a step leaves behind if all goes well. */
static void apply(struct fsm_in *in, enum fsm_step step)
{
	switch (step) {
	case STEP_OPEN:
		in->disk = DISK_OPEN;
		break;
	case STEP_ANNOUNCE:
		in->be = in->written = XS_INIT_WAIT;
		break;
	case STEP_CONNECT:
		in->ring = RING_UP;
		in->be = in->written = XS_CONNECTED;
		break;
	case STEP_RECOVER:
		in->disk = DISK_OPEN;
		in->ring = RING_UP;
		break;
	case STEP_CLOSING:
		in->be = in->written = XS_CLOSING;
		break;
	case STEP_DISCONNECT:
		in->ring = RING_NONE;
		break;
	case STEP_CLOSE_DISK:
		in->disk = DISK_NONE;
		break;
	case STEP_CLOSED:
		in->be = in->written = XS_CLOSED;
		break;
	case STEP_FAIL:
		in->be = in->written = in->be == XS_INITIALISING ? XS_CLOSED : XS_CLOSING;
		break;
	case STEP_RESET:
		in->ring = RING_NONE;
		in->disk = DISK_NONE;
		in->given_up = false;
		in->written = XS_NONE;
		break;
	default:
		break;
	}
}

/* Can the device be in this at all?  What the rest of the code rules out. */
static bool possible(const struct fsm_in *in)
{
	if (in->ring == RING_UP || in->ring == RING_BROKEN)
		return in->disk == DISK_OPEN;
	if (in->disk == DISK_FAILED || in->disk == DISK_LATER)
		return in->ring == RING_NONE;
	return true;
}

static void check_step(const struct fsm_in *in, enum fsm_step step)
{
	bool mapped = in->ring == RING_UP || in->ring == RING_BROKEN;

	assert_non_null(fsm_step_name(step));
	switch (step) {
	case STEP_OPEN:
		assert_true(in->disk == DISK_NONE || in->disk == DISK_LOST);
		assert_false(in->wait);
		break;
	case STEP_ANNOUNCE:
		assert_int_equal(in->ring, RING_NONE);
		break;
	case STEP_CONNECT: /* never twice, never before the script is done, only what the frontend has written */
		assert_int_equal(in->be, XS_INIT_WAIT);
		assert_int_equal(in->ring, RING_NONE);
		assert_int_equal(in->disk, DISK_OPEN);
		assert_true(in->plugged);
		assert_true(in->fe == XS_INITIALISED || in->fe == XS_CONNECTED);
		break;
	case STEP_RECOVER:
		assert_int_equal(in->ring, RING_LOST);
		assert_true(in->be == XS_CONNECTED || in->be == XS_CLOSING);
		assert_false(in->wait || in->given_up);
		break;
	case STEP_CLOSED: /* the guest takes its pages back when it reads 6 */
		assert_false(mapped);
		assert_int_not_equal(in->be, XS_CLOSED);
		break;
	case STEP_CLOSE_DISK:
		assert_false(mapped);
		assert_true(in->be == XS_NONE || (in->be == XS_CLOSED && !in->online));
		break;
	case STEP_CLOSING:
		assert_int_equal(in->fe, XS_CLOSING);
		assert_int_not_equal(in->be, XS_CLOSING);
		break;
	case STEP_FAIL:
		assert_int_not_equal(in->be, XS_CLOSING);
		assert_int_not_equal(in->be, XS_CLOSED);
		break;
	case STEP_FORGET:
		assert_int_equal(in->be, XS_NONE);
		assert_int_equal(in->ring, RING_NONE);
		assert_true(in->disk != DISK_OPEN && in->disk != DISK_LOST);
		break;
	case STEP_CONFLICT:
		assert_int_not_equal(in->be, XS_NONE);
		break;
	default:
		break;
	}
	/* Over another's state nothing is written. */
	if (in->written != in->be && in->be >= XS_INIT_WAIT && in->be != XS_CLOSING && in->be != XS_CLOSED)
		assert_int_equal(step, STEP_CONFLICT);
}

static void every_combination(void **state)
{
	struct fsm_in in = { 0 };
	unsigned nr = 0;

	(void)state;
	do {
		struct fsm_in now = in;
		enum fsm_step step = fsm_next(&now);
		unsigned steps = 0;

		nr++;
		if (!possible(&in))
			continue;
		while (step != STEP_NONE && step != STEP_FORGET && step != STEP_CONFLICT) {
			check_step(&now, step);
			apply(&now, step);
			assert_true(++steps < 8);
			step = fsm_next(&now);
		}
		check_step(&now, step);
	} while (next_of_all(&in));
	printf("%u combinations\n", nr);
	assert_true(nr > 300000);
}

/* xl.md's order of events, in short: state after state, which step. */
static void the_usual_life(void **state)
{
	static const struct {
		enum xs_state be, fe;
		bool online, plugged;
		enum fsm_disk disk;
		enum fsm_ring ring;
		enum fsm_step step;
	} life[] = {
		{ 1, 1, 1, 1, DISK_NONE, RING_NONE, STEP_OPEN },
		{ 1, 1, 1, 1, DISK_OPEN, RING_NONE, STEP_ANNOUNCE },
		{ 2, 1, 1, 1, DISK_OPEN, RING_NONE, STEP_NONE },
		{ 2, 3, 1, 0, DISK_OPEN, RING_NONE, STEP_NONE },    /* the script still runs */
		{ 2, 3, 1, 1, DISK_OPEN, RING_NONE, STEP_CONNECT }, /* whichever came last */
		{ 4, 3, 1, 1, DISK_OPEN, RING_UP, STEP_NONE },
		{ 4, 4, 1, 1, DISK_OPEN, RING_UP, STEP_NONE },
		{ 4, 4, 1, 1, DISK_LOST, RING_LOST, STEP_RECOVER },
		{ 4, 5, 1, 1, DISK_OPEN, RING_UP, STEP_CLOSING }, /* the guest powers off */
		{ 5, 5, 1, 1, DISK_OPEN, RING_UP, STEP_NONE },
		{ 5, 6, 1, 1, DISK_OPEN, RING_UP, STEP_DISCONNECT },
		{ 5, 6, 1, 1, DISK_OPEN, RING_NONE, STEP_CLOSED },
		{ 6, 6, 1, 1, DISK_OPEN, RING_NONE, STEP_NONE },
		{ 6, 1, 1, 1, DISK_OPEN, RING_NONE, STEP_ANNOUNCE }, /* kexec, save and restore */
		{ 6, 6, 0, 1, DISK_OPEN, RING_NONE, STEP_CLOSE_DISK },
		{ 6, 6, 0, 1, DISK_NONE, RING_NONE, STEP_NONE },
		{ 0, 0, 0, 0, DISK_NONE, RING_NONE, STEP_FORGET },
		{ 5, 4, 0, 1, DISK_OPEN, RING_UP, STEP_NONE },       /* libxl detaches: the guest is asked */
		{ 5, 0, 0, 1, DISK_OPEN, RING_UP, STEP_DISCONNECT }, /* xl destroy */
		{ 5, 1, 0, 1, DISK_OPEN, RING_NONE, STEP_CLOSED },   /* nobody ever connected */
		{ 0, 0, 0, 0, DISK_OPEN, RING_UP, STEP_DISCONNECT },
		{ 0, 0, 0, 0, DISK_OPEN, RING_NONE, STEP_CLOSE_DISK },
		{ 2, 3, 1, 1, DISK_OPEN, RING_UP, STEP_DISCONNECT }, /* killed while connecting */
		{ 4, 4, 1, 1, DISK_OPEN, RING_BROKEN, STEP_FAIL },
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(life); i++) {
		struct fsm_in in = { .be = life[i].be,
				     .fe = life[i].fe,
				     .written = life[i].be,
				     .online = life[i].online,
				     .plugged = life[i].plugged,
				     .disk = life[i].disk,
				     .ring = life[i].ring };

		if (fsm_next(&in) != life[i].step)
			print_error("row %zu: %s\n", i, fsm_step_name(fsm_next(&in)));
		assert_int_equal(fsm_next(&in), life[i].step);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_combination),
		cmocka_unit_test(the_usual_life),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
