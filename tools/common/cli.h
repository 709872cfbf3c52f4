// SPDX-License-Identifier: BSD-2-Clause
/*
 * The command line of a program, with verbs or without: declared tables in, parsed structs and one-line errors out.
 *
 * A verb is one struct cli_cmd.  Its options are parsed into a struct of its own, whose first member is
 * struct cli_common; the usage text is printed from the same table, so that the two cannot differ.
 */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include <blktap/err.h>

/* The value of an option, and what its field in the verb's struct is. */
enum cli_kind {
	CLI_FLAG,  /* bool: true when given */
	CLI_TEXT,  /* const char *, argv's own; NULL when not given, the last one counts */
	CLI_MAYBE, /* the same, "" when it is given without a value: --name or --name=VALUE */
	CLI_ID,    /* int >= 0; -1 when not given */
	CLI_LIST,  /* struct cli_list */
	CLI_SIZE,  /* uint64_t: bytes, "64K"; CLI_SIZE_NONE when not given */
	CLI_STEP,  /* struct cli_steps, of several options: they are done in the order in which they stand */
};

#define CLI_SIZE_NONE UINT64_MAX

static inline uint64_t cli_size_or(uint64_t size, uint64_t otherwise)
{
	return size == CLI_SIZE_NONE ? otherwise : size;
}

#define CLI_LIST_MAX 16

struct cli_opt;

struct cli_list {
	unsigned nr;
	const char *item[CLI_LIST_MAX]; /* argv's own */
};

struct cli_steps {
	unsigned nr;
	struct {
		const struct cli_opt *opt;
		const char *value; /* argv's own; "" of one that takes none */
	} step[CLI_LIST_MAX];
};

struct cli_opt {
	char letter;      /* 0: none */
	const char *name; /* the long one; NULL: none */
	enum cli_kind kind;
	size_t field;     /* offsetof in the verb's struct */
	const char *arg;  /* what usage calls the value; NULL for a flag */
	const char *help; /* one line */
};

/* What every verb takes.  The first member of each verb's struct. */
struct cli_common {
	bool json, debug;
};

struct cli_cmd {
	const char *name;
	const char *synopsis; /* what usage writes after the verb */
	const char *summary;  /* one line */
	const struct cli_opt *opts;
	unsigned nr_opts;
	size_t args_size; /* of the verb's struct */
	unsigned min_operands, max_operands;
	bool signed_last; /* "-1G" at the end of the command line is an operand */

	/*
	 * Optional: what values and operands mean, into the verb's struct.  -errno with a sentence: the command line
	 * makes no sense.
	 */
	int (*check)(void *args, char *const *operands, unsigned nr, struct td_err *ret_err);

	/*
	 * 0, or -errno with a sentence.  A verb whose exit codes mean something returns one above 0: it is the
	 * program's, and the sentence is printed if there is one.  What it prints to stdout is checked by cli_main.
	 */
	int (*run)(const void *args, char *const *operands, unsigned nr, struct td_err *ret_err);
};

struct cli_prog {
	const char *name;
	const char *summary;
	const struct cli_cmd *const *cmds; /* NULL at the end */
	const struct cli_cmd *only; /* in place of cmds: a program without verbs; its name is not used */
	bool exit_errno;            /* exit with the errno, as tap-ctl always has; else with 1 */
};

/*
 * All of main(): parse, run, report.  Returns the exit code; of a program without verbs it is 2 where the command line
 * makes no sense.
 */
int cli_main(const struct cli_prog *prog, int argc, char **argv);

#endif
