// SPDX-License-Identifier: BSD-2-Clause
/*
 * The table of what is there; see taps.h.  An outer join of the daemons' sockets, their answers, and the
 * markers: nothing that was left behind is left out, since what is not seen is never cleaned up.
 */
#include <blktap/ctl.h>

#include <unistd.h>

#include "minor.h"
#include "taps.h"

#define ENDING_TRIES    50u
#define ENDING_US       20000
#define INFO_TIMEOUT_MS 3000 /* of each daemon: one that hangs holds up the list that long */

static int taps_add(struct taps *t, const struct tap *row)
{
	struct tap *more = reallocarray(t->tap, t->nr + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	t->tap = more;
	t->tap[t->nr++] = *row;
	return 0;
}

static void tap_done(struct tap *row)
{
	free(row->spec);
	json_decref(row->info);
}

void taps_done(struct taps *t)
{
	for (size_t i = 0; i < t->nr; i++)
		tap_done(&t->tap[i]);
	free(t->tap);
	*t = (struct taps){ 0 };
}

/* ---- one daemon ---- */

static int state_bits(const char *name)
{
	static const struct {
		const char *name;
		int bits;
	} states[] = {
		{ "closed", TAP_CLOSED },
		{ "running", 0 },
		{ "full", TAP_QUIESCED },
		{ "pausing", TAP_PAUSE_REQUESTED | TAP_QUIESCE_REQUESTED },
		{ "paused", TAP_PAUSED | TAP_QUIESCED | TAP_CLOSED },
	};

	for (size_t i = 0; name && i < TD_NELEMS(states); i++)
		if (strcmp(states[i].name, name) == 0)
			return states[i].bits;
	return -1;
}

static int fill_live(struct tap *row, json_t *info)
{
	const json_t *minor = json_object_get(info, "minor");
	const char *spec = json_string_value(json_object_get(info, "spec"));

	row->kind = TAP_LIVE;
	row->info = info;
	if (json_is_integer(minor))
		row->minor = (int)json_integer_value(minor);
	if (spec) {
		row->spec = strdup(spec);
		if (!row->spec)
			return -ENOMEM;
	}
	row->state = state_bits(json_string_value(json_object_get(info, "state")));
	if (row->state == TAP_CLOSED && row->minor < 0)
		row->state = -1; /* no disk at all, rather than a closed one */
	return 0;
}

/* One that is just ending, or being killed, hangs up: some moments later it is gone. */
static int ask_info(pid_t pid, json_t **ret_info)
{
	struct td_err err = { .msg = "" };
	int r;

	for (unsigned i = 0;; i++) {
		r = td_ctl_call(pid, json_pack("{s:s}", "cmd", "info"), INFO_TIMEOUT_MS, ret_info, &err);
		if ((r != -EPIPE && r != -ECONNRESET) || i == ENDING_TRIES)
			return r;
		usleep(ENDING_US);
	}
}

/* 1: there is a row; 0: the daemon ended meanwhile and left nothing. */
static int ask(pid_t pid, struct tap *row)
{
	json_t *info = NULL;
	int r;

	*row = (struct tap){ .kind = TAP_MUTE, .pid = pid, .minor = -1, .marked = -1, .state = -1 };
	r = ask_info(pid, &info);
	if (r == 0) {
		r = fill_live(row, info);
		if (r < 0)
			tap_done(row);
		return r < 0 ? r : 1;
	}
	if (r == -ENOENT)
		return 0;
	if (r == -ECONNREFUSED) {
		row->kind = TAP_GONE;
		row->state = TAP_DEAD;
	}
	return 1;
}

static int read_daemons(struct taps *t, struct td_err *ret_err)
{
	td_cleanup(free) pid_t *pids = NULL;
	size_t nr = 0;
	int r;

	r = td_ctl_pids(&pids, &nr, ret_err);
	for (size_t i = 0; r >= 0 && i < nr; i++) {
		struct tap row;

		r = ask(pids[i], &row);
		if (r <= 0)
			continue;
		r = taps_add(t, &row);
		if (r < 0)
			tap_done(&row);
	}
	return TD_MIN(r, 0);
}

/* ---- the join ---- */

static struct tap *row_of_minor(struct taps *t, int minor)
{
	for (size_t i = 0; i < t->nr; i++)
		if (t->tap[i].minor == minor)
			return &t->tap[i];
	return NULL;
}

/* A daemon that cannot say itself which minor it has (or had). */
static struct tap *row_of_silent_pid(struct taps *t, pid_t pid)
{
	for (size_t i = 0; i < t->nr; i++)
		if (pid >= 0 && t->tap[i].pid == pid && t->tap[i].minor < 0 && t->tap[i].kind != TAP_LIVE)
			return &t->tap[i];
	return NULL;
}

static int join_marker(struct taps *t, const struct minor *m)
{
	struct tap alone = {
		.kind = TAP_MARKER, .pid = -1, .minor = m->minor, .marked = m->pid, .state = -1
	};
	struct tap *row = row_of_minor(t, m->minor);

	if (!row)
		row = row_of_silent_pid(t, m->pid);
	if (!row)
		return taps_add(t, &alone);
	row->minor = m->minor;
	row->marked = m->pid;
	return 0;
}

int taps_read(struct taps *ret, struct td_err *ret_err)
{
	td_cleanup(free) struct minor *minors = NULL;
	struct taps t = { 0 };
	size_t nr = 0;
	int r;

	/* Markers first: one that is given back while we ask daemons is then a row too many, not a disk too few. */
	r = minor_list(&minors, &nr, ret_err);
	if (r == 0)
		r = read_daemons(&t, ret_err);
	for (size_t i = 0; r == 0 && i < nr; i++)
		r = join_marker(&t, &minors[i]);
	if (r < 0)
		taps_done(&t);
	else
		*ret = t;
	return r;
}

/* ---- looking one up ---- */

static bool fits(const struct tap *row, int pid, int minor)
{
	return (pid < 0 || row->pid == pid) && (minor < 0 || row->minor == minor);
}

static int not_found(int pid, int minor, struct td_err *ret_err)
{
	if (pid < 0)
		return td_err_set(ret_err, -ENOENT, "there is no disk with minor %d", minor);
	if (minor < 0)
		return td_err_set(ret_err, -ENOENT, "there is no tapdisk with pid %d", pid);
	return td_err_set(ret_err, -ENOENT, "there is no tapdisk with pid %d and minor %d (see tap-ctl list)",
			  pid, minor);
}

int taps_find(const struct taps *t, int pid, int minor, const struct tap **ret, struct td_err *ret_err)
{
	const struct tap *found = NULL;

	if (pid < 0 && minor < 0)
		return td_err_set(ret_err, -EINVAL, "say which disk: -p PID, -m MINOR, or both");
	for (size_t i = 0; i < t->nr; i++) {
		if (!fits(&t->tap[i], pid, minor))
			continue;
		if (found)
			return td_err_set(ret_err, -EINVAL, "more than one disk fits: give both -p and -m");
		found = &t->tap[i];
	}
	if (!found)
		return not_found(pid, minor, ret_err);
	*ret = found;
	return 0;
}

/* Something is left of a disk, but there is nobody to talk to: say how to get rid of it. */
static int require_daemon(const struct tap *row, struct td_err *ret_err)
{
	if (row->kind == TAP_GONE)
		return td_err_set(ret_err, -ENOENT, "tapdisk %d is dead; tap-ctl destroy -p %d cleans up",
				  (int)row->pid, (int)row->pid);
	if (row->kind == TAP_MARKER)
		return td_err_set(ret_err, -ENOENT,
				  "no tapdisk has minor %d; tap-ctl destroy -m %d cleans up", row->minor,
				  row->minor);
	return 0;
}

int tap_resolve(int pid, int minor, pid_t *ret_pid, int *ret_minor, struct td_err *ret_err)
{
	const struct tap *row = NULL;
	struct taps t;
	int r;

	r = taps_read(&t, ret_err);
	if (r < 0)
		return r;
	r = taps_find(&t, pid, minor, &row, ret_err);
	if (row)
		r = require_daemon(row, ret_err);
	if (r == 0 && row) {
		*ret_pid = row->pid;
		*ret_minor = row->minor;
	}
	taps_done(&t);
	return r;
}
