// SPDX-License-Identifier: BSD-2-Clause
/*
 * Snapshots, shown as JSON and for people.  See snaps.h.
 */
#include "snaps.h"

#include <stdio.h>
#include <time.h>

#include "tools/common/print.h"

#define NSEC 1000000000ull

static json_t *one_json(const struct td_snap *s)
{
	json_t *o = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "id", print_name(s->id), "name",
			      print_name(s->name), "vm-state-size", (json_int_t)s->vm_state_size, "date-sec",
			      (json_int_t)s->date_sec, "date-nsec", (json_int_t)s->date_nsec, "vm-clock-sec",
			      (json_int_t)(s->vm_clock_nsec / NSEC), "vm-clock-nsec",
			      (json_int_t)(s->vm_clock_nsec % NSEC));

	if (o && s->has_icount && json_object_set_new(o, "icount", json_integer((json_int_t)s->icount)) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *snaps_json(const struct td_snaps *snaps)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < snaps->nr; i++) {
		if (json_array_append_new(list, one_json(&snaps->at[i])) == 0)
			continue;
		json_decref(list);
		return NULL;
	}
	return list;
}

static long long number(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

static void print_padded(const char *text, unsigned width)
{
	size_t len = strlen(text);

	print_safe(text);
	if (len < width)
		printf("%*s", (int)(width - len), "");
}

static void print_one(const json_t *o)
{
	char size[PRINT_SIZE_LEN], date[32] = "?", clock[48], icount[24] = "";
	time_t when = (time_t)number(o, "date-sec");
	long long sec = number(o, "vm-clock-sec");
	struct tm tm;

	if (localtime_r(&when, &tm))
		(void)strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(clock, sizeof(clock), "%02lld:%02lld:%02lld.%03lld", sec / 3600, sec / 60 % 60, sec % 60,
		 number(o, "vm-clock-nsec") / 1000000);
	if (json_object_get(o, "icount"))
		snprintf(icount, sizeof(icount), "%lld", number(o, "icount"));
	print_padded(json_string_value(json_object_get(o, "id")), 10);
	print_padded(json_string_value(json_object_get(o, "name")), 17);
	printf("%8s%20s%13s%11s\n", print_size((uint64_t)number(o, "vm-state-size"), size), date, clock,
	       icount);
}

void snaps_print(const json_t *list)
{
	if (json_array_size(list) == 0)
		return;
	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK",
	       "ICOUNT");
	for (size_t i = 0; i < json_array_size(list); i++)
		print_one(json_array_get(list, i));
}
