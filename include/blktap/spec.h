// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk specification as users write it:
 *
 *	SPEC = node[/node]...:PATH		node = name[(opt=val,...)]
 *
 *	qcow2:/srv/a.qcow2			a qcow2 image in a file
 *	aio(direct=off):/srv/a.img		a raw file through the page cache
 *	fault(read-every=100)/qcow2:/srv/a	a filter above the format
 *	qcow2/fault(write-every=9)/aio:/srv/a	a filter below it
 *
 * The first node is the top.  The stack ends at the first ':' outside parentheses; PATH is taken whole and may hold
 * ':' and ','.  "tap:", "tap2:" and "tapdisk:" in front are accepted and dropped, as Xen's configurations write them.
 * Where the last node is a format or a filter, an aio leaf is added below it, with which it shares its options.
 */
#ifndef BLKTAP_SPEC_H
#define BLKTAP_SPEC_H

#include <blktap/opts.h>

#define TD_SPEC_NODES 8

struct td_spec_node {
	char name[32];
	struct td_opts opts;
};

struct td_spec {
	unsigned nr;
	struct td_spec_node node[TD_SPEC_NODES]; /* node[0] is the top */
	char *path;
	const char *
		called; /* create: the path that the image is given once it is whole; NULL: path.  The caller's */
	char *text;     /* as given, without tap: and friends; for messages and lists */
};

/* *ret_spec is the caller's: td_spec_free.  Names are not looked up here. */
TD_CHECK int td_spec_parse(const char *text, struct td_spec **ret_spec, struct td_err *ret_err);
void td_spec_free(struct td_spec *spec);

/* Back to text, of the nodes as they are now; a new string of the caller's.  NULL: no memory. */
char *td_spec_format(const struct td_spec *spec);

/*
 * The same specification with these options of its first node of this name changed or added, as a new text of the
 * caller's.  -ENOENT: there is no such node.
 */
TD_CHECK int td_spec_change(const char *text, const char *driver, const struct td_opts *opts, char **ret_text,
			    struct td_err *ret_err);

#endif
