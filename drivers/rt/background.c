// SPDX-License-Identifier: BSD-2-Clause
/*
 * Going to the background: the parent waits for a byte that says ready, or for the child's exit status.
 */
#include <blktap/background.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The parent's part: does not return. */
static void wait_for_child(pid_t pid, int fd)
{
	int status = 0;
	char byte;
	ssize_t n;

	do {
		n = read(fd, &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(0);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
}

int td_background_start(int *ret_parent, struct td_err *ret_err)
{
	int fd[2];
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return td_err_set(ret_err, -errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return td_err_set(ret_err, -errno, "fork: %s", strerror(errno));
	if (pid > 0) {
		close(fd[1]);
		wait_for_child(pid, fd[0]);
	}
	close(fd[0]);
	setsid();
	*ret_parent = fd[1];
	return 0;
}

void td_background_ready(int parent)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	if (parent < 0)
		return;
	td_ignore((int)write(parent, "r", 1)); /* if the parent was killed nobody waits */
	close(parent);
}
