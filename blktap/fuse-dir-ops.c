// SPDX-License-Identifier: BSD-2-Clause
/*
 * Operations on the directory of the FUSE export.  Who asks for a partition while the table is read waits in his slot.
 */
#include "fuse.h"
#include <stdio.h>

#define ATTR_SECONDS 1.0 /* names are asked for each time: a partition may be gone */

/* ---- what needs the table ---- */

static void answer_lookup(struct fuse_export *e, fuse_req_t fr, const char *name)
{
	struct fuse_entry_param ep = { .attr_timeout = ATTR_SECONDS };
	int error = 0;

	ep.ino = fuse_dir_find(e->dir, name, &error);
	if (ep.ino == 0) {
		fuse_reply_errno(fr, error);
		return;
	}
	ep.attr = fuse_file_stat(e, ep.ino);
	td_ignore(fuse_reply_entry(fr, &ep));
}

/* Nothing cached of the listing: it is short. */
static void answer_opendir(fuse_req_t fr)
{
	struct fuse_file_info fi = { 0 };

	td_ignore(fuse_reply_open(fr, &fi));
}

static void answer(struct fuse_export *e, struct fuse_slot *s)
{
	fuse_req_t fr = s->fr;

	s->fr = NULL;
	if (s->lookup)
		answer_lookup(e, fr, s->lookup);
	else
		answer_opendir(fr);
	fuse_slot_put(s);
	e->in_flight--;
	e->answered(e);
}

/* The reading itself is counted down last: without anything in flight the export may be freed. */
static void table_is_there(struct fuse_export *e)
{
	struct fuse_slot *s;

	while ((s = SLIST_FIRST(&e->waiting))) {
		SLIST_REMOVE_HEAD(&e->waiting, link);
		answer(e, s);
	}
	e->in_flight--;
	e->answered(e);
}

/* True: the request waits in the slot that it was read to.  lookup: what is looked for, in the slot's memory. */
static bool wait_for_table(fuse_req_t fr, const char *lookup)
{
	struct fuse_export *e = fuse_req_userdata(fr);

	if (!fuse_dir_refresh(e->dir, table_is_there))
		return false;
	e->current->fr = fr;
	e->current->lookup = lookup;
	e->in_flight++;
	SLIST_INSERT_HEAD(&e->waiting, e->current, link);
	return true;
}

/* ---- operations ---- */

static void op_lookup(fuse_req_t fr, fuse_ino_t parent, const char *name)
{
	struct fuse_export *e = fuse_req_userdata(fr);

	if (parent != FUSE_ROOT_ID)
		fuse_reply_errno(fr, -ENOENT);
	else if (strncmp(name, "part", 4) != 0 || !wait_for_table(fr, name))
		answer_lookup(e, fr, name);
}

static void op_opendir(fuse_req_t fr, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	if (!wait_for_table(fr, NULL))
		answer_opendir(fr);
}

/* Entry number i; false: there is none of this number.  A number stays with its name whatever the table becomes. */
static bool entry(const struct fuse_dir *d, off_t i, char name[16], struct stat *ret_st)
{
	static const char *const fixed[] = { ".", "..", "disk" };

	*ret_st = (struct stat){ .st_ino = FUSE_ROOT_ID, .st_mode = S_IFDIR };
	if (i < 2) {
		snprintf(name, 16, "%s", fixed[i]);
		return true;
	}
	*ret_st = (struct stat){ .st_ino = FUSE_DISK_INO + (ino_t)(i - 2), .st_mode = S_IFREG };
	if (i == 2)
		snprintf(name, 16, "%s", fixed[i]);
	else
		snprintf(name, 16, "part%d", (int)(i - 2));
	return i == 2 || fuse_dir_file(d, ret_st->st_ino).len > 0;
}

/* The answer is put together where a write's data would be: this request has none. */
static void op_readdir(fuse_req_t fr, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fuse_export *e = fuse_req_userdata(fr);
	size_t room = TD_MIN(size, FUSE_IO_MAX), have = 0;
	char name[16];
	struct stat st;

	(void)ino;
	(void)fi;
	for (off_t i = TD_MAX(off, 0); i <= 2 + FUSE_PARTS_MAX; i++) {
		size_t n;

		if (!entry(e->dir, i, name, &st))
			continue;
		n = fuse_add_direntry(fr, e->current->data + have, room - have, name, &st, i + 1);
		if (n > room - have)
			break;
		have += n;
	}
	td_ignore(fuse_reply_buf(fr, e->current->data, have));
}

/* What is here is on the disk; nothing can be made or removed.  (Without these it would be ENOSYS.) */
static void op_mknod(fuse_req_t fr, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	(void)parent, (void)name, (void)mode, (void)dev;
	fuse_reply_errno(fr, -EPERM);
}

static void op_mkdir(fuse_req_t fr, fuse_ino_t parent, const char *name, mode_t mode)
{
	op_mknod(fr, parent, name, mode, 0);
}

static void op_unlink(fuse_req_t fr, fuse_ino_t parent, const char *name)
{
	op_mknod(fr, parent, name, 0, 0);
}

static void op_symlink(fuse_req_t fr, const char *link, fuse_ino_t parent, const char *name)
{
	(void)link;
	op_mknod(fr, parent, name, 0, 0);
}

static void op_rename(fuse_req_t fr, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *new_name,
		      unsigned flags)
{
	(void)to, (void)new_name, (void)flags;
	op_mknod(fr, parent, name, 0, 0);
}

static void op_link(fuse_req_t fr, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	(void)ino;
	op_mknod(fr, parent, name, 0, 0);
}

const struct fuse_lowlevel_ops fuse_dir_ops = {
	.init = fuse_op_init,
	.lookup = op_lookup,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_unlink,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.getattr = fuse_op_getattr,
	.setattr = fuse_op_setattr,
	.open = fuse_op_open,
	.release = fuse_op_release,
	.read = fuse_op_read,
	.write = fuse_op_write,
	.flush = fuse_op_flush,
	.fsync = fuse_op_fsync,
	.fallocate = fuse_op_fallocate,
	.lseek = fuse_op_lseek,
	.statfs = fuse_op_statfs,
};
