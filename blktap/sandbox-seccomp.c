// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sandbox's system calls, by libseccomp.
 *
 * What is not in the list does not exist: ENOSYS.  Not a kill, for the list cannot know what the C library of some
 * later system will try first; told that a call is not there, it does as on an older kernel.  A kill would take a
 * guest's disk away at the first rare path, and EPERM would be taken for an answer.
 *
 * What nothing of ours could ever want, and whoever tries it is not us any more, kills the process at once: other
 * programs, other processes and their memory, mounts, modules.  That is an orderly way to die here: nothing answered is
 * lost by it.  All of it is in the kernel's audit log.
 *
 * An io_uring is set up before, and restricted to its operations (drivers/io/engine-uring.c); no other can be.
 */
#include "config.h"

#include "sandbox.h"

#ifdef HAVE_SECCOMP

#include <linux/fs.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The library's macros leave the second datum out, which clang minds. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

static const int allowed[] = {
	/* data: sockets, files, the engines; the first are the most frequent */
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_submit),
	SCMP_SYS(io_getevents),
	SCMP_SYS(io_pgetevents),
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(futex),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(fallocate),
	SCMP_SYS(ftruncate),
	SCMP_SYS(lseek),
	SCMP_SYS(io_destroy),

	/* memory, without PROT_EXEC: see below */
	SCMP_SYS(brk),
	SCMP_SYS(madvise),
	SCMP_SYS(mlock),
	SCMP_SYS(mremap),
	SCMP_SYS(munmap),

	/* descriptors and files, where Landlock lets us */
	SCMP_SYS(access),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(dup2),
	SCMP_SYS(dup3),
	SCMP_SYS(fadvise64),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(fcntl),
	SCMP_SYS(flock),
	SCMP_SYS(fstat),
	SCMP_SYS(fstatfs),
	SCMP_SYS(lstat),
	SCMP_SYS(memfd_create),
	SCMP_SYS(newfstatat),
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(rename),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(stat),
	SCMP_SYS(statfs),
	SCMP_SYS(statx),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(getcwd),

	/* sockets and events; socket(): see below; no connect() */
	SCMP_SYS(accept4),
	SCMP_SYS(bind),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(eventfd2),
	SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt),
	SCMP_SYS(listen),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown),
	SCMP_SYS(signalfd4),
	SCMP_SYS(timerfd_settime),

	/* the process, its threads and its end; clone(), tgkill(): see below */
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(getegid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getpid),
	SCMP_SYS(getrandom),
	SCMP_SYS(getrusage),
	SCMP_SYS(gettid),
	SCMP_SYS(getuid),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rseq),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_yield),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),

	/* the time, where it is not asked without a call */
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(nanosleep),
	SCMP_SYS(time),
};

static const int deadly[] = {
	SCMP_SYS(add_key),
	SCMP_SYS(bpf),
	SCMP_SYS(chroot),
	SCMP_SYS(delete_module),
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(finit_module),
	SCMP_SYS(fork),
	SCMP_SYS(fsmount),
	SCMP_SYS(fsopen),
	SCMP_SYS(init_module),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(kexec_load),
	SCMP_SYS(keyctl),
	SCMP_SYS(mount),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(move_mount),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(open_tree),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(pivot_root),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(ptrace),
	SCMP_SYS(reboot),
	SCMP_SYS(request_key),
	SCMP_SYS(setns),
	SCMP_SYS(swapoff),
	SCMP_SYS(swapon),
	SCMP_SYS(unshare),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(vfork),
};

/* Of block devices; of terminals, whether it is one (stdio asks). */
static const unsigned long ioctls[] = { BLKDISCARD, BLKGETSIZE64, BLKROGET, BLKSSZGET, FIONREAD, TCGETS };

/* Those of /dev/xen/gntdev and /dev/xen/evtchn are all of these two types. */
static const unsigned long ioctl_types[] = { 'G', 'E' };

static int add_list(scmp_filter_ctx ctx, uint32_t action, const int *list, size_t nr)
{
	int r = 0;

	for (size_t i = 0; i < nr && r == 0; i++)
		r = seccomp_rule_add(ctx, action, list[i], 0);
	return r;
}

static int add_ioctls(scmp_filter_ctx ctx)
{
	int r = 0;

	for (size_t i = 0; i < TD_NELEMS(ioctls) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				     SCMP_A1_32(SCMP_CMP_EQ, ioctls[i]));
	for (size_t i = 0; i < TD_NELEMS(ioctl_types) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				     SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0xff00, ioctl_types[i] << 8));
	return r;
}

/* A thread, by a clone() whose flags can be seen; told that there is no clone3(), the C library calls that. */
static int add_threads(scmp_filter_ctx ctx)
{
	int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				 SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));

	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	/* abort() */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				     SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid()));
	return r;
}

/* Nothing that was written becomes a program. */
static int add_memory(scmp_filter_ctx ctx)
{
	static const int calls[] = { SCMP_SYS(mmap), SCMP_SYS(mprotect) };
	int r = 0;

	for (size_t i = 0; i < TD_NELEMS(calls) && r == 0; i++) {
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 1,
				     SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
		if (r == 0)
			r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), calls[i], 1,
					     SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
	}
	return r;
}

static int add_rest(scmp_filter_ctx ctx)
{
	/* New sockets are those of a disk that is opened later; who may be connected to could be anybody. */
	int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX));

	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(socket), 1,
				     SCMP_A0_32(SCMP_CMP_NE, AF_UNIX));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(connect), 0);
	/* A socket's file is its owner's alone; other modes nothing gets. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fchmod), 1, SCMP_A1_32(SCMP_CMP_EQ, 0600));
	/* Whoever reads a pass phrase is not to be dumped from then on. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 2,
				     SCMP_A0_32(SCMP_CMP_EQ, PR_SET_DUMPABLE), SCMP_A1(SCMP_CMP_EQ, 0));
	/* Our own limits can be read. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, SCMP_A0_32(SCMP_CMP_EQ, 0),
				     SCMP_A2(SCMP_CMP_EQ, 0));
	return r;
}

static int set_up(scmp_filter_ctx ctx)
{
	/* Attributes that this libseccomp or kernel does not know are left as they are. */
	td_ignore(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
	td_ignore(seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1));
	td_ignore(seccomp_attr_set(ctx, SCMP_FLTATR_CTL_LOG, 1));
	td_ignore(seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2));
	/* It is no wall between parts of this process: no slow-down of its processor's guesses. */
	td_ignore(seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1));
	int r = add_list(ctx, SCMP_ACT_ALLOW, allowed, TD_NELEMS(allowed));

	if (r == 0)
		r = add_list(ctx, SCMP_ACT_KILL_PROCESS, deadly, TD_NELEMS(deadly));
	if (r == 0)
		r = add_ioctls(ctx);
	if (r == 0)
		r = add_threads(ctx);
	if (r == 0)
		r = add_memory(ctx);
	if (r == 0)
		r = add_rest(ctx);
	return r;
}

int sandbox_seccomp(bool *ret_on, struct td_err *ret_err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int r = ctx ? set_up(ctx) : -ENOMEM;

	*ret_on = false;
	if (r < 0) {
		seccomp_release(ctx);
		return td_err_set(ret_err, r, "sandbox: seccomp: %s", strerror(-r));
	}
	r = seccomp_load(ctx);
	seccomp_release(ctx);
	*ret_on = r == 0;
	/* A kernel without: ENOSYS, EINVAL, or what its errno was (-ECANCELED). */
	return 0;
}

#else

int sandbox_seccomp(bool *ret_on, struct td_err *ret_err)
{
	(void)ret_err;
	*ret_on = false;
	return 0;
}

#endif
