// SPDX-License-Identifier: BSD-2-Clause
/*
 * Xenstore where this was built without Xen's libraries: connecting says so, and there is nothing else.
 */
#include "config.h"

#ifndef HAVE_XEN

#include <blktap/xs.h>

int td_xs_connect(struct td_xs **ret_xs, struct td_err *ret_err)
{
	(void)ret_xs;
	return td_err_set(ret_err, -ENOTSUP, "xenstore: this blktap was built without Xen's libraries");
}

void td_xs_close(struct td_xs *xs)
{
	(void)xs;
}

int td_xs_read(struct td_xs *xs, const char *path, char **ret_value)
{
	(void)xs, (void)path, (void)ret_value;
	return -ENOTSUP;
}

int td_xs_read_u64(struct td_xs *xs, const char *path, uint64_t *ret)
{
	(void)xs, (void)path, (void)ret;
	return -ENOTSUP;
}

int td_xs_write(struct td_xs *xs, const char *path, const char *fmt, ...)
{
	(void)xs, (void)path, (void)fmt;
	return -ENOTSUP;
}

int td_xs_remove(struct td_xs *xs, const char *path)
{
	(void)xs, (void)path;
	return -ENOTSUP;
}

int td_xs_list(struct td_xs *xs, const char *path, char ***ret_names, unsigned *ret_nr)
{
	(void)xs, (void)path, (void)ret_names, (void)ret_nr;
	return -ENOTSUP;
}

int td_xs_mkdir(struct td_xs *xs, const char *path, unsigned owner, unsigned reader)
{
	(void)xs, (void)path, (void)owner, (void)reader;
	return -ENOTSUP;
}

int td_xs_begin(struct td_xs *xs)
{
	(void)xs;
	return -ENOTSUP;
}

int td_xs_commit(struct td_xs *xs)
{
	(void)xs;
	return -ENOTSUP;
}

void td_xs_abort(struct td_xs *xs)
{
	(void)xs;
}

int td_xs_watch(struct td_xs *xs, const char *path, const char *token)
{
	(void)xs, (void)path, (void)token;
	return -ENOTSUP;
}

void td_xs_unwatch(struct td_xs *xs, const char *path, const char *token)
{
	(void)xs, (void)path, (void)token;
}

int td_xs_fd(const struct td_xs *xs)
{
	(void)xs;
	return -1;
}

int td_xs_next(struct td_xs *xs, char **ret_path, const char **ret_token)
{
	(void)xs, (void)ret_path, (void)ret_token;
	return -ENOTSUP;
}

#endif
