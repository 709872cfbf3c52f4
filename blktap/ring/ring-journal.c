// SPDX-License-Identifier: BSD-2-Clause
/*
 * The journal of one ring: a small file on tmpfs, mapped shared, that outlives the process.
 *
 * A kill stops a process between two instructions: what was stored before is there, what came after is not.  So it is
 * the order of stores that has to be right, and every two steps below leave a state that tells where to go on:
 *
 *	take		the copy of the slot, its index, state TAKEN; then `taken` goes on.  An entry whose index is not
 *			before `taken` does not count: its request is still in the ring.
 *	answer		the index of its response, state ANSWERED; then the response is written into the ring.
 *	publish		the ring's rsp_prod goes on, then `published`, then its entries are FREE.  An entry whose
 *			response is published does not count; one whose response is not is served again.
 *
 * Between rsp_prod and `published` only the ring knows, which the guest may have rewritten.  So rsp_prod counts
 * if it is one of the values that we can have stored; any other is the guest's own trouble, and `published` counts.
 *
 * Indices are 64 bits wide: an old request that waits for hours is never taken for a new one.
 */
#include "ring-private.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x31676e6972706174) /* "tapring1" */

enum entry_state { ENTRY_FREE, ENTRY_TAKEN, ENTRY_ANSWERED, ENTRY_STATES };

struct entry {
	uint32_t state;
	uint32_t unused;
	uint64_t taken;    /* the request's index */
	uint64_t answered; /* the response's */
	unsigned char slot[TD_BLKIF_SLOT_MAX];
};

struct file {
	uint64_t magic;
	uint32_t size, nr;
	struct ring_journal_key key;
	uint32_t begun, unused; /* a ring has been here: taken and published count */
	uint64_t taken, published;
	struct entry entry[];
};

struct ring_journal {
	struct file *file;
	size_t size;
	unsigned nr;
	int fd; /* kept for its lock */
	char *path;
};

/* Stores before this one are made before those behind it; to a kill, and to nobody else, matters their order. */
#define then() atomic_signal_fence(memory_order_seq_cst)

static void store32(uint32_t *p, uint32_t v)
{
	then();
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
	then();
}

static void store64(uint64_t *p, uint64_t v)
{
	then();
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
	then();
}

/* ---- while it runs ---- */

void ring_journal_take(struct ring_journal *j, unsigned entry, uint64_t index, const void *slot, size_t len)
{
	struct entry *e = &j->file->entry[entry];

	memcpy(e->slot, slot, len);
	e->taken = index;
	store32(&e->state, ENTRY_TAKEN);
	store64(&j->file->taken, index + 1);
}

void ring_journal_answer(struct ring_journal *j, unsigned entry, uint64_t index)
{
	struct entry *e = &j->file->entry[entry];

	e->answered = index;
	store32(&e->state, ENTRY_ANSWERED);
}

void ring_journal_publish(struct ring_journal *j, uint64_t published)
{
	store64(&j->file->published, published);
}

void ring_journal_free(struct ring_journal *j, unsigned entry)
{
	store32(&j->file->entry[entry].state, ENTRY_FREE);
}

/* ---- taking over ---- */

bool ring_journal_begin(struct ring_journal *j, uint32_t index)
{
	struct file *f = j->file;

	if (f->begun)
		return true;
	f->taken = f->published = index;
	store32(&f->begun, 1);
	return false;
}

unsigned ring_journal_entries(const struct ring_journal *j)
{
	return j->nr;
}

const void *ring_journal_slot(const struct ring_journal *j, unsigned entry)
{
	return j->file->entry[entry].slot;
}

static bool counts(const struct file *f, const struct entry *e, uint64_t published)
{
	if (e->state == ENTRY_FREE || e->taken == f->taken)
		return false;
	return e->state == ENTRY_TAKEN || e->answered >= published;
}

static int check_entry(const struct ring_journal *j, const struct entry *e, bool *answered)
{
	const struct file *f = j->file;
	uint64_t at = e->answered - f->published;

	if (e->state >= ENTRY_STATES || (e->state != ENTRY_FREE && e->taken > f->taken))
		return -EUCLEAN;
	if (e->state != ENTRY_ANSWERED || e->answered < f->published)
		return 0;
	if (at >= j->nr || answered[at])
		return -EUCLEAN;
	answered[at] = true;
	return 0;
}

/* How far rsp_prod can be ahead of `published`: the responses behind it, up to the first that is not there. -EUCLEAN */
static int count_answers(const struct ring_journal *j, unsigned *ret_nr)
{
	bool answered[TD_BLKIF_MAX_ENTRIES] = { false };
	unsigned nr = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < j->nr; i++)
		r = check_entry(j, &j->file->entry[i], answered);
	while (nr < j->nr && answered[nr])
		nr++;
	*ret_nr = nr;
	return r;
}

static void insert(const struct file *f, struct ring_recovery *rec, uint16_t entry)
{
	unsigned at = rec->nr++;

	for (; at > 0 && f->entry[rec->entry[at - 1]].taken > f->entry[entry].taken; at--)
		rec->entry[at] = rec->entry[at - 1];
	rec->entry[at] = entry;
}

int ring_journal_recover(struct ring_journal *j, uint32_t rsp_prod, struct ring_recovery *ret,
			 struct td_err *ret_err)
{
	struct file *f = j->file;
	struct ring_recovery *rec = ret;
	unsigned answers;
	uint32_t ahead;
	int r = count_answers(j, &answers);

	if (r < 0)
		return td_err_set(ret_err, r,
				  "%s: damaged: its entries make no sense; disconnect the guest's disk",
				  j->path);
	ahead = rsp_prod - (uint32_t)f->published;
	rec->taken = f->taken;
	rec->published = f->published + (ahead <= answers ? ahead : 0);
	rec->nr = 0;
	for (unsigned i = 0; i < j->nr; i++)
		if (counts(f, &f->entry[i], rec->published))
			insert(f, rec, (uint16_t)i);
	if (rec->taken - rec->published != rec->nr)
		return td_err_set(ret_err, -EUCLEAN,
				  "%s: damaged: it has lost requests; disconnect the guest's disk", j->path);

	/* Again in the order of publish: a kill in between finds the same. */
	ring_journal_publish(j, rec->published);
	for (unsigned i = 0; i < j->nr; i++) {
		if (!counts(f, &f->entry[i], rec->published))
			ring_journal_free(j, i);
		else
			store32(&f->entry[i].state, ENTRY_TAKEN);
	}
	return 0;
}

/* ---- the file ---- */

static size_t size_of(const struct ring_journal_key *key)
{
	return sizeof(struct file) +
	       td_blkif_entries((enum td_blkif_abi)key->abi, key->order) * sizeof(struct entry);
}

static int map(struct ring_journal *j)
{
	j->file = mmap(NULL, j->size, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, 0);
	if (j->file != MAP_FAILED)
		return 0;
	j->file = NULL;
	return -errno;
}

static int fail(const struct ring_journal *j, int r, const char *what, struct td_err *ret_err)
{
	return td_err_set(ret_err, r, "%s: cannot %s the journal: %s", j->path, what, strerrordesc_np(-r));
}

static int lock(const struct ring_journal *j, struct td_err *ret_err)
{
	if (flock(j->fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return fail(j, -errno, "lock", ret_err);
	return td_err_set(ret_err, -EBUSY, "%s: another process serves this ring", j->path);
}

/* Complete before it has its name.  Its blocks are there from the beginning: no store can find tmpfs full. */
static int make(struct ring_journal *j, const char *temp, const struct ring_journal_key *key,
		struct td_err *ret_err)
{
	int r;

	(void)unlink(temp);
	j->fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (j->fd < 0)
		return fail(j, -errno, "make", ret_err);
	r = -posix_fallocate(j->fd, 0, (off_t)j->size);
	if (r == 0)
		r = map(j);
	if (!j->file)
		return fail(j, r, "make", ret_err);
	j->file->magic = MAGIC;
	j->file->size = (uint32_t)j->size;
	j->file->nr = j->nr;
	j->file->key = *key;
	r = lock(j, ret_err);
	if (r == 0 && rename(temp, j->path) < 0)
		r = fail(j, -errno, "make", ret_err);
	return r;
}

static int make_fresh(struct ring_journal *j, const struct ring_journal_key *key, struct td_err *ret_err)
{
	td_cleanup(free) char *temp = NULL;
	int r;

	if (asprintf(&temp, "%s.new", j->path) < 0) {
		temp = NULL;
		return td_err_set(ret_err, -ENOMEM, "no memory for a journal");
	}
	r = make(j, temp, key, ret_err);
	if (r < 0)
		(void)unlink(temp);
	return r;
}

static int open_old(struct ring_journal *j, const struct ring_journal_key *key, struct td_err *ret_err)
{
	struct stat st;
	int r;

	j->fd = open(j->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (j->fd < 0 || fstat(j->fd, &st) < 0)
		return fail(j, -errno, "open", ret_err);
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0 || st.st_nlink != 1)
		return td_err_set(ret_err, -EPERM, "%s: not a file of ours alone; remove it", j->path);
	r = lock(j, ret_err);
	if (r < 0)
		return r;
	if (st.st_size < (off_t)sizeof(struct file))
		return td_err_set(ret_err, -EUCLEAN, "%s: not a ring's journal: too short", j->path);
	if (st.st_size != (off_t)j->size)
		return td_err_set(ret_err, -ESTALE, "%s: the journal of another ring: its size differs",
				  j->path);
	r = map(j);
	if (!j->file)
		return fail(j, r, "map", ret_err);
	if (j->file->magic != MAGIC || j->file->size != j->size || j->file->nr != j->nr)
		return td_err_set(ret_err, -EUCLEAN, "%s: not a ring's journal", j->path);
	if (memcmp(&j->file->key, key, sizeof(*key)) != 0)
		return td_err_set(ret_err, -ESTALE,
				  "%s: the journal of another connection; what it holds is served no more",
				  j->path);
	return 0;
}

int ring_journal_open(const char *path, const struct ring_journal_key *key, bool fresh,
		      struct ring_journal **ret_journal, struct td_err *ret_err)
{
	struct ring_journal *j;
	int r;

	if (key->abi > TD_BLKIF_ARM || key->order > TD_BLKIF_MAX_ORDER)
		return td_err_set(ret_err, -EINVAL, "%s: no such ring", path);
	j = calloc(1, sizeof(*j));
	if (j)
		j->path = strdup(path);
	if (!j || !j->path) {
		free(j);
		return td_err_set(ret_err, -ENOMEM, "no memory for a journal");
	}
	j->fd = -1;
	j->size = size_of(key);
	j->nr = td_blkif_entries((enum td_blkif_abi)key->abi, key->order);
	r = fresh ? make_fresh(j, key, ret_err) : open_old(j, key, ret_err);
	if (r < 0) {
		ring_journal_close(j, false);
		return r;
	}
	*ret_journal = j;
	return 0;
}

void ring_journal_close(struct ring_journal *j, bool remove)
{
	if (!j)
		return;
	if (remove)
		(void)unlink(j->path);
	if (j->file)
		munmap(j->file, j->size);
	if (j->fd >= 0)
		close(j->fd);
	free(j->path);
	free(j);
}
