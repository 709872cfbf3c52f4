// SPDX-License-Identifier: BSD-2-Clause
/*
 * One measurement: a thread for each lane, the clock around them, processor time of both sides in the same span.
 *
 * With --verify a second pass, which is not measured, reads back all that was written.
 */
#include "bench.h"
#include <inttypes.h>
#include <sys/resource.h>

struct lane {
	pthread_t thread;
	struct target *target;
	unsigned nr;
	struct load load;
};

static void *lane_thread(void *arg)
{
	struct lane *ln = arg;

	ln->target->ops->lane(ln->target, ln->nr, &ln->load);
	return NULL;
}

/* A lane whose thread cannot be started fails; the others go on until they see it. */
static void run_lanes(struct lane *lanes, unsigned nr)
{
	unsigned started = 0;

	for (; started < nr; started++) {
		if (pthread_create(&lanes[started].thread, NULL, lane_thread, &lanes[started]) == 0)
			continue;
		load_fail(&lanes[started].load, -EAGAIN, "cannot start a thread");
		break;
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(lanes[i].thread, NULL);
}

static uint64_t own_cpu_ns(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000000ull +
	       (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1000ull;
}

static int first_failure(const struct lane *lanes, unsigned nr, struct td_err *ret_err)
{
	for (unsigned i = 0; i < nr; i++)
		if (lanes[i].load.result < 0)
			return td_err_set(ret_err, lanes[i].load.result, "%s", lanes[i].load.err.msg);
	return 0;
}

static void measure(struct lane *lanes, const struct job *job, pid_t server, struct result *res)
{
	uint64_t start = load_now(), own = own_cpu_ns(), his = server ? server_cpu_ns(server) : 0;

	for (unsigned i = 0; i < job->lanes; i++)
		lanes[i].load.deadline_ns = job->runtime_ns ? start + job->runtime_ns : 0;
	run_lanes(lanes, job->lanes);
	res->elapsed_ns = load_now() - start;
	res->client_cpu_ns = own_cpu_ns() - own;
	res->has_server = his > 0;
	res->server_cpu_ns = his > 0 ? server_cpu_ns(server) - his : 0;
}

static void check_again(struct lane *lanes, unsigned nr)
{
	bool any = false;

	for (unsigned i = 0; i < nr; i++)
		any |= load_check_again(&lanes[i].load);
	if (any)
		run_lanes(lanes, nr);
}

static void sum_up(const struct lane *lanes, unsigned nr, struct result *res)
{
	for (unsigned i = 0; i < nr; i++) {
		for (unsigned op = 0; op < LOAD_OPS; op++)
			td_hist_merge(&res->hist[op], &lanes[i].load.hist[op]);
		res->verified += lanes[i].load.verified;
	}
}

/* Each lane has a part of the range of its own. */
static int init_lanes(struct lane *lanes, struct target *t, const struct job *job, uint64_t disk,
		      atomic_bool *stop, struct td_err *ret_err)
{
	uint64_t size = job->size ? job->size : disk - TD_MIN(job->offset, disk), part;
	int r = 0;

	if (!td_in_range(job->offset, size, disk))
		return td_err_set(ret_err, -EINVAL,
				  "--offset %" PRIu64 " --size %" PRIu64 ": the disk has %" PRIu64 " bytes",
				  job->offset, size, disk);
	part = size / job->lanes / job->bs * job->bs;
	for (unsigned i = 0; i < job->lanes && r == 0; i++) {
		lanes[i].target = t;
		lanes[i].nr = i;
		r = load_init(&lanes[i].load, job, i, job->offset + i * part, part, stop, ret_err);
	}
	return r;
}

static int run_target(struct target *t, const struct job *job, uint64_t disk, struct result *res,
		      struct td_err *ret_err)
{
	struct lane *lanes = calloc(job->lanes, sizeof(*lanes));
	atomic_bool stop = false;
	int r;

	if (!lanes)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = init_lanes(lanes, t, job, disk, &stop, ret_err);
	if (r == 0) {
		measure(lanes, job, t->ops->server(t), res);
		check_again(lanes, job->lanes);
		sum_up(lanes, job->lanes, res);
		r = first_failure(lanes, job->lanes, ret_err);
	}
	for (unsigned i = 0; i < job->lanes; i++)
		load_done(&lanes[i].load);
	free(lanes);
	return r;
}

int bench_run(const struct target_ops *ops, const char *address, const struct job *job,
	      struct result *ret_result, struct td_err *ret_err)
{
	struct target *t;
	uint64_t disk;
	int r = ops->open(address, job, &t, &disk, ret_err);

	if (r < 0)
		return r;
	memset(ret_result, 0, sizeof(*ret_result));
	r = run_target(t, job, disk, ret_result, ret_err);
	ops->close(t);
	return r;
}
