// SPDX-License-Identifier: BSD-2-Clause
/*
 * The list of drivers.  A new driver is one line here.
 */
#include "drivers.h"

static const struct td_driver *const drivers[] = {
	&td_aio,
	&td_fault,
	&td_null,
	&td_qcow,
	&td_qcow2,
	&td_ram,
	&td_stdout,
	&td_throttle,
	&td_vdi,
	&td_vhd,
	&td_vhdx,
	&td_vmdk,
};

/* Other programs' names for them. */
static const struct {
	const char *name;
	const struct td_driver *drv;
} synonyms[] = {
	{ "raw", &td_aio },
	{ "vpc", &td_vhd }, /* qemu-img */
};

const struct td_driver *td_driver_find(const char *name)
{
	for (unsigned i = 0; i < TD_NELEMS(synonyms); i++)
		if (strcmp(synonyms[i].name, name) == 0)
			return synonyms[i].drv;
	for (unsigned i = 0; i < TD_NELEMS(drivers); i++)
		if (strcmp(drivers[i]->name, name) == 0)
			return drivers[i];
	return NULL;
}

const struct td_driver *td_driver_at(unsigned i)
{
	return i < TD_NELEMS(drivers) ? drivers[i] : NULL;
}

const struct td_driver *td_driver_probe(const void *head, size_t len)
{
	const struct td_driver *best = NULL;
	int best_score = 0;

	for (unsigned i = 0; i < TD_NELEMS(drivers); i++) {
		int score = drivers[i]->probe ? drivers[i]->probe(head, len) : 0;

		if (score > best_score) {
			best_score = score;
			best = drivers[i];
		}
	}
	return best;
}
