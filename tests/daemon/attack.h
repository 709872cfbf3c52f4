// SPDX-License-Identifier: BSD-2-Clause
/*
 * What somebody would try who has taken a daemon over.  Each attempt returns 0 if it succeeded, else an errno; some end
 * their process, where they are kept off.
 */
#ifndef TESTS_DAEMON_ATTACK_H
#define TESTS_DAEMON_ATTACK_H

#include <sys/types.h>

#define KILLED  1000 /* wanted: by SIGSYS */
#define NOTHING 3000 /* the attempt does not exist here */

struct attempt {
	const char *what;
	int (*fn)(void);
	int want; /* in the sandbox */
};

/*
 * dir holds images/ (disk, sibling, way-out: a link to elsewhere/disk), elsewhere/disk, run/, and service, on which
 * somebody listens.  pid: whom to attack.
 */
void attack_scene(const char *dir, pid_t pid);

extern const struct attempt attack_files[]; /* kept off by Landlock; ends with a NULL name */
extern const struct attempt attack_calls[]; /* by seccomp */

int attack_read_shadow(void);
int attack_write_a_neighbour(void);
int attack_read_another_disk(void);
int attack_read_by_a_link(void);
int attack_list_a_folder(void);
int attack_make_a_file(void);
int attack_fork_a_process(void);
int attack_run_what_was_written(void);
int attack_connect_to_a_service(void);
int attack_kill_the_parent(void);
int attack_call_as_an_older_machine(void);

#endif
