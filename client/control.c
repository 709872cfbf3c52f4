// SPDX-License-Identifier: BSD-2-Clause
/*
 * The socket: the handshake's packets, and what the server tells later.
 *
 * The socket is also in each queue's call descriptor, so that a thread that waits for completions learns of its end;
 * whichever thread is woken first reads the messages.
 */
#include "client.h"
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t client_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t client_now_ms(void)
{
	return client_now_ns() / 1000000;
}

int client_send_fd(struct blktap *b, const void *msg, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec v = { .iov_base = (void *)msg, .iov_len = len };
	struct msghdr h = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	ssize_t n;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	do {
		n = sendmsg(b->sock, &h, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* The descriptors of one packet, max of them; more are closed. */
static unsigned take_fds(struct msghdr *h, int *fds, unsigned max)
{
	unsigned nr = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		unsigned have = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < have; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (nr < max)
				fds[nr++] = fd;
			else
				close(fd);
		}
	}
	return nr;
}

static int wait_readable(int sock, uint64_t deadline_ms)
{
	for (;;) {
		struct pollfd p = { .fd = sock, .events = POLLIN };
		uint64_t now = client_now_ms();
		int r = poll(&p, 1, now < deadline_ms ? (int)TD_MIN(deadline_ms - now, 60000ull) : 0);

		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (client_now_ms() >= deadline_ms)
			return -ETIMEDOUT;
	}
}

int client_recv(struct blktap *b, void *msg, size_t size, uint64_t deadline_ms, int *fds, unsigned *nr_fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(RINGWIRE_MAX_FDS * sizeof(int))];
	} control;
	struct iovec v = { .iov_base = msg, .iov_len = size };
	struct msghdr h = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t n;
	int r = wait_readable(b->sock, deadline_ms);

	if (r < 0)
		return r;
	do {
		n = recvmsg(b->sock, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	*nr_fds = take_fds(&h, fds, *nr_fds);
	return (int)n;
}

/* ---- after the handshake ---- */

/* The first reason counts.  Under control_lock. */
static void fail_locked(struct blktap *b, int error, const char *sentence)
{
	if (atomic_load_explicit(&b->failed, memory_order_relaxed) != 0)
		return;
	snprintf(b->failure, sizeof(b->failure), "%s", sentence);
	atomic_store_explicit(&b->failed, error, memory_order_release);
}

int client_fail(struct blktap *b, int error, const char *sentence)
{
	pthread_mutex_lock(&b->control_lock);
	fail_locked(b, error, sentence);
	pthread_mutex_unlock(&b->control_lock);
	return error;
}

union message {
	struct ringwire_change change;
	struct ringwire_stopped stopped;
};

static void take_message(struct blktap *b, union message *m, size_t len)
{
	char text[RINGWIRE_REASON + 64];

	if (ringwire_is(m, len, RINGWIRE_CHANGE, sizeof(m->change))) {
		atomic_store(&b->sectors, m->change.sectors);
		atomic_store(&b->state, m->change.state);
		atomic_store(&b->changed, true);
	} else if (ringwire_is(m, len, RINGWIRE_STOPPED, sizeof(m->stopped))) {
		m->stopped.reason[RINGWIRE_REASON - 1] = '\0';
		snprintf(text, sizeof(text), "the server stopped queue %u: %s", m->stopped.queue,
			 m->stopped.reason);
		fail_locked(b, -EPROTO, text);
	} else {
		fail_locked(b, -EPROTO, "the server sent a message that is not in the protocol");
	}
}

void client_control_event(struct blktap *b)
{
	union message m;
	ssize_t n;

	pthread_mutex_lock(&b->control_lock);
	while (atomic_load_explicit(&b->failed, memory_order_relaxed) == 0) {
		n = recv(b->sock, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0)
			fail_locked(b, -ECONNRESET, "the server has gone");
		else
			take_message(b, &m, (size_t)n);
	}
	pthread_mutex_unlock(&b->control_lock);
}

const char *blktap_failure(struct blktap *b)
{
	return atomic_load_explicit(&b->failed, memory_order_acquire) ? b->failure : NULL;
}

bool blktap_changed(struct blktap *b)
{
	return atomic_load_explicit(&b->changed, memory_order_relaxed) && atomic_exchange(&b->changed, false);
}
