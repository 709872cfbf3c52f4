// SPDX-License-Identifier: BSD-2-Clause
/*
 * The log replayed in memory: nothing is written, but what the log says is read instead of what the file has.
 *
 * The changes are kept in the order of the file, each byte in one of them: the newest.  A block may be read again and
 * again that thousands of changes lie in.
 */
#include "vhdx-int.h"

#define CHANGES_STEP 256u

static const uint8_t zero_unit[VHDX_UNIT];

/* ---- opening it ---- */

/* bytes NULL: zeros.  They stay where they are in the log, which is kept as long as the image is open. */
static int add_change(void *arg, uint64_t off, uint64_t len, const uint8_t *bytes)
{
	struct vhdx *v = arg;

	if (len == 0)
		return 0;
	if (v->nr_changes == VHDX_CHANGES_MAX)
		return -E2BIG;
	if (v->nr_changes % CHANGES_STEP == 0) {
		struct vhdx_change *more =
			reallocarray(v->change, v->nr_changes + CHANGES_STEP, sizeof(*more));

		if (!more)
			return -ENOMEM;
		v->change = more;
	}
	v->changed_from = v->nr_changes == 0 ? off : TD_MIN(v->changed_from, off);
	v->changed_to = TD_MAX(v->changed_to, off + len);
	v->change[v->nr_changes++] = (struct vhdx_change){ .off = off, .len = len, .bytes = bytes };
	return 0;
}

/* ---- each byte once ---- */

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Where changes begin and end, in order, each once.  Returns how many. */
static uint32_t find_edges(const struct vhdx *v, uint64_t *edge)
{
	uint32_t nr = 0;

	for (unsigned i = 0; i < v->nr_changes; i++) {
		edge[2 * (size_t)i] = v->change[i].off;
		edge[2 * (size_t)i + 1] = v->change[i].off + v->change[i].len;
	}
	qsort(edge, 2 * (size_t)v->nr_changes, sizeof(*edge), by_value);
	for (uint32_t i = 0; i < 2 * v->nr_changes; i++)
		if (nr == 0 || edge[i] != edge[nr - 1])
			edge[nr++] = edge[i];
	return nr;
}

static uint32_t edge_at(const uint64_t *edge, uint32_t nr, uint64_t value)
{
	const uint64_t *at = bsearch(&value, edge, nr, sizeof(*edge), by_value);

	return at ? (uint32_t)(at - edge) : nr;
}

/* The first at or behind i that is nobody's; what lies between is not looked at again. */
static uint32_t next_free(uint32_t *next, uint32_t i)
{
	while (next[i] != i)
		i = next[i] = next[next[i]];
	return i;
}

/* From edge to edge, the newest first: each takes what is nobody's yet. */
static void take_pieces(const struct vhdx *v, const uint64_t *edge, uint32_t nr, uint32_t *next,
			struct vhdx_change *piece)
{
	for (uint32_t i = 0; i < nr; i++)
		next[i] = i;
	for (unsigned n = v->nr_changes; n-- > 0;) {
		const struct vhdx_change *c = &v->change[n];
		const uint32_t end = edge_at(edge, nr, c->off + c->len);

		for (uint32_t i = next_free(next, edge_at(edge, nr, c->off)); i < end;
		     i = next_free(next, i)) {
			piece[i] = (struct vhdx_change){ .off = edge[i], .len = edge[i + 1] - edge[i] };
			piece[i].bytes = c->bytes ? c->bytes + (edge[i] - c->off) : NULL;
			next[i] = i + 1;
		}
	}
}

static int sort_changes(struct vhdx *v)
{
	const size_t room = 2 * (size_t)v->nr_changes;
	td_cleanup(free) uint64_t *edge = calloc(room, sizeof(*edge));
	td_cleanup(free) uint32_t *next = calloc(room, sizeof(*next));
	struct vhdx_change *piece = calloc(room, sizeof(*piece));
	uint32_t nr;

	if (!edge || !next || !piece) {
		free(piece);
		return -ENOMEM;
	}
	nr = find_edges(v, edge);
	take_pieces(v, edge, nr, next, piece);
	free(v->change);
	v->change = piece;
	v->nr_changes = 0;
	for (uint32_t i = 0; i < nr; i++)
		if (piece[i].len > 0)
			piece[v->nr_changes++] = piece[i];
	return 0;
}

/*
 * An entry knows how long the file was when it was written, and how long it is to be.  A file that is shorter than the
 * first was cut off by somebody: its log cannot make it whole.
 */
static int replay(struct vhdx *v, struct td_err *ret_err)
{
	int r;

	vhdx_log_find(v->log, v->h.log_len, v->h.log_guid, &v->replayed);
	if (v->replayed.entries == 0)
		return 0;
	if (v->replayed.flushed > v->child->size)
		return td_err_set(ret_err, -EUCLEAN,
				  "its log knows of %llu bytes, of which the file has %llu: it was cut off",
				  (unsigned long long)v->replayed.flushed,
				  (unsigned long long)v->child->size);
	if (v->replayed.file_size > VHDX_OFF_MAX)
		return td_err_set(ret_err, -EUCLEAN, "its log wants a file of %llu bytes",
				  (unsigned long long)v->replayed.file_size);
	v->end = TD_MAX(v->end, v->replayed.file_size);
	r = vhdx_log_replay(v->log, v->h.log_len, &v->replayed, add_change, v);
	if (r == -E2BIG)
		return td_err_set(ret_err, -ENOTSUP, "a log of more than %u changes is not supported",
				  VHDX_CHANGES_MAX);
	if (r == 0 && v->nr_changes > 0)
		r = sort_changes(v);
	return r < 0 ? td_err_set(ret_err, r, "its log cannot be replayed: %s", strerror(-r)) : 0;
}

/* A log GUID of zeros says that the disk was closed: whatever is in the log is over. */
int vhdx_log_open(struct vhdx *v, struct td_err *ret_err)
{
	int r;

	v->end = v->child->size;
	if (td_guid_is_zero(v->h.log_guid))
		return 0;
	if (!td_in_range(v->h.log_off, v->h.log_len, v->child->size))
		return td_err_set(ret_err, -EUCLEAN, "its log does not lie inside the file");
	v->log = malloc(v->h.log_len);
	if (!v->log)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = td_image_pread(v->child, v->h.log_off, v->log, v->h.log_len, TD_EXACT);
	if (r < 0)
		return td_err_set(ret_err, r, "its log cannot be read: %s", strerror(-r));
	return replay(v, ret_err);
}

void vhdx_log_close(struct vhdx *v)
{
	free(v->change);
	free(v->log);
	v->change = NULL;
	v->log = NULL;
}

/* ---- looking ---- */

/*
 * The change that decides what is at host_off, or NULL.  *len: cut to as far as that holds.
 */
static const struct vhdx_change *find(const struct vhdx *v, uint64_t host_off, uint64_t *len)
{
	const uint64_t end = host_off + *len;
	unsigned first = 0, behind = v->nr_changes;

	if (host_off >= v->changed_to || end <= v->changed_from)
		return NULL;
	while (first < behind) { /* the first that ends behind host_off */
		const unsigned mid = (first + behind) / 2;
		const struct vhdx_change *c = &v->change[mid];

		if (c->off + c->len > host_off)
			behind = mid;
		else
			first = mid + 1;
	}
	if (first == v->nr_changes)
		return NULL;
	if (v->change[first].off > host_off) {
		*len = TD_MIN(end, v->change[first].off) - host_off;
		return NULL;
	}
	*len = TD_MIN(end, v->change[first].off + v->change[first].len) - host_off;
	return &v->change[first];
}

int vhdx_file_read(struct vhdx *v, uint64_t host_off, const struct td_iov *iov)
{
	int r = 0;

	for (uint64_t done = 0, n; r == 0 && done < iov->len; done += n) {
		const struct vhdx_change *c;
		struct td_iov part;

		n = iov->len - done;
		c = find(v, host_off + done, &n);
		part = td_iov_slice(iov, done, n);
		if (!c)
			r = td_image_preadv(v->child, host_off + done, &part, 0);
		else if (c->bytes)
			td_iov_from_buf(&part, c->bytes + (host_off + done - c->off));
		else
			td_iov_zero(&part);
	}
	return r;
}

int vhdx_file_pread(struct vhdx *v, uint64_t host_off, void *buf, size_t len)
{
	struct iovec vec;
	struct td_iov iov = td_iov_buf(&vec, buf, len);

	return td_in_range(host_off, len, v->end) ? vhdx_file_read(v, host_off, &iov) : -EUCLEAN;
}

int vhdx_unit(struct vhdx *v, unsigned level, uint64_t host_off, const uint8_t **ret)
{
	uint64_t len = VHDX_UNIT;
	const struct vhdx_change *c = find(v, host_off, &len);
	uint8_t *unit = NULL;
	int r;

	if (c) { /* changes and units have the same borders */
		*ret = c->bytes ? c->bytes + (host_off - c->off) : zero_unit;
		return 0;
	}
	unit = td_meta_look(v->meta, level, host_off);
	r = unit ? 0 : td_meta_get(v->meta, level, host_off, &unit);
	if (r == 0)
		*ret = unit;
	return r;
}
