// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sandbox: what is left to a tapdisk that serves, should a guest or an image ever make it run code of theirs.
 *
 * It is entered once, when the disk is open and its exports listen, and there is no way out.  From then on:
 *
 *	Landlock	files: only below the places that were listed, and only for what was said of each; no mounts,
 *			no new network connections (Linux 6.7), no signals to others (6.12)
 *	seccomp		system calls: a list; no new programs or processes, no executable memory, no connections
 *	privileges	none to be gained; of root's, only that of opening files of other users is left (which
 *			Landlock limits); with a user, none and another uid
 *
 * A kernel that lacks one of the first two leaves it out, and says so in `info`: a disk that is not served because its
 * host is old helps nobody.
 */
#ifndef BLKTAP_SANDBOX_H
#define BLKTAP_SANDBOX_H

#include <blktap/err.h>
#include <jansson.h>
#include <sys/types.h>

/* What may be done at a place. */
#define SANDBOX_READ   0x01u
#define SANDBOX_WRITE  0x02u /* files that exist */
#define SANDBOX_MAKE   0x04u /* files are made, renamed and removed */
#define SANDBOX_SOCKET 0x08u /* sockets are made; files are removed, for that cannot be told apart */

struct sandbox_place {
	char *path; /* real */
	unsigned rights;
};

struct sandbox {
	bool off;
	bool waits; /* to be entered when the first disk is open */
	bool on;
	const char *user_name; /* main's, as asked for; NULL: stay who we are */
	uid_t uid;
	gid_t gid;
	bool own_groups;   /* no group was asked for: all that the user is in */
	unsigned landlock; /* version of its interface; 0: there is none */
	bool seccomp;
	struct sandbox_place *places;
	unsigned nr_places;
};

/* "NAME" or "NAME:GROUP", looked up now. */
TD_CHECK int sandbox_user(struct sandbox *s, const char *name, struct td_err *ret_err);

/* Before it is entered.  A path that is not there is no place, and no error. */
TD_CHECK int sandbox_add(struct sandbox *s, const char *path, unsigned rights, struct td_err *ret_err);

/* All threads but the caller have ended; there is stack enough (not a coroutine). */
TD_CHECK int sandbox_enter(struct sandbox *s, struct td_err *ret_err);

/* Is a rule made for real, a resolved path, with these rights? */
bool sandbox_has(const struct sandbox *s, const char *real, unsigned rights);

/* Is all this still possible at path?  True as well if there is no such path. */
bool sandbox_allows(const struct sandbox *s, const char *path, unsigned rights);

/* What is in force, for `info` and `stats`; NULL: no memory. */
json_t *sandbox_json(const struct sandbox *s);

void sandbox_done(struct sandbox *s);

/* ---- its parts ---- */

/* *ret_abi 0: this kernel has none, and *ret_rules is -1; else a descriptor of the caller's. */
TD_CHECK int sandbox_landlock_rules(const struct sandbox *s, unsigned *ret_abi, int *ret_rules,
				    struct td_err *ret_err);
TD_CHECK int sandbox_landlock_enter(int rules, struct td_err *ret_err);

/* Another user, if one was asked for; then no privileges but those that are needed. */
TD_CHECK int sandbox_drop(const struct sandbox *s, struct td_err *ret_err);

/* *ret_on false: this kernel has none, or it was built without. */
TD_CHECK int sandbox_seccomp(bool *ret_on, struct td_err *ret_err);

#endif
