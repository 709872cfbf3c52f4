// SPDX-License-Identifier: BSD-2-Clause
/*
 * The memory that both sides see: one sealed memfd, laid out as
 *
 *	rings of all queues | an indirect page for each slot of each queue | buffers
 *
 * A page that nobody touches takes no memory, so that the indirect pages cost what is used of them.
 */
#include "client.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t ring_bytes(const struct blktap *b)
{
	return (size_t)RINGWIRE_PAGE << b->order;
}

static size_t indirect_bytes(const struct blktap *b)
{
	return b->features & RINGWIRE_INDIRECT
		       ? (size_t)td_blkif_entries(b->abi, b->order) * RINGWIRE_PAGE * b->nr_queues
		       : 0;
}

void *client_memory_page(struct blktap *b, unsigned queue, unsigned slot)
{
	size_t page = (size_t)queue * td_blkif_entries(b->abi, b->order) + slot;

	return b->mem + ring_bytes(b) * b->nr_queues + page * RINGWIRE_PAGE;
}

/* Sealed, so that the server need not fear that its mapping loses its end. */
static int make_memfd(size_t size)
{
	int fd = memfd_create("blktap-client", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int client_memory_new(struct blktap *b, uint64_t buffer_bytes, int *ret_fd)
{
	size_t fixed = ring_bytes(b) * b->nr_queues + indirect_bytes(b);
	uint64_t max = TD_MIN(b->hello.max_memory, RINGWIRE_MAX_MEMORY);
	void *mem;
	int fd;

	if (max < fixed || buffer_bytes > max - fixed)
		return -E2BIG;
	b->buffers = fixed;
	b->nr_pages = td_div_up(buffer_bytes, RINGWIRE_PAGE);
	b->mem_size = fixed + b->nr_pages * RINGWIRE_PAGE;
	b->runs = calloc(b->nr_pages ? b->nr_pages : 1, sizeof(*b->runs));
	if (!b->runs)
		return -ENOMEM;
	fd = make_memfd(b->mem_size);
	if (fd < 0)
		return fd;
	mem = mmap(NULL, b->mem_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED) {
		int r = -errno;

		close(fd);
		return r;
	}
	b->mem = mem;
	*ret_fd = fd;
	return 0;
}

void client_memory_free(struct blktap *b)
{
	if (b->mem)
		munmap(b->mem, b->mem_size);
	free(b->runs);
	b->mem = NULL;
	b->runs = NULL;
}

/* ---- buffers: the first gap that is large enough ---- */

static void *alloc_pages(struct blktap *b, size_t want)
{
	size_t free_from = 0;

	for (size_t i = 0; i < b->nr_pages;) {
		if (b->runs[i] > 0) {
			i += b->runs[i];
			free_from = i;
		} else if (++i - free_from == want) {
			b->runs[free_from] = (uint32_t)want;
			return b->mem + b->buffers + free_from * RINGWIRE_PAGE;
		}
	}
	errno = ENOMEM;
	return NULL;
}

void *blktap_alloc(struct blktap *b, size_t len)
{
	size_t want = td_div_up(TD_MAX(len, (size_t)1), RINGWIRE_PAGE);
	void *buf;

	pthread_mutex_lock(&b->memory_lock);
	buf = alloc_pages(b, want);
	pthread_mutex_unlock(&b->memory_lock);
	return buf;
}

void blktap_free(struct blktap *b, void *buf)
{
	size_t page = buf ? (size_t)((uint8_t *)buf - b->mem - b->buffers) / RINGWIRE_PAGE : 0;

	if (!buf)
		return;
	pthread_mutex_lock(&b->memory_lock);
	/* Zeros for the next one; the pages go back to the system. */
	madvise(buf, (size_t)b->runs[page] * RINGWIRE_PAGE, MADV_REMOVE);
	b->runs[page] = 0;
	pthread_mutex_unlock(&b->memory_lock);
}
