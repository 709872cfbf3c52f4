// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl gc: what was found is removed and said, or only said.
 */
#include <stdio.h>
#include <unistd.h>

#include "gc.h"
#include "tools/common/print.h"

static void say(struct gc *gc, const char *done, const char *what, const char *why)
{
	if (gc->list)
		td_ignore(
			json_array_append_new(gc->list, json_pack("{s:s, s:o, s:o}", "action", done, "what",
								  print_name(what), "why", print_name(why))));
	else
		printf("%s %s: %s\n", done, what, why);
}

void gc_orphan(struct gc *gc, const char *what, const char *why,
	       int (*remove)(const void *arg, struct td_err *ret_err), const void *arg)
{
	struct td_err err = { .msg = "" };

	if (gc->dry_run) {
		say(gc, "would remove", what, why);
	} else if (remove(arg, &err) < 0) {
		say(gc, "cannot remove", what, err.msg);
		gc->failed++;
	} else {
		say(gc, "removed", what, why);
	}
}

void gc_kept(struct gc *gc, const char *what, const char *why)
{
	say(gc, "kept", what, why);
}

int gc_unlink(const void *path, struct td_err *ret_err)
{
	if (unlink(path) < 0 && errno != ENOENT)
		return td_err_set(ret_err, -errno, "%s", strerror(errno));
	return 0;
}
