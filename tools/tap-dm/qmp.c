// SPDX-License-Identifier: BSD-2-Clause
/*
 * QEMU's machine protocol on one connection.  See qmp.h.
 *
 * A message is a JSON object, wherever it ends: libxl writes CR LF behind it, libxenstat nothing at all.
 * Of QEMU's commands there are those that are asked of the device model of a PV domain; any other is refused as QEMU
 * refuses what it does not know.
 */
#include "config.h"

#include <stdio.h>

#include "qmp.h"

/* ---- replies ---- */

/* Takes the reference; id, if there was one, goes along. */
static int reply(struct qmp *q, json_t *message, const json_t *id)
{
	char *text = NULL, *line = NULL;
	int n, r = -ENOMEM;

	if (message && (!id || json_object_set(message, "id", (json_t *)id) == 0))
		text = json_dumps(message, JSON_COMPACT);
	json_decref(message);
	if (text) {
		n = asprintf(&line, "%s\r\n", text); /* CR LF is what libxl looks for */
		if (n >= 0)
			r = q->send(q, line, (size_t)n);
		if (n >= 0)
			free(line);
	}
	free(text);
	return r;
}

static int reply_error(struct qmp *q, const char *class, const char *text, const json_t *id)
{
	return reply(q, json_pack("{s:{s:s,s:s}}", "error", "class", class, "desc", text), id);
}

/* The version that libxl looks at to choose its commands by. */
static json_t *version(void)
{
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", 7, "minor", 2, "micro", 0, "package",
			 "tap-dm of blktap " PACKAGE_VERSION);
}

int qmp_greet(struct qmp *q)
{
	return reply(q, json_pack("{s:{s:o,s:[]}}", "QMP", "version", version(), "capabilities"), NULL);
}

/* ---- commands: what goes behind "return" ---- */

typedef json_t *command_fn(struct qmp *q, struct td_err *ret_err);

static json_t *nothing(struct qmp *q, struct td_err *ret_err)
{
	(void)q, (void)ret_err;
	return json_object();
}

/* This program has no block devices: xentop then shows what tapback counts. */
static json_t *empty_list(struct qmp *q, struct td_err *ret_err)
{
	(void)q, (void)ret_err;
	return json_array();
}

static json_t *query_version(struct qmp *q, struct td_err *ret_err)
{
	(void)q, (void)ret_err;
	return version();
}

static json_t *query_status(struct qmp *q, struct td_err *ret_err)
{
	(void)ret_err;
	return json_pack("{s:b,s:b,s:s}", "running", q->dm->running, "singlestep", 0, "status",
			 q->dm->running ? "running" : "prelaunch");
}

static json_t *query_chardev(struct qmp *q, struct td_err *ret_err)
{
	(void)ret_err;
	return json_deep_copy(q->dm->chardevs);
}

static json_t *query_vnc(struct qmp *q, struct td_err *ret_err)
{
	(void)q, (void)ret_err;
	return json_pack("{s:b}", "enabled", 0);
}

static json_t *cont(struct qmp *q, struct td_err *ret_err)
{
	if (!q->dm->running && q->dm->start(q->dm, ret_err) < 0)
		return NULL;
	q->dm->running = true;
	return json_object();
}

static json_t *quit(struct qmp *q, struct td_err *ret_err)
{
	(void)ret_err;
	q->dm->quit = true;
	return json_object();
}

static command_fn query_commands;

static const struct command {
	const char *name;
	command_fn *run;
} commands[] = {
	{ "cont", cont },
	{ "query-block", empty_list },
	{ "query-blockstats", empty_list },
	{ "query-chardev", query_chardev },
	{ "query-command-line-options", empty_list },
	{ "query-commands", query_commands },
	{ "query-fdsets", empty_list },
	{ "query-status", query_status },
	{ "query-version", query_version },
	{ "query-vnc", query_vnc },
	{ "quit", quit },
	{ "system_wakeup", nothing },
};

static json_t *query_commands(struct qmp *q, struct td_err *ret_err)
{
	json_t *list = json_array();

	(void)q, (void)ret_err;
	for (size_t i = 0; list && i < TD_NELEMS(commands); i++)
		if (json_array_append_new(list, json_pack("{s:s}", "name", commands[i].name)) < 0)
			return NULL;
	return list;
}

static int run(struct qmp *q, const char *name, const json_t *id)
{
	struct td_err err = { .msg = "no memory" };
	char text[256];
	json_t *value;

	if (strcmp(name, "qmp_capabilities") == 0 && !q->negotiated) {
		q->negotiated = true;
		return reply(q, json_pack("{s:{}}", "return"), id);
	}
	if (!q->negotiated)
		return reply_error(q, "CommandNotFound",
				   "Expecting capabilities negotiation with 'qmp_capabilities'", id);
	for (size_t i = 0; i < TD_NELEMS(commands); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		value = commands[i].run(q, &err);
		return value ? reply(q, json_pack("{s:o}", "return", value), id)
			     : reply_error(q, "GenericError", err.msg, id);
	}
	snprintf(text, sizeof(text), "%.64s: tap-dm stands in for QEMU and has no such command", name);
	return reply_error(q, "CommandNotFound", text, id);
}

static int handle(struct qmp *q)
{
	json_error_t error;
	json_t *message = json_loadb(q->buf, q->len, JSON_REJECT_DUPLICATES, &error);
	const char *name = json_string_value(json_object_get(message, "execute"));
	int r;

	if (!message)
		r = reply_error(q, "GenericError", "JSON parse error", NULL);
	else if (!name)
		r = reply_error(q, "GenericError", "QMP input lacks member 'execute'",
				json_object_get(message, "id"));
	else
		r = run(q, name, json_object_get(message, "id"));
	json_decref(message);
	return r;
}

/* ---- bytes to messages ---- */

/* Moves on by one byte of a message.  True: it was the last one. */
static bool step(struct qmp *q, char c)
{
	if (q->in_string) {
		if (!q->escaped && c == '"')
			q->in_string = false;
		q->escaped = !q->escaped && c == '\\';
		return false;
	}
	if (c == '"')
		q->in_string = true;
	else if (c == '{' || c == '[')
		q->depth++;
	else if (c == '}' || c == ']')
		q->depth--;
	return q->depth == 0;
}

static int take(struct qmp *q, char c)
{
	int r;

	if (q->len == 0 && strchr(" \t\r\n", c) && c)
		return 0;
	if (q->len == 0 && c != '{') {
		td_ignore(reply_error(q, "GenericError", "JSON parse error, expecting an object", NULL));
		return -EPROTO; /* where the next one begins cannot be known */
	}
	if (q->len == QMP_MESSAGE_MAX) {
		td_ignore(reply_error(q, "GenericError", "the message is too long", NULL));
		return -EMSGSIZE;
	}
	q->buf[q->len++] = c;
	if (!step(q, c))
		return 0;
	r = handle(q);
	q->len = 0;
	return r;
}

int qmp_feed(struct qmp *q, const char *data, size_t len)
{
	int r = 0;

	if (!q->buf)
		q->buf = malloc(QMP_MESSAGE_MAX);
	if (!q->buf)
		return -ENOMEM;
	for (size_t i = 0; i < len && r == 0 && !q->dm->quit; i++)
		r = take(q, data[i]);
	return r;
}

void qmp_done(struct qmp *q)
{
	free(q->buf);
	q->buf = NULL;
}
