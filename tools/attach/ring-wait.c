// SPDX-License-Identifier: BSD-2-Clause
/*
 * Waiting for the other sides of a disk, and what they made of it in domain 0.
 */
#include "ring.h"
#include <dirent.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>

#define STEP_MS 100u /* sysfs tells nobody when it changes */

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

void ring_catch_signals(void)
{
	const struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

/* Undoing watches what was watched already. */
int ring_watch(struct td_xs *xs, const struct ring *r)
{
	int ret = td_xs_watch(xs, r->be, "be");

	if (ret == 0 || ret == -EEXIST)
		ret = td_xs_watch(xs, r->fe, "fe");
	return ret == -EEXIST ? 0 : ret;
}

int ring_pause(struct td_xs *xs, uint64_t deadline)
{
	struct pollfd p = { .fd = td_xs_fd(xs), .events = POLLIN };
	const char *token;
	char *path;
	int r;

	if (interrupted) {
		interrupted = 0; /* once: undoing waits too */
		return -EINTR;
	}
	if (attach_now_ms() >= deadline)
		return -ETIMEDOUT;
	if (poll(&p, 1, (int)STEP_MS) <= 0)
		return 0;
	while ((r = td_xs_next(xs, &path, &token)) > 0)
		free(path);
	return r;
}

static int is_name(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

bool ring_disk(uint32_t number, char ret_disk[ATTACH_DISK_MAX])
{
	struct dirent **entries;
	char path[64];
	int n;

	snprintf(path, sizeof(path), "/sys/bus/xen/devices/vbd-%" PRIu32 "/block", number);
	n = scandir(path, &entries, is_name, NULL);
	if (n > 0)
		snprintf(ret_disk, ATTACH_DISK_MAX, "%.*s", ATTACH_DISK_MAX - 1, entries[0]->d_name);
	for (int i = 0; i < n; i++)
		free(entries[i]);
	if (n >= 0)
		free(entries);
	return n > 0;
}

void ring_device(const struct ring *r, const char *disk, char *ret_path, size_t size)
{
	snprintf(ret_path, size, "%s/%s", strcmp(disk, r->vdev) == 0 ? "/dev" : "/dev/blktap", r->vdev);
}
