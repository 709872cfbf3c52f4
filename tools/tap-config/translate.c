// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-config translate FILE: the configuration with other lines for the disks that xl does not take as they are, and
 * every other byte as it was.
 */
#include <stdio.h>

#include "load.h"
#include "verbs.h"

struct translate_args {
	struct cli_common common;
	bool all;
};

static bool is_hvm(const struct cfg *cfg)
{
	const char *type = cfg_string(cfg, "type"), *builder = cfg_string(cfg, "builder");

	return (type && strcmp(type, "hvm") == 0) || (!type && builder && strcmp(builder, "hvm") == 0);
}

/* An image in a file that a PV guest's line may name in our way. */
static bool can_be_ours(const struct config_disk *c)
{
	const struct disk *d = &c->d;

	return c->spec && !disk_is_ours(d) && !d->backend_domain && !d->cdrom && !d->virtio && !d->colo &&
	       strncmp(d->target, "/dev/", 5) != 0;
}

/* One with its quotes, as it was quoted. */
static void put_string(const struct config_file *f, const struct cfg_item *item, const char *text)
{
	char quote = f->text[item->off];

	if (quote != '"')
		quote = '\'';
	putchar(quote);
	for (; *text; text++) {
		if (*text == quote || *text == '\\')
			putchar('\\');
		putchar(*text);
	}
	putchar(quote);
}

/* Its new text; NULL: it stays.  What comes out is read again: xl has to take it. */
static int new_text(const struct config_disk *c, bool all, char **ret_text, struct td_err *ret_err)
{
	bool to_us = c->d.driver || (all && can_be_ours(c));
	struct disk again = { 0 };
	int r;

	*ret_text = NULL;
	if (c->reading == READ_BY_XL && !to_us)
		return 0;
	if (c->reading == READ_NOT)
		return td_err_set(ret_err, -EINVAL, "'%s': %s", c->item->text, c->why.msg);
	r = disk_render(&c->d, to_us, ret_text, ret_err);
	if (r < 0)
		return r;
	r = disk_parse(*ret_text, &again, ret_err);
	disk_done(&again);
	return r;
}

static void warn(const char *file, unsigned line, const char *what)
{
	fprintf(stderr, "tap-config: %s:%u: %s\n", file, line, what);
}

/* The new texts of all disks: nothing is printed before it is clear that all can be. */
static int new_texts(const struct config_file *f, const char *file, bool all, char **texts,
		     struct td_err *ret_err)
{
	struct td_err err = { .msg = "no memory" };

	for (unsigned i = 0; i < f->nr; i++) {
		int r = new_text(&f->disks[i], all, &texts[i], &err);

		if (r < 0)
			return td_err_set(ret_err, r, "%s: line %u: %s", file, f->disks[i].item->line,
					  err.msg);
	}
	return 0;
}

/* Disks are in the order of the file. */
static void print_file(const struct config_file *f, char *const *texts)
{
	size_t done = 0;

	for (unsigned i = 0; i < f->nr; i++) {
		const struct cfg_item *item = f->disks[i].item;

		if (!texts[i])
			continue;
		fwrite(f->text + done, 1, item->off - done, stdout);
		put_string(f, item, texts[i]);
		done = item->off + item->len;
	}
	fwrite(f->text + done, 1, f->cfg.len - done, stdout);
}

static int translate(const struct config_file *f, const char *file, bool all, struct td_err *ret_err)
{
	char **texts = calloc(f->nr + 1, sizeof(*texts));
	int r;

	if (!texts)
		return -ENOMEM;
	if (all && is_hvm(&f->cfg)) {
		all = false;
		warn(file, 1,
		     "an HVM guest boots from what its device model opens: --all changes nothing in it");
	}
	r = new_texts(f, file, all, texts, ret_err);
	if (r == 0) {
		if (f->cfg.code_line)
			warn(file, f->cfg.code_line,
			     "not xl's syntax, which stays; xl refuses the whole file for it");
		for (unsigned i = 0; i < f->nr; i++)
			if (f->disks[i].d.force)
				warn(file, f->disks[i].item->line,
				     "the ! of its mode has no counterpart and is dropped");
		print_file(f, texts);
	}
	for (unsigned i = 0; i < f->nr; i++)
		free(texts[i]);
	free(texts);
	return r;
}

static int translate_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct translate_args *args = arg;
	struct config_file f;
	int r;

	(void)nr;
	if (args->common.json)
		return td_err_set(ret_err, -EINVAL, "--json: what is printed is a configuration");
	r = config_load(operands[0], &f, ret_err);
	if (r < 0)
		return r;
	r = translate(&f, operands[0], args->all, ret_err);
	config_done(&f);
	return r;
}

static const struct cli_opt translate_opts[] = {
	{ 'a', "all", CLI_FLAG, offsetof(struct translate_args, all), NULL,
	  "all images in files through script=block-tapdisk" },
};

const struct cli_cmd translate_cmd = {
	.name = "translate",
	.synopsis = "[--all] FILE",
	.summary = "print a configuration whose disks xl takes",
	.opts = translate_opts,
	.nr_opts = TD_NELEMS(translate_opts),
	.args_size = sizeof(struct translate_args),
	.min_operands = 1,
	.max_operands = 1,
	.run = translate_run,
};
