// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sandbox's privileges.  Root without capabilities is an ordinary user to most of the kernel, but not to files: an
 * image that belongs to another user could not be opened again after a pause.  So CAP_DAC_OVERRIDE stays, whose reach
 * Landlock limits to the places listed.  With a user there is nothing to stay.
 */
#include "sandbox.h"
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- --user ---- */

static int parse_id(const char *text, unsigned *ret)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || end == text || *end || n >= UINT32_MAX)
		return -EINVAL;
	*ret = (unsigned)n;
	return 0;
}

static int find_group(const char *name, gid_t *ret, struct td_err *ret_err)
{
	const struct group *g = getgrnam(name);

	if (g)
		*ret = g->gr_gid;
	else if (parse_id(name, ret) < 0)
		return td_err_set(ret_err, -EINVAL, "--user: there is no group \"%s\"", name);
	return 0;
}

int sandbox_user(struct sandbox *s, const char *name, struct td_err *ret_err)
{
	td_cleanup(free) char *copy = strdup(name);
	char *group = copy ? strchr(copy, ':') : NULL;
	const struct passwd *p;

	if (!copy)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	if (geteuid() != 0)
		return td_err_set(ret_err, -EPERM, "--user %s: only root can become another user", name);
	if (group)
		*group++ = '\0';
	p = getpwnam(copy);
	if (p) {
		s->uid = p->pw_uid;
		s->gid = p->pw_gid;
	} else if (parse_id(copy, &s->uid) < 0) {
		return td_err_set(ret_err, -EINVAL, "--user: there is no user \"%s\"", copy);
	} else if (!group) {
		return td_err_set(ret_err, -EINVAL,
				  "--user %s: a number without a name needs a group, %s:GROUP", name, copy);
	}
	if (s->uid == 0)
		return td_err_set(ret_err, -EINVAL, "--user %s: that is root", name);
	s->user_name = name;
	s->own_groups = !group;
	return group ? find_group(group, &s->gid, ret_err) : 0;
}

static int become(const struct sandbox *s, struct td_err *ret_err)
{
	const struct passwd *p = s->own_groups ? getpwuid(s->uid) : NULL;
	int r = p ? initgroups(p->pw_name, s->gid) : setgroups(1, &s->gid);

	if (r == 0)
		r = setresgid(s->gid, s->gid, s->gid);
	if (r == 0)
		r = setresuid(s->uid, s->uid, s->uid);
	return r < 0 ? td_err_set(ret_err, -errno, "--user %s: cannot become this user: %m", s->user_name)
		     : 0;
}

/* ---- capabilities ---- */

/* What was lost already, or never had, does not come back. */
static int keep_only(uint32_t low)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };

	if (syscall(SYS_capget, &h, d) < 0)
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		d[i].permitted &= i == 0 ? low : 0;
		d[i].effective = d[i].permitted;
		d[i].inheritable = 0;
	}
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

int sandbox_drop(const struct sandbox *s, struct td_err *ret_err)
{
	int r = 0;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = td_err_set(ret_err, -errno, "sandbox: no_new_privs: %m");
	if (r == 0 && s->user_name)
		r = become(s, ret_err);
	if (r < 0)
		return r;
	r = keep_only(s->user_name ? 0 : 1u << CAP_DAC_OVERRIDE);
	return r < 0 ? td_err_set(ret_err, r, "sandbox: capabilities: %s", strerror(-r)) : 0;
}
