// SPDX-License-Identifier: BSD-2-Clause
/*
 * Memory for data: page-aligned buffers from a small per-thread cache, so that the data path asks the system for
 * none.  It may have to: a file system on our own disk can be what the kernel writes back to find free memory.
 *
 * Sizes are rounded up to a power of two; larger ones than the cache keeps come from the C library each time.
 */
#include "config.h"

#include <blktap/image.h>
#include <blktap/iov.h>

#include <pthread.h>

#define BUF_MIN_BITS 12u /* 4 KiB: a page, and what O_DIRECT may ask for */
#define BUF_MAX_BITS 21u /* 2 MiB: a qcow2 cluster of the largest size */
#define BUF_CLASSES  (BUF_MAX_BITS - BUF_MIN_BITS + 1)
#define BUF_CACHE    (16u << 20) /* bytes kept by one thread */

/* A free buffer holds the pointer to the next of its class. */
struct buf_free {
	struct buf_free *next;
};

struct buf_cache {
	struct buf_free *head[BUF_CLASSES];
	size_t bytes;
};

static _Thread_local struct buf_cache *buf_cache;
static pthread_key_t buf_key;
static pthread_once_t buf_once = PTHREAD_ONCE_INIT;
static bool buf_have_key;

static void buf_cache_free(void *arg)
{
	struct buf_cache *cache = arg;

	for (unsigned i = 0; i < BUF_CLASSES; i++) {
		while (cache->head[i]) {
			struct buf_free *b = cache->head[i];

			cache->head[i] = b->next;
			free(b);
		}
	}
	free(cache);
	buf_cache = NULL;
}

static void buf_make_key(void)
{
	buf_have_key = pthread_key_create(&buf_key, buf_cache_free) == 0;
}

/* This thread's cache; NULL if it can have none: then nothing is kept. */
static struct buf_cache *buf_this_cache(void)
{
#ifdef TD_SANITIZE
	return NULL; /* a cache would hide a use after free */
#endif
	if (buf_cache)
		return buf_cache;
	pthread_once(&buf_once, buf_make_key);
	if (!buf_have_key)
		return NULL;
	buf_cache = calloc(1, sizeof(*buf_cache));
	if (buf_cache && pthread_setspecific(buf_key, buf_cache) != 0) {
		free(buf_cache);
		buf_cache = NULL;
	}
	return buf_cache;
}

/* BUF_CLASSES: larger than what is kept. */
static unsigned buf_class(size_t len)
{
	unsigned cls = 0;

	while (cls < BUF_CLASSES && len > (size_t)1 << (BUF_MIN_BITS + cls))
		cls++;
	return cls;
}

void *td_buf_alloc(size_t len)
{
	unsigned cls = buf_class(len);
	struct buf_cache *cache = buf_this_cache();
	void *buf = NULL;

	if (cls < BUF_CLASSES) {
		len = (size_t)1 << (BUF_MIN_BITS + cls);
		if (cache && cache->head[cls]) {
			buf = cache->head[cls];
			cache->head[cls] = cache->head[cls]->next;
			cache->bytes -= len;
			return buf;
		}
	}
	if (posix_memalign(&buf, (size_t)1 << BUF_MIN_BITS, len) != 0)
		return NULL;
	return buf;
}

void td_buf_free(void *buf, size_t len)
{
	unsigned cls = buf_class(len);
	struct buf_cache *cache = buf_this_cache();
	struct buf_free *b = buf;

	if (!buf)
		return;
	len = (size_t)1 << (BUF_MIN_BITS + cls);
	if (!cache || cls == BUF_CLASSES || cache->bytes + len > BUF_CACHE) {
		free(buf);
		return;
	}
	b->next = cache->head[cls];
	cache->head[cls] = b;
	cache->bytes += len;
}

size_t td_buf_cached(void)
{
	return buf_cache ? buf_cache->bytes : 0;
}

/* ---- zeros ---- */

/* Whatever vectors the processor has: the compiler's business.  No alignment is asked for. */
typedef uint64_t vec __attribute__((vector_size(32), aligned(1), may_alias));

#define STEP (4 * sizeof(vec))

static bool step_zero(const uint8_t *p)
{
	const vec *v = (const vec *)p;
	vec all = v[0] | v[1] | v[2] | v[3];

	return (all[0] | all[1] | all[2] | all[3]) == 0;
}

bool td_is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf, *end = p + len;

	/* Data shows itself at its ends mostly: a look there spares the walk. */
	if (len > 0 && (p[0] | p[len - 1] | p[len / 2]))
		return false;
	for (; (size_t)(end - p) >= STEP; p += STEP)
		if (!step_zero(p))
			return false;
	for (; p < end; p++)
		if (*p)
			return false;
	return true;
}

#define ZERO_BYTES (64u << 10)

/* Never written: the pages stay the kernel's one page of zeros for as long as nobody maps them otherwise. */
static uint8_t zeros[ZERO_BYTES] __attribute__((aligned(4096)));

unsigned td_zero_pieces(uint64_t len)
{
	return (unsigned)td_div_up(len, ZERO_BYTES);
}

unsigned td_put_zeros(struct iovec *v, uint64_t len)
{
	unsigned n = 0;

	for (uint64_t piece; len > 0; len -= piece) {
		piece = TD_MIN(len, (uint64_t)ZERO_BYTES);
		v[n++] = (struct iovec){ .iov_base = zeros, .iov_len = piece };
	}
	return n;
}

int td_zero_iov(uint64_t len, struct iovec **ret_vec, struct td_iov *ret)
{
	struct iovec *v = calloc(td_zero_pieces(len) + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	*ret = (struct td_iov){ .vec = v, .nr = td_put_zeros(v, len), .len = len };
	*ret_vec = v;
	return 0;
}
