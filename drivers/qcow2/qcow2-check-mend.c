// SPDX-License-Identifier: BSD-2-Clause
/*
 * Repair of L1 and L2 tables, in place: flags, stray bits, and entries whose data or table is lost.
 *
 * What is lost is never made to read as zeros, nor as the backing file: nobody would ever hear of it.  Its entry
 * becomes one of a compressed cluster that cannot be unpacked.  Any reader gets an error there, as from a bad sector,
 * and a write of the whole cluster replaces it; checkers find nothing wrong with it.  A table that is lost becomes one
 * of such entries.  They all name the same few clusters, as many as their refcounts take.
 *
 * Those are counted, written and on stable storage before anything names them.
 */
#include "qcow2-check.h"

#define L1_RESERVED 0x7f000000000001ffull
#define L2_RESERVED 0x3f000000000001feull
#define MARK_REFS   65535u       /* references to one mark, where a refcount can say so many */
#define MARKS_MAX   65536u       /* clusters, */
#define MARK_BYTES  (1ull << 30) /* and bytes, that marks may take: narrow refcounts need many */
#define MARK_SENTENCE                                                                                        \
	"Guest data that was lost was here: the image was damaged, and repaired by tap-img check.\n"

struct mend {
	struct qcow2_walk *w;
	enum qcow2_mending how;
	struct qcow2_mended *ret;
	uint64_t mark, mark_left; /* host offset of the one in use; references it can still take */
	uint64_t marks;
	bool uncommitted; /* marks that nothing may name yet */
	uint8_t *buf;
};

/* ---- marks ---- */

/* No decompressor takes this: 0xff begins neither a deflate stream nor a zstd frame. */
static int write_mark(struct qcow2 *q, uint64_t host_off)
{
	uint8_t *buf = td_buf_alloc(q->g.cluster_size);
	int r;

	if (!buf)
		return -ENOMEM;
	memset(buf, 0xff, q->g.cluster_size);
	memcpy(buf + 16, MARK_SENTENCE, sizeof(MARK_SENTENCE) - 1);
	r = td_image_pwrite(q->child, host_off, buf, q->g.cluster_size, 0);
	td_buf_free(buf, q->g.cluster_size);
	return r;
}

static int set_refs(struct qcow2 *q, uint64_t host_off, uint64_t count)
{
	int r;

	td_mutex_lock(&q->alloc_lock);
	r = qcow2_refs_set(q, host_off >> q->g.cluster_bits, count);
	td_mutex_unlock(&q->alloc_lock);
	return r;
}

static int new_mark(struct mend *m)
{
	struct qcow2 *q = m->w->q;
	uint64_t refs = TD_MIN(m->w->max_count, (uint64_t)MARK_REFS);
	struct qcow2_run run = { 0 };
	int r;

	if (m->marks == MARKS_MAX || (m->marks + 1) << q->g.cluster_bits > MARK_BYTES)
		return -EFBIG;
	r = qcow2_alloc(q, 1, &run);
	if (r == 0)
		r = write_mark(q, run.host_off);
	if (r == 0)
		r = set_refs(q, run.host_off,
			     refs); /* too many for now; what is not used is taken back at the end */
	if (r < 0)
		return r;
	m->marks++;
	m->mark = run.host_off;
	m->mark_left = refs;
	return 0;
}

bool qcow2_can_mark(const struct qcow2_walk *w)
{
	const struct qcow2 *q = w->q;
	uint64_t refs = TD_MIN(w->max_count, (uint64_t)MARK_REFS), marks = td_div_up(w->to_mark, refs);

	if (w->to_mark > 0 && (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE))
		return false;
	return marks <= TD_MIN((uint64_t)MARKS_MAX, MARK_BYTES >> q->g.cluster_bits);
}

/* 1: *ret_raw is the entry; 0: there can be none. */
static int take_mark(struct mend *m, uint64_t weight, uint64_t *ret_raw)
{
	const struct qcow2 *q = m->w->q;
	struct qcow2_l2e e = { .kind = QCOW2_PACKED, .packed_len = QCOW2_SECTOR };
	int r = 0;

	/* What is in another file is never compressed. */
	if (weight > m->w->max_count || (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE))
		return 0;
	if (m->mark_left < weight)
		r = new_mark(m);
	if (r < 0)
		return r == -EFBIG ? 0 : r;
	m->mark_left -= weight;
	m->uncommitted = true;
	e.host_off = m->mark;
	*ret_raw = qcow2_l2e_encode(&q->g, &e);
	return 1;
}

/* A table of marks.  1: *ret_off is where it is. */
static int mark_table(struct mend *m, uint64_t weight, uint64_t *ret_off)
{
	struct qcow2 *q = m->w->q;
	uint8_t *buf = td_buf_alloc(q->g.cluster_size);
	struct qcow2_run run = { 0 };
	uint64_t raw;
	int r = buf ? 1 : -ENOMEM;

	for (uint64_t i = 0; r > 0 && i < q->g.cluster_size; i += 1u << q->g.l2_entry_bits) {
		r = take_mark(m, weight, &raw);
		if (r > 0)
			td_put_be64(buf + i, raw);
	}
	if (r > 0)
		r = qcow2_alloc(q, 1, &run) < 0 ? -ENOSPC : 1;
	if (r > 0)
		r = td_image_pwrite(q->child, run.host_off, buf, q->g.cluster_size, 0) < 0 ? -EIO : 1;
	if (r > 0)
		r = set_refs(q, run.host_off, weight) < 0 ? -EIO : 1;
	if (buf)
		td_buf_free(buf, q->g.cluster_size);
	if (r > 0)
		*ret_off = run.host_off;
	return r;
}

/* Before an entry may name them. */
static int commit_marks(struct mend *m)
{
	int r = 0;

	if (m->uncommitted)
		r = qcow2_commit(m->w->q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	m->uncommitted = false;
	return r;
}

/* ---- entries: each function gives the new one in *raw; raw[1]: what follows the descriptor of an extended one ---- */

static uint64_t with_flag(const struct mend *m, const struct qcow2_named *t, uint64_t raw)
{
	uint64_t cluster = (raw & QCOW2_OFF_MASK) >> m->w->q->g.cluster_bits;

	if (t->active == 0)
		return raw; /* of snapshots alone: nobody looks at it */
	if (qcow2_uses_count(&m->w->uses, cluster) == 1)
		return raw | QCOW2_COPIED;
	return raw & ~QCOW2_COPIED;
}

/* More name it than a refcount can say: this entry gets a copy of its own. */
static bool crowded(const struct mend *m, const struct qcow2_named *t, uint64_t raw)
{
	uint64_t cluster = (raw & QCOW2_OFF_MASK) >> m->w->q->g.cluster_bits;

	return qcow2_uses_count(&m->w->uses, cluster) > m->w->max_count &&
	       (uint64_t)t->active + t->inactive == 1;
}

/* data: of the guest; as it is, unless it is encrypted by where it lies. */
static int copy_cluster(struct mend *m, uint64_t from, bool data, uint64_t *ret_to)
{
	struct qcow2 *q = m->w->q;
	bool crypt = data && q->h.crypt == QCOW2_CRYPT_LUKS;
	uint8_t *buf = td_buf_alloc(q->g.cluster_size);
	struct qcow2_run run = { 0 };
	struct iovec v;
	struct td_iov iov = td_iov_buf(&v, buf, q->g.cluster_size);
	int r = !buf    ? -ENOMEM
		: crypt ? qcow2_data_read(q, 0, from, &iov)
			: td_image_preadv(q->child, from, &iov, 0);

	if (r == 0)
		r = qcow2_alloc(q, 1, &run);
	if (r == 0)
		r = crypt ? qcow2_data_write(q, 0, run.host_off, &iov)
			  : td_image_pwritev(q->child, run.host_off, &iov, 0);
	if (buf)
		td_buf_free(buf, q->g.cluster_size);
	*ret_to = run.host_off;
	return r;
}

static int own_copy(struct mend *m, const struct qcow2_named *t, bool data, uint64_t *raw)
{
	uint64_t from = *raw & QCOW2_OFF_MASK, to;
	int r = copy_cluster(m, from, data, &to);

	if (r < 0)
		return r;
	--*qcow2_uses_at(&m->w->uses, from >> m->w->q->g.cluster_bits); /* it is there: no memory is taken */
	*raw = (*raw & ~(QCOW2_OFF_MASK | QCOW2_COPIED)) | to | (t->active ? QCOW2_COPIED : 0);
	m->uncommitted = true;
	m->ret->copied++;
	return 0;
}

/* Behind the end of the file: where it points now, the file may soon reach. */
static void send_far(const struct mend *m, uint64_t *raw)
{
	const struct qcow2 *q = m->w->q;
	uint64_t off = *raw & QCOW2_OFF_MASK;

	if (*raw & QCOW2_L2_COMPRESSED)
		off = *raw & ((1ull << q->g.compressed_off_bits) - 1);
	if (off + q->g.cluster_size > m->w->size)
		*raw = qcow2_far(q);
}

static bool has_no_data(const struct qcow2 *q, const uint64_t *raw)
{
	if (*raw & QCOW2_L2_COMPRESSED)
		return false;
	if (qcow2_is_extended(&q->g))
		return (uint32_t)raw[1] == 0;
	return (*raw & QCOW2_L2_ZERO) && q->h.version >= 3;
}

static int give_up_l2e(struct mend *m, const struct qcow2_named *t, uint64_t *raw)
{
	bool extended = qcow2_is_extended(&m->w->q->g);
	int r;

	/* Zeros whatever is kept for them. */
	if (has_no_data(m->w->q, raw)) {
		*raw = extended ? 0 : QCOW2_L2_ZERO;
		return 0;
	}
	if (m->how == QCOW2_MEND_FAR) {
		send_far(m, raw);
		return 0;
	}
	r = take_mark(m, (uint64_t)t->active + t->inactive, raw);
	if (r <= 0)
		return r;
	if (extended)
		raw[1] = 0;
	m->ret->lost++;
	qcow2_found(m->w, 0, "given up: the data of an entry of the L2 table at %#llx",
		    (unsigned long long)t->off);
	return 0;
}

static int mend_l2e(struct mend *m, const struct qcow2_named *t, uint64_t *raw)
{
	enum qcow2_verdict verdict = qcow2_judge_l2e(m->w, raw);
	bool extended = qcow2_is_extended(&m->w->q->g);

	if (verdict == QCOW2_LOST)
		return m->how == QCOW2_MEND_FLAGS ? 0 : give_up_l2e(m, t, raw);
	if (m->how == QCOW2_MEND_FAR || (m->how == QCOW2_MEND_FLAGS && verdict != QCOW2_FINE))
		return 0;
	if (*raw & QCOW2_L2_COMPRESSED) {
		*raw &= ~QCOW2_COPIED;
		if (extended)
			raw[1] = 0;
		return 0;
	}
	*raw &= ~(L2_RESERVED | (extended ? QCOW2_L2_ZERO : 0));
	if (m->w->q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE)
		*raw |= *raw & QCOW2_OFF_MASK ? QCOW2_COPIED : 0;
	else if (!(*raw & QCOW2_OFF_MASK))
		*raw &= ~QCOW2_COPIED;
	else if (m->how == QCOW2_MEND_ALL && crowded(m, t, *raw))
		return own_copy(m, t, true, raw);
	else
		*raw = with_flag(m, t, *raw);
	return 0;
}

static int mend_l1e(struct mend *m, const struct qcow2_named *t, uint64_t *raw)
{
	enum qcow2_verdict verdict = qcow2_judge_l1e(m->w, *raw);
	uint64_t off, weight = (uint64_t)t->active + t->inactive;
	int r;

	if (m->how != QCOW2_MEND_ALL && verdict != (m->how == QCOW2_MEND_FAR ? QCOW2_LOST : QCOW2_FINE))
		return 0;
	if (m->how == QCOW2_MEND_FAR) {
		send_far(m, raw);
		return 0;
	}
	if (verdict != QCOW2_LOST) {
		*raw &= ~L1_RESERVED;
		if (m->how == QCOW2_MEND_ALL && crowded(m, t, *raw))
			return own_copy(m, t, false, raw);
		*raw = *raw & QCOW2_OFF_MASK ? with_flag(m, t, *raw) : 0;
		return 0;
	}
	r = mark_table(m, weight, &off);
	if (r <= 0)
		return r;
	*raw = off | (t->active && weight == 1 ? QCOW2_COPIED : 0);
	m->ret->lost++;
	qcow2_found(m->w, 0, "given up: all that an L2 table named, an entry of the L1 table at %#llx",
		    (unsigned long long)t->off);
	return 0;
}

/* ---- tables ---- */

/* Of entries. */
struct kind {
	int (*mend)(struct mend *m, const struct qcow2_named *t, uint64_t *raw);
	size_t size; /* bytes of one: 8 or 16 */
};

/* The sectors from the first changed to the last changed one. */
static int write_changed(struct mend *m, uint64_t off, size_t first, size_t last)
{
	size_t from = first / QCOW2_SECTOR * QCOW2_SECTOR, to = td_align_up(last + 1, QCOW2_SECTOR);
	int r = commit_marks(m);

	return r < 0 ? r : td_image_pwrite(m->w->q->child, off + from, m->buf + from, to - from, 0);
}

/* The entries in m->buf; *ret_first, *ret_last: which bytes of it have changed. */
static int mend_entries(struct mend *m, const struct qcow2_named *t, const struct kind *k, size_t len,
			size_t *ret_first, size_t *ret_last)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < len; i += k->size) {
		uint64_t was[2] = { td_get_be64(m->buf + i) }, raw[2];

		if (k->size > 8)
			was[1] = td_get_be64(m->buf + i + 8);
		memcpy(raw, was, sizeof(raw));
		if (raw[0] != 0 || raw[1] != 0)
			r = k->mend(m, t, raw);
		if (r < 0 || memcmp(raw, was, sizeof(raw)) == 0)
			continue;
		td_put_be64(m->buf + i, raw[0]);
		if (k->size > 8)
			td_put_be64(m->buf + i + 8, raw[1]);
		*ret_first = TD_MIN(*ret_first, i);
		*ret_last = i + k->size - 1;
	}
	return r;
}

static int mend_part(struct mend *m, const struct qcow2_named *t, const struct kind *k, uint64_t off,
		     size_t len)
{
	size_t first = len, last = 0;
	const uint8_t *in;
	int r = qcow2_walk_read(m->w, off, len, &in);

	if (r < 0 || !in)
		return r;
	/* Whole sectors are written back. */
	memset(m->buf, 0, QCOW2_WALK_BYTES);
	memcpy(m->buf, in, len);
	r = mend_entries(m, t, k, len, &first, &last);
	return r < 0 || first == len ? r : write_changed(m, off, first, last);
}

static int mend_table(struct mend *m, const struct qcow2_named *t, const struct kind *k, uint64_t bytes)
{
	int r = 0;

	for (uint64_t at = 0, len; r == 0 && at < bytes; at += len) {
		len = TD_MIN(bytes - at, (uint64_t)QCOW2_WALK_BYTES);
		r = mend_part(m, t, k, t->off + at, len);
	}
	return r;
}

/* What we hold of the active one is what is on disk again. */
static int mend_l1s(struct mend *m)
{
	const struct kind l1e = { mend_l1e, sizeof(uint64_t) };
	struct qcow2 *q = m->w->q;
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->w->l1.nr; i++) {
		const struct qcow2_named *t = &m->w->l1.at[i];

		if (m->how != QCOW2_MEND_FLAGS || t->active)
			r = mend_table(m, t, &l1e, t->nr * sizeof(uint64_t));
	}
	if (r == 0 && q->l1.nr > 0)
		r = td_image_pread(q->child, q->l1.host_off, q->l1.raw, q->l1.nr * sizeof(uint64_t),
				   TD_EXACT);
	return r;
}

static int mend_l2s(struct mend *m)
{
	const uint32_t not_table = QCOW2_USE_DATA | QCOW2_USE_SUSPECT;
	const struct qcow2 *q = m->w->q;
	const struct kind l2e = { mend_l2e, (size_t)1 << q->g.l2_entry_bits };
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->w->l2.nr; i++) {
		const struct qcow2_named *t = &m->w->l2.at[i];
		uint32_t use = qcow2_uses_get(&m->w->uses, t->off >> q->g.cluster_bits);

		if ((use & not_table) != not_table && (m->how != QCOW2_MEND_FLAGS || t->active))
			r = mend_table(m, t, &l2e, q->g.cluster_size);
	}
	return r;
}

int qcow2_mend(struct qcow2_walk *w, enum qcow2_mending how, struct qcow2_mended *ret)
{
	struct mend m = { .w = w, .how = how, .ret = ret, .buf = td_buf_alloc(QCOW2_WALK_BYTES) };
	int r = m.buf ? 0 : -ENOMEM;

	/* L2 tables first: an L1 entry that is given up may name data that one of them owns. */
	if (r == 0)
		r = mend_l2s(&m);
	if (r == 0)
		r = mend_l1s(&m);
	if (r == 0)
		r = td_image_flush(w->q->child);
	if (m.buf)
		td_buf_free(m.buf, QCOW2_WALK_BYTES);
	return r;
}
