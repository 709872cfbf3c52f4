// SPDX-License-Identifier: BSD-2-Clause
/*
 * The engine of the simulated disk: what happens to an operation, and when.  What a file remembers is simfile.c's.
 */
#include "simdisk.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "simfile.h"
#include "testenv.h"

struct sim_pending {
	struct td_io *io;
	struct sim_file *file;
	uint64_t mark; /* operations of this file that had taken effect when it was submitted */
};

struct sim_files {
	struct sim_file **file;
	unsigned nr;
};

struct simdisk_state {
	struct sim_files files;
};

struct simdisk {
	struct sim_files files;
	struct sim_pending *pending;
	unsigned nr_pending, max_pending;
	uint64_t random;
	uint64_t count, fail_at, cut_at;
	enum simdisk_fault fail_kind;
	bool failed, sync_failed, cut, no_punch, no_zero_range;
	void (*on_cut)(void *arg);
	void *on_cut_arg;
};

/* ---- sets of files ---- */

static void files_add(struct sim_files *set, struct sim_file *f)
{
	set->file = reallocarray(set->file, set->nr + 1, sizeof(void *));
	if (!set->file)
		sim_die("no memory");
	set->file[set->nr++] = f;
}

static void files_free(struct sim_files *set)
{
	for (unsigned i = 0; i < set->nr; i++)
		sim_file_free(set->file[i]);
	free(set->file);
	*set = (struct sim_files){ 0 };
}

static struct sim_files files_clone(const struct sim_files *set)
{
	struct sim_files copy = { 0 };

	for (unsigned i = 0; i < set->nr; i++)
		files_add(&copy, sim_file_clone(set->file[i]));
	return copy;
}

static struct sim_file *find_file(struct simdisk *sim, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		sim_die("an operation on a bad descriptor");
	for (unsigned i = 0; i < sim->files.nr; i++)
		if (sim->files.file[i]->dev == st.st_dev && sim->files.file[i]->ino == st.st_ino)
			return sim->files.file[i];
	files_add(&sim->files, sim_file_new(fd));
	return sim->files.file[sim->files.nr - 1];
}

/* ---- one operation ---- */

/* The first len bytes of a write, flat. */
static char *flatten(const struct td_io *io, uint64_t len)
{
	char *buf = sim_alloc(len);
	uint64_t at = 0;

	for (unsigned i = 0; i < io->nr && at < len; i++) {
		uint64_t n = TD_MIN(io->vec[i].iov_len, len - at);

		memcpy(buf + at, io->vec[i].iov_base, n);
		at += n;
	}
	return buf;
}

static int64_t do_read(struct td_io *io, uint64_t len)
{
	char *buf;
	ssize_t got;
	uint64_t at = 0;

	if (len == io->len) {
		got = preadv(io->fd, io->vec, (int)io->nr, (off_t)io->off);
		return got < 0 ? -errno : got;
	}
	buf = sim_alloc(len);
	got = pread(io->fd, buf, len, (off_t)io->off);
	for (unsigned i = 0; i < io->nr && (ssize_t)at < got; i++) {
		uint64_t n = TD_MIN(io->vec[i].iov_len, (uint64_t)got - at);

		memcpy(io->vec[i].iov_base, buf + at, n);
		at += n;
	}
	free(buf);
	return got < 0 ? -errno : got;
}

static int64_t do_write(struct sim_file *f, struct td_io *io, uint64_t len)
{
	char *buf = flatten(io, len);
	ssize_t done = pwrite(io->fd, buf, len, (off_t)io->off);

	if (done < 0) {
		free(buf);
		return -errno;
	}
	if (done != (ssize_t)len)
		sim_die("/dev/shm is full");
	sim_file_note(f, TD_IO_WRITE, 0, io->off, len, buf);
	return done;
}

/* tmpfs cannot zero a range: write zeros, which is the same to look at. */
static int64_t zero_range(const struct td_io *io, uint64_t size)
{
	uint64_t len = io->len;
	char *zeros;
	ssize_t done;

	if (io->mode & FALLOC_FL_KEEP_SIZE)
		len = io->off < size ? TD_MIN(len, size - io->off) : 0;
	if (io->off + len > SIM_FILE_MAX)
		return -EFBIG;
	zeros = sim_alloc(len);
	done = pwrite(io->fd, zeros, len, (off_t)io->off);
	free(zeros);
	return done == (ssize_t)len ? 0 : -EIO;
}

static int64_t do_fallocate(struct simdisk *sim, struct sim_file *f, struct td_io *io)
{
	uint64_t len = io->len;
	struct stat st;
	int64_t r;

	if ((sim->no_punch && (io->mode & FALLOC_FL_PUNCH_HOLE)) ||
	    (sim->no_zero_range && (io->mode & FALLOC_FL_ZERO_RANGE)))
		return -EOPNOTSUPP;
	if (fstat(io->fd, &st) < 0)
		sim_die("fstat");
	if (io->mode & FALLOC_FL_ZERO_RANGE)
		r = zero_range(io, (uint64_t)st.st_size);
	else
		r = fallocate(io->fd, io->mode, (off_t)io->off, (off_t)io->len) < 0 ? -errno : 0;
	if (io->mode & FALLOC_FL_KEEP_SIZE)
		len = io->off < (uint64_t)st.st_size ? TD_MIN(len, (uint64_t)st.st_size - io->off) : 0;
	if (r == 0 && len > 0)
		sim_file_note(f, TD_IO_FALLOCATE, io->mode, io->off, len, NULL);
	return r;
}

static int64_t do_truncate(struct sim_file *f, struct td_io *io)
{
	if (ftruncate(io->fd, (off_t)io->off) < 0)
		return -errno;
	sim_file_note(f, TD_IO_TRUNCATE, 0, io->off, 0, NULL);
	return 0;
}

static int64_t perform(struct simdisk *sim, const struct sim_pending *p)
{
	struct td_io *io = p->io;

	switch (io->op) {
	case TD_IO_READ:
		return do_read(io, io->len);
	case TD_IO_WRITE:
		return do_write(p->file, io, io->len);
	case TD_IO_FSYNC:
		sim_file_sync(p->file, p->mark, NULL, NULL);
		return 0;
	case TD_IO_FALLOCATE:
		return do_fallocate(sim, p->file, io);
	case TD_IO_TRUNCATE:
		return do_truncate(p->file, io);
	}
	return -EINVAL;
}

/* Some of its sectors, not all; 0 if it has but one. */
static uint64_t some_sectors(struct simdisk *sim, uint64_t len)
{
	uint64_t nr = td_div_up(len, SIM_SECTOR);

	return nr > 1 ? SIM_SECTOR * (1 + test_random(&sim->random) % (nr - 1)) : 0;
}

static bool toss(void *arg)
{
	return test_random(arg) & 1;
}

/* The operation that was chosen to fail. */
static int64_t fail(struct simdisk *sim, const struct sim_pending *p)
{
	struct td_io *io = p->io;
	bool data = io->op == TD_IO_READ || io->op == TD_IO_WRITE;
	uint64_t part = data ? some_sectors(sim, io->len) : 0;

	sim->failed = true;
	sim->sync_failed = io->op == TD_IO_FSYNC;
	if (sim->fail_kind == SIMDISK_LOST && io->op == TD_IO_FSYNC)
		sim_file_sync(p->file, p->mark, toss, &sim->random);
	if (sim->fail_kind == SIMDISK_ENOSPC)
		return -ENOSPC;
	if (sim->fail_kind == SIMDISK_EIO || sim->fail_kind == SIMDISK_LOST || part == 0)
		return -EIO;
	if (io->op == TD_IO_READ)
		return sim->fail_kind == SIMDISK_SHORT ? do_read(io, part) : -EIO;
	if (sim->fail_kind == SIMDISK_SHORT)
		return do_write(p->file, io, part);
	td_ignore((int)do_write(p->file, io, part)); /* torn: done, and failed */
	return -EIO;
}

/* What is in flight when the power fails may have reached the disk, whole or in part, or not. */
static void cut_power(struct simdisk *sim)
{
	sim->cut = true;
	if (sim->on_cut)
		sim->on_cut(sim->on_cut_arg);
	for (unsigned i = 0; i < sim->files.nr; i++)
		sim->files.file[i]->in_flight = sim->files.file[i]->nr_ops;
	for (unsigned i = 0; i < sim->nr_pending; i++) {
		const struct td_io *io = sim->pending[i].io;
		struct sim_file *f = sim->pending[i].file;

		if (io->op == TD_IO_WRITE)
			sim_file_note(f, io->op, 0, io->off, io->len, flatten(io, io->len));
		else if (io->op == TD_IO_TRUNCATE || io->op == TD_IO_FALLOCATE)
			sim_file_note(f, io->op, io->mode, io->off, TD_MIN(io->len, SIM_FILE_MAX), NULL);
	}
}

static int64_t effect(struct simdisk *sim, const struct sim_pending *p)
{
	if (sim->cut)
		return -EIO;
	if (++sim->count == sim->fail_at)
		return fail(sim, p);
	return perform(sim, p);
}

/* ---- the engine ---- */

static int sim_open(struct td_engine *e, unsigned depth, struct td_err *ret_err)
{
	(void)depth;
	(void)ret_err;
	e->fd = -1; /* reaped in each turn */
	return 0;
}

static void sim_close(struct td_engine *e)
{
	(void)e;
}

static int sim_submit(struct td_engine *e, struct td_io *const *ios, unsigned nr)
{
	struct simdisk *sim = *(struct simdisk **)e->state;

	if (sim->nr_pending + nr > sim->max_pending) {
		sim->max_pending = sim->nr_pending + nr + 64;
		sim->pending = reallocarray(sim->pending, sim->max_pending, sizeof(*sim->pending));
		if (!sim->pending)
			sim_die("no memory");
	}
	for (unsigned i = 0; i < nr; i++) {
		struct sim_file *f = find_file(sim, ios[i]->fd);

		sim->pending[sim->nr_pending++] = (struct sim_pending){ ios[i], f, f->gone + f->nr_ops };
	}
	return (int)nr;
}

static unsigned sim_reap(struct td_engine *e)
{
	struct simdisk *sim = *(struct simdisk **)e->state;
	unsigned todo = sim->nr_pending ? 1 + (unsigned)(test_random(&sim->random) % sim->nr_pending) : 0;

	for (unsigned i = 0; i < todo; i++) {
		unsigned pick = (unsigned)(test_random(&sim->random) % sim->nr_pending);
		struct sim_pending p = sim->pending[pick];

		if (!sim->cut && sim->cut_at && sim->count + 1 >= sim->cut_at)
			cut_power(sim); /* p is among those in flight */
		sim->pending[pick] = sim->pending[--sim->nr_pending];
		p.io->result = effect(sim, &p);
		td_io_complete(e, p.io);
	}
	return todo;
}

static const struct td_engine_ops sim_ops = {
	.name = "simdisk",
	.state_size = sizeof(struct simdisk *),
	.open = sim_open,
	.close = sim_close,
	.submit = sim_submit,
	.reap = sim_reap,
};

int simdisk_engine(struct simdisk *sim, struct td_loop *loop, struct td_pool *pool,
		   struct td_engine **ret_engine)
{
	int r = td_engine_new_ops(&sim_ops, loop, pool, 64, ret_engine, NULL);

	if (r < 0)
		return r;
	*(struct simdisk **)(*ret_engine)->state = sim;
	return 0;
}

/* ---- control ---- */

struct simdisk *simdisk_new(uint64_t seed)
{
	struct simdisk *sim = sim_alloc(sizeof(*sim));

	sim->random = seed;
	return sim;
}

void simdisk_free(struct simdisk *sim)
{
	if (!sim)
		return;
	files_free(&sim->files);
	free(sim->pending);
	free(sim);
}

void simdisk_add(struct simdisk *sim, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		sim_die(path);
	(void)find_file(sim, fd);
	(void)close(fd);
}

void simdisk_features(struct simdisk *sim, bool has_punch, bool has_zero_range)
{
	sim->no_punch = !has_punch;
	sim->no_zero_range = !has_zero_range;
}

void simdisk_start(struct simdisk *sim, uint64_t seed)
{
	sim->random = seed;
	sim->count = sim->fail_at = sim->cut_at = 0;
	sim->failed = sim->sync_failed = sim->cut = false;
}

uint64_t simdisk_count(const struct simdisk *sim)
{
	return sim->count;
}

void simdisk_fail(struct simdisk *sim, uint64_t n, enum simdisk_fault kind)
{
	sim->fail_at = n;
	sim->fail_kind = kind;
	sim->failed = sim->sync_failed = false;
}

bool simdisk_failed(const struct simdisk *sim)
{
	return sim->failed;
}

bool simdisk_sync_failed(const struct simdisk *sim)
{
	return sim->sync_failed;
}

void simdisk_cut(struct simdisk *sim, uint64_t n)
{
	sim->cut_at = n;
}

bool simdisk_is_cut(const struct simdisk *sim)
{
	return sim->cut;
}

void simdisk_on_cut(struct simdisk *sim, void (*fn)(void *arg), void *arg)
{
	sim->on_cut = fn;
	sim->on_cut_arg = arg;
}

/* ---- states ---- */

struct simdisk_state *simdisk_crash(struct simdisk *sim)
{
	struct simdisk_state *state = sim_alloc(sizeof(*state));

	if (!sim->cut)
		cut_power(sim);
	state->files = files_clone(&sim->files);
	return state;
}

struct simdisk_state *simdisk_save(struct simdisk *sim)
{
	struct simdisk_state *state = sim_alloc(sizeof(*state));

	for (unsigned i = 0; i < sim->files.nr; i++)
		sim_file_settle(sim->files.file[i]);
	state->files = files_clone(&sim->files);
	return state;
}

void simdisk_restore(struct simdisk *sim, const struct simdisk_state *state)
{
	simdisk_make(sim, state, SIMDISK_LOSE_ALL, 0);
}

void simdisk_state_free(struct simdisk_state *state)
{
	if (!state)
		return;
	files_free(&state->files);
	free(state);
}

uint64_t simdisk_unflushed(const struct simdisk_state *crash)
{
	uint64_t nr = 0;

	for (unsigned i = 0; i < crash->files.nr; i++)
		nr += crash->files.file[i]->nr_ops;
	return nr;
}

uint64_t simdisk_pieces(const struct simdisk_state *crash)
{
	uint64_t nr = 0;

	for (unsigned i = 0; i < crash->files.nr; i++)
		for (uint64_t k = 0; k < crash->files.file[i]->nr_ops; k++)
			nr += sim_op_pieces(crash->files.file[i]->op[k]);
	return nr;
}

/* Which operations and pieces have reached the disk. */
struct survival {
	enum simdisk_lost how;
	uint64_t one;    /* the number for LOSE_ONE, KEEP_ONE */
	uint64_t number; /* of the operation at hand */
	uint64_t random;
};

static bool survives(struct survival *s)
{
	switch (s->how) {
	case SIMDISK_LOSE_ALL:
		return false;
	case SIMDISK_LOSE_ONE:
		return s->number != s->one;
	case SIMDISK_KEEP_ONE:
		return s->number == s->one;
	case SIMDISK_LOSE_OPS:
		return test_random(&s->random) & 1;
	case SIMDISK_LOSE_NONE:
	case SIMDISK_LOSE_PIECES:
	case SIMDISK_KILL:
		break;
	}
	return true;
}

static bool torn(const struct survival *s, const struct sim_file *f, uint64_t i)
{
	return s->how == SIMDISK_LOSE_PIECES || (s->how == SIMDISK_KILL && i >= f->in_flight);
}

static struct sim_content make_content(const struct sim_file *f, struct survival *s)
{
	struct sim_content c = sim_content_copy(&f->durable);

	for (uint64_t i = 0; i < f->nr_ops; i++, s->number++)
		if (survives(s))
			sim_op_apply(&c, f->op[i], torn(s, f, i) ? toss : NULL, &s->random);
	return c;
}

void simdisk_make(struct simdisk *sim, const struct simdisk_state *crash, enum simdisk_lost how, uint64_t arg)
{
	uint64_t nr = simdisk_unflushed(crash);
	struct survival s = { .how = how, .one = nr ? arg % nr : 0, .random = arg };

	if (sim->nr_pending > 0)
		sim_die("operations in flight");
	files_free(&sim->files);
	sim->files = files_clone(&crash->files);
	for (unsigned i = 0; i < sim->files.nr; i++)
		sim_file_fill(sim->files.file[i], make_content(crash->files.file[i], &s));
	sim->cut = false;
	sim->cut_at = 0;
}

void simdisk_drop_cache(struct simdisk *sim)
{
	struct simdisk_state *state = simdisk_crash(sim);

	simdisk_make(sim, state, SIMDISK_LOSE_NONE, 0);
	simdisk_state_free(state);
}
