// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-config lint FILE: what xl really does with each disk on this host, and why.
 */
#include <blktap/xs.h>

#include <stdio.h>

#include "host.h"
#include "load.h"
#include "tools/common/print.h"
#include "verbs.h"

/* Exit codes that are no errors, for main(). */
int lint_exit;

struct lint_args {
	struct cli_common common;
	const char *root;
};

struct lint {
	const char *file, *root;
	struct config_file config;
	struct host host;
	struct guest guest;
	json_t *all; /* NULL: text */
	enum severity worst;
};

/* What of the guest decides who serves its disks: an HVM guest, or one with a framebuffer, has a QEMU of its own. */
static void look_at_guest(struct lint *l)
{
	const char *type = cfg_string(&l->config.cfg, "type"),
		   *builder = cfg_string(&l->config.cfg, "builder");
	const char *word = type ? type : builder;

	l->guest.hvm = word && strcmp(word, "hvm") == 0;
	for (unsigned i = 0; i < l->config.cfg.nr; i++) {
		const struct cfg_setting *s = &l->config.cfg.settings[i];

		if (strcmp(s->name, "vfb") == 0 && (s->nr > 0 || s->nested))
			l->guest.framebuffer = true;
	}
}

/* ---- one disk ---- */

/* The same device, or the same image for writing, in a line before. */
static void look_at_others(const struct lint *l, unsigned nr, struct verdict *v)
{
	const struct config_disk *c = &l->config.disks[nr];
	uint32_t number, other;

	if (td_vdev_parse(c->d.vdev, &number) < 0) {
		verdict_say(v, SEVERITY_ERROR, "xl refuses it: %.100s: no name of a disk in the guest",
			    c->d.vdev);
		return;
	}
	for (unsigned i = 0; i < nr; i++) {
		const struct config_disk *o = &l->config.disks[i];

		if (o->reading == READ_NOT)
			continue;
		if (td_vdev_parse(o->d.vdev, &other) == 0 && other == number)
			verdict_say(v, SEVERITY_ERROR, "xl refuses it: line %u is %.100s already",
				    o->item->line, o->d.vdev);
		if (c->spec && o->spec && strcmp(c->spec, o->spec) == 0 && (c->d.writable || o->d.writable))
			verdict_say(v, SEVERITY_WARNING,
				    "line %u has the same image, and not both only read it", o->item->line);
	}
}

static void refused_by_xl(const struct config_disk *c, struct verdict *v)
{
	*v = (struct verdict){ .severity = SEVERITY_OK };
	verdict_say(v, SEVERITY_ERROR, "xl refuses it: %.220s", c->why.msg);
	if (c->reading == READ_WIDE)
		verdict_say(v, SEVERITY_ERROR, "tap-config translate writes it so that xl takes it");
}

static json_t *strings(const struct verdict *v)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < v->nr; i++)
		if (json_array_append_new(list, print_name(v->reason[i])) < 0)
			return NULL;
	return list;
}

static json_t *maybe(const char *text)
{
	return text && *text ? print_name(text) : json_null();
}

static int add_json(struct lint *l, const struct config_disk *c, const struct target *t,
		    const struct verdict *v)
{
	return json_array_append_new(l->all,
				     json_pack("{s:i,s:o,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "line",
					       (int)c->item->line, "vdev", maybe(c->d.vdev), "severity",
					       severity_name(v->severity), "spec", maybe(c->spec), "backend",
					       maybe(v->backend), "class", maybe(v->class), "script",
					       v->class && strncmp(v->class, "vbd", 3) == 0 ? maybe(t->script)
											    : json_null(),
					       "served-by", maybe(v->served), "file-format",
					       t->kind == TARGET_FILE || t->kind == TARGET_DEVICE
						       ? json_string(t->format ? t->format : "raw")
						       : json_null(),
					       "reasons", strings(v))) < 0
		       ? -ENOMEM
		       : 0;
}

static void print_text(const struct lint *l, const struct config_disk *c, const struct target *t,
		       const struct verdict *v)
{
	const char *what = c->spec ? c->spec : c->d.target && *c->d.target ? c->d.target : "an empty drive";

	printf("%s:%u: %s: ", l->file, c->item->line, severity_name(v->severity));
	print_safe(c->d.vdev ? c->d.vdev : c->item->text);
	if (v->backend) {
		printf(": ");
		print_safe(what);
		printf(", served by %s\n    backend %s, class %s", v->served, v->backend, v->class);
		if (strncmp(v->class, "vbd", 3) == 0) {
			printf(", script ");
			print_safe(t->script);
		}
	}
	putchar('\n');
	for (unsigned i = 0; i < v->nr; i++) {
		printf("    ");
		print_safe(v->reason[i]);
		putchar('\n');
	}
}

static int lint_disk(struct lint *l, unsigned nr)
{
	const struct config_disk *c = &l->config.disks[nr];
	struct target t = { .kind = TARGET_NONE };
	struct verdict v = { .severity = SEVERITY_OK };

	if (c->reading == READ_BY_XL) {
		target_look(l->root, &c->d, &t);
		disk_verdict(&c->d, &l->guest, &l->host, &t, &v);
		look_at_others(l, nr, &v);
	} else {
		refused_by_xl(c, &v);
	}
	if (v.severity > l->worst)
		l->worst = v.severity;
	if (l->all)
		return add_json(l, c, &t, &v);
	print_text(l, c, &t, &v);
	return 0;
}

/* ---- the file ---- */

/* xl reads no disk of such a file at all; what is said of them holds once that is mended. */
static int lint_code(struct lint *l)
{
	static const char text[] = "not xl's syntax: it refuses the whole file for that";

	if (!l->config.cfg.code_line)
		return 0;
	l->worst = SEVERITY_ERROR;
	if (!l->all) {
		printf("%s:%u: error: %s\n", l->file, l->config.cfg.code_line, text);
		return 0;
	}
	return json_array_append_new(l->all,
				     json_pack("{s:i,s:n,s:s,s:[s]}", "line", (int)l->config.cfg.code_line,
					       "vdev", "severity", "error", "reasons", text)) < 0
		       ? -ENOMEM
		       : 0;
}

static int lint_all(struct lint *l, struct td_err *ret_err)
{
	int r;

	r = host_look(l->root, cfg_string(&l->config.cfg, "device_model_override"), &l->host, ret_err);
	if (r < 0)
		return r;
	look_at_guest(l);
	r = lint_code(l);
	for (unsigned i = 0; i < l->config.nr && r == 0; i++)
		r = lint_disk(l, i);
	return r;
}

static int lint_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	static const int codes[] = { [SEVERITY_OK] = 0, [SEVERITY_WARNING] = 3, [SEVERITY_ERROR] = 2 };
	const struct lint_args *args = arg;
	struct lint l = { .file = operands[0], .root = args->root ? args->root : "" };
	int r;

	(void)nr;
	r = config_load(operands[0], &l.config, ret_err);
	if (r < 0)
		return r;
	if (args->common.json && !(l.all = json_array()))
		r = -ENOMEM;
	if (r == 0)
		r = lint_all(&l, ret_err);
	config_done(&l.config);
	if (r == 0 && l.all)
		r = print_json(json_incref(l.all));
	json_decref(l.all);
	lint_exit = codes[l.worst];
	return r;
}

static const struct cli_opt lint_opts[] = {
	{ 0, "root", CLI_TEXT, offsetof(struct lint_args, root), "DIR",
	  "of the host whose files are below DIR" },
};

const struct cli_cmd lint_cmd = {
	.name = "lint",
	.synopsis = "[--json] [--root DIR] FILE",
	.summary = "say what xl does with each disk on this host, and why",
	.opts = lint_opts,
	.nr_opts = TD_NELEMS(lint_opts),
	.args_size = sizeof(struct lint_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = lint_run,
};
