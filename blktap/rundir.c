// SPDX-License-Identifier: BSD-2-Clause
/*
 * The run-time directory: where daemons put their sockets and commands find them.
 */
#include <blktap/ctl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN_NAME "blktap-control"
#define RUN_MAX  1024 /* a socket's address holds 107 bytes: no shorter limit is needed */

static uid_t other_user; /* 0: nobody else's directory is fine */

void td_run_dir_of(uid_t uid)
{
	other_user = uid;
}

static int choose_dir(char dir[RUN_MAX], struct td_err *ret_err)
{
	const char *env = getenv("BLKTAP_RUN_DIR");
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (env && *env)
		n = snprintf(dir, RUN_MAX, "%s", env);
	else if (geteuid() == 0)
		n = snprintf(dir, RUN_MAX, "/run/%s", RUN_NAME);
	else if (xdg && *xdg)
		n = snprintf(dir, RUN_MAX, "%s/%s", xdg, RUN_NAME);
	else
		return td_err_set(ret_err, -ENOENT,
				  "no run-time directory: set BLKTAP_RUN_DIR or XDG_RUNTIME_DIR to a "
				  "directory of yours");
	if (n >= RUN_MAX)
		return td_err_set(ret_err, -ENAMETOOLONG, "the run-time directory's path is too long");
	return 0;
}

/* A directory of another user would let him put sockets of his own where ours are expected. */
static int check_owner(const char *dir, struct td_err *ret_err)
{
	struct stat st;

	if (stat(dir, &st) < 0)
		return td_err_set(ret_err, -errno, "%s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return td_err_set(ret_err, -ENOTDIR, "%s: is not a directory; set BLKTAP_RUN_DIR to one",
				  dir);
	if (st.st_uid != geteuid() && st.st_uid != 0 && (other_user == 0 || st.st_uid != other_user))
		return td_err_set(ret_err, -EPERM,
				  "%s: belongs to another user; set BLKTAP_RUN_DIR to a directory of yours",
				  dir);
	return 0;
}

int td_run_dir(const char **ret_dir, struct td_err *ret_err)
{
	static char dir[RUN_MAX];
	char chosen[RUN_MAX];
	int r;

	r = choose_dir(chosen, ret_err);
	if (r < 0)
		return r;
	/* Looked for first: in a sandbox there is no mkdir(). */
	if (access(chosen, F_OK) < 0 && mkdir(chosen, 0755) < 0 && errno != EEXIST)
		return td_err_set(ret_err, -errno, "%s: cannot make the run-time directory: %s", chosen,
				  strerror(errno));
	r = check_owner(chosen, ret_err);
	if (r < 0)
		return r;
	memcpy(dir, chosen, strlen(chosen) + 1);
	*ret_dir = dir;
	return 0;
}

int td_run_dir_open(const char **ret_dir, DIR **ret, struct td_err *ret_err)
{
	int r = td_run_dir(ret_dir, ret_err);

	if (r < 0)
		return r;
	*ret = opendir(*ret_dir);
	return *ret ? 0 : td_err_set(ret_err, -errno, "%s: %s", *ret_dir, strerror(errno));
}

int td_run_path(char **ret_path, struct td_err *ret_err, const char *fmt, ...)
{
	td_cleanup(free) char *name = NULL;
	const char *dir = "";
	va_list ap;
	char *path;
	int r;

	r = td_run_dir(&dir, ret_err);
	if (r < 0)
		return r;
	va_start(ap, fmt);
	r = vasprintf(&name, fmt, ap);
	va_end(ap);
	if (r < 0) {
		name = NULL;
		return td_err_set(ret_err, -ENOMEM, "no memory for a path");
	}
	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return td_err_set(ret_err, -ENOMEM, "no memory for a path");
	*ret_path = path;
	return 0;
}
