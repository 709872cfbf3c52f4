// SPDX-License-Identifier: BSD-2-Clause
/*
 * The client's memory.  A descriptor from a stranger may be anything; what is mapped is a memfd on tmpfs that can
 * never get shorter, so that no access of ours can fail: a file that somebody truncates would end us by SIGBUS, and so
 * would huge pages, when none is left.
 */
#include "ring-shm.h"
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Seals first: only a memfd has them, and asking for them calls no file system that could make us wait. */
static int check_memfd(int fd, uint64_t size, struct td_err *ret_err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct statfs fs;
	struct stat st;

	if (seals < 0)
		return td_err_set(ret_err, -EINVAL, "the descriptor is not a memfd");
	if (!(seals & F_SEAL_SHRINK))
		return td_err_set(ret_err, -EPERM, "the memfd is not sealed against shrinking");
	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return td_err_set(ret_err, -errno, "cannot look at the memfd: %s", strerror(errno));
	if (fs.f_type != TMPFS_MAGIC)
		return td_err_set(ret_err, -EINVAL, "the memfd has huge pages");
	if (size == 0 || size % RINGWIRE_PAGE || size > RINGWIRE_MAX_MEMORY)
		return td_err_set(ret_err, -EINVAL,
				  "memory of %llu bytes: should be whole pages, at most %llu",
				  (unsigned long long)size, RINGWIRE_MAX_MEMORY);
	if (st.st_size < 0 || (uint64_t)st.st_size < size)
		return td_err_set(ret_err, -EINVAL, "the memfd is shorter than it was said to be");
	return 0;
}

int shm_memory_map(struct shm_memory *m, int fd, uint64_t size, struct td_err *ret_err)
{
	int r = check_memfd(fd, size, ret_err);
	void *base;

	if (r < 0)
		return r;
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return td_err_set(ret_err, -errno, "cannot map the memfd: %s", strerror(errno));
	m->base = base;
	m->pages = (uint32_t)(size / RINGWIRE_PAGE);
	return 0;
}

void shm_memory_unmap(struct shm_memory *m)
{
	if (m->base)
		munmap(m->base, (size_t)m->pages * RINGWIRE_PAGE);
	m->base = NULL;
}

void *shm_memory_at(const struct shm_memory *m, uint32_t page, uint32_t nr)
{
	return td_in_range(page, nr, m->pages) ? m->base + (size_t)page * RINGWIRE_PAGE : NULL;
}
