// SPDX-License-Identifier: BSD-2-Clause
/* The second reader: see image-model.h. */
#include "image-model.h"

int image_model_open(const struct input *in, struct model_image *ret)
{
	uint8_t head[INPUT_SECTOR];
	int r;

	ret->in = in;
	input_read(in, 0, head, sizeof(head));
	r = qcow2_header_decode(head, TD_MIN(sizeof(head), in->file_len), &ret->h, NULL);
	if (r == 0)
		qcow2_geom_of(&ret->h, &ret->g);
	return r;
}

static uint64_t word_at(const struct model_image *m, uint64_t off)
{
	uint8_t raw[8];

	input_read(m->in, off, raw, sizeof(raw));
	return td_get_be64(raw);
}

static bool l1_at(const struct model_image *m, uint64_t idx, struct qcow2_l1e *ret)
{
	return qcow2_l1e_decode(&m->g, word_at(m, m->h.l1_off + 8 * idx), ret) == 0;
}

struct area {
	uint64_t start, end; /* whole clusters */
};

static bool touches(const struct area *a, uint64_t off, uint64_t len)
{
	return td_overlap(a->start, a->end - a->start, off, len);
}

/* Does an entry of the table at `table` name a cluster in the area?  Only sectors that are there can. */
static bool table_names(const struct model_image *m, uint64_t table, uint64_t entries, const struct area *a)
{
	for (unsigned i = 0; i < m->in->nr; i++) {
		uint64_t at = m->in->unit[i].sector * INPUT_SECTOR;

		for (unsigned w = 0; w < INPUT_SECTOR; w += 8) {
			struct qcow2_l1e e; /* an entry of the refcount table looks alike */

			if (at + w >= table && at + w < table + 8 * entries &&
			    qcow2_l1e_decode(&m->g, word_at(m, at + w), &e) == 0 && e.present &&
			    touches(a, e.host_off, m->g.cluster_size))
				return true;
		}
	}
	return false;
}

/* Does [off, off + len) touch a table? */
static bool is_metadata(const struct model_image *m, uint64_t off, uint64_t len)
{
	uint64_t cluster = m->g.cluster_size, reftable_len = (uint64_t)m->h.reftable_clusters * cluster;
	struct area a = { td_align_down(off, cluster), td_align_up(off + len, cluster) };

	if (m->h.nr_snapshots > 0) /* their tables could be anywhere */
		return true;
	return a.start < cluster || touches(&a, m->h.l1_off, td_align_up(8ull * m->h.l1_size, cluster)) ||
	       touches(&a, m->h.reftable_off, reftable_len) ||
	       table_names(m, m->h.l1_off, m->h.l1_size, &a) ||
	       table_names(m, m->h.reftable_off, reftable_len / 8, &a);
}

static enum model_answer read_packed(const struct model_image *m, const struct qcow2_l2e *e,
				     uint64_t in_cluster, uint8_t *buf, size_t len)
{
	uint8_t *packed = malloc(e->packed_len), *out = malloc(m->g.cluster_size);
	uint64_t there = TD_MIN(e->packed_len, m->in->file_len - e->host_off);
	enum model_answer a = MODEL_FAIL;

	if (packed && out) {
		input_read(m->in, e->host_off, packed, there);
		if (qcow2_inflate(m->h.compression, packed, there, out, m->g.cluster_size) == 0) {
			memcpy(buf, out + in_cluster, len);
			a = MODEL_BYTES;
		}
	}
	free(packed);
	free(out);
	return a;
}

static enum model_answer read_entry(const struct model_image *m, const struct qcow2_l2e *e,
				    uint64_t in_cluster, uint8_t *buf, size_t len)
{
	uint64_t host_len = e->kind == QCOW2_PACKED ? e->packed_len : m->g.cluster_size;
	enum model_answer a = MODEL_BYTES;

	memset(buf, 0, len);
	if (e->kind == QCOW2_HOLE)
		return m->h.backing_len > 0 ? MODEL_BELOW : MODEL_BYTES;
	if (e->kind == QCOW2_ZERO)
		return MODEL_BYTES;
	if (e->kind == QCOW2_ZERO_ALLOC)
		return MODEL_EITHER; /* its cluster may be nowhere, and nobody reads it */
	if (e->host_off >= m->in->file_len)
		return MODEL_FAIL;
	if (e->kind == QCOW2_PACKED)
		a = read_packed(m, e, in_cluster, buf, len);
	else
		input_read(m->in, e->host_off + in_cluster, buf, len);
	return a == MODEL_BYTES && is_metadata(m, e->host_off, host_len) ? MODEL_EITHER : a;
}

/* What an extended entry says of the subcluster of that byte, as an ordinary one would. */
static void look_at_subcluster(const struct model_image *m, uint64_t in_cluster, struct qcow2_l2e *e)
{
	unsigned sub = (unsigned)(in_cluster >> m->g.sub_bits);

	if (e->kind == QCOW2_PACKED)
		return;
	if (e->data >> sub & 1)
		e->kind = QCOW2_DATA;
	else if (e->zero >> sub & 1)
		e->kind = e->host_off ? QCOW2_ZERO_ALLOC : QCOW2_ZERO;
	else if (e->host_off && m->h.backing_len == 0)
		e->kind = QCOW2_ZERO_ALLOC;
	else
		e->kind = QCOW2_HOLE;
}

static bool entry_at(const struct model_image *m, uint64_t at, uint64_t in_cluster, struct qcow2_l2e *ret)
{
	uint8_t raw[16];

	input_read(m->in, at, raw, sizeof(raw));
	if (qcow2_l2e_read(&m->g, m->h.version, raw, ret) < 0)
		return false;
	if (qcow2_is_extended(&m->g))
		look_at_subcluster(m, in_cluster, ret);
	return true;
}

enum model_answer image_model_read(const struct model_image *m, uint64_t guest_off, uint8_t *buf, size_t len)
{
	uint64_t cluster = guest_off >> m->g.cluster_bits, in_table = cluster & ((1ull << m->g.l2_bits) - 1);
	uint64_t in_cluster = guest_off & (m->g.cluster_size - 1);
	struct qcow2_l1e l1e;
	struct qcow2_l2e e = { .kind = QCOW2_HOLE };

	if (!l1_at(m, cluster >> m->g.l2_bits, &l1e))
		return MODEL_FAIL;
	if (l1e.present) {
		/* Read by whole clusters or pieces of 4 KiB: a piece that the file cuts is lost as a whole. */
		uint64_t at = l1e.host_off + (in_table << m->g.l2_entry_bits),
			 piece = TD_MIN(m->g.cluster_size, 4096u);

		if ((at & ~(piece - 1)) + piece > m->in->file_len)
			return MODEL_FAIL;
		if (!entry_at(m, at, in_cluster, &e))
			return MODEL_FAIL;
	}
	return read_entry(m, &e, in_cluster, buf, len);
}

static bool add_table(const struct model_image *m, uint64_t l1_idx, uint64_t table, uint64_t *off,
		      unsigned *nr, unsigned max)
{
	for (unsigned i = 0; i < m->in->nr; i++) {
		uint64_t at = m->in->unit[i].sector * INPUT_SECTOR;

		if (at < table || at >= table + m->g.cluster_size)
			continue;
		for (unsigned w = 0; w < INPUT_SECTOR && *nr < max; w += 8) {
			uint64_t cluster =
				(l1_idx << m->g.l2_bits) + ((at + w - table) >> m->g.l2_entry_bits);

			if (word_at(m, at + w) != 0 && cluster < m->h.size >> m->g.cluster_bits)
				off[(*nr)++] = cluster << m->g.cluster_bits;
		}
	}
	return *nr < max;
}

unsigned image_model_mapped(const struct model_image *m, uint64_t *off, unsigned max)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < m->in->nr; i++) {
		uint64_t at = m->in->unit[i].sector * INPUT_SECTOR;

		for (unsigned w = 0; w < INPUT_SECTOR; w += 8) {
			struct qcow2_l1e e;

			if (at + w < m->h.l1_off || at + w >= m->h.l1_off + 8ull * m->h.l1_size ||
			    !l1_at(m, (at + w - m->h.l1_off) / 8, &e) || !e.present)
				continue;
			if (!add_table(m, (at + w - m->h.l1_off) / 8, e.host_off, off, &nr, max))
				return nr;
		}
	}
	return nr;
}
