// SPDX-License-Identifier: BSD-2-Clause
/*
 * The blocking calls to tapdisks, each run in the worker pool while the coroutine waits.
 */
#ifndef TAPBACK_JOB_H
#define TAPBACK_JOB_H

#include "disk.h"
#include <sys/stat.h>

#define JOB_ASK_MS        5000u
#define JOB_SPAWN_MS      30000u
#define JOB_CONNECT_MS    15000u
#define JOB_DISCONNECT_MS 60000u /* what is in flight is waited for */

TD_CO TD_CHECK int job_spawn(struct disk_env *env, const char *const *args, pid_t *ret_pid,
			     struct td_err *ret_err);
/* request is taken. */
TD_CO TD_CHECK int job_call(struct disk_env *env, pid_t pid, json_t *request, unsigned timeout_ms,
			    json_t **ret_reply, struct td_err *ret_err);
TD_CO TD_CHECK int job_events(struct disk_env *env, pid_t pid, int *ret_fd, struct td_err *ret_err);
TD_CO TD_CHECK int job_terminate(struct disk_env *env, pid_t pid, unsigned timeout_ms,
				 struct td_err *ret_err);
TD_CO TD_CHECK int job_pids(struct disk_env *env, pid_t **ret_pids, size_t *ret_nr, struct td_err *ret_err);
/* What kind of file it is: a file server that does not answer holds up only its own disks. */
TD_CO TD_CHECK int job_stat(struct disk_env *env, const char *path, mode_t *ret_mode);
TD_CO TD_CHECK int job_make_dead(struct disk_env *env, pid_t pid, struct td_err *ret_err);

#endif
