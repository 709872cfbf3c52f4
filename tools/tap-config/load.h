// SPDX-License-Identifier: BSD-2-Clause
/*
 * A configuration file as the verbs see it: its text, and its disks one after the other.
 */
#ifndef TAP_CONFIG_LOAD_H
#define TAP_CONFIG_LOAD_H

#include "config.h"
#include "disk.h"

/* More than any guest has. */
#define DISKS_MAX 1024

enum reading {
	READ_BY_XL, /* as xl reads it */
	READ_WIDE,  /* xl refuses it, and it is clear all the same */
	READ_NOT,
};

struct config_disk {
	const struct cfg_item *item;
	enum reading reading;
	struct disk d;
	char *spec;        /* NULL: none */
	struct td_err why; /* xl's reason, if it refuses it */
};

struct config_file {
	char *text;
	struct cfg cfg;
	unsigned nr;
	struct config_disk *disks;
};

/* "-": standard input.  An error names the file. */
TD_CHECK int config_load(const char *file, struct config_file *ret, struct td_err *ret_err);
void config_done(struct config_file *f);

#endif
