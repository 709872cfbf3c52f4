// SPDX-License-Identifier: BSD-2-Clause
/*
 * Before a disk is taken away: nobody uses it, and what the page cache holds is written.
 */
#include "attach.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define GLANCE_MS 1000u /* how long somebody may have it open in passing */

/* udev looks at each new device for a moment: only who stays is a holder. */
int attach_check_free(const char *vdev, const char *disk, struct td_err *ret_err)
{
	uint64_t deadline = attach_now_ms() + GLANCE_MS;
	char what[256];

	for (;;) {
		attach_holder(disk, what, sizeof(what));
		if (!*what)
			return 0;
		if (strncmp(what, "open in", 7) != 0 || attach_now_ms() >= deadline)
			return td_err_set(ret_err, -EBUSY, "%s is %s; end that first, or use --force", vdev,
					  what);
		attach_nap();
	}
}

/*
 * fsync in a child: a daemon that is paused or stuck would hold us in the kernel, where no timeout reaches.
 */
int attach_write_back(int fd, uint64_t deadline)
{
	int status = 0;
	pid_t pid = fork(), got = 0;

	if (pid < 0)
		return fsync(fd) < 0 ? -errno : 0;
	if (pid == 0)
		_exit(fsync(fd) < 0 ? errno & 0x7f : 0);
	while ((got = waitpid(pid, &status, WNOHANG)) == 0 && attach_now_ms() < deadline)
		attach_nap();
	if (got == 0) {
		kill(pid, SIGKILL);
		return -ETIMEDOUT;
	}
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}
