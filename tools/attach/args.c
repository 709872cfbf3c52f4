// SPDX-License-Identifier: BSD-2-Clause
/*
 * Operands that the attach commands share, and how they complain.
 */
#include "attach.h"
#include <blktap/xs.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* xvd, sd, hd or vd; letters; perhaps a number.  Nothing that could leave /dev. */
static bool is_vdev(const char *name)
{
	static const char *const prefixes[] = { "xvd", "sd", "hd", "vd" };
	size_t len = strlen(name), letters = 0, digits;

	if (len >= ATTACH_VDEV_MAX)
		return false;
	for (size_t i = 0; i < TD_NELEMS(prefixes) && letters == 0; i++) {
		size_t n = strlen(prefixes[i]);

		if (strncmp(name, prefixes[i], n) != 0)
			continue;
		name += n;
		letters = strspn(name, "abcdefghijklmnopqrstuvwxyz");
	}
	if (letters == 0)
		return false;
	digits = strspn(name + letters, "0123456789");
	return name[letters + digits] == '\0' && name[letters] != '0';
}

int attach_parse_vdev(const char *text, char ret_vdev[ATTACH_VDEV_MAX], struct td_err *ret_err)
{
	const char *name = strncmp(text, "/dev/", 5) == 0 ? text + 5 : text;
	char of_number[ATTACH_VDEV_MAX];
	uint32_t number;

	if (!is_vdev(name) && td_vdev_parse(name, &number) == 0) {
		td_vdev_name(number, of_number, sizeof(of_number));
		name = of_number;
	}
	if (!is_vdev(name))
		return td_err_set(ret_err, -EINVAL,
				  "%s: not a device name; use one like xvda, sdb, hdc or vdd", text);
	memcpy(ret_vdev, name, strlen(name) + 1);
	return 0;
}

int attach_parse_domain(const char *text, struct td_err *ret_err)
{
	if (td_xs_is_dom0() || strcmp(text, "0") == 0 || strcmp(text, "Domain-0") == 0)
		return 0;
	return td_err_set(ret_err, -ENOTSUP,
			  "domain %s: without Xen there is only domain 0, this machine itself", text);
}

int attach_parse_timeout(const char *text, unsigned *ret_ms, struct td_err *ret_err)
{
	char *end;
	long s;

	if (!text)
		return 0;
	s = strtol(text, &end, 10);
	if (end == text || *end || s < 1 || s > 3600)
		return td_err_set(ret_err, -EINVAL, "--timeout %s: wants whole seconds, 1 to 3600", text);
	*ret_ms = (unsigned)s * 1000;
	return 0;
}

int attach_need_root(struct td_err *ret_err)
{
	if (geteuid() == 0)
		return 0;
	return td_err_set(ret_err, -EPERM, "needs root, for devices (without it: tapdisk --fuse FILE SPEC)");
}

void attach_complain(const char *name, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s: %s\n", name, line);
}
