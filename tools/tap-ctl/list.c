// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl list: a table on a terminal, one line of name=value pairs a disk where a script reads, or JSON.
 */
#include <blktap/ctl.h>

#include <stdio.h>
#include <unistd.h>

#include "taps.h"
#include "tools/common/diskspec.h"
#include "tools/common/print.h"
#include "verbs.h"

struct list_args {
	struct cli_common common;
	int pid, minor;
	const char *type, *file;
};

#define TYPE_LEN 320 /* as many names as a specification may have */

/*
 * "fault/qcow2" and "/a" of "fault(every=3)/qcow2:/a".  Options are left out: scripts take the type for one word and
 * the whole field for one name=value.  The path is empty where there is none.
 */
static const char *split_spec(const char *spec, char type[static TYPE_LEN])
{
	const char *path = diskspec_path(spec);
	const char *end = path ? path - 1 : spec + strlen(spec);
	bool inside = false;
	size_t n = 0;

	for (const char *p = spec; p < end && n + 1 < TYPE_LEN; p++) {
		if (inside && *p == '\\' && p + 1 < end)
			p++;
		else if (*p == '(' || *p == ')')
			inside = *p == '(';
		else if (!inside)
			type[n++] = *p;
	}
	type[n] = '\0';
	return path ? path : "";
}

/* What is left of a dead daemon has no type and no file, so it matches neither: a script must not take it for one. */
static bool wanted(const struct tap *row, const struct list_args *args)
{
	char type[TYPE_LEN];
	const char *path;

	if (args->pid >= 0 && row->pid != args->pid)
		return false;
	if (args->minor >= 0 && row->minor != args->minor)
		return false;
	if (!args->type && !args->file)
		return true;
	if (!row->spec)
		return false;
	path = split_spec(row->spec, type);
	return (!args->type || strcmp(args->type, type) == 0) &&
	       (!args->file || strcmp(args->file, path) == 0);
}

/* ---- the three forms ---- */

static void number(char buf[static 16], int v, bool hex)
{
	if (v < 0)
		snprintf(buf, 16, "-");
	else if (hex)
		snprintf(buf, 16, "%#x", (unsigned)v);
	else
		snprintf(buf, 16, "%d", v);
}

static void print_row(const struct tap *row)
{
	char pid[16], minor[16], state[16], type[TYPE_LEN] = "-";
	const char *path = "-";

	number(pid, row->pid, false);
	number(minor, row->minor, false);
	number(state, row->state, true);
	if (row->spec)
		path = split_spec(row->spec, type);
	printf("%8s %5s %5s %10s %s\n", pid, minor, state, type, path);
}

static void print_pairs(const struct tap *row)
{
	const char *sep = "", *path;
	char type[TYPE_LEN];

	if (row->pid >= 0) {
		printf("pid=%d", (int)row->pid);
		sep = " ";
	}
	if (row->minor >= 0) {
		printf("%sminor=%d", sep, row->minor);
		sep = " ";
	}
	if (row->state >= 0) {
		printf("%sstate=%#x", sep, (unsigned)row->state);
		sep = " ";
	}
	if (row->spec) {
		path = split_spec(row->spec, type);
		printf("%sargs=%s:%s", sep, type, path);
	}
	putchar('\n');
}

static const char *kind_name(enum tap_kind kind)
{
	switch (kind) {
	case TAP_LIVE:
		return "live";
	case TAP_GONE:
		return "dead";
	case TAP_MUTE:
		return "mute";
	case TAP_MARKER:
		return "marker";
	}
	return "";
}

/* All that the daemon says of itself, and what the table knows beyond it. */
static json_t *row_json(const struct tap *row)
{
	json_t *o = row->info ? json_copy(row->info) : json_object();

	if (!o || json_object_set_new(o, "kind", json_string(kind_name(row->kind))) < 0 ||
	    json_object_set_new(o, "pid", row->pid >= 0 ? json_integer(row->pid) : json_null()) < 0 ||
	    json_object_set_new(o, "minor", row->minor >= 0 ? json_integer(row->minor) : json_null()) < 0 ||
	    json_object_set_new(o, "flags", row->state >= 0 ? json_integer(row->state) : json_null()) < 0) {
		json_decref(o);
		return NULL;
	}
	td_ignore(json_object_del(o, "ok")); /* the envelope of the answer; may be absent */
	td_ignore(json_object_del(o, "id"));
	return o;
}

static int print_all_json(const struct taps *t, const struct list_args *args)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < t->nr; i++) {
		if (wanted(&t->tap[i], args) && json_array_append_new(list, row_json(&t->tap[i])) < 0) {
			json_decref(list);
			list = NULL;
		}
	}
	return print_json(list);
}

static int print_all(const struct taps *t, const struct list_args *args)
{
	bool table = isatty(STDOUT_FILENO);

	if (args->common.json)
		return print_all_json(t, args);
	if (table)
		printf("%8s %5s %5s %10s %s\n", "pid", "minor", "state", "type", "file");
	for (size_t i = 0; i < t->nr; i++)
		if (wanted(&t->tap[i], args))
			(table ? print_row : print_pairs)(&t->tap[i]);
	return 0;
}

static int list_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct list_args *args = arg;
	struct taps t;
	int r;

	(void)operands, (void)nr;
	r = taps_read(&t, ret_err);
	if (r < 0)
		return r;
	r = print_all(&t, args);
	taps_done(&t);
	return r;
}

static const struct cli_opt list_opts[] = {
	OPT_PID(struct list_args),
	OPT_MINOR(struct list_args),
	{ 't', "type", CLI_TEXT, offsetof(struct list_args, type), "TYPE", "only disks of this type" },
	{ 'f', "file", CLI_TEXT, offsetof(struct list_args, file), "FILE", "only the disk in this file" },
};

const struct cli_cmd list_cmd = {
	.name = "list",
	.synopsis = "[-p PID] [-m MINOR] [-t TYPE] [-f FILE] [--json]",
	.summary = "list tapdisks and their disks, and what dead ones left",
	.opts = list_opts,
	.nr_opts = TD_NELEMS(list_opts),
	.args_size = sizeof(struct list_args),
	.run = list_run,
};
