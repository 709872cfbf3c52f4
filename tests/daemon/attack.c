// SPDX-License-Identifier: BSD-2-Clause
/* What somebody would try who has taken a daemon over; see attack.h. */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *scene;
static pid_t tester;

void attack_scene(const char *dir, pid_t pid)
{
	scene = dir;
	tester = pid;
}

static const char *at(const char *name)
{
	static char path[2][256];
	static unsigned i;

	i = !i;
	(void)snprintf(path[i], sizeof(path[i]), "%s/%s", scene, name);
	return path[i];
}

/* ---- files ---- */

static int open_errno(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? errno : 0;
}

int attack_read_shadow(void)
{
	return open_errno("/etc/shadow", O_RDONLY);
}

static int read_by_descriptor(void)
{
	int fd = open("/etc/shadow", O_PATH | O_CLOEXEC);
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fd < 0 ? errno : open_errno(path, O_RDONLY);
}

int attack_read_another_disk(void)
{
	return open_errno(at("elsewhere/disk"), O_RDONLY);
}

int attack_read_by_a_link(void)
{
	return open_errno(at("images/way-out"), O_RDONLY);
}

static int read_own_memory(void)
{
	return open_errno("/proc/self/mem", O_RDWR);
}

static int read_environment_of_another(void)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/environ", tester);
	return open_errno(path, O_RDONLY);
}

int attack_list_a_folder(void)
{
	return open_errno(at("images"), O_RDONLY | O_DIRECTORY);
}

int attack_make_a_file(void)
{
	return open_errno(at("images/new"), O_RDWR | O_CREAT);
}

static int remove_a_file(void)
{
	return unlink(at("images/sibling")) < 0 ? errno : 0;
}

static int move_a_file(void)
{
	return rename(at("images/sibling"), at("images/moved")) < 0 ? errno : 0;
}

int attack_write_a_neighbour(void)
{
	return open_errno(at("images/sibling"), O_WRONLY);
}

static int write_the_configuration(void)
{
	return open_errno("/etc/passwd", O_WRONLY);
}

static int make_a_folder(void)
{
	return mkdir(at("images/folder"), 0700) < 0 ? errno : 0;
}

static int make_a_device(void)
{
	return mknod(at("run/disk"), S_IFBLK | 0600, 0x800) < 0 ? errno : 0;
}

static int change_a_mode(void)
{
	return chmod(at("run"), 0777) < 0 ? errno : 0;
}

/* ---- system calls ---- */

static int exec_true(void)
{
	char *argv[] = { (char *)"true", NULL };

	execv("/bin/true", argv);
	return errno;
}

static int exec_by_descriptor(void)
{
	char *none[] = { NULL };

	syscall(SYS_execveat, STDIN_FILENO, "", none, none, AT_EMPTY_PATH);
	return errno;
}

int attack_fork_a_process(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid < 0 || waitpid(pid, NULL, 0) < 0 ? errno : 0; /* it had the image's lock too */
}

static int trace_the_parent(void)
{
	return ptrace(PTRACE_ATTACH, tester, NULL, NULL) < 0 ? errno : 0;
}

static int read_memory_of_the_parent(void)
{
	static char scratch[16];
	struct iovec here = { scratch, sizeof(scratch) }, there = here;

	return process_vm_readv(tester, &here, 1, &there, 1, 0) < 0 ? errno : 0;
}

static int mount_something(void)
{
	return mount("none", "/mnt", "tmpfs", 0, NULL) < 0 ? errno : 0;
}

static int leave_by_a_namespace(void)
{
	return syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */) < 0 ? errno : 0;
}

static int load_a_program_into_the_kernel(void)
{
	return syscall(SYS_bpf, 0, NULL, 0) < 0 ? errno : 0;
}

static int make_another_ring(void)
{
	return syscall(SYS_io_uring_setup, 1, NULL) < 0 ? errno : 0;
}

int attack_call_as_an_older_machine(void)
{
#ifdef __x86_64__
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20 /* getpid */) : "memory");
	return r < 0 ? (int)-r : 0;
#else
	return NOTHING;
#endif
}

int attack_kill_the_parent(void)
{
	return kill(tester, SIGCONT) < 0 ? errno : 0;
}

static int become_root_again(void)
{
	return setuid(0) < 0 ? errno : 0;
}

int attack_run_what_was_written(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return errno;
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		return 0;
	return mprotect(p, 4096, PROT_READ | PROT_EXEC) < 0 ? errno : 0;
}

static int connect_to(int family, const void *address, socklen_t len)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	return connect(fd, address, len) < 0 ? errno : 0;
}

static int connect_to_a_port(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(9) };

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return connect_to(AF_INET, &sa, sizeof(sa));
}

static int listen_on_a_port(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? errno : 0;
}

/* The control socket of any tapdisk, the bus of the system, a container daemon's ... */
int attack_connect_to_a_service(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", at("service"));
	return connect_to(AF_UNIX, &sa, sizeof(sa));
}

static int call_a_later_kernel(void)
{
	return syscall(99999) < 0 ? errno : 0;
}

/* ---- the tables ---- */

/* Kept off by Landlock. */
const struct attempt attack_files[] = {
	{ "read /etc/shadow", attack_read_shadow, EACCES },
	{ "read it by a descriptor of its path", read_by_descriptor, EACCES },
	{ "read another disk", attack_read_another_disk, EACCES },
	{ "read another disk by a link beside the image", attack_read_by_a_link, EACCES },
	{ "read the daemon's own memory", read_own_memory, EACCES },
	{ "read the environment of another", read_environment_of_another, EACCES },
	{ "list the image's folder", attack_list_a_folder, EACCES },
	{ "make a file beside the image", attack_make_a_file, EACCES },
	{ "remove a file beside the image", remove_a_file, EACCES },
	{ "rename a file beside the image", move_a_file, EACCES },
	{ "write /etc/passwd", write_the_configuration, EACCES },
	{ 0 },
};

/* Kept off by seccomp. */
const struct attempt attack_calls[] = {
	{ "exec /bin/true", exec_true, KILLED },
	{ "exec by a descriptor", exec_by_descriptor, KILLED },
	{ "fork", attack_fork_a_process, KILLED },
	{ "trace the parent", trace_the_parent, KILLED },
	{ "read the parent's memory", read_memory_of_the_parent, KILLED },
	{ "mount", mount_something, KILLED },
	{ "a namespace", leave_by_a_namespace, KILLED },
	{ "bpf", load_a_program_into_the_kernel, KILLED },
	{ "another io_uring", make_another_ring, KILLED },
	{ "mkdir", make_a_folder, ENOSYS },
	{ "mknod", make_a_device, ENOSYS },
	{ "chmod", change_a_mode, ENOSYS },
	{ "a signal to the parent", attack_kill_the_parent, ENOSYS },
	{ "setuid", become_root_again, ENOSYS },
	{ "memory that is written and run", attack_run_what_was_written, EACCES },
	{ "connect to a port", connect_to_a_port, EACCES },
	{ "listen on a port", listen_on_a_port, EACCES },
	{ "connect to a service", attack_connect_to_a_service, EACCES },
	{ "a call that this kernel does not know", call_a_later_kernel, ENOSYS },
	{ 0 },
};
