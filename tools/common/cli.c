// SPDX-License-Identifier: BSD-2-Clause
/*
 * Parsing and usage of the declared command lines; see cli.h.  getopt_long does the parsing.
 */
#include "config.h"

#include <blktap/log.h>
#include <blktap/opts.h>

#include <ctype.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>

#include "cli.h"

#define CLI_OPTS_MAX 32

/* getopt's answer for option i of the table: beyond every letter. */
#define CLI_INDEX 256

static const struct cli_opt common_opts[] = {
	{ 0, "json", CLI_FLAG, offsetof(struct cli_common, json), NULL, "print JSON" },
	{ 0, "debug", CLI_FLAG, offsetof(struct cli_common, debug), NULL,
	  "say on standard error what is done" },
	{ 'h', "help", CLI_FLAG, 0, NULL, "print this and exit" },
	{ 'V', "version", CLI_FLAG, 0, NULL, "print the version and exit" },
};

/* The verb's options and the common ones in one list, with getopt's view of it. */
struct cli_parse {
	const struct cli_opt *opt[CLI_OPTS_MAX];
	unsigned nr;
	struct option longs[CLI_OPTS_MAX + 1];
	char letters[2 * CLI_OPTS_MAX + 2];
};

static void parse_add(struct cli_parse *p, const struct cli_opt *o)
{
	size_t n = strlen(p->letters);

	if (p->nr == CLI_OPTS_MAX)
		abort(); /* a table in this program is too long */
	if (o->name)
		p->longs[p->nr] = (struct option){ .name = o->name,
						   .has_arg = o->kind == CLI_MAYBE ? optional_argument
							      : o->arg             ? required_argument
										   : no_argument,
						   .val = CLI_INDEX + (int)p->nr };
	else
		p->longs[p->nr] =
			(struct option){ .name = "" }; /* keeps the indices equal; matches nothing */
	if (o->letter) {
		p->letters[n++] = o->letter;
		if (o->arg)
			p->letters[n] = ':';
	}
	p->opt[p->nr++] = o;
}

static void parse_init(struct cli_parse *p, const struct cli_cmd *cmd)
{
	*p = (struct cli_parse){ .letters = "" };
	for (unsigned i = 0; i < cmd->nr_opts; i++)
		parse_add(p, &cmd->opts[i]);
	for (unsigned i = 0; i < TD_NELEMS(common_opts); i++)
		parse_add(p, &common_opts[i]);
}

static const struct cli_opt *parse_find(const struct cli_parse *p, int c)
{
	if (c >= CLI_INDEX)
		return p->opt[c - CLI_INDEX];
	for (unsigned i = 0; i < p->nr; i++)
		if (p->opt[i]->letter == c)
			return p->opt[i];
	return NULL;
}

/* ---- usage ---- */

static void print_opt(const struct cli_opt *o)
{
	char head[64], letter[3] = { '-', o->letter, '\0' };

	snprintf(head, sizeof(head), "%s%s%s%s%s%s%s", o->letter ? letter : "  ",
		 o->letter && o->name ? ", "
		 : o->name            ? "  "
				      : "",
		 o->name ? "--" : "", o->name ? o->name : "",
		 o->kind == CLI_MAYBE ? "[="
		 : o->arg             ? " "
				      : "",
		 o->arg ? o->arg : "", o->kind == CLI_MAYBE ? "]" : "");
	printf("  %-28s %s\n", head, o->help);
}

static void print_cmd_usage(const struct cli_prog *prog, const struct cli_cmd *cmd)
{
	struct cli_parse p;

	printf("usage: %s%s%s %s\n\n%s\n\n", prog->name, cmd->name ? " " : "", cmd->name ? cmd->name : "",
	       cmd->synopsis, cmd->summary);
	parse_init(&p, cmd);
	for (unsigned i = 0; i < p.nr; i++)
		print_opt(p.opt[i]);
}

static void print_usage(const struct cli_prog *prog)
{
	printf("usage: %s COMMAND [OPTION]...\n\n%s\n\ncommands:\n", prog->name, prog->summary);
	for (const struct cli_cmd *const *c = prog->cmds; *c; c++)
		printf("  %-10s %s\n", (*c)->name, (*c)->summary);
	printf("\n  -h, --help     print this and exit (%s COMMAND --help: of one command)\n"
	       "  -V, --version  print the version and exit\n",
	       prog->name);
}

static void print_version(const struct cli_prog *prog)
{
	printf("%s (blktap) %s\n", prog->name, PACKAGE_VERSION);
}

/* ---- one verb ---- */

/* As it is written: "-p" or "--pid". */
static const char *opt_text(const struct cli_opt *o, char buf[static 64])
{
	if (o->letter)
		snprintf(buf, 64, "-%c", o->letter);
	else
		snprintf(buf, 64, "--%s", o->name);
	return buf;
}

static int set_id(const struct cli_opt *o, const char *text, int *ret, struct td_err *ret_err)
{
	char *end, name[64];
	long v;

	errno = 0;
	v = strtol(text, &end, 10);
	if (errno || end == text || *end || v < 0 || v > INT_MAX)
		return td_err_set(ret_err, -EINVAL, "%s %s: not a number", opt_text(o, name), text);
	*ret = (int)v;
	return 0;
}

static int set_size(const struct cli_opt *o, const char *text, uint64_t *ret, struct td_err *ret_err)
{
	char name[64];

	if (td_parse_size(text, ret) < 0)
		return td_err_set(ret_err, -EINVAL, "%s %s: not a size (write 4096, 64K, 2G)",
				  opt_text(o, name), text);
	return 0;
}

static int set_field(const struct cli_opt *o, void *args, const char *text, struct td_err *ret_err)
{
	void *field = (char *)args + o->field;
	struct cli_steps *steps;
	struct cli_list *list;
	char name[64];

	switch (o->kind) {
	case CLI_FLAG:
		*(bool *)field = true;
		return 0;
	case CLI_TEXT:
	case CLI_MAYBE:
		*(const char **)field = text;
		return 0;
	case CLI_ID:
		return set_id(o, text, field, ret_err);
	case CLI_LIST:
		list = field;
		if (list->nr == CLI_LIST_MAX)
			return td_err_set(ret_err, -EINVAL, "%s is given too often", opt_text(o, name));
		list->item[list->nr++] = text;
		return 0;
	case CLI_SIZE:
		return set_size(o, text, field, ret_err);
	case CLI_STEP:
		steps = field;
		if (steps->nr == CLI_LIST_MAX)
			return td_err_set(ret_err, -EINVAL, "%s: more than %u steps", opt_text(o, name),
					  CLI_LIST_MAX);
		steps->step[steps->nr].opt = o;
		steps->step[steps->nr++].value = text;
		return 0;
	}
	return -EINVAL;
}

static void preset_fields(const struct cli_cmd *cmd, void *args)
{
	for (unsigned i = 0; i < cmd->nr_opts; i++) {
		char *field = (char *)args + cmd->opts[i].field;

		if (cmd->opts[i].kind == CLI_ID)
			*(int *)field = -1;
		if (cmd->opts[i].kind == CLI_SIZE)
			*(uint64_t *)field = CLI_SIZE_NONE;
	}
}

static int bad_option(const struct cli_parse *p, int c, char *const *argv, struct td_err *ret_err)
{
	const struct cli_opt *o = optopt ? parse_find(p, optopt) : NULL;

	if (c == ':' || (o && o->arg))
		return td_err_set(ret_err, -EINVAL, "%s: wants a value", argv[optind - 1]);
	if (optopt && optopt < CLI_INDEX)
		return td_err_set(ret_err, -EINVAL, "-%c: no such option (see --help)", optopt);
	return td_err_set(ret_err, -EINVAL, "%s: no such option, or not clear which (see --help)",
			  argv[optind - 1]);
}

/* Was it -h or -V?  No verb has these letters for itself. */
static bool answer(const struct cli_prog *prog, const struct cli_cmd *cmd, const struct cli_opt *o)
{
	if (o->letter == 'h')
		print_cmd_usage(prog, cmd);
	else if (o->letter == 'V')
		print_version(prog);
	return o->letter == 'h' || o->letter == 'V';
}

/* Returns 1 if -h or -V was answered: there is nothing more to do. */
static int parse_cmd(const struct cli_prog *prog, const struct cli_cmd *cmd, int argc, char **argv,
		     void *args, struct td_err *ret_err)
{
	const struct cli_opt *o;
	struct cli_parse p;
	char letters[sizeof(p.letters) + 1];
	int c, r;

	/* What getopt does not see stands behind all that it puts in order. */
	if (cmd->signed_last && argc > 1 && argv[argc - 1][0] == '-' && isdigit((unsigned char)argv[argc - 1][1]))
		argc--;
	parse_init(&p, cmd);
	preset_fields(cmd, args);
	snprintf(letters, sizeof(letters), ":%s", p.letters);
	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, letters, p.longs, NULL)) != -1) {
		o = c == '?' || c == ':' ? NULL : parse_find(&p, c);
		if (!o)
			return bad_option(&p, c, argv, ret_err);
		if (answer(prog, cmd, o))
			return 1;
		r = set_field(o, args, optarg ? optarg : "", ret_err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Returns 1 if there is nothing more to do. */
static int prepare(const struct cli_prog *prog, const struct cli_cmd *cmd, int argc, char **argv,
		   struct cli_common *args, struct td_err *ret_err)
{
	unsigned nr;
	int r;

	r = parse_cmd(prog, cmd, argc, argv, args, ret_err);
	if (r != 0)
		return r;
	if (args->debug)
		td_log_level(TD_LOG_DEBUG);
	nr = (unsigned)(argc - optind);
	if (nr < cmd->min_operands || nr > cmd->max_operands)
		return td_err_set(ret_err, -EINVAL, "usage: %s%s%s %s", prog->name, cmd->name ? " " : "",
				  cmd->name ? cmd->name : "", cmd->synopsis);
	return cmd->check ? cmd->check(args, argv + optind, nr, ret_err) : 0;
}

static int run_cmd(const struct cli_prog *prog, const struct cli_cmd *cmd, int argc, char **argv,
		   bool *ret_misuse, struct td_err *ret_err)
{
	struct cli_common *args = calloc(1, cmd->args_size);
	int r = args ? prepare(prog, cmd, argc, argv, args, ret_err) : -ENOMEM;

	*ret_misuse = r < 0 && r != -ENOMEM;
	if (r == 0)
		r = cmd->run(args, argv + optind, (unsigned)(argc - optind), ret_err);
	else
		r = TD_MIN(r, 0); /* -h, -V: answered */
	free(args);
	return r;
}

/* ---- main ---- */

static int unknown_cmd(const struct cli_prog *prog, const char *name, struct td_err *ret_err)
{
	char list[256] = "";
	size_t n = 0;

	for (const struct cli_cmd *const *c = prog->cmds; *c && n < sizeof(list); c++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", (*c)->name);
	return td_err_set(ret_err, -EINVAL, "%s: unknown command; there are %s", name, list);
}

static int run_named(const struct cli_prog *prog, int argc, char **argv, const char **ret_name,
		     struct td_err *ret_err)
{
	const char *name = argc > 1 ? argv[1] : "--help";
	bool misuse;

	if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0) {
		print_usage(prog);
		return argc > 1 ? 0 : -EINVAL;
	}
	if (strcmp(name, "-V") == 0 || strcmp(name, "--version") == 0) {
		print_version(prog);
		return 0;
	}
	for (const struct cli_cmd *const *c = prog->cmds; *c; c++) {
		if (strcmp((*c)->name, name) == 0) {
			*ret_name = name;
			return run_cmd(prog, *c, argc - 1, argv + 1, &misuse, ret_err);
		}
	}
	return unknown_cmd(prog, name, ret_err);
}

int cli_main(const struct cli_prog *prog, int argc, char **argv)
{
	struct td_err err = { .msg = "" };
	const char *name = NULL;
	bool misuse = false;
	int r = prog->only ? run_cmd(prog, prog->only, argc, argv, &misuse, &err)
			   : run_named(prog, argc, argv, &name, &err);

	/* A result that did not reach its reader is no success. */
	if ((fflush(stdout) != 0 || ferror(stdout)) && r >= 0)
		r = td_err_set(&err, -EIO, "cannot write to standard output");
	if (r == 0 || (r > 0 && !err.msg[0]))
		return r;
	if (argc > 1 || prog->only)
		fprintf(stderr, "%s: %s%s%s\n", prog->name, name ? name : "", name ? ": " : "",
			err.msg[0] ? err.msg : strerror(-r));
	if (r > 0)
		return r;
	if (prog->exit_errno)
		return -r;
	return misuse ? 2 : 1;
}
