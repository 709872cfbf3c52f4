// SPDX-License-Identifier: BSD-2-Clause
#include "kept.h"

#include <blktap/base.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

void kept_path(const char *dir, const char *image, char *ret, size_t len)
{
	struct stat st;

	if (stat(image, &st) < 0)
		abort();
	(void)snprintf(ret, len, "%s/keep%llx.%llx", dir, (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino);
}

/* It is a file of holes mostly; and pages that were taken for it and not written yet count, for who reads it. */
void kept_copy(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	static char buf[65536];
	struct stat st;
	off_t at = 0;

	if (in < 0 || out < 0 || fstat(in, &st) < 0 || ftruncate(out, st.st_size) < 0)
		abort();
	while ((at = lseek(in, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(in, at, SEEK_HOLE);

		for (ssize_t n; at < end; at += n) {
			n = pread(in, buf, TD_MIN(sizeof(buf), (size_t)(end - at)), at);
			if (n <= 0 || pwrite(out, buf, (size_t)n, at) != n)
				abort();
		}
	}
	if (posix_fallocate(out, 0, TD_MIN(st.st_size, (off_t)st.st_blocks * 512)) != 0)
		abort();
	(void)close(in);
	(void)close(out);
}
