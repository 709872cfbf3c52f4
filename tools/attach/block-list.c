// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-list [DOM]: the disks that are attached, and what is wrong with them.  Looks, changes nothing.
 */
#include "attach.h"
#include "list.h"
#include "tools/common/cli.h"
#include "tools/common/print.h"
#include <stdio.h>
#include <unistd.h>

#define NAME "block-list"

/* ---- printing ---- */

struct out {
	json_t *list; /* NULL: text */
	bool table;
};

static void short_size(int64_t size, char *buf, size_t len)
{
	static const char units[] = "BKMGTPE";
	double v = (double)size;
	unsigned u = 0;

	while (v >= 1024 && u < sizeof(units) - 2) {
		v /= 1024;
		u++;
	}
	if (size < 0)
		snprintf(buf, len, "-");
	else
		snprintf(buf, len, v < 10 && u > 0 && v != (double)(int)v ? "%.1f%c" : "%.0f%c", v, units[u]);
}

static void print_table_row(const struct row *row)
{
	char size[32], pid[16] = "-";

	short_size(row->size, size, sizeof(size));
	if (row->pid > 0)
		snprintf(pid, sizeof(pid), "%d", row->pid);
	printf("%6u %-8s %-20s %-4s %-11s %8s %8s  %s%s%s%s\n", row->domid, row->vdev,
	       *row->device ? row->device : "-", row->mode, row->state, pid, size,
	       row->spec ? row->spec : "?", *row->note ? " (" : "", row->note, *row->note ? ")" : "");
}

/* spec is last: it alone may hold blanks. */
static void print_line(const struct row *row)
{
	printf("vdev=%s device=%s mode=%s state=%s pid=%d size=%lld domain=%u spec=%s\n", row->vdev,
	       *row->device ? row->device : "-", row->mode, row->state, row->pid, (long long)row->size,
	       row->domid, row->spec ? row->spec : "?");
}

static json_t *row_to_json(const struct row *row)
{
	json_t *o = json_pack("{s:s,s:i,s:s*,s:s,s:s,s:s,s:i,s:I,s:o}", "vdev", row->vdev, "domain",
			      (int)row->domid, "device", *row->device ? row->device : NULL, "mode", row->mode,
			      "state", row->state, "note", row->note, "pid", (int)row->pid, "size",
			      (json_int_t)row->size, "spec", row->spec ? print_name(row->spec) : json_null());

	if (o)
		td_ignore(json_object_update_missing(o, row->json)); /* no memory: less is said */
	return o;
}

static void print(void *ctx, const struct row *row)
{
	const struct out *out = ctx;

	if (out->list)
		td_ignore(json_array_append_new(out->list, row_to_json(row)));
	else if (out->table)
		print_table_row(row);
	else
		print_line(row);
}

/* ---- those on loop devices ---- */

static bool is_being_worked_on(const struct attach *a)
{
	int fd, r = attach_lock(a->vdev, 0, &fd, NULL);

	if (r == 0)
		close(fd);
	return r == -EBUSY;
}

static void judge(const struct attach *a, struct row *row)
{
	const char *note = "";

	row->state = "attached";
	if (a->phase != ATTACH_DONE) {
		row->state = is_being_worked_on(a) ? "busy" : "unfinished";
		note = attach_phase_name(a->phase);
	} else if (row->pid == 0) {
		row->state = "broken";
		note = "tapdisk is gone";
	} else if (row->size < 0) {
		row->state = "broken";
		note = "loop device is gone";
	}
	snprintf(row->note, sizeof(row->note), "%s", note);
}

static void describe(const struct attach *a, struct row *row)
{
	char disk[ATTACH_DISK_MAX];

	*row = (struct row){
		.pid = attach_daemon(a), .size = -1, .mode = a->read_only ? "r" : "w", .spec = a->spec
	};
	memcpy(row->vdev, a->vdev, sizeof(row->vdev));
	attach_device(a, row->device, sizeof(row->device));
	attach_loop_disk(a->loop, disk);
	if (attach_loop_is_ours(a, a->loop))
		row->size = attach_loop_size(a->loop);
	judge(a, row);
	row->json = attach_to_json(a);
	if (row->json)
		td_ignore(json_object_set_new(row->json, "partitions", attach_partitions(disk, row->device)));
}

/* A record may go while we look: that is no error. */
static void list_one(const char *vdev, struct out *out)
{
	struct attach *a = NULL;
	struct td_err err = { .msg = "" };
	struct row row;
	int r = attach_load(vdev, &a, &err);

	if (r < 0 && r != -ENOENT)
		attach_complain(NAME, "%s", err.msg);
	if (a) {
		describe(a, &row);
		print(out, &row);
		json_decref(row.json);
	}
	attach_free(a);
}

static int list_loops(struct out *out, struct td_err *ret_err)
{
	char **vdevs = NULL;
	size_t nr = 0;
	int r = attach_list(&vdevs, &nr, ret_err);

	for (size_t i = 0; i < nr; i++) {
		list_one(vdevs[i], out);
		free(vdevs[i]);
	}
	free(vdevs);
	return r;
}

/* ---- the command ---- */

static int list_all(struct out *out, const char *domain, struct td_err *ret_err)
{
	struct ring_domain dom;
	int r = ring_domain_open(&dom, domain ? domain : "0", ret_err);

	if (r < 0)
		return r;
	if (!domain || dom.id == 0)
		r = list_loops(out, ret_err);
	if (r == 0 && dom.xs)
		ring_list(dom.xs, domain ? (int)dom.id : -1, print, out);
	ring_domain_close(&dom);
	return r;
}

static int check(void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	(void)arg;
	return nr > 0 ? attach_parse_domain(operands[0], ret_err) : 0;
}

static int run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct cli_common *args = arg;
	struct out out = { .list = args->json ? json_array() : NULL,
			   .table = !args->json && isatty(STDOUT_FILENO) };
	int r;

	if (out.table)
		printf("%6s %-8s %-20s %-4s %-11s %8s %8s  %s\n", "DOMAIN", "VDEV", "DEVICE", "MODE", "STATE",
		       "PID", "SIZE", "SPEC");
	r = list_all(&out, nr > 0 ? operands[0] : NULL, ret_err);
	if (r == 0 && out.list && json_dumpf(out.list, stdout, JSON_INDENT(1)) == 0)
		putchar('\n');
	json_decref(out.list);
	return r;
}

static const struct cli_cmd cmd = {
	.synopsis = "[OPTION]... [DOMAIN]",
	.summary = "List the disks that block-attach made, and on Xen those of xl that tapback serves:\n"
		   "a table on a terminal, else one line of name=value for each.",
	.args_size = sizeof(struct cli_common),
	.max_operands = 1,
	.check = check,
	.run = run,
};

int main(int argc, char **argv)
{
	static const struct cli_prog prog = { .name = NAME, .only = &cmd };

	return cli_main(&prog, argc, argv);
}
