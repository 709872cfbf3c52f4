// SPDX-License-Identifier: BSD-2-Clause
/*
 * The disks that a tapback serves, or should, as xenstore has them.
 */
#include "list.h"
#include <inttypes.h>
#include <stdio.h>

#define BACKENDS "/local/domain/0/backend"

struct listing {
	struct td_xs *xs;
	int domid; /* -1: all */
	list_fn fn;
	void *ctx;
	bool tapback;
};

/* ---- what state is it in ---- */

static const char *const words[] = {
	[RING_GONE] = "unfinished",        [RING_INITIALISING] = "starting", [RING_INIT_WAIT] = "waiting",
	[RING_INITIALISED] = "connecting", [RING_CONNECTED] = "attached",    [RING_CLOSING] = "closing",
	[RING_CLOSED] = "closed",
};

static void judge(const struct listing *l, const struct ring *n, struct row *row)
{
	td_cleanup(free) char *status = ring_text(l->xs, n->be, "hotplug-status");
	td_cleanup(free) char *error = ring_text(l->xs, n->be, "hotplug-error");
	enum ring_state be = ring_state(l->xs, n->be), fe = ring_state(l->xs, n->fe);

	row->state = words[be];
	if (status && strcmp(status, "error") == 0) {
		row->state = "broken";
		snprintf(row->note, sizeof(row->note), "%s", error ? error : "not opened");
	} else if (be == RING_CONNECTED && (row->pid == 0 || attach_pid_start(row->pid) == 0)) {
		row->state = "broken";
		row->pid = 0;
		snprintf(row->note, sizeof(row->note), "tapdisk is gone");
	} else if (!l->tapback) {
		snprintf(row->note, sizeof(row->note), "tapback is not running");
	} else if (be == RING_INIT_WAIT && fe < RING_INITIALISED) {
		snprintf(row->note, sizeof(row->note), "the domain has not taken it");
	}
}

static void describe(const struct listing *l, const struct ring *n, struct row *row)
{
	int64_t pid = ring_number(l->xs, n->be, "tapdisk-pid"),
		sectors = ring_number(l->xs, n->be, "sectors");
	td_cleanup(free) char *mode = ring_text(l->xs, n->be, "mode");
	char disk[ATTACH_DISK_MAX];

	memcpy(row->vdev, n->vdev, sizeof(row->vdev));
	row->domid = n->domid;
	row->mode = mode && strcmp(mode, "w") == 0 ? "w" : "r";
	row->pid = pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
	row->size = sectors >= 0 && sectors <= INT64_MAX / 512 ? sectors * 512 : -1;
	row->spec = ring_spec(l->xs, n);
	judge(l, n, row);
	if (n->domid == 0 && ring_disk(n->number, disk))
		ring_device(n, disk, row->device, sizeof(row->device));
	row->json = json_pack("{s:s,s:s,s:i,s:i,s:I,s:o}", "class", n->class, "origin",
			      ring_is_ours(l->xs, n) ? "block-attach" : "xl", "backend_state",
			      (int)ring_state(l->xs, n->be), "frontend_state", (int)ring_state(l->xs, n->fe),
			      "number", (json_int_t)n->number, "partitions",
			      *row->device ? attach_partitions(disk, row->device) : json_array());
}

/* ---- which are there ---- */

/* Those of others (xen-blkback, QEMU) have no tapdisk. */
static void list_one(const struct listing *l, const struct ring *n)
{
	struct row row = { .size = -1 };

	if (!ring_is_ours(l->xs, n) && ring_number(l->xs, n->be, "tapdisk-pid") < 0)
		return;
	describe(l, n, &row);
	l->fn(l->ctx, &row);
	free(row.spec);
	json_decref(row.json);
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The folders below path that are numbers, in order; the caller's. */
static uint32_t *numbers_in(struct td_xs *xs, const char *path, unsigned *ret_nr)
{
	td_cleanup(free) char **names = NULL;
	uint32_t *numbers;
	unsigned nr = 0, n = 0;

	*ret_nr = 0;
	if (td_xs_list(xs, path, &names, &nr) < 0)
		return NULL;
	numbers = calloc((size_t)nr + 1, sizeof(*numbers));
	for (unsigned i = 0; numbers && i < nr; i++) {
		const char *p = names[i];
		uint64_t v;

		if (attach_number(&p, &v) && *p == '\0' && v <= UINT32_MAX)
			numbers[n++] = (uint32_t)v;
	}
	if (numbers)
		qsort(numbers, n, sizeof(*numbers), compare_numbers);
	*ret_nr = n;
	return numbers;
}

static void list_class(const struct listing *l, const char *class)
{
	td_cleanup(free) uint32_t *doms = NULL;
	char path[RING_PATH_MAX];
	unsigned nr_doms;

	snprintf(path, sizeof(path), BACKENDS "/%s", class);
	doms = numbers_in(l->xs, path, &nr_doms);
	for (unsigned i = 0; doms && i < nr_doms; i++) {
		td_cleanup(free) uint32_t *vdevs = NULL;
		unsigned nr_vdevs;

		if (l->domid >= 0 && doms[i] != (uint32_t)l->domid)
			continue;
		snprintf(path, sizeof(path), BACKENDS "/%s/%" PRIu32, class, doms[i]);
		vdevs = numbers_in(l->xs, path, &nr_vdevs);
		for (unsigned k = 0; vdevs && k < nr_vdevs; k++) {
			struct ring n;

			ring_init(&n, doms[i], vdevs[k], class);
			list_one(l, &n);
		}
	}
}

void ring_list(struct td_xs *xs, int domid, list_fn fn, void *ctx)
{
	static const char *const classes[] = { "vbd", "vbd3", "qdisk" };
	struct listing l = { .xs = xs, .domid = domid, .fn = fn, .ctx = ctx };
	char class[RING_CLASS_MAX];

	l.tapback = ring_tapback(class);
	for (unsigned i = 0; i < TD_NELEMS(classes); i++)
		list_class(&l, classes[i]);
}
