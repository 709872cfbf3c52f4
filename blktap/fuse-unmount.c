// SPDX-License-Identifier: BSD-2-Clause
/*
 * Unmounting; see fuse-unmount.h.
 *
 * The helper is forked before anything else exists, knows from the command line which files it may unmount, and opens,
 * reads and believes nothing else.  When the daemon is killed it ends too, and leaves the mounts as they are: the next
 * tapdisk removes them.
 */
#include "fuse-unmount.h"
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES_MAX   16
#define MESSAGE_MAX 4200
#define DO_UNMOUNT  1
#define DO_REMOVE   2
#define ANSWER_S    10 /* an unmount that takes longer goes on by itself */

static int helper = -1; /* the daemon's end of the socket */

/* ---- by ourselves ---- */

/* Only root may call umount2(); fusermount3 does it for others. */
int fuse_unmount(const char *path)
{
	const char *argv[] = { "fusermount3", "-u", "-z", "-q", "--", path, NULL };
	extern char **environ;
	pid_t pid;
	int status, r;

	if (geteuid() == 0)
		return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
	r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ);
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int fuse_absolute_path(const char *path, char **ret_path, struct td_err *ret_err)
{
	td_cleanup(free) char *copy = strdup(path);
	td_cleanup(free) char *dir = NULL;
	char *slash = copy ? strrchr(copy, '/') : NULL;
	const char *name = slash ? slash + 1 : copy;

	if (!copy)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return td_err_set(ret_err, -EINVAL, "%s: --fuse wants the name of a file", path);
	if (slash)
		*slash = '\0';
	dir = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
	if (!dir)
		return td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
	if (asprintf(ret_path, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name) < 0)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	return 0;
}

int fuse_absolute_dir(const char *path, char **ret_path, struct td_err *ret_err)
{
	td_cleanup(free) char *copy = NULL;

	*ret_path = realpath(path, NULL);
	if (*ret_path)
		return 0;
	copy = strdup(path);
	for (char *end = copy ? copy + strlen(copy) : NULL; end && end > copy + 1 && end[-1] == '/'; end--)
		end[-1] = '\0';
	return copy ? fuse_absolute_path(copy, ret_path, ret_err) : td_err_set(ret_err, -ENOMEM, "no memory");
}

/* ---- the helper ---- */

/* What was the user's own file stays, even if the daemon says otherwise. */
static int remove_empty(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > 0)
		return -EPERM;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/* A message is what to do (a bit each) and a path. */
static int obey(const char *message, char *const *paths, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		int r = 0;

		if (strcmp(message + 1, paths[i]) != 0)
			continue;
		if (message[0] & DO_UNMOUNT)
			r = fuse_unmount(paths[i]);
		return r == 0 && (message[0] & DO_REMOVE) ? remove_empty(paths[i]) : r;
	}
	return -EPERM;
}

static void serve(int fd, char *const *paths, unsigned nr)
{
	static char message[MESSAGE_MAX];
	ssize_t n;

	while ((n = recv(fd, message, sizeof(message) - 1, 0)) != 0) {
		int answer;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		message[n] = '\0';
		answer = obey(message, paths, nr);
		if (send(fd, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
			return;
	}
}

/* Signals of a terminal or of a service manager are for the daemon, which still needs us then. */
static void be_apart(int fd, char **argv)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGTERM, SIGPIPE };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (unsigned i = 0; i < TD_NELEMS(ignored); i++)
		signal(ignored[i], SIG_IGN);
	for (int i = 0; i <= 2 && null >= 0; i++)
		dup2(null, i);
	close_range(3, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0u, 0);
	prctl(PR_SET_NAME, "tap-unmount", 0, 0, 0);
	for (unsigned i = 1; argv[i]; i++)
		memset(argv[i], 0, strlen(argv[i]));
}

static int resolve(const struct fuse_place *p, unsigned nr, char **ret_paths, struct td_err *ret_err)
{
	int r = 0;

	for (unsigned i = 0; i < nr && r == 0; i++)
		r = p[i].dir ? fuse_absolute_dir(p[i].address, &ret_paths[i], ret_err)
			     : fuse_absolute_path(p[i].address, &ret_paths[i], ret_err);
	return r;
}

int fuse_unmounter_start(const struct fuse_place *places, unsigned nr, char **argv, struct td_err *ret_err)
{
	char *paths[FILES_MAX] = { NULL };
	int fd[2] = { -1, -1 }, r = nr > FILES_MAX ? -E2BIG : 0;
	pid_t pid = -1;

	if (r == 0)
		r = resolve(places, nr, paths, ret_err);
	if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0)
		r = td_err_set(ret_err, -errno, "socketpair: %m");
	if (r == 0)
		pid = fork();
	if (r == 0 && pid < 0) {
		r = td_err_set(ret_err, -errno, "fork: %m");
		close(fd[0]);
		close(fd[1]);
	}
	if (pid == 0) {
		be_apart(fd[1], argv);
		serve(fd[1], paths, nr);
		_exit(0);
	}
	for (unsigned i = 0; i < nr && i < FILES_MAX; i++)
		free(paths[i]);
	if (r < 0)
		return r;
	close(fd[1]);
	helper = fd[0];
	return 0;
}

/* ---- the daemon ---- */

bool fuse_unmounter_runs(void)
{
	return helper >= 0;
}

int fuse_unmounter_ask(const char *path, bool unmount, bool remove)
{
	struct timeval patience = { .tv_sec = ANSWER_S };
	static char message[MESSAGE_MAX];
	int answer, n;

	n = snprintf(message, sizeof(message), "%c%s", (unmount ? DO_UNMOUNT : 0) | (remove ? DO_REMOVE : 0),
		     path);
	if (n >= (int)sizeof(message))
		return -ENAMETOOLONG;
	setsockopt(helper, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (send(helper, message, (size_t)n, MSG_NOSIGNAL) < 0 ||
	    recv(helper, &answer, sizeof(answer), 0) < 0)
		return -errno;
	return answer;
}
