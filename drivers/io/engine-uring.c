// SPDX-License-Identifier: BSD-2-Clause
/*
 * io_uring.  One io_uring_enter for a batch; completions are looked up in the shared ring without a system
 * call; the ring's own descriptor tells the loop when there are some.
 *
 * A request that has a place in the submission ring counts as taken, even if the kernel has not yet fetched
 * it: such are sent again by the next submit, reap or, when nothing else will come, by a timer.
 */
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"

#define RETRY_WAIT_NS 1000000

struct uring {
	struct io_uring ring;
	struct td_engine *e;
	struct td_timer retry;
};

/* Flags that save work in the kernel, the newest first; an older kernel refuses what it does not know. */
static const unsigned setup_flags[] = {
#if defined(IORING_SETUP_COOP_TASKRUN) && defined(IORING_SETUP_SINGLE_ISSUER)
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER,
#endif
#ifdef IORING_SETUP_COOP_TASKRUN
	IORING_SETUP_COOP_TASKRUN,
#endif
	0,
};

/* All that is asked of the kernel here.  Linux 5.6 has them. */
static const uint8_t operations[] = {
	IORING_OP_READ,   IORING_OP_WRITE, IORING_OP_READV,
	IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
};

static int setup(struct io_uring *ring, unsigned depth, unsigned more_flags)
{
	int r = -EINVAL;

	for (unsigned i = 0; r == -EINVAL && i < TD_NELEMS(setup_flags); i++)
		r = io_uring_queue_init(depth, ring, setup_flags[i] | more_flags);
	return r;
}

static bool has_operations(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool all = probe != NULL;

	for (unsigned i = 0; all && i < TD_NELEMS(operations); i++)
		all = io_uring_opcode_supported(probe, operations[i]);
	io_uring_free_probe(probe);
	return all;
}

/*
 * The kernel opens files, connects sockets and more for who asks by a ring, and no seccomp filter sees it.  So a ring
 * begins disabled, is told to take our operations alone, and can be told nothing else once it is enabled.
 */
static int restrict_and_enable(struct io_uring *ring)
{
	struct io_uring_restriction res[TD_NELEMS(operations)] = { 0 };
	long r;

	for (unsigned i = 0; i < TD_NELEMS(operations); i++) {
		res[i].opcode = IORING_RESTRICTION_SQE_OP;
		res[i].sqe_op = operations[i];
	}
	/* Not by liburing: its releases up to 2.3 declare the functions and do not export them. */
	r = syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, res, TD_NELEMS(res));
	if (r == 0)
		r = syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	return r < 0 ? -errno : 0;
}

/* -EOPNOTSUPP: the kernel is too old. */
static int setup_restricted(struct io_uring *ring, unsigned depth)
{
	bool disabled = true;
	int r = setup(ring, depth, IORING_SETUP_R_DISABLED);

	if (r == -EINVAL) { /* before Linux 5.10 a ring cannot be restricted */
		disabled = false;
		r = setup(ring, depth, 0);
	}
	if (r < 0)
		return r;
	if (!has_operations(ring))
		r = -EOPNOTSUPP;
	else if (disabled)
		r = restrict_and_enable(ring);
	if (r < 0)
		io_uring_queue_exit(ring);
	return r;
}

/* Send what waits in the submission ring.  A signal or a full kernel leaves it there. */
static void flush(struct uring *s)
{
	while (io_uring_sq_ready(&s->ring) > 0)
		if (io_uring_submit(&s->ring) <= 0)
			break;
	if (io_uring_sq_ready(&s->ring) > 0 && !s->retry.loop)
		td_timer_arm(s->e->loop, &s->retry, RETRY_WAIT_NS);
}

static void retry_flush(struct td_timer *t)
{
	flush(td_container_of(t, struct uring, retry));
}

static int uring_open(struct td_engine *e, unsigned depth, struct td_err *ret_err)
{
	struct uring *s = e->state;
	int r = setup_restricted(&s->ring, depth);

	if (r == -EOPNOTSUPP)
		return td_err_set(ret_err, -ENOSYS, "io_uring: too old here, Linux 5.6 is needed");
	if (r == -EPERM || r == -ENOSYS)
		return td_err_set(ret_err, r, "io_uring: this kernel or sandbox does not allow it: %s",
				  strerror(-r));
	if (r < 0)
		return td_err_set(ret_err, r, "io_uring: cannot set up a ring of %u: %s", depth,
				  strerror(-r));
	s->e = e;
	s->retry.fn = retry_flush;
	e->fd = s->ring.ring_fd;
	return 0;
}

static void uring_close(struct td_engine *e)
{
	struct uring *s = e->state;

	td_timer_cancel(&s->retry);
	io_uring_queue_exit(&s->ring);
}

/* One buffer goes without the array: the kernel need not copy and check an iovec. */
static void prepare_transfer(struct io_uring_sqe *sqe, const struct td_io *io)
{
	const struct iovec *v = io->vec;

	if (io->nr == 1 && v->iov_len <= INT32_MAX) {
		if (io->op == TD_IO_READ)
			io_uring_prep_read(sqe, io->fd, v->iov_base, (unsigned)v->iov_len, io->off);
		else
			io_uring_prep_write(sqe, io->fd, v->iov_base, (unsigned)v->iov_len, io->off);
	} else {
		if (io->op == TD_IO_READ)
			io_uring_prep_readv(sqe, io->fd, v, io->nr, io->off);
		else
			io_uring_prep_writev(sqe, io->fd, v, io->nr, io->off);
	}
}

static void prepare(struct io_uring_sqe *sqe, struct td_io *io)
{
	switch (io->op) {
	case TD_IO_FSYNC:
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
		break;
	case TD_IO_FALLOCATE:
		io_uring_prep_fallocate(sqe, io->fd, io->mode, (off_t)io->off, (off_t)io->len);
		break;
	default:
		prepare_transfer(sqe, io);
		break;
	}
	io_uring_sqe_set_data(sqe, io);
}

static int uring_submit(struct td_engine *e, struct td_io *const *ios, unsigned nr)
{
	struct uring *s = e->state;
	struct io_uring_sqe *sqe;
	unsigned taken;

	for (taken = 0; taken < nr; taken++) {
		if (ios[taken]->op == TD_IO_TRUNCATE) { /* IORING_OP_FTRUNCATE is of Linux 6.9 */
			td_io_offload(e, ios[taken]);
			continue;
		}
		sqe = io_uring_get_sqe(&s->ring);
		if (!sqe)
			break;
		prepare(sqe, ios[taken]);
	}
	flush(s);
	return (int)taken;
}

static unsigned uring_reap(struct td_engine *e)
{
	struct uring *s = e->state;
	struct io_uring_cqe *cqe;
	unsigned head, nr = 0;

	io_uring_for_each_cqe(&s->ring, head, cqe)
	{
		struct td_io *io = io_uring_cqe_get_data(cqe);

		io->result = cqe->res;
		td_io_complete(e, io);
		nr++;
	}
	io_uring_cq_advance(&s->ring, nr);
	if (io_uring_sq_ready(&s->ring) > 0)
		flush(s);
	return nr;
}

const struct td_engine_ops td_engine_uring = {
	.name = "io_uring",
	.state_size = sizeof(struct uring),
	.open = uring_open,
	.close = uring_close,
	.submit = uring_submit,
	.reap = uring_reap,
};
