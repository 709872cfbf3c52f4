// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sandbox's files, by Landlock: rules that hang on directories and files, and hold for all below.
 *
 * The kernel's interface has versions; what a version does not know is left out, all that it knows is forbidden unless
 * a rule allows it.  Files that are open already stay as they are.  The numbers are here because the system's header
 * may be older than its kernel.
 */
#include "sandbox.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VERSION_ASKED 1u
#define RULE_BENEATH  1

#define FS_EXECUTE     (1ull << 0)
#define FS_WRITE_FILE  (1ull << 1)
#define FS_READ_FILE   (1ull << 2)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_REG    (1ull << 8)
#define FS_MAKE_SOCK   (1ull << 9)
#define FS_TRUNCATE    (1ull << 14)
#define FS_IOCTL_DEV   (1ull << 15)

/* Those that a rule on a file, not a directory, may have. */
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

struct ruleset {
	uint64_t fs, net, scoped;
};

/* The kernel's is packed: what follows fd here is not looked at. */
struct beneath {
	uint64_t rights;
	int32_t fd;
};

/* What each version brought: rights on files; TCP; signals and abstract sockets of others; a longer struct. */
static struct ruleset all_of(unsigned abi, size_t *ret_size)
{
	unsigned fs_bits = abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13;

	*ret_size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	return (struct ruleset){
		.fs = (1ull << fs_bits) - 1,
		.net = abi >= 4 ? 3 : 0,
		.scoped = abi >= 6 ? 3 : 0,
	};
}

static uint64_t rights_of(const struct sandbox_place *p, mode_t mode)
{
	uint64_t fs = 0;

	if (p->rights & SANDBOX_READ)
		fs |= FS_READ_FILE | FS_IOCTL_DEV;
	if (p->rights & SANDBOX_WRITE)
		fs |= FS_WRITE_FILE | FS_TRUNCATE;
	if (p->rights & SANDBOX_MAKE)
		fs |= FS_MAKE_REG | FS_REMOVE_FILE;
	if (p->rights & SANDBOX_SOCKET)
		fs |= FS_MAKE_SOCK | FS_REMOVE_FILE;
	return S_ISDIR(mode) ? fs : fs & FS_OF_FILES;
}

static int add_rule(int rules, const struct sandbox_place *p, uint64_t known)
{
	struct beneath b = { .fd = open(p->path, O_PATH | O_CLOEXEC) };
	struct stat st;
	int r = 0;

	if (b.fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(b.fd, &st) < 0)
		r = -errno;
	b.rights = r < 0 ? 0 : rights_of(p, st.st_mode) & known;
	if (b.rights && syscall(SYS_landlock_add_rule, rules, RULE_BENEATH, &b, 0) < 0)
		r = -errno;
	close(b.fd);
	return r;
}

int sandbox_landlock_rules(const struct sandbox *s, unsigned *ret_abi, int *ret_rules, struct td_err *ret_err)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION_ASKED);
	struct ruleset all;
	size_t size;
	int fd, r = 0;

	*ret_abi = 0;
	*ret_rules = -1;
	if (abi < 1) /* not in this kernel, or switched off */
		return 0;
	all = all_of((unsigned)abi, &size);
	fd = (int)syscall(SYS_landlock_create_ruleset, &all, size, 0);
	if (fd < 0)
		return td_err_set(ret_err, -errno, "sandbox: Landlock: %m (--sandbox=off goes without)");
	for (unsigned i = 0; i < s->nr_places && r == 0; i++) {
		r = add_rule(fd, &s->places[i], all.fs);
		if (r < 0)
			td_err_set(ret_err, r, "sandbox: Landlock: %s: %s (--sandbox=off goes without)",
				   s->places[i].path, strerror(-r));
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_abi = (unsigned)abi;
	*ret_rules = fd;
	return 0;
}

int sandbox_landlock_enter(int rules, struct td_err *ret_err)
{
	if (rules >= 0 && syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return td_err_set(ret_err, -errno, "sandbox: Landlock: %m (--sandbox=off goes without)");
	return 0;
}
