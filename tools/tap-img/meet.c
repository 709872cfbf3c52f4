// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where two chains of backing images become the same.  See meet.h.
 */
#include "meet.h"

#include <sys/stat.h>

struct member {
	struct td_image *im;
	bool known; /* whose file it is */
	dev_t dev;
	ino_t ino;
};

static struct member *members_of(struct td_image *im, size_t *ret_nr)
{
	struct member *m;
	size_t nr = 0;

	for (struct td_image *i = im; i; i = i->backing)
		nr++;
	m = calloc(nr ? nr : 1, sizeof(*m));
	for (size_t i = 0; m && i < nr; i++, im = im->backing) {
		struct stat st;

		m[i].im = im;
		m[i].known = stat(im->path, &st) == 0;
		if (m[i].known) {
			m[i].dev = st.st_dev;
			m[i].ino = st.st_ino;
		}
	}
	*ret_nr = nr;
	return m;
}

static bool is_same(const struct member *a, const struct member *b)
{
	return a->known && b->known && a->dev == b->dev && a->ino == b->ino && a->im->drv == b->im->drv;
}

void chains_meet(struct td_image *a, struct td_image *b, struct td_image **ret_a, struct td_image **ret_b)
{
	size_t nr_a = 0, nr_b = 0;
	td_cleanup(free) struct member *in_a = members_of(a, &nr_a);
	td_cleanup(free) struct member *in_b = members_of(b, &nr_b);

	*ret_a = *ret_b = NULL;
	for (size_t i = 0; in_a && in_b && i < nr_a; i++) {
		for (size_t k = 0; k < nr_b; k++) {
			if (!is_same(&in_a[i], &in_b[k]))
				continue;
			*ret_a = in_a[i].im;
			*ret_b = in_b[k].im;
			return;
		}
	}
}
