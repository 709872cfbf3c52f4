// SPDX-License-Identifier: BSD-2-Clause
/*
 * A configuration file and its disks, for all verbs.  See load.h.
 */
#include <stdio.h>

#include "host.h"
#include "load.h"

static int read_disk(struct config_disk *c)
{
	int r;

	c->reading = READ_BY_XL;
	r = disk_parse(c->item->text, &c->d, &c->why);
	if (r == -EINVAL) {
		disk_done(&c->d);
		c->reading = READ_WIDE;
		r = disk_parse_wide(c->item->text, &c->d, NULL);
	}
	if (r == -EINVAL) {
		disk_done(&c->d);
		c->reading = READ_NOT;
		return 0;
	}
	return r < 0 ? r : disk_spec(&c->d, &c->spec);
}

static int read_disks(struct config_file *f, struct td_err *ret_err)
{
	const struct cfg_item **items;
	unsigned nr;
	int r;

	r = cfg_list(&f->cfg, "disk", &items, &nr, ret_err);
	if (r < 0)
		return r;
	if (nr > DISKS_MAX)
		r = td_err_set(ret_err, -E2BIG, "line %u: more than %d disks", items[DISKS_MAX]->line,
			       DISKS_MAX);
	if (r == 0 && nr > 0 && !(f->disks = calloc(nr, sizeof(*f->disks))))
		r = -ENOMEM;
	for (unsigned i = 0; i < nr && r == 0; i++) {
		f->disks[f->nr].item = items[i];
		r = read_disk(&f->disks[f->nr++]);
	}
	free(items);
	return r;
}

int config_load(const char *file, struct config_file *ret, struct td_err *ret_err)
{
	struct config_file f = { 0 };
	struct td_err err = { .msg = "no memory" };
	size_t len;
	int r;

	r = read_config(file, &f.text, &len, ret_err);
	if (r < 0)
		return r;
	r = cfg_parse(f.text, len, &f.cfg, &err);
	if (r == 0)
		r = read_disks(&f, &err);
	if (r < 0) {
		config_done(&f);
		return td_err_set(ret_err, r, "%s: %s", file, err.msg);
	}
	*ret = f;
	return 0;
}

void config_done(struct config_file *f)
{
	for (unsigned i = 0; i < f->nr; i++) {
		disk_done(&f->disks[i].d);
		free(f->disks[i].spec);
	}
	free(f->disks);
	cfg_free(&f->cfg);
	free(f->text);
}
