// SPDX-License-Identifier: BSD-2-Clause
/*
 * What open and create may be told of a disk.  Options that other tapdisks have and this one cannot do are in the
 * tables all the same, so that a script that uses one is told so in a sentence, and never gets a disk without it.
 */
#ifndef TAP_CTL_OPEN_H
#define TAP_CTL_OPEN_H

#include "steps.h"
#include "tools/common/cli.h"

struct disk_args {
	const char *spec;
	bool read_only, no_direct, cache_reads;
	const char *secondary, *parent, *log;
	bool standby, key;
	const char *on_enospc;
	int request_timeout; /* seconds; -1: not given */
};

/* The options; S has a struct disk_args called disk. */
#define OPT_DISK(S)                                                                                          \
	{ 'a', "args", CLI_TEXT, offsetof(S, disk.spec), "TYPE:PATH", "the disk, see blktap-spec(7)" },      \
		{ 'R', "read-only", CLI_FLAG, offsetof(S, disk.read_only), NULL, "refuse writes" },          \
		{ 'D',      "no-direct",                                                                     \
		  CLI_FLAG, offsetof(S, disk.no_direct),                                                     \
		  NULL,     "go through the page cache instead of O_DIRECT" },                               \
		{ 'r',      "cache-reads",                                                                   \
		  CLI_FLAG, offsetof(S, disk.cache_reads),                                                   \
		  NULL,     "keep in memory what is read: by the page cache, as -D" },                       \
		{ 't',       "request-timeout",                                                              \
		  CLI_ID,    offsetof(S, disk.request_timeout),                                              \
		  "SECONDS", "tell of requests that take longer, 0: never" },                                \
		{ 0,        "on-enospc",                                                                     \
		  CLI_TEXT, offsetof(S, disk.on_enospc),                                                     \
		  "DO",     "report, or pause until there is room" },                                        \
		{ 'e', NULL, CLI_TEXT, offsetof(S, disk.parent), "MINOR", "not possible here" },             \
		{ '2', NULL, CLI_TEXT, offsetof(S, disk.secondary), "TYPE:PATH", "not possible here" },      \
		{ 's', NULL, CLI_FLAG, offsetof(S, disk.standby), NULL, "not possible here" },               \
	{                                                                                                    \
		'C', NULL, CLI_TEXT, offsetof(S, disk.log), "FILE", "not possible here"                      \
	}

/* Is it possible, and what is to be asked for?  *ret_spec, which ret points to, is the caller's. */
TD_CHECK int disk_request(const struct disk_args *args, struct disk_request *ret, char **ret_spec,
			  struct td_err *ret_err);

/* The sentences for single options, which unpause shares.  NULL, false: not given. */
TD_CHECK int refuse_secondary(const char *secondary, struct td_err *ret_err);
TD_CHECK int refuse_log(char letter, const char *log, struct td_err *ret_err);

#endif
