// SPDX-License-Identifier: BSD-2-Clause
/*
 * The blocking calls to tapdisks; see job.h.
 */
#include "job.h"
#include <blktap/ctl.h>
#include <blktap/pool.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* One call, with what goes in and what comes out: on the coroutine's stack, which waits for it. */
struct job {
	const struct disk_ops *ops;
	pid_t pid;
	const char *const *args;
	json_t *request;
	unsigned timeout_ms;
	bool wants_reply;
	json_t *reply;
	int fd;
	pid_t *pids;
	size_t nr;
	struct td_err err;
};

static int run(struct disk_env *env, struct job *j, int (*fn)(void *job), struct td_err *ret_err)
{
	int r;

	j->ops = env->ops;
	r = env->pool ? td_pool_run(env->pool, fn, j) : fn(j);
	if (r < 0 && ret_err)
		*ret_err = j->err;
	return r;
}

static int do_spawn(void *job)
{
	struct job *j = job;

	return j->ops->spawn(j->args, j->timeout_ms, &j->pid, &j->err);
}

int job_spawn(struct disk_env *env, const char *const *args, pid_t *ret_pid, struct td_err *ret_err)
{
	struct job j = { .args = args, .timeout_ms = JOB_SPAWN_MS };
	int r = run(env, &j, do_spawn, ret_err);

	if (r == 0)
		*ret_pid = j.pid;
	return r;
}

static int do_call(void *job)
{
	struct job *j = job;

	return j->ops->call(j->pid, j->request, j->timeout_ms, j->wants_reply ? &j->reply : NULL, &j->err);
}

int job_call(struct disk_env *env, pid_t pid, json_t *request, unsigned timeout_ms, json_t **ret_reply,
	     struct td_err *ret_err)
{
	struct job j = { .pid = pid, .request = request, .timeout_ms = timeout_ms, .wants_reply = ret_reply };
	int r = run(env, &j, do_call, ret_err);

	if (r == 0 && ret_reply)
		*ret_reply = j.reply;
	return r;
}

static int do_events(void *job)
{
	struct job *j = job;

	return j->ops->events(j->pid, &j->fd, &j->err);
}

int job_events(struct disk_env *env, pid_t pid, int *ret_fd, struct td_err *ret_err)
{
	struct job j = { .pid = pid, .fd = -1 };
	int r = run(env, &j, do_events, ret_err);

	if (r == 0)
		*ret_fd = j.fd;
	return r;
}

static int do_terminate(void *job)
{
	struct job *j = job;

	return j->ops->terminate(j->pid, j->timeout_ms, &j->err);
}

int job_terminate(struct disk_env *env, pid_t pid, unsigned timeout_ms, struct td_err *ret_err)
{
	struct job j = { .pid = pid, .timeout_ms = timeout_ms };

	return run(env, &j, do_terminate, ret_err);
}

static int do_pids(void *job)
{
	struct job *j = job;

	return j->ops->pids(&j->pids, &j->nr, &j->err);
}

int job_pids(struct disk_env *env, pid_t **ret_pids, size_t *ret_nr, struct td_err *ret_err)
{
	struct job j = { 0 };
	int r = run(env, &j, do_pids, ret_err);

	if (r == 0) {
		*ret_pids = j.pids;
		*ret_nr = j.nr;
	}
	return r;
}

static int do_make_dead(void *job)
{
	struct job *j = job;

	return j->ops->make_dead(j->pid, &j->err);
}

int job_make_dead(struct disk_env *env, pid_t pid, struct td_err *ret_err)
{
	struct job j = { .pid = pid };

	return run(env, &j, do_make_dead, ret_err);
}

struct stat_job {
	const char *path;
	mode_t mode;
};

static int do_stat(void *job)
{
	struct stat_job *j = job;
	struct stat st;

	if (stat(j->path, &st) < 0)
		return -errno;
	j->mode = st.st_mode;
	return 0;
}

int job_stat(struct disk_env *env, const char *path, mode_t *ret_mode)
{
	struct stat_job j = { .path = path };
	int r = env->pool ? td_pool_run(env->pool, do_stat, &j) : do_stat(&j);

	if (r == 0)
		*ret_mode = j.mode;
	return r;
}

/* ---- the real ones ---- */

#define GONE_MS 30000 /* in the kernel, for I/O that was under way */

/* The sockets that a killed one leaves; ours have no number, so that the NBD socket's is 0. */
static void sweep(pid_t pid)
{
	td_cleanup(free) char *ctl = NULL;
	td_cleanup(free) char *nbd = NULL;

	if (td_run_path(&ctl, NULL, "ctl%d", pid) == 0)
		unlink(ctl);
	if (td_run_path(&nbd, NULL, "nbd%d.0", pid) == 0)
		unlink(nbd);
}

/*
 * Two tapdisks must never have one image: what does not answer any more is killed before another is started.  A number
 * that is somebody else's by now is left alone: td_ctl_terminate looks at what it is, so it is asked first.
 */
static int make_dead(pid_t pid, struct td_err *ret_err)
{
	int pidfd = pidfd_open(pid, 0), r;

	if (pidfd < 0 && errno == ESRCH) {
		sweep(pid);
		return 0;
	}
	if (pidfd < 0)
		return td_err_set(ret_err, -errno, "tapdisk %d: %s", pid, strerror(errno));
	r = td_ctl_terminate(pid, 1000, ret_err);
	if (r == -ETIMEDOUT) {
		struct pollfd p = { .fd = pidfd, .events = POLLIN };

		pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
		r = poll(&p, 1, GONE_MS) == 1
			    ? 0
			    : td_err_set(ret_err, -ETIMEDOUT,
					 "tapdisk %d: does not even end by SIGKILL; its storage "
					 "does not answer",
					 pid);
	}
	if (r == 0) {
		sweep(pid);
		waitpid(pid, NULL, WNOHANG);
	}
	close(pidfd);
	return r;
}

const struct disk_ops disk_ops_real = {
	.spawn = td_ctl_spawn,
	.call = td_ctl_call,
	.events = td_ctl_events,
	.terminate = td_ctl_terminate,
	.pids = td_ctl_pids,
	.make_dead = make_dead,
};
