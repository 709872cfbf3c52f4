// SPDX-License-Identifier: BSD-2-Clause
/*
 * Talking to tapdisks: the run-time directory, and one JSON object a line over the unix socket ctl<pid> there.
 * The messages are documented in blktap-control(7).  For the tools; blocking, no coroutines.
 */
#ifndef BLKTAP_CTL_H
#define BLKTAP_CTL_H

#include <blktap/err.h>
#include <dirent.h>
#include <jansson.h>
#include <sys/types.h>

/*
 * The run-time directory, made if it is not there (0755, ours): $BLKTAP_RUN_DIR; else for root /run/blktap-control;
 * else $XDG_RUNTIME_DIR/blktap-control.  *ret_dir is a static string.
 */
TD_CHECK int td_run_dir(const char **ret_dir, struct td_err *ret_err);
/* The same, opened to be read; the caller closes it. */
TD_CHECK int td_run_dir_open(const char **ret_dir, DIR **ret, struct td_err *ret_err);

/* From here on a directory of this user is as good as one of ours: he is who we are going to be. */
void td_run_dir_of(uid_t uid);

/* "<run dir>/<name>" as a new string of the caller's. */
TD_CHECK int td_run_path(char **ret_path, struct td_err *ret_err, const char *fmt, ...) TD_PRINTF(3, 4);

/*
 * The marker of a minor, for td_run_path: the minor is taken while it is there.  A daemon that has the minor holds a
 * lock (flock) on it, and wrote its pid into it.
 */
#define TD_MARKER_DIR "tapdisk"
#define TD_MARKER     TD_MARKER_DIR "/tapdisk-%d"

/*
 * One request, one answer.  request is an object with "cmd"; the reference is taken.  *ret_reply, if not NULL, is the
 * caller's.  A daemon's refusal comes back as its errno and sentence; -ECONNREFUSED or -ENOENT: no such daemon;
 * -ETIMEDOUT after timeout_ms.
 */
TD_CHECK int td_ctl_call(pid_t pid, json_t *request, unsigned timeout_ms, json_t **ret_reply,
			 struct td_err *ret_err);

/*
 * Be told of events (blktap-control(7)): one JSON object a line comes from *ret_fd, which does not block and is the
 * caller's (close).  Its end is the daemon's end, or that nobody read it for too long.  What happens from this
 * call's return on is told; `info` asked after it says what was before.
 */
TD_CHECK int td_ctl_events(pid_t pid, int *ret_fd, struct td_err *ret_err);

/* The pids that have a control socket, in order; dead ones too.  *ret_pids is the caller's (free). */
TD_CHECK int td_ctl_pids(pid_t **ret_pids, size_t *ret_nr, struct td_err *ret_err);

/* Is this process alive and a tapdisk that answers? */
bool td_ctl_alive(pid_t pid);

/*
 * Start a tapdisk with these arguments (NULL-terminated, without argv[0]; "-f" is added) and wait until it is ready.
 * It goes on when the caller ends: own session, stderr to the log.  Its error sentence, if it fails, is ret_err's.
 * The binary: $BLKTAP_TAPDISK, else the one beside the running command, else the installed one.
 */
TD_CHECK int td_ctl_spawn(const char *const *args, unsigned timeout_ms, pid_t *ret_pid,
			  struct td_err *ret_err);

/* Which binary that is, as a new string of the caller's; NULL: no memory. */
char *td_ctl_tapdisk(void);

/* SIGTERM, then wait until the process is gone.  Gone already is success.  -ETIMEDOUT: it still runs. */
TD_CHECK int td_ctl_terminate(pid_t pid, unsigned timeout_ms, struct td_err *ret_err);

#endif
