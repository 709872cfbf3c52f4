// SPDX-License-Identifier: BSD-2-Clause
/*
 * What `info` says of an image, as JSON and for people.  See facts.h.
 */
#include "facts.h"
#include <blktap/err.h>
#include <blktap/opts.h>

#include <stdio.h>
#include <sys/stat.h>

#include "snaps.h"
#include "tools/common/print.h"

/* ---- values ---- */

/* A driver says values as text: numbers and booleans become what they are. */
static json_t *value_of_text(const char *name, const char *text)
{
	char *end;
	long long v;

	if (strcmp(name, "data-file") == 0) /* whatever it looks like */
		return print_name(text);
	if (strcmp(text, "true") == 0 || strcmp(text, "on") == 0)
		return json_true();
	if (strcmp(text, "false") == 0 || strcmp(text, "off") == 0)
		return json_false();
	errno = 0;
	v = strtoll(text, &end, 10);
	if (strcmp(name, "compat") != 0 && *text && !*end && !errno)
		return json_integer(v);
	return json_string(text);
}

static int set(json_t *o, const char *name, json_t *value)
{
	return json_object_set_new(o, name, value) < 0 ? -ENOMEM : 0;
}

/* Facts that stand beside "format", not inside "format-specific", and what they are called there. */
static const char *general_name(const char *name)
{
	static const char *const names[][2] = {
		{ "cluster-size", "cluster-size" },
		{ "dirty", "dirty-flag" },
		{ "encrypted", "encrypted" },
		{ "snapshots", "snapshot-count" },
	};

	for (size_t i = 0; i < TD_NELEMS(names); i++)
		if (strcmp(names[i][0], name) == 0)
			return names[i][1];
	return NULL;
}

/* "encrypt.format" is "format" in an object "encrypt". */
static json_t *group_of(json_t *data, const char **name)
{
	const char *dot = strchr(*name, '.');
	char group[32];
	json_t *o;

	if (!dot || dot - *name >= (ptrdiff_t)sizeof(group))
		return data;
	(void)snprintf(group, sizeof(group), "%.*s", (int)(dot - *name), *name);
	*name = dot + 1;
	o = json_object_get(data, group);
	if (!o)
		(void)json_object_set_new(data, group, json_object());
	return json_object_get(data, group);
}

static int add_fact(json_t *facts, json_t *data, const struct td_opt *o)
{
	const char *general = general_name(o->name), *name = o->name;
	json_t *to;

	if (general)
		return set(facts, general, value_of_text(o->name, o->value));
	to = group_of(data, &name);
	return to ? set(to, name, value_of_text(name, o->value)) : -ENOMEM;
}

static json_t *bitmap_fact(const struct td_bitmap_info *b)
{
	json_t *flags = json_array();
	int r = 0;

	if (b->in_use)
		r = json_array_append_new(flags, json_string("in-use"));
	if (r == 0 && b->enabled)
		r = json_array_append_new(flags, json_string("auto"));
	if (r < 0) {
		json_decref(flags);
		return NULL;
	}
	return json_pack("{s:o, s:o, s:I}", "flags", flags, "name", print_name(b->name), "granularity",
			 (json_int_t)b->granularity);
}

json_t *facts_bitmaps(const struct td_image *im)
{
	json_t *list = json_array();
	struct td_bitmap_list l;
	int r = td_image_bitmaps(im, &l);

	for (unsigned i = 0; r == 0 && i < l.nr; i++)
		r = json_array_append_new(list, bitmap_fact(&l.at[i]));
	td_bitmap_list_done(&l);
	if (r == 0)
		return list;
	json_decref(list);
	return NULL;
}

static int add_bitmaps(json_t *data, const struct td_image *im)
{
	json_t *list = facts_bitmaps(im);

	if (json_array_size(list) > 0)
		return set(data, "bitmaps", list);
	json_decref(list);
	return list ? 0 : -ENOMEM;
}

/* Of formats: what a leaf says of itself is how it was opened now, not what the image is. */
static int add_driver_facts(json_t *facts, struct td_image *im)
{
	json_t *data = json_object();
	struct td_opts o = { 0 };
	int r = 0;

	if (!data)
		return -ENOMEM;
	if ((im->drv->flags & TD_FORMAT) && im->drv->info)
		r = im->drv->info(im, &o);
	for (unsigned i = 0; i < o.nr && r == 0; i++)
		r = add_fact(facts, data, &o.opt[i]);
	td_opts_done(&o);
	if (r == 0)
		r = add_bitmaps(data, im);
	if (r == 0 && json_object_size(data) > 0)
		r = set(facts, "format-specific",
			json_pack("{s:s, s:O}", "type", im->drv->name, "data", data));
	json_decref(data);
	return r;
}

/* ---- the backing file ---- */

static json_t *full_backing_name(const struct td_image *im)
{
	const char *slash = im->backing_path[0] == '/' ? NULL : strrchr(im->path, '/');
	char *full;
	json_t *v;

	if (!slash)
		return print_name(im->backing_path);
	if (asprintf(&full, "%.*s/%s", (int)(slash - im->path), im->path, im->backing_path) < 0)
		return NULL;
	v = print_name(full);
	free(full);
	return v;
}

static int add_backing(json_t *facts, const struct td_image *im)
{
	int r;

	if (!im->backing_path)
		return 0;
	r = set(facts, "backing-filename", print_name(im->backing_path));
	if (r == 0)
		r = set(facts, "full-backing-filename", full_backing_name(im));
	if (r == 0 && im->backing_format)
		r = set(facts, "backing-filename-format", print_name(im->backing_format));
	return r;
}

/* ---- snapshots ---- */

/* Of an image whose list of them is damaged all else is said, and how many there should be. */
static int add_snapshots(json_t *facts, struct td_image *im)
{
	struct td_snaps snaps;
	int r = td_image_snapshots(im, &snaps, NULL);

	if (r < 0)
		return r == -EUCLEAN || r == -ENOTSUP ? 0 : r;
	r = snaps.nr > 0 ? set(facts, "snapshots", snaps_json(&snaps)) : 0;
	td_snaps_done(&snaps);
	return r;
}

/* ---- one image ---- */

static int add_file(json_t *facts, const struct td_image *im)
{
	struct stat st;
	int r;

	r = set(facts, "filename", print_name(im->path));
	/* A driver without a file (null, ram) has nothing to measure. */
	if (r == 0 && im->path[0] && stat(im->path, &st) == 0)
		r = set(facts, "actual-size", json_integer((json_int_t)st.st_blocks * 512));
	return r;
}

const char *facts_format(const struct td_image *im)
{
	const struct td_driver *drv = td_image_layer(im)->drv;

	return drv->flags & TD_LEAF ? "raw" : drv->name;
}

int facts_of_image(struct td_image *im, json_t **ret_facts, struct td_err *ret_err)
{
	json_t *facts = json_object();
	const char *format = facts_format(im);
	int r;

	im = td_image_layer(im);
	if (!facts)
		return -ENOMEM;
	r = set(facts, "virtual-size", json_integer((json_int_t)im->size));
	if (r == 0)
		r = set(facts, "format", json_string(format));
	if (r == 0)
		r = set(facts, "dirty-flag", json_false());
	if (r == 0)
		r = add_file(facts, im);
	if (r == 0)
		r = add_backing(facts, im);
	if (r == 0)
		r = add_snapshots(facts, im);
	if (r == 0)
		r = add_driver_facts(facts, im);
	if (r < 0) {
		json_decref(facts);
		return td_err_set(ret_err, r, "%s: %s", im->name, strerror(-r));
	}
	*ret_facts = facts;
	return 0;
}

/* ---- for people ---- */

static void print_text(const json_t *facts, const char *label, const char *name)
{
	const char *s = json_string_value(json_object_get(facts, name));

	if (!s)
		return;
	printf("%s: ", label);
	print_safe(s);
	putchar('\n');
}

static void print_bytes(const json_t *facts, const char *label, const char *name, bool exact)
{
	const json_t *v = json_object_get(facts, name);
	char buf[PRINT_SIZE_LEN];

	if (!v)
		return;
	printf("%s: %s", label, print_size((uint64_t)json_integer_value(v), buf));
	if (exact)
		printf(" (%lld bytes)", (long long)json_integer_value(v));
	putchar('\n');
}

static void print_backing(const json_t *facts)
{
	const char *name = json_string_value(json_object_get(facts, "backing-filename"));
	const char *full = json_string_value(json_object_get(facts, "full-backing-filename"));

	if (!name)
		return;
	printf("backing file: ");
	print_safe(name);
	if (full && strcmp(full, name) != 0) {
		printf(" (actual path: ");
		print_safe(full);
		putchar(')');
	}
	putchar('\n');
	print_text(facts, "backing file format", "backing-filename-format");
}

/* As qemu-img prints lists of objects. */
static void print_bitmaps(const json_t *list)
{
	printf("    bitmaps:\n");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *b = json_array_get(list, i), *flags = json_object_get(b, "flags");

		printf("        [%zu]:\n            flags:\n", i);
		for (size_t k = 0; k < json_array_size(flags); k++)
			printf("                [%zu]: %s\n", k, json_string_value(json_array_get(flags, k)));
		printf("            name: ");
		print_safe(json_string_value(json_object_get(b, "name")));
		printf("\n            granularity: %lld\n",
		       (long long)json_integer_value(json_object_get(b, "granularity")));
	}
}

static void print_specific(const char *name, json_t *value, int indent)
{
	if (json_is_array(value)) {
		print_bitmaps(value);
		return;
	}
	printf("%*s", indent, "");
	for (const char *p = name; *p; p++)
		putchar(*p == '-' ? ' ' : *p);
	if (json_is_object(value)) {
		printf(":\n");
		for (void *it = json_object_iter(value); it; it = json_object_iter_next(value, it))
			print_specific(json_object_iter_key(it), json_object_iter_value(it), indent + 4);
	} else if (json_is_string(value)) {
		printf(": ");
		print_safe(json_string_value(value));
		putchar('\n');
	} else if (json_is_integer(value))
		printf(": %lld\n", (long long)json_integer_value(value));
	else
		printf(": %s\n", json_is_true(value) ? "true" : "false");
}

void facts_print(const json_t *facts)
{
	json_t *data = json_object_get(json_object_get(facts, "format-specific"), "data");
	const json_t *cluster = json_object_get(facts, "cluster-size");

	print_text(facts, "image", "filename");
	print_text(facts, "file format", "format");
	print_bytes(facts, "virtual size", "virtual-size", true);
	print_bytes(facts, "disk size", "actual-size", false);
	if (cluster)
		printf("cluster_size: %lld\n", (long long)json_integer_value(cluster));
	if (json_is_true(json_object_get(facts, "encrypted")))
		printf("encrypted: yes\n");
	if (json_is_true(json_object_get(facts, "dirty-flag")))
		printf("cleanly shut down: no\n");
	print_backing(facts);
	snaps_print(json_object_get(facts, "snapshots"));
	if (!json_object_get(facts, "snapshots") &&
	    json_integer_value(json_object_get(facts, "snapshot-count")) > 0)
		printf("internal snapshots: %lld\n",
		       (long long)json_integer_value(json_object_get(facts, "snapshot-count")));
	if (data)
		printf("Format specific information:\n");
	for (void *it = json_object_iter(data); it; it = json_object_iter_next(data, it))
		print_specific(json_object_iter_key(it), json_object_iter_value(it), 4);
}
