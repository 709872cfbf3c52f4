// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-list [DOM]: the disks that are attached, and what is wrong with them.  Looks, changes nothing.
 */
#include "attach.h"
#include "config.h"
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#define NAME "block-list"

struct row {
	const struct attach *a;
	char device[64];
	const char *state, *note;
	pid_t pid; /* 0: none runs */
	int64_t size;
};

static void usage(FILE *f)
{
	fputs("usage: block-list [OPTION]... [DOMAIN]\n"
	      "List the disks that block-attach made: a table on a terminal, else one line of name=value for "
	      "each.\n"
	      "\n"
	      "      --json     print JSON\n"
	      "  -h, --help     print this\n"
	      "  -V, --version  print the version\n",
	      f);
}

/* ---- what state is it in ---- */

static bool is_being_worked_on(const struct attach *a)
{
	int fd, r = attach_lock(a->vdev, 0, &fd, NULL);

	if (r == 0)
		close(fd);
	return r == -EBUSY;
}

static void judge(const struct attach *a, struct row *row)
{
	*row = (struct row){ .a = a, .pid = attach_daemon(a), .size = -1, .state = "attached", .note = "" };
	attach_device(a, row->device, sizeof(row->device));
	if (attach_loop_is_ours(a, a->loop))
		row->size = attach_loop_size(a->loop);
	if (a->phase != ATTACH_DONE) {
		row->state = is_being_worked_on(a) ? "busy" : "unfinished";
		row->note = attach_phase_name(a->phase);
	} else if (row->pid == 0) {
		row->state = "broken";
		row->note = "tapdisk is gone";
	} else if (row->size < 0) {
		row->state = "broken";
		row->note = "loop device is gone";
	}
}

/* ---- printing ---- */

static void print_size(int64_t size, char *buf, size_t len)
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

	print_size(row->size, size, sizeof(size));
	if (row->pid > 0)
		snprintf(pid, sizeof(pid), "%d", row->pid);
	printf("%-8s %-20s %-4s %-11s %8s %8s  %s%s%s%s\n", row->a->vdev, row->device,
	       row->a->read_only ? "r" : "w", row->state, pid, size, row->a->spec ? row->a->spec : "?",
	       *row->note ? " (" : "", row->note, *row->note ? ")" : "");
}

/* spec is last: it alone may hold blanks. */
static void print_line(const struct row *row)
{
	printf("vdev=%s device=%s mode=%s state=%s pid=%d size=%lld spec=%s\n", row->a->vdev, row->device,
	       row->a->read_only ? "r" : "w", row->state, row->pid, (long long)row->size,
	       row->a->spec ? row->a->spec : "?");
}

static json_t *row_to_json(const struct row *row)
{
	json_t *o = attach_to_json(row->a);

	if (!o)
		return NULL;
	td_ignore(json_object_set_new(o, "device", json_string(row->device)));
	td_ignore(json_object_set_new(o, "state", json_string(row->state)));
	td_ignore(json_object_set_new(o, "note", json_string(row->note)));
	td_ignore(json_object_set_new(o, "pid", json_integer(row->pid)));
	td_ignore(json_object_set_new(o, "size", json_integer(row->size)));
	td_ignore(json_object_set_new(o, "partitions", attach_partitions(row->a)));
	return o;
}

/* A record may go while we look: that is no error. */
static void list_one(const char *vdev, json_t *list, bool table)
{
	struct attach *a = NULL;
	struct td_err err;
	struct row row;
	int r = attach_load(vdev, &a, &err);

	if (r < 0 && r != -ENOENT)
		attach_complain(NAME, "%s", err.msg);
	if (a) {
		judge(a, &row);
		if (list)
			td_ignore(json_array_append_new(list, row_to_json(&row)));
		else if (table)
			print_table_row(&row);
		else
			print_line(&row);
	}
	attach_free(a);
}

static int list_all(bool json, struct td_err *ret_err)
{
	json_t *list = json ? json_array() : NULL;
	bool table = !json && isatty(STDOUT_FILENO);
	char **vdevs = NULL;
	size_t nr = 0;
	int r;

	r = attach_list(&vdevs, &nr, ret_err);
	if (r == 0 && table)
		printf("%-8s %-20s %-4s %-11s %8s %8s  %s\n", "VDEV", "DEVICE", "MODE", "STATE", "PID",
		       "SIZE", "SPEC");
	for (size_t i = 0; i < nr; i++) {
		list_one(vdevs[i], list, table);
		free(vdevs[i]);
	}
	free(vdevs);
	if (r == 0 && list && json_dumpf(list, stdout, JSON_INDENT(1)) == 0)
		putchar('\n');
	json_decref(list);
	return r;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	struct td_err err = { "" };
	bool json = false;
	int c, r = 0;

	while ((c = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
		if (c == 'h') {
			usage(stdout);
			return 0;
		} else if (c == 'V') {
			puts(NAME " (blktap) " PACKAGE_VERSION);
			return 0;
		} else if (c == 'j') {
			json = true;
		} else {
			r = td_err_set(&err, -EINVAL, "see block-list --help");
		}
	}
	if (r == 0 && argc - optind > 1)
		r = td_err_set(&err, -EINVAL, "wants at most a domain; see block-list --help");
	if (r == 0 && argc > optind)
		r = attach_parse_domain(argv[optind], &err);
	if (r < 0) {
		attach_complain(NAME, "%s", err.msg);
		return 2;
	}
	r = list_all(json, &err);
	if (r < 0)
		attach_complain(NAME, "%s", err.msg);
	return r < 0 || fflush(stdout) != 0 ? 1 : 0;
}
