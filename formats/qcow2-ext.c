// SPDX-License-Identifier: BSD-2-Clause
/*
 * What stands behind the fixed header: header extensions, and the feature names that one of them holds.  Here
 * too is the answer to "can this program handle the image", because it is given in those names.
 *
 * Source: QEMU docs/interop/qcow2.rst, "Header extensions" and "Feature name table".
 */
#include "config.h"

#include <stdio.h>

#include <blktap/qcow2.h>

#define EXT_HEAD 8u /* type, length */

/* An entry of the feature name table. */
#define NAME_ENTRY        48u
#define NAME_INCOMPATIBLE 0u
#define NAME_AT           2u
#define NAME_LEN          (NAME_ENTRY - NAME_AT)

/* Extensions end where the backing name begins, or with the cluster. */
static size_t area_end(const struct qcow2_header *h, size_t len)
{
	uint64_t end = h->backing_off != 0 ? h->backing_off : 1ull << h->cluster_bits;

	return (size_t)TD_MIN(end, (uint64_t)len);
}

int qcow2_ext_next(const struct qcow2_header *h, const void *buf, size_t len, size_t *pos,
		   struct qcow2_ext *ret, struct td_err *ret_err)
{
	const uint8_t *p = buf;
	size_t end = area_end(h, len);
	uint32_t type, data_len;

	if (*pos > end || end - *pos < EXT_HEAD)
		return 0;
	p += *pos;
	type = td_get_be32(p);
	data_len = td_get_be32(p + 4);
	if (type == QCOW2_EXT_END)
		return 0;
	if (data_len > end - *pos - EXT_HEAD)
		return td_err_set(ret_err, -EUCLEAN,
				  "header extension %#x with %u bytes runs past the header's cluster", type,
				  data_len);
	ret->type = type;
	ret->len = data_len;
	ret->data = p + EXT_HEAD;
	/* The last one's padding may be cut: the next call finds the end. */
	*pos += EXT_HEAD + (size_t)td_align_up(data_len, 8);
	return 1;
}

int qcow2_ext_put(void *buf, size_t len, size_t *pos, uint32_t type, const void *data, uint32_t data_len)
{
	uint64_t padded = td_align_up(data_len, 8);
	uint8_t *p;

	if (!td_in_range(*pos, EXT_HEAD + padded, len))
		return -ENOSPC;
	p = (uint8_t *)buf + *pos;
	td_put_be32(p, type);
	td_put_be32(p + 4, data_len);
	memset(p + EXT_HEAD, 0, (size_t)padded);
	if (data_len > 0)
		memcpy(p + EXT_HEAD, data, data_len);
	*pos += EXT_HEAD + (size_t)padded;
	return 0;
}

static const char *our_name(unsigned bit)
{
	static const char *const names[] = { "dirty bit", "corrupt bit", "external data file",
					     "compression type", "extended L2 entries" };

	return bit < TD_NELEMS(names) ? names[bit] : NULL;
}

/* The image's name goes to somebody's terminal: printable ASCII or '?'. */
static void copy_printable(char *to, const uint8_t *from)
{
	size_t i;

	for (i = 0; i < NAME_LEN && from[i] != 0; i++)
		to[i] = from[i] >= ' ' && from[i] <= '~' ? (char)from[i] : '?';
	to[i] = '\0';
}

static bool image_name(const uint8_t *names, size_t names_len, unsigned bit, char ret[NAME_LEN + 1])
{
	for (size_t at = 0; names != NULL && td_in_range(at, NAME_ENTRY, names_len); at += NAME_ENTRY) {
		const uint8_t *e = names + at;

		if (e[0] == NAME_INCOMPATIBLE && e[1] == bit && e[NAME_AT] != 0) {
			copy_printable(ret, e + NAME_AT);
			return true;
		}
	}
	return false;
}

/* All of them, so that nobody has to come back for the next: "extended L2 entries, feature bit 17". */
static int refuse_bits(uint64_t bits, const uint8_t *names, size_t names_len, struct td_err *ret_err)
{
	char list[384] = "", theirs[NAME_LEN + 1], number[32];
	size_t used = 0;

	for (unsigned bit = 0; bit < 64; bit++) {
		const char *name = our_name(bit);
		int n;

		if (!(bits & 1ull << bit))
			continue;
		if (name == NULL && image_name(names, names_len, bit, theirs))
			name = theirs;
		if (name == NULL) {
			snprintf(number, sizeof(number), "feature bit %u", bit);
			name = number;
		}
		n = snprintf(list + used, sizeof(list) - used, "%s%s", used > 0 ? ", " : "", name);
		if (n < 0 || (size_t)n >= sizeof(list) - used) {
			list[used] = '\0'; /* no half names */
			break;
		}
		used += (size_t)n;
	}
	return td_err_set(ret_err, -ENOTSUP, "the image uses what is not supported: %s", list);
}

int qcow2_header_supported(const struct qcow2_header *h, uint64_t supported, const void *names,
			   size_t names_len, struct td_err *ret_err)
{
	uint64_t unsupported = h->incompatible & ~supported;

	if (unsupported != 0)
		return refuse_bits(unsupported, names, names_len, ret_err);
#ifndef HAVE_ZSTD
	if (h->compression == QCOW2_ZSTD)
		return td_err_set(ret_err, -ENOTSUP,
				  "the image is compressed with zstd, which was not built in");
#endif
	return 0;
}
