// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-attach without a ring: a tapdisk, a FUSE file, a loop device over it.
 *
 * Each step is preceded by a record of it; a step that fails undoes all before it.
 */
#include "attach.h"
#include <blktap/log.h>
#include <stdio.h>
#include <unistd.h>

#define NAME "block-attach"

static int start_daemon(struct attach *a, const struct attach_request *q, struct td_err *ret_err)
{
	const char *args[8] = { "--name", a->vdev, "--fuse", a->fuse_file };
	unsigned n = 4;
	int r;

	if (a->read_only)
		args[n++] = "-R";
	args[n++] = "--";
	args[n++] = a->spec;
	a->phase = ATTACH_DAEMON;
	r = attach_save(a, ret_err);
	if (r == 0)
		r = td_ctl_spawn(args, q->timeout_ms, &a->pid, ret_err);
	if (r == 0)
		a->pid_start = attach_pid_start(a->pid);
	if (r == 0)
		td_debug("%s: tapdisk %d serves %s as %s", a->vdev, (int)a->pid, a->spec, a->fuse_file);
	return r;
}

static int make_loop(struct attach *a, const struct attach_request *q, struct td_err *ret_err)
{
	int r;

	a->phase = ATTACH_LOOP;
	r = attach_save(a, ret_err);
	if (r == 0)
		r = attach_loop_make(a, q->direct, q->block_size, &a->loop, ret_err);
	if (r == 0)
		td_debug("%s: /dev/loop%d", a->vdev, a->loop);
	return r;
}

/* A damaged table is the user's to repair, on the device: said, not refused. */
static void find_partitions(const struct attach *a)
{
	char disk[ATTACH_DISK_MAX];
	int r;

	attach_loop_disk(a->loop, disk);
	r = attach_count_partitions(disk) > 0 ? 0 : attach_add_partitions(disk);
	if (r < 0 && r != -ENOTSUP)
		attach_complain(NAME, "%s: not all of its partitions could be added: %s", a->vdev,
				strerror(-r));
}

static int make_names(struct attach *a, struct td_err *ret_err)
{
	int r;

	attach_settle();
	find_partitions(a);
	attach_settle();
	r = attach_plan_names(a, ret_err);
	if (r < 0)
		return r;
	a->phase = ATTACH_NAMES;
	r = attach_save(a, ret_err);
	return r < 0 ? r : attach_make_names(a, ret_err);
}

static int steps(struct attach *a, const struct attach_request *q, struct td_err *ret_err)
{
	int r;

	r = start_daemon(a, q, ret_err);
	if (r == 0)
		r = make_loop(a, q, ret_err);
	if (r == 0)
		r = make_names(a, ret_err);
	if (r < 0)
		return r;
	a->phase = ATTACH_DONE;
	return attach_save(a, ret_err);
}

static void roll_back(struct attach *a, const struct attach_request *q)
{
	const struct attach_undo u = { .force = true, .timeout_ms = q->timeout_ms };
	struct td_err err;

	if (attach_undo(a, &u, &err) < 0)
		attach_complain(NAME, "%s: undoing it: %s; run: block-detach 0 %s", a->vdev, err.msg,
				a->vdev);
	else
		attach_lock_drop(a->vdev);
}

static void print(const struct attach *a, bool json)
{
	char device[64], disk[ATTACH_DISK_MAX];
	json_t *o;

	attach_device(a, device, sizeof(device));
	attach_loop_disk(a->loop, disk);
	if (!json) {
		puts(device);
		return;
	}
	o = json_pack("{s:s,s:s,s:i,s:s,s:i,s:b,s:o}", "vdev", a->vdev, "device", device, "loop", a->loop,
		      "mode", a->read_only ? "r" : "w", "pid", (int)a->pid, "direct_io",
		      attach_loop_direct(a->loop), "partitions", attach_partitions(disk, device));
	if (o && json_dumpf(o, stdout, JSON_COMPACT) == 0)
		putchar('\n');
	json_decref(o);
}

int attach_loop(const struct attach_request *q, struct td_err *ret_err)
{
	struct attach *a = NULL;
	int lock = -1, r;

	r = attach_lock(q->vdev, 0, &lock, ret_err);
	if (r == 0)
		r = attach_refuse_twice(q->vdev, ret_err);
	if (r == 0)
		r = attach_new(q->vdev, &a, ret_err);
	if (r < 0 || !a)
		goto out;
	a->read_only = q->read_only;
	a->spec = strdup(q->spec);
	r = a->spec ? steps(a, q, ret_err) : -ENOMEM;
	if (r < 0)
		roll_back(a, q);
	else
		print(a, q->json);
out:
	attach_free(a);
	if (lock >= 0)
		close(lock);
	return r;
}
