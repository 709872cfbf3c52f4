// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-config [list] FILE: what disks there are, in our terms.
 */
#include <stdio.h>

#include "load.h"
#include "tools/common/print.h"
#include "verbs.h"

struct list_args {
	struct cli_common common;
};

/* By what a disk is known that has no specification. */
static const char *script_of(const struct config_disk *c)
{
	return c->spec || !c->d.script ? "" : c->d.script;
}

static void print_field(const char *name, const char *value)
{
	printf(" %s=", name);
	print_safe(value);
}

/* spec is last, since it may hold blanks. */
static void print_line(const struct config_disk *c)
{
	const struct disk *d = &c->d;

	printf("line=%u", c->item->line);
	print_field("vdev", d->vdev);
	printf(" mode=%s", d->writable ? "w" : "r");
	if (d->cdrom)
		printf(" cdrom=yes");
	if (d->backend_domain)
		print_field("backend", d->backend_domain);
	if (*script_of(c))
		print_field("script", script_of(c));
	print_field("spec", c->spec ? c->spec : d->target ? d->target : "");
	putchar('\n');
}

static json_t *json_of(const struct config_disk *c)
{
	const struct disk *d = &c->d;
	json_t *o = json_pack("{s:i,s:o,s:s,s:b,s:o,s:b}", "line", (int)c->item->line, "vdev",
			      print_name(d->vdev), "mode", d->writable ? "w" : "r", "cdrom", d->cdrom, "spec",
			      c->spec ? print_name(c->spec) : json_null(), "xl", c->reading == READ_BY_XL);

	if (o && !c->spec && d->target && json_object_set_new(o, "target", print_name(d->target)) < 0)
		return NULL;
	if (o && d->backend_domain && json_object_set_new(o, "backend", print_name(d->backend_domain)) < 0)
		return NULL;
	if (o && *script_of(c) && json_object_set_new(o, "script", print_name(script_of(c))) < 0)
		return NULL;
	return o;
}

static int print_all(const struct config_file *f, bool as_json)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < f->nr; i++) {
		if (as_json && json_array_append_new(all, json_of(&f->disks[i])) < 0) {
			json_decref(all);
			return -ENOMEM;
		}
		if (!as_json)
			print_line(&f->disks[i]);
	}
	if (as_json)
		return print_json(all);
	json_decref(all);
	return 0;
}

static int check_all(const struct config_file *f, const char *file, struct td_err *ret_err)
{
	for (unsigned i = 0; i < f->nr; i++)
		if (f->disks[i].reading == READ_NOT)
			return td_err_set(ret_err, -EINVAL, "%s: line %u: '%s': %s", file,
					  f->disks[i].item->line, f->disks[i].item->text,
					  f->disks[i].why.msg);
	return 0;
}

static int list_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct list_args *args = arg;
	struct config_file f;
	int r;

	(void)nr;
	r = config_load(operands[0], &f, ret_err);
	if (r < 0)
		return r;
	r = check_all(&f, operands[0], ret_err);
	if (r == 0)
		r = print_all(&f, args->common.json);
	config_done(&f);
	return r;
}

const struct cli_cmd list_cmd = {
	.name = "list",
	.synopsis = "[--json] FILE",
	.summary = "say what disks a configuration has",
	.args_size = sizeof(struct list_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = list_run,
};
