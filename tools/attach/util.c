// SPDX-License-Identifier: BSD-2-Clause
/*
 * Small helpers of the attach commands: one line of a file, the clock, udev.
 */
#include "attach.h"
#include <ctype.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

bool attach_read_line(char *buf, size_t size, const char *fmt, ...)
{
	char path[512];
	va_list ap;
	FILE *f;
	bool ok;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	f = fopen(path, "re");
	if (!f)
		return false;
	ok = fgets(buf, (int)size, f) != NULL;
	fclose(f);
	if (ok)
		buf[strcspn(buf, "\n")] = '\0';
	return ok;
}

bool attach_number(const char **p, uint64_t *ret)
{
	unsigned long long n;
	char *end;

	if (!isdigit((unsigned char)**p))
		return false;
	errno = 0;
	n = strtoull(*p, &end, 10);
	if (errno != 0)
		return false;
	*p = end;
	*ret = n;
	return true;
}

pid_t attach_pid_of(const char *name)
{
	uint64_t n;

	return attach_number(&name, &n) && *name == '\0' && n <= INT32_MAX ? (pid_t)n : 0;
}

bool attach_dev_number(const char *text, dev_t *ret)
{
	uint64_t maj, min;

	if (!attach_number(&text, &maj) || *text++ != ':' || !attach_number(&text, &min))
		return false;
	*ret = makedev((unsigned)maj, (unsigned)min);
	return true;
}

uint64_t attach_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void attach_nap(void)
{
	const struct timespec ts = { .tv_nsec = 20000000 };

	nanosleep(&ts, NULL);
}

/* udev, where it runs, makes the nodes and looks at the device first; without it they are there already. */
void attach_settle(void)
{
	const char *argv[] = { "udevadm", "settle", "--timeout=10", NULL };
	extern char **environ;
	pid_t pid;

	if (access("/run/udev/control", F_OK) < 0)
		return;
	if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ) == 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
}
