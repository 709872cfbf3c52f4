// SPDX-License-Identifier: BSD-2-Clause
/*
 * One queue: requests into its ring, completions out of it.
 *
 * Notifications by event index, both ways: the server writes in req_event from which request on it wants to be told,
 * we write in rsp_event the answer that wakes us.  Each side publishes, then looks at the other's index; a full fence
 * between the two on both sides makes sure that at least one of them sees the other.
 *
 * What the server writes is believed only as far as it cannot hurt us: an answer must be to a request in flight.
 */
#include "client.h"
#include <limits.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SPIN_LOOKS 50 /* at the ring for one at the clock */

static uint32_t *head_field(const struct client_queue *q, unsigned off)
{
	return (uint32_t *)(void *)(q->ring + off);
}

int client_queue_new(struct blktap *b, unsigned i, int kick_fd, int call_fd)
{
	struct client_queue *q = &b->queue[i];

	q->kick_fd = kick_fd;
	q->call_fd = call_fd;
	q->nr = td_blkif_entries(b->abi, b->order);
	q->slots = calloc(q->nr, sizeof(*q->slots));
	q->spare = calloc(q->nr, sizeof(*q->spare));
	if (!q->slots || !q->spare)
		return -ENOMEM;
	while (q->nr_spare < q->nr) {
		q->spare[q->nr_spare] = (uint16_t)(q->nr - 1 - q->nr_spare);
		q->nr_spare++;
	}
	return 0;
}

void client_queue_free(struct client_queue *q)
{
	if (q->kick_fd >= 0)
		close(q->kick_fd);
	if (q->call_fd >= 0)
		close(q->call_fd);
	free(q->slots);
	free(q->spare);
}

unsigned client_max_segs(const struct blktap *b)
{
	return b->features & RINGWIRE_INDIRECT ? TD_MIN(b->hello.max_indirect, TD_BLKIF_MAX_SEGS)
					       : TD_BLKIF_MAX_DIRECT;
}

int blktap_fd(struct blktap *b, unsigned queue)
{
	return queue < b->nr_queues ? b->queue[queue].call_fd : -EINVAL;
}

/* ---- submit ---- */

static int check_data(const struct blktap *b, const struct blktap_request *r, unsigned *ret_segs)
{
	uint64_t at = (uint64_t)((uintptr_t)r->buf - (uintptr_t)b->mem);

	if (r->len == 0 || at % TD_BLKIF_SECTOR || !td_in_range(at, r->len, b->mem_size) || at < b->buffers)
		return -EINVAL;
	at %= RINGWIRE_PAGE;
	if (r->len > RINGWIRE_MAX_MEMORY || td_div_up(at + r->len, RINGWIRE_PAGE) > client_max_segs(b))
		return -EMSGSIZE;
	*ret_segs = (unsigned)td_div_up(at + r->len, RINGWIRE_PAGE);
	return 0;
}

/* *ret_segs: pages that the buffer touches. */
static int check(const struct blktap *b, const struct blktap_request *r, unsigned *ret_segs)
{
	uint64_t size = atomic_load_explicit(&b->sectors, memory_order_relaxed) * TD_BLKIF_SECTOR;

	*ret_segs = 0;
	if ((r->off | r->len) % TD_BLKIF_SECTOR || !td_in_range(r->off, r->len, size))
		return -EINVAL;
	switch (r->op) {
	case BLKTAP_FLUSH:
		return b->features & RINGWIRE_FLUSH ? 0 : -ENOTSUP;
	case BLKTAP_DISCARD:
		if (b->hello.info & TD_BLKIF_READONLY)
			return -EROFS;
		return b->features & RINGWIRE_DISCARD ? 0 : -ENOTSUP;
	case BLKTAP_WRITE:
		if (b->hello.info & TD_BLKIF_READONLY)
			return -EROFS;
		return check_data(b, r, ret_segs);
	case BLKTAP_READ:
		return check_data(b, r, ret_segs);
	}
	return -EINVAL;
}

static void fill_segs(const struct blktap *b, const struct blktap_request *r, struct td_blkif_seg *seg,
		      unsigned nr)
{
	uint64_t at = (uint64_t)((const uint8_t *)r->buf - b->mem), end = at + r->len;

	for (unsigned i = 0; i < nr; i++) {
		uint64_t page = td_align_down(at, RINGWIRE_PAGE), stop = TD_MIN(page + RINGWIRE_PAGE, end);

		seg[i].gref = (uint32_t)(page / RINGWIRE_PAGE);
		seg[i].first = (uint8_t)((at - page) / TD_BLKIF_SECTOR);
		seg[i].last = (uint8_t)((stop - page) / TD_BLKIF_SECTOR - 1);
		at = stop;
	}
}

/* Too many segments for a slot: they go into the slot's own page. */
static void fill_indirect(struct blktap *b, unsigned queue, unsigned id, const struct blktap_request *r,
			  unsigned nr, struct td_blkif_req *q)
{
	struct client_slot *slot = &b->queue[queue].slots[id];
	struct td_blkif_seg seg[TD_BLKIF_MAX_SEGS];

	if (!slot->ipage)
		slot->ipage = client_memory_page(b, queue, id);
	fill_segs(b, r, seg, nr);
	td_blkif_encode_segs(seg, nr, slot->ipage);
	q->inner = q->op;
	q->op = TD_BLKIF_INDIRECT;
	q->ipage[0] = (uint32_t)((size_t)((uint8_t *)slot->ipage - b->mem) / RINGWIRE_PAGE);
}

static void put_request(struct blktap *b, unsigned queue, unsigned id, const struct blktap_request *r,
			unsigned segs)
{
	static const uint8_t wire[] = {
		[BLKTAP_READ] = TD_BLKIF_READ,
		[BLKTAP_WRITE] = TD_BLKIF_WRITE,
		[BLKTAP_FLUSH] = TD_BLKIF_FLUSH,
		[BLKTAP_DISCARD] = TD_BLKIF_DISCARD,
	};
	struct client_queue *q = &b->queue[queue];
	struct td_blkif_req req;

	req.op = wire[r->op];
	req.inner = req.flag = 0;
	req.nr_segs = (uint16_t)segs;
	req.handle = 0;
	req.id = id;
	req.sector = r->off / TD_BLKIF_SECTOR;
	req.nr_sectors = r->len / TD_BLKIF_SECTOR;
	q->slots[id].op = req.op;
	if (segs > TD_BLKIF_MAX_DIRECT) {
		memset(req.ipage, 0, sizeof(req.ipage));
		fill_indirect(b, queue, id, r, segs, &req);
	} else {
		fill_segs(b, r, req.seg, segs);
	}
	td_blkif_encode_req(b->abi, &req, q->ring + td_blkif_slot_offset(b->abi, q->nr, q->req_prod));
}

int blktap_submit(struct blktap *b, unsigned queue, const struct blktap_request *request)
{
	struct client_queue *q = &b->queue[queue];
	unsigned segs = 0, id;
	int r;

	if (queue >= b->nr_queues)
		return -EINVAL;
	r = atomic_load_explicit(&b->failed, memory_order_relaxed);
	if (r == 0)
		r = check(b, request, &segs);
	if (r < 0)
		return r;
	if (q->nr_spare == 0)
		return -EAGAIN;
	id = q->spare[--q->nr_spare];
	q->slots[id].user = request->user;
	q->slots[id].used = true;
	put_request(b, queue, id, request, segs);
	q->req_prod++;
	return 0;
}

void blktap_kick(struct blktap *b, unsigned queue)
{
	struct client_queue *q = &b->queue[queue];
	uint32_t told = q->req_told, event;

	if (queue >= b->nr_queues || q->req_prod == told)
		return;
	q->req_told = q->req_prod;
	__atomic_store_n(head_field(q, TD_BLKIF_REQ_PROD), q->req_prod, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = __atomic_load_n(head_field(q, TD_BLKIF_REQ_EVENT), __ATOMIC_RELAXED);
	if (q->req_prod - event < q->req_prod - told) /* it is among the new ones */
		td_ignore(
			eventfd_write(q->kick_fd, 1)); /* fails only if the counter is full: it is ringing */
}

/* ---- reap ---- */

static int result_of(int16_t status)
{
	switch (status) {
	case TD_BLKIF_OKAY:
		return 0;
	case TD_BLKIF_EOPNOTSUPP:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

/* The completions that are there; or -EPROTO. */
static int take(struct blktap *b, struct client_queue *q, struct blktap_completion *ret, unsigned max)
{
	uint32_t prod = __atomic_load_n(head_field(q, TD_BLKIF_RSP_PROD), __ATOMIC_ACQUIRE);
	unsigned nr = 0;

	if (prod - q->rsp_cons > q->nr - q->nr_spare)
		return client_fail(b, -EPROTO, "the server answered more requests than there were");
	while (q->rsp_cons != prod && nr < max) {
		uint8_t slot[TD_BLKIF_SLOT_MAX];
		struct td_blkif_rsp rsp;

		memcpy(slot, q->ring + td_blkif_slot_offset(b->abi, q->nr, q->rsp_cons), 16);
		td_blkif_decode_rsp(b->abi, slot, &rsp);
		if (rsp.id >= q->nr || !q->slots[rsp.id].used)
			return client_fail(b, -EPROTO, "the server answered a request that nobody sent");
		q->rsp_cons++;
		q->slots[rsp.id].used = false;
		q->spare[q->nr_spare++] = (uint16_t)rsp.id;
		ret[nr].user = q->slots[rsp.id].user;
		ret[nr++].result = result_of(rsp.status);
	}
	return (int)nr;
}

/* Ask to be woken by the next answer.  False: it is there already. */
static bool arm(struct client_queue *q)
{
	__atomic_store_n(head_field(q, TD_BLKIF_RSP_EVENT), q->rsp_cons + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(head_field(q, TD_BLKIF_RSP_PROD), __ATOMIC_RELAXED) == q->rsp_cons;
}

/* Sleep on the call descriptor.  1: look again; 0: the time is up, or the disk has changed; or -errno. */
static int sleep_on(struct blktap *b, struct client_queue *q, uint64_t deadline_ms)
{
	uint64_t now = deadline_ms == 0 || deadline_ms == UINT64_MAX ? 0 : client_now_ms();
	struct epoll_event ev[2];
	int timeout = -1, n;

	if (deadline_ms != UINT64_MAX)
		timeout = deadline_ms > now ? (int)TD_MIN(deadline_ms - now, (uint64_t)INT_MAX) : 0;
	n = epoll_wait(q->call_fd, ev, 2, timeout);
	if (n < 0)
		return errno == EINTR ? 1 : -errno;
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u32 != 1)
			continue;
		client_control_event(b);
		if (atomic_load_explicit(&b->changed, memory_order_relaxed))
			return 0;
	}
	return n > 0 || timeout > 0;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Look for a while: a server that is at work answers sooner than a sleeper wakes, and is spared the notification. */
static int spin(struct blktap *b, struct client_queue *q, struct blktap_completion *ret, unsigned max)
{
	uint64_t end = client_now_ns() + b->spin_ns;
	int nr = 0;

	do {
		for (unsigned i = 0; i < SPIN_LOOKS && nr == 0; i++) {
			relax();
			nr = take(b, q, ret, max);
		}
	} while (nr == 0 && client_now_ns() < end);
	return nr;
}

int blktap_reap(struct blktap *b, unsigned queue, struct blktap_completion *ret, unsigned max, int timeout_ms)
{
	struct client_queue *q = &b->queue[queue];
	uint64_t deadline = 0;
	int nr, r = 1;

	if (queue >= b->nr_queues || max == 0)
		return -EINVAL;
	nr = take(b, q, ret, max);
	if (nr == 0 && timeout_ms != 0 && b->spin_ns > 0 && q->nr_spare < q->nr)
		nr = spin(b, q, ret, max);
	if (nr == 0 && timeout_ms != 0)
		deadline = timeout_ms < 0 ? UINT64_MAX : client_now_ms() + (unsigned)timeout_ms;
	while (nr == 0 && r > 0) {
		if (arm(q)) {
			/* In this order: what was answered before the connection ended is there now. */
			int failed = atomic_load_explicit(&b->failed, memory_order_acquire);

			r = failed ? failed : sleep_on(b, q, deadline);
		}
		nr = take(b, q, ret, max);
	}
	if (nr != 0)
		return nr;
	return r;
}
