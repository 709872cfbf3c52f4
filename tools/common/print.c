// SPDX-License-Identifier: BSD-2-Clause
/*
 * Printing; see print.h.
 */
#include <stdio.h>
#include <unistd.h>

#include "print.h"

static int dump(json_t *json, size_t flags)
{
	int r;

	if (!json)
		return -ENOMEM;
	r = json_dumpf(json, stdout, flags | JSON_ENCODE_ANY);
	json_decref(json);
	if (r < 0 || putchar('\n') == EOF)
		return -EIO;
	return 0;
}

int print_json(json_t *json)
{
	return dump(json, isatty(STDOUT_FILENO) ? JSON_INDENT(4) : 0);
}

int print_json_indented(json_t *json)
{
	return dump(json, JSON_INDENT(4));
}

json_t *print_name(const char *name)
{
	json_t *v = json_string(name);
	char *copy = v ? NULL : strdup(name);

	for (char *p = copy; p && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	if (copy)
		v = json_string(copy);
	free(copy);
	return v;
}

void print_safe(const char *text)
{
	for (const char *p = text; *p; p++)
		putchar((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
}

const char *print_size(uint64_t bytes, char buf[static PRINT_SIZE_LEN])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u + 1 < TD_NELEMS(units)) {
		v /= 1024;
		u++;
	}
	snprintf(buf, PRINT_SIZE_LEN, "%.3g %s", v, units[u]);
	return buf;
}
