// SPDX-License-Identifier: BSD-2-Clause
/*
 * The tapdisks that were there when we started; see recover.h.
 */
#include "recover.h"
#include "job.h"
#include "node.h"
#include "number.h"
#include <blktap/log.h>
#include <stdio.h>

#define BACKENDS "/local/domain/0/backend"

int recover_scan(struct recover *rc, struct disk_env *env, struct td_err *ret_err)
{
	return disk_info_all(env, &rc->all, &rc->nr, ret_err);
}

void recover_free(struct recover *rc)
{
	for (size_t i = 0; i < rc->nr; i++)
		free(rc->all[i].spec);
	free(rc->all);
	rc->all = NULL;
	rc->nr = 0;
}

const struct disk_info *recover_find(const struct recover *rc, uint32_t domid, uint32_t vdev)
{
	const struct disk_info *found = NULL;
	char name[40];

	snprintf(name, sizeof(name), "vbd-%u-%u", domid, vdev);
	for (size_t i = 0; i < rc->nr; i++)
		if (strcmp(rc->all[i].name, name) == 0 && rc->all[i].spec && (!found || rc->all[i].ring[0]))
			found = &rc->all[i];
	return found;
}

/* Only what is named exactly as we name them. */
static bool parse_name(const char *name, uint32_t *ret_domid, uint32_t *ret_vdev)
{
	return strncmp(name, "vbd-", 4) == 0 && number_pair(name + 4, '-', ret_domid, ret_vdev);
}

/* Does any folder of that disk mean this tapdisk?  One that names none was about to. */
static bool is_wanted(struct td_xs *xs, const struct disk_info *info, uint32_t domid, uint32_t vdev)
{
	char **classes = NULL, dir[NODE_PATH_MAX];
	unsigned nr = 0;
	bool wanted = false;

	if (td_xs_list(xs, BACKENDS, &classes, &nr) < 0)
		return false;
	for (unsigned i = 0; i < nr && !wanted; i++) {
		uint64_t pid = 0;
		int r;

		if (snprintf(dir, sizeof(dir), BACKENDS "/%s/%u/%u", classes[i], domid, vdev) >=
		    (int)sizeof(dir))
			continue;
		if (node_state(xs, dir) == XS_NONE)
			continue;
		r = node_u64(xs, dir, "tapdisk-pid", &pid);
		wanted = r < 0 || info->ring[0] || pid == (uint64_t)info->pid;
	}
	free(classes);
	return wanted;
}

TD_CO static int give_back(struct disk_env *env, pid_t pid, uint32_t domid, uint32_t vdev)
{
	return job_call(env, pid,
			json_pack("{s:s,s:I,s:I}", "cmd", "ring-disconnect", "domid", (json_int_t)domid,
				  "devid", (json_int_t)vdev),
			JOB_ASK_MS, NULL, NULL);
}

void recover_orphans(struct recover *rc, struct disk_env *env, struct td_xs *xs)
{
	for (size_t i = 0; i < rc->nr; i++) {
		struct disk_info *info = &rc->all[i];
		uint32_t domid = 0, vdev = 0;
		struct td_err err = { "" };

		if (!parse_name(info->name, &domid, &vdev) || is_wanted(xs, info, domid, vdev))
			continue;
		td_warn("tapdisk %d (%s): its disk is gone, ending it", info->pid, info->name);
		if (info->ring[0])
			td_ignore(give_back(env, info->pid, domid, vdev)); /* else it does so when it ends */
		if (job_terminate(env, info->pid, 10000, &err) < 0)
			td_error("%s", err.msg);
		info->name[0] = '\0'; /* nobody's to find */
	}
}
