// SPDX-License-Identifier: BSD-2-Clause
/*
 * From an address to a connection: hello, choose, send the memory, get the doorbells.
 *
 *	server:	hello	what it has		client:	connect	what is taken of it, and the memory
 *		ready	two doorbells a queue
 *
 * What the server says is checked as what a stranger says; each step has what is left of one time.
 */
#include "client.h"
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_BUFFERS    (64ull << 20)
#define DEFAULT_TIMEOUT_MS 10000u
#define DEFAULT_MAX_ORDER  2u

/* Where the sentence goes. */
struct complaint {
	const char *address;
	char *text;
	size_t size;
};

TD_PRINTF(3, 4) static int complain(const struct complaint *c, int error, const char *fmt, ...)
{
	char what[RINGWIRE_REASON + 64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (c->text)
		snprintf(c->text, c->size, "%s: %s", c->address, what);
	return error;
}

static int open_socket(struct blktap *b, const struct complaint *c)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);
	const char *path = c->address + strlen("unix:");

	if (strncmp(c->address, "unix:", 5) != 0 || !*path || strlen(path) >= sizeof(sa.sun_path))
		return complain(c, -EINVAL, "should be unix:PATH, PATH at most %zu bytes",
				sizeof(sa.sun_path) - 1);
	memcpy(sa.sun_path, path, strlen(path));
	b->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (b->sock < 0)
		return complain(c, -errno, "socket: %s", strerror(errno));
	if (connect(b->sock, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return errno == EPROTOTYPE ? complain(c, -EPROTOTYPE, "the socket there is not a ring's")
					   : complain(c, -errno, "cannot connect: %s", strerror(errno));
	/* For blktap_get_info alone: not to know it is no harm. */
	if (getsockopt(b->sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
		b->server = cred.pid;
	return 0;
}

static int get_hello(struct blktap *b, uint64_t deadline_ms, const struct complaint *c)
{
	struct ringwire_hello *h = &b->hello;
	unsigned nr_fds = 0;
	int n = client_recv(b, h, sizeof(*h), deadline_ms, NULL, &nr_fds);

	if (n == 0)
		return complain(c, -ECONNREFUSED, "the server takes no more connections");
	if (n < 0)
		return complain(c, n, "the server does not greet: %s", strerrordesc_np(-n));
	if (!ringwire_is(h, (size_t)n, RINGWIRE_HELLO, sizeof(*h)))
		return complain(c, -EPROTO, "the server does not speak the ring's protocol");
	if (h->version != RINGWIRE_VERSION)
		return complain(c, -EPROTONOSUPPORT, "the server speaks version %u, this library version %u",
				h->version, RINGWIRE_VERSION);
	atomic_store(&b->sectors, h->sectors);
	atomic_store(&b->state, h->state);
	return 0;
}

/* What the caller wants, as far as the server has it. */
static int choose(struct blktap *b, const struct blktap_options *o, const struct complaint *c)
{
	unsigned pages = o->ring_pages;

	b->nr_queues = o->queues ? o->queues : 1;
	if (b->nr_queues > TD_MIN(b->hello.max_queues, RINGWIRE_MAX_QUEUES))
		return complain(c, -EINVAL, "%u queues: the server has %u at most", b->nr_queues,
				b->hello.max_queues);
	b->order = TD_MIN(DEFAULT_MAX_ORDER, b->hello.max_order);
	if (pages)
		b->order = (unsigned)__builtin_ctz(pages);
	if ((pages && !td_is_pow2(pages)) || b->order > TD_MIN(b->hello.max_order, TD_BLKIF_MAX_ORDER))
		return complain(c, -EINVAL, "a ring of %u pages: should be a power of two, at most %u", pages,
				1u << TD_MIN(b->hello.max_order, TD_BLKIF_MAX_ORDER));
	if ((unsigned)o->abi > TD_BLKIF_ARM)
		return complain(c, -EINVAL, "abi %u: there is no such layout", (unsigned)o->abi);
	b->abi = (enum td_blkif_abi)o->abi;
	b->features = b->hello.features & RINGWIRE_FEATURES;
	/* An indirect request costs a page more: not for what fits into a direct one. */
	if (b->hello.max_indirect <= TD_BLKIF_MAX_DIRECT)
		b->features &= ~RINGWIRE_INDIRECT;
	return 0;
}

static int send_choice(struct blktap *b, uint64_t buffer_bytes, const struct complaint *c)
{
	struct ringwire_connect m = { .version = RINGWIRE_VERSION,
				      .features = b->features,
				      .abi = b->abi,
				      .order = b->order,
				      .nr_queues = b->nr_queues };
	int fd = -1, r = client_memory_new(b, buffer_bytes, &fd);

	if (r < 0)
		return complain(c, r, "%llu bytes of shared memory: %s", (unsigned long long)buffer_bytes,
				strerrordesc_np(-r));
	ringwire_init(&m, RINGWIRE_CONNECT);
	m.memory = b->mem_size;
	for (unsigned i = 0; i < b->nr_queues; i++) {
		m.ring_page[i] = i << b->order;
		b->queue[i].ring = b->mem + ((size_t)m.ring_page[i] * RINGWIRE_PAGE);
		/* A fresh ring: the first of each side is announced. */
		__atomic_store_n((uint32_t *)(b->queue[i].ring + TD_BLKIF_REQ_EVENT), 1, __ATOMIC_RELAXED);
		__atomic_store_n((uint32_t *)(b->queue[i].ring + TD_BLKIF_RSP_EVENT), 1, __ATOMIC_RELAXED);
	}
	r = client_send_fd(b, &m, sizeof(m), fd);
	close(fd);
	return r < 0 ? complain(c, r, "cannot send: %s", strerrordesc_np(-r)) : 0;
}

static void close_all(const int *fds, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		close(fds[i]);
}

/* The descriptors are the queues' from here on, in each case. */
static int make_queues(struct blktap *b, const int *fds, const struct complaint *c)
{
	int r = 0;

	for (unsigned i = 0; i < b->nr_queues; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 1 };
		int r1 = client_queue_new(b, i, fds[2 * i], fds[2 * i + 1]);

		/* The end of the connection wakes whoever waits for completions. */
		if (r1 == 0 && epoll_ctl(fds[2 * i + 1], EPOLL_CTL_ADD, b->sock, &ev) < 0)
			r1 = -errno;
		r = r < 0 ? r : r1;
	}
	return r < 0 ? complain(c, r, "cannot use the server's doorbells: %s", strerrordesc_np(-r)) : 0;
}

static int get_ready(struct blktap *b, uint64_t deadline_ms, const struct complaint *c)
{
	struct ringwire_ready m;
	int fds[RINGWIRE_MAX_FDS];
	unsigned nr_fds = TD_NELEMS(fds);
	int n = client_recv(b, &m, sizeof(m), deadline_ms, fds, &nr_fds), error;

	if (n <= 0)
		return complain(c, n < 0 ? n : -ECONNRESET, "no answer from the server: %s",
				strerrordesc_np(n < 0 ? -n : ECONNRESET));
	if (ringwire_is(&m, (size_t)n, RINGWIRE_READY, sizeof(m)) && m.error == 0 &&
	    nr_fds == 2 * b->nr_queues) {
		b->features &= m.features;
		return make_queues(b, fds, c);
	}
	close_all(fds, nr_fds);
	if (!ringwire_is(&m, (size_t)n, RINGWIRE_READY, sizeof(m)) || m.error == 0)
		return complain(c, -EPROTO, "the server's answer is not in the protocol");
	m.reason[sizeof(m.reason) - 1] = '\0';
	error = m.error < 0 && m.error > -4096 ? m.error : -EPROTO; /* no errno, or a success */
	return complain(c, error, "the server refuses: %s", m.reason);
}

static int handshake(struct blktap *b, const struct blktap_options *o, const struct complaint *c)
{
	uint64_t deadline = client_now_ms() + (o->timeout_ms ? o->timeout_ms : DEFAULT_TIMEOUT_MS);
	int r = open_socket(b, c);

	if (r == 0)
		r = get_hello(b, deadline, c);
	if (r == 0)
		r = choose(b, o, c);
	if (r == 0)
		r = send_choice(b, o->buffer_bytes ? o->buffer_bytes : DEFAULT_BUFFERS, c);
	return r == 0 ? get_ready(b, deadline, c) : r;
}

int blktap_connect(const char *address, const struct blktap_options *options, struct blktap **ret,
		   char *sentence, size_t sentence_size)
{
	struct complaint c = { address, sentence_size ? sentence : NULL, sentence_size };
	struct blktap_options o = { .size = sizeof(o) };
	struct blktap *b;
	int r;

	/* A program built with an older header has a shorter struct. */
	if (options)
		memcpy(&o, options, TD_MIN(options->size, sizeof(o)));
	if (options &&
	    (options->size < offsetof(struct blktap_options, ring_pages) || options->size > sizeof(o)))
		return complain(&c, -EINVAL, "options.size is not the size of struct blktap_options");
	b = aligned_alloc(64, sizeof(*b)); /* its queues begin on cache lines of their own */
	if (!b)
		return complain(&c, -ENOMEM, "no memory");
	memset(b, 0, sizeof(*b));
	b->sock = -1;
	b->spin_ns = o.spin_us * UINT64_C(1000);
	for (unsigned i = 0; i < RINGWIRE_MAX_QUEUES; i++)
		b->queue[i].kick_fd = b->queue[i].call_fd = -1;
	pthread_mutex_init(&b->memory_lock, NULL);
	pthread_mutex_init(&b->control_lock, NULL);
	r = handshake(b, &o, &c);
	if (r < 0)
		blktap_disconnect(b);
	else
		*ret = b;
	return r;
}

void blktap_disconnect(struct blktap *b)
{
	if (!b)
		return;
	for (unsigned i = 0; i < RINGWIRE_MAX_QUEUES; i++)
		client_queue_free(&b->queue[i]);
	if (b->sock >= 0)
		close(b->sock);
	client_memory_free(b);
	pthread_mutex_destroy(&b->memory_lock);
	pthread_mutex_destroy(&b->control_lock);
	free(b);
}

void blktap_get_info(struct blktap *b, struct blktap_info *ret_info)
{
	const struct ringwire_hello *h = &b->hello;

	client_control_event(b);
	*ret_info = (struct blktap_info){
		.size = atomic_load(&b->sectors) * TD_BLKIF_SECTOR,
		.physical_block_size = h->physical_sector_size,
		.read_only = h->info & TD_BLKIF_READONLY,
		.paused = atomic_load(&b->state) & RINGWIRE_PAUSED,
		.can_flush = b->features & RINGWIRE_FLUSH,
		.can_discard = b->features & RINGWIRE_DISCARD,
		.discard_granularity = h->discard_granularity,
		.discard_alignment = h->discard_alignment,
		.queues = b->nr_queues,
		.max_queues = TD_MIN(h->max_queues, RINGWIRE_MAX_QUEUES),
		.depth = b->queue[0].nr,
		.max_io = (size_t)client_max_segs(b) * RINGWIRE_PAGE,
		.server = b->server,
	};
}
