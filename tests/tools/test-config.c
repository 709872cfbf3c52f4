// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-config's pure part: what is read of a file and a disk, what is refused with which words, and the verdicts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lines.h"
#include "tools/tap-config/config.h"
#include "tools/tap-config/verdict.h"

/* ---- files ---- */

/* The disks of a file, "|" behind each; or "!" and what is refused. */
static void read_file(const char *text, size_t len, char *buf, size_t size)
{
	const struct cfg_item **items;
	struct td_err err = { .msg = "" };
	struct cfg cfg;
	unsigned nr;

	buf[0] = '\0';
	if (cfg_parse(text, len, &cfg, &err) < 0) {
		snprintf(buf, size, "!%s", err.msg);
		return;
	}
	if (cfg_list(&cfg, "disk", &items, &nr, &err) < 0) {
		snprintf(buf, size, "!%s", err.msg);
	} else {
		for (unsigned i = 0; i < nr; i++) {
			size_t n = strlen(buf);

			snprintf(buf + n, size - n, "%s|", items[i]->text);
			/* What is translated is found again by its place. */
			assert_true(items[i]->off + items[i]->len <= len);
			assert_true(strchr("'\"0123456789", text[items[i]->off]) != NULL);
		}
		free(items);
	}
	cfg_free(&cfg);
}

static void test_files(void **state)
{
	static const struct {
		const char *text, *says;
	} table[] = {
		{ "", "" },
		{ "disk = [ 'a', \"b\" ]\n", "a|b|" },
		{ "disk = [\n 'a',\n# no\n\n 'b'\n,]", "a|b|" },
		{ "disk = ['a']\ndisk += ['b']\nx = 1; disk += ['c']", "a|b|c|" },
		{ "disk = ['a']\ndisk += ['b']\ndisk = ['c']\n", "c|" },
		{ "  disk = ['a']\n", "a|" },
		{ "disk = ['it\\'s', \"\\\"\\\\\"]", "it's|\"\\|" },
		{ "disk = [ 1, 2 ]", "1|2|" },
		/* of xm: code that cannot matter */
		{ "import os, re\narch = os.uname()[4]\nif re.search('64', arch):\n    lib = 'lib64'\ndisk = "
		  "['a']\n",
		  "a|" },
		{ "def f(x):\n\treturn [ x,\n  1 ]\nkernel = '''many\nlines'''\ndisk = ['a']\n", "a|" },
		{ "name = Guest\nmemory = \\\n 128\nvif = [ dict(a=1), ]\ndisk = ['a']\n", "a|" },
		{ "disk = ['a'] # the end", "a|" },
		{ "if a:\n  b = 1\n\n# c\ndisk = ['a']\n", "a|" },
		{ "x = 'disks'\nf('disks', mydisk)\ndisk2 = [ y ]\ndisk = ['a']\n", "a|" },
		/* code that could */
		{ "name = 'x'\ndisk = [ 'a' + 'b' ]\n", "!line 2: code with the name disk" },
		{ "disk = [ 'phy:%s,xvda,w' % x ]\n", "!line 1: code with the name disk" },
		{ "disk = [ 'a' 'b' ]\n", "!line 1: code with the name disk" },
		{ "if x:\n  disk = ['a']\n", "!line 2: code with the name disk" },
		{ "if x:\n  y = 1; disk = ['a']\n", "!line 2: code with the name disk" },
		{ "if x: y = 1; disk = ['a']\n", "!line 1: code with the name disk" },
		{ "disk = ['a']\nfor x in y:\n\n    disk.append(x)\n", "!line 4: code with the name disk" },
		{ "disk = ['a']\ndisk[0] = 'b'\n", "!line 2: code with the name disk" },
		{ "d['disk'] = 'b'\n", "!line 1: code with the name disk" },
		{ "exec(open('x').read())\n", "!line 1: code that may set any name" },
		{ "a = [\n eval('x') ]\n", "!line 2: code that may set any name" },
		{ "from site import *\ndisk = ['a']\n", "!line 1: code that may set any name" },
		{ "a = b * c\ndisk = ['a']\n", "a|" },
		/* what is none */
		{ "disk = 'a'\n", "!line 1: disk is no list" },
		{ "disk = [ ['a'] ]\n", "!line 1: a list inside the list disk" },
		{ "x='a'\nx += ['b']\n", "!line 2: x += of a list to a single value" },
		{ "disk = ['a\n']\n", "!line 1: a string without its second quote" },
		{ "x = 1\ndisk = ['a\\\n']\n", "!line 2: a string without its second quote" },
		{ "disk = ['a'", "!line 1: code with the name disk" },
		{ "\nvif = [ 'a'\n", "!line 2: a bracket that is never closed" },
		{ "x = '''a\n", "!line 1: a string in triple quotes" },
		{ "disk = ['\\x41']\n", "!line 1: the escape \\x" },
		{ "disk = ['a']\r\n", "!line 1: a carriage return" },
	};
	char buf[1024];

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(table); i++) {
		read_file(table[i].text, strlen(table[i].text), buf, sizeof(buf));
		if (strncmp(buf, table[i].says, *buf == '!' ? strlen(table[i].says) : sizeof(buf)) != 0 ||
		    (*buf == '!') != (*table[i].says == '!'))
			fail_msg("%s\nreads as: %s\nshould be: %s", table[i].text, buf, table[i].says);
	}
	read_file("disk = ['a']\n\0", 14, buf, sizeof(buf));
	assert_string_equal(buf, "!line 2: a NUL byte: no guest configuration");
}

/* ---- disks that xl refuses ---- */

static void test_wide(void **state)
{
	static const struct {
		const char *text, *spec, *theirs;
	} table[] = {
		{ "tap:vmdk:/p,xvda,w", "vmdk:/p", NULL },
		{ "tap:tapdisk:vmdk:/p,xvda,r", "vmdk:/p", NULL },
		{ "tap2:vmdk:/p,xvda,w,storage", "vmdk:/p", NULL },
		{ "format=vmdk,vdev=xvda,access=w,target=/p,q", "vmdk:/p,q", NULL },
		{ "/p,vmdk,xvda,w", "vmdk:/p", NULL },
		{ "tap:aio:/p=q,xvda,w", "aio:/p=q", "format=raw,vdev=xvda,access=w,target=/p=q" },
		{ "tap:qcow2:/p=q,r,xvda,r", "qcow2:/p=q,r",
		  "format=qcow2,vdev=xvda,access=r,target=/p=q,r" },
		{ "phy:/dev/x,xvda,w!", "aio:/dev/x", "format=raw,vdev=xvda,access=w,target=/dev/x" },
		{ "phy:/dev/x,xvda,w,1", "aio:/dev/x",
		  "format=raw,vdev=xvda,access=w,backend=1,target=/dev/x" },
		{ "file:/a=b.iso,hdc:cdrom,r", "aio:/a=b.iso",
		  "format=raw,vdev=hdc,access=w,devtype=cdrom,target=/a=b.iso" },
		{ "tap:aio:/p,xvda", NULL, NULL },
		{ "tap:aio:/p,xvda:tape,w=", NULL, NULL },
		{ "tap:aio:=,,w", NULL, NULL },
		{ "/p=q,xvda,w", NULL, NULL },
		{ "tap:vmdk:,xvda,w", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(table); i++) {
		struct disk d = { 0 };
		char *spec = NULL, *theirs = NULL;
		int r = disk_parse(table[i].text, &d, NULL);

		disk_done(&d);
		if (i != 10) /* this one xl takes */
			assert_int_equal(r, -EINVAL);
		r = disk_parse_wide(table[i].text, &d, NULL);
		if (i == 10 || !table[i].spec) {
			assert_true(i == 10 || r == -EINVAL);
			disk_done(&d);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(disk_spec(&d, &spec), 0);
		assert_string_equal(spec, table[i].spec);
		if (table[i].theirs) {
			assert_int_equal(disk_render(&d, false, &theirs, NULL), 0);
			assert_string_equal(theirs, table[i].theirs);
		}
		free(spec);
		free(theirs);
		disk_done(&d);
	}
}

/* What is rendered for us is read as ours, with the same specification. */
static void test_render(void **state)
{
	(void)state;
	for (size_t i = 0; i < lines_nr; i++) {
		struct disk d = { 0 }, again = { 0 };
		char *spec = NULL, *spec2 = NULL, *text = NULL;

		if (disk_parse(lines[i], &d, NULL) == 0 && disk_spec(&d, &spec) == 0 && spec &&
		    disk_render(&d, true, &text, NULL) == 0) {
			assert_int_equal(disk_parse(text, &again, NULL), 0);
			assert_true(disk_is_ours(&again));
			assert_int_equal(disk_spec(&again, &spec2), 0);
			assert_string_equal(spec, spec2);
			assert_string_equal(d.vdev, again.vdev);
			assert_int_equal(d.writable, again.writable);
			assert_int_equal(d.cdrom, again.cdrom);
			assert_int_equal(d.discard, again.discard);
		}
		free(spec);
		free(spec2);
		free(text);
		disk_done(&d);
		disk_done(&again);
	}
}

/* ---- verdicts ---- */

static const struct host ours = { .tapback = true,
				  .nr_classes = 3,
				  .classes = { "vbd3", "vbd", "qdisk" },
				  .version = 417,
				  .dm = DM_TAP,
				  .dm_path = "/dm" };

/*
 * A host, from the one above, by letters: t no tapback, q it does not serve qdisk, b blkback, Q QEMU, m no device
 * model, 9 Xen 4.19.
 */
static struct host make_host(const char *letters)
{
	struct host h = ours;

	for (; *letters; letters++) {
		h.tapback = h.tapback && *letters != 't';
		h.nr_classes -= *letters == 'q';
		h.blkback = h.blkback || *letters == 'b';
		if (*letters == 'Q')
			h.dm = DM_QEMU;
		if (*letters == 'm')
			h.dm = DM_MISSING;
		if (*letters == '9')
			h.version = 419;
	}
	return h;
}

/*
 * The target by letters: f file, d device, o neither, - none; 2 its bytes are qcow2; r not writable; s no script; n no
 * driver.
 */
static struct target make_target(const char *letters, const char *driver)
{
	struct target t = {
		.writable = true, .has_script = true, .has_driver = true, .script = "/s", .error = ENOENT
	};

	snprintf(t.driver, sizeof(t.driver), "%s", driver);
	for (; *letters; letters++) {
		if (*letters == 'f')
			t.kind = TARGET_FILE;
		else if (*letters == 'd')
			t.kind = TARGET_DEVICE;
		else if (*letters == 'o')
			t.kind = TARGET_OTHER;
		else if (*letters == '2')
			t.format = "qcow2";
		t.writable = t.writable && *letters != 'r';
		t.has_script = t.has_script && *letters != 's';
		t.has_driver = t.has_driver && *letters != 'n';
	}
	return t;
}

static void test_verdicts(void **state)
{
	static const struct {
		const char *text, *driver, *host, *guest, *target;
		enum severity severity;
		const char *class, *served, *reason;
	} table[] = {
#define OK      SEVERITY_OK
#define WARNING SEVERITY_WARNING
#define ERROR   SEVERITY_ERROR
		/* our script */
		{ "script=block-tapdisk,vdev=xvda,target=qcow2:/p", "qcow2", "", "", "f2", OK, "vbd",
		  "tapback", "" },
		{ "script=block-tapdisk,vdev=xvda,target=qcow2:/p", "qcow2", "b", "", "f2", OK, "vbd",
		  "tapback", "" },
		{ "script=block-tapdisk,vdev=xvda,target=qcow2:/p", "qcow2", "t", "", "f2", ERROR, "vbd",
		  "nobody", "tapback is not running" },
		{ "script=block-tapdisk,vdev=xvda,target=qcow2:/p", "qcow2", "", "", "f2s", ERROR, "vbd",
		  "nobody", "there is no script /s" },
		{ "script=block-tapdisk,vdev=xvda,target=qcow2:/p", "qcow2", "", "", "-", ERROR, "vbd",
		  "tapback", "its file: No such file" },
		{ "script=block-tapdisk,vdev=xvda,target=qcow2:/p", "qcow2", "", "", "f", ERROR, "vbd",
		  "tapback", "the file is no qcow2" },
		{ "script=block-tapdisk,vdev=xvda,target=vmdk:/p", "vmdk", "", "", "f2", ERROR, "vbd",
		  "tapback", "the file is qcow2, not vmdk" },
		{ "script=block-tapdisk,vdev=xvda,target=qed:/p", "qed", "", "", "f2n", ERROR, "vbd",
		  "tapback", "no driver qed" },
		{ "script=block-tapdisk,vdev=xvda,target=qcow2:/p", "qcow2", "", "", "f2r", WARNING, "vbd",
		  "tapback", "not writable" },
		{ "script=block-tapdisk,vdev=xvda,access=r,target=qcow2:/p", "qcow2", "", "", "f2r", OK,
		  "vbd", "tapback", "" },
		{ "script=block-tapdisk,backendtype=qdisk,vdev=xvda,target=qcow2:/p", "qcow2", "", "", "f2",
		  ERROR, NULL, "", "qdisk takes no script" },
		{ "script=block-tapdisk,format=qcow2,vdev=xvda,target=qcow2:/p", "qcow2", "", "", "f2", ERROR,
		  NULL, "", "phy takes nothing but raw" },
		/* raw files and devices, by Xen's script */
		{ "tap:aio:/p,xvda,w", "aio", "", "", "f", OK, "vbd", "tapback", "" },
		{ "tap:aio:/p,xvda,w", "aio", "b", "", "f", OK, "vbd", "tapback", "" },
		{ "tap:aio:/p,xvda,w", "aio", "tb", "", "f", OK, "vbd", "xen-blkback", "" },
		{ "tap:aio:/p,xvda,w", "aio", "t", "", "f", WARNING, "vbd", "nobody", "neither tapback" },
		{ "phy:/p,xvda,w", "aio", "", "", "d", OK, "vbd", "tapback", "" },
		{ "phy:/p,xvda,w", "aio", "b", "", "d", OK, "vbd", "xen-blkback", "" },
		{ "file:/p,xvda,w", "aio", "", "", "f2", WARNING, "vbd", "tapback",
		  "the file is qcow2, and the guest" },
		{ "file:/p,xvda,w", "aio", "", "", "-", ERROR, NULL, "", "xl refuses it: /p: No such file" },
		{ "file:/p,xvda,w", "aio", "", "", "fs", ERROR, "vbd", "nobody", "there is no script" },
		{ "file:/p,xvda,w", "aio", "", "", "o", ERROR, "qdisk", "tapback", "neither a regular file" },
		/* qdisk */
		{ "tap:qcow2:/p,xvda,w", "qcow2", "", "", "f2", OK, "qdisk", "tapback", "" },
		{ "tap:qcow2:/p,xvda,w", "qcow2", "m", "", "f2", ERROR, "qdisk", "nobody",
		  "there is no /dm: put tap-dm" },
		{ "tap:qcow2:/p,xvda,w", "qcow2", "Q", "", "f2", WARNING, "qdisk", "QEMU",
		  "both take the disk" },
		{ "tap:qcow2:/p,xvda,w", "qcow2", "Qq", "", "f2", OK, "qdisk", "QEMU", "libxl starts /dm" },
		{ "tap:qcow2:/p,xvda,w", "qcow2", "q", "", "f2", ERROR, "qdisk", "nobody",
		  "does not serve class qdisk" },
		{ "tap:qcow2:/p,xvda,w", "qcow2", "t", "", "f2", ERROR, "qdisk", "nobody",
		  "tap-dm, which has no disks" },
		{ "tap:qcow2:/p,xvda,w", "qcow2", "", "h", "f2", ERROR, "qdisk", "nobody",
		  "needs the real QEMU" },
		{ "tap:qcow2:/p,xvda,w", "qcow2", "", "v", "f2", ERROR, "qdisk", "nobody",
		  "needs the real QEMU" },
		{ "tap:qcow2:/p,xvda,w", "qcow2", "Q", "h", "f2", OK, "qdisk", "QEMU", "" },
		{ "tap:qcow2:/p,xvda,w", "qcow2", "", "", "-", ERROR, NULL, "", "No such file" },
		{ "backendtype=qdisk,vdev=xvda,target=/p", "aio", "", "", "-", ERROR, "qdisk", "tapback",
		  "its file" },
		{ ",hdc:cdrom,r", "", "Q", "h", "-", OK, "qdisk", "QEMU", "" },
		{ ",hdc:cdrom,r", "", "Qq", "", "-", WARNING, "qdisk", "QEMU", "an empty drive" },
		{ "backendtype=phy,vdev=hdc,cdrom,target=/p", "aio", "", "h", "f", ERROR, NULL, "",
		  "qdisk's" },
		{ "format=empty,vdev=xvda,target=", "", "", "", "-", ERROR, NULL, "", "no CD-ROM" },
		{ "format=empty,vdev=hdc,cdrom,target=/p", "", "", "", "f", ERROR, NULL, "", "and a target" },
		/* the rest */
		{ "backendtype=tap,script=block-tapdisk,vdev=xvda,target=qcow2:/p", "qcow2", "", "", "f2",
		  ERROR, NULL, "", "from Xen 4.19 on" },
		{ "backendtype=tap,script=block-tapdisk,vdev=xvda,target=qcow2:/p", "qcow2", "9", "", "f2",
		  OK, "vbd3", "tapback", "" },
		{ "backendtype=tap,format=vhd,vdev=xvda,target=/p", "vhd", "9t", "", "f2", ERROR, "vbd3",
		  "nobody", "" },
		{ "backendtype=tap,format=qcow2,vdev=xvda,target=/p", "qcow2", "9", "", "f2", ERROR, NULL, "",
		  "raw and vhd only" },
		{ "iscsi:x,xvda,w", "", "b", "", "-", OK, "vbd", "xen-blkback, on what", "" },
		{ "iscsi:x,xvda,w", "", "", "", "-", WARNING, "vbd", "nobody", "not loaded" },
		{ "phy:/p,xvda,w", "aio", "", "D", "-", OK, "vbd", "domain storage", "cannot be seen" },
		{ "specification=virtio,backendtype=standalone,vdev=xvda,target=/p", "aio", "", "", "f", OK,
		  "virtio_disk", "a virtio backend", "" },
		{ "backendtype=standalone,vdev=xvda,target=/p", "aio", "", "", "f", ERROR, NULL, "",
		  "wants specification" },
#undef OK
#undef WARNING
#undef ERROR
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(table); i++) {
		struct host h = make_host(table[i].host);
		struct guest g = { .hvm = strchr(table[i].guest, 'h') != NULL,
				   .framebuffer = strchr(table[i].guest, 'v') != NULL };
		struct target t = make_target(table[i].target, table[i].driver);
		struct disk d = { 0 };
		struct verdict v;
		bool said = !*table[i].reason;

		assert_int_equal(disk_parse(table[i].text, &d, NULL), 0);
		if (strchr(table[i].guest, 'D'))
			d.backend_domain = strdup("storage");
		disk_verdict(&d, &g, &h, &t, &v);
		for (unsigned j = 0; j < v.nr; j++)
			said = said || strstr(v.reason[j], table[i].reason);
		if (v.severity != table[i].severity || !said ||
		    strncmp(v.served, table[i].served, strlen(table[i].served)) != 0 ||
		    (v.class ? !table[i].class || strcmp(v.class, table[i].class) != 0
			     : table[i].class != NULL))
			fail_msg("row %zu, '%s': %s, class %s, served by '%s', '%s'", i, table[i].text,
				 severity_name(v.severity), v.class ? v.class : "none", v.served,
				 v.nr ? v.reason[0] : "");
		disk_done(&d);
	}
}

/* ---- hostile ---- */

/* Nothing of this may take long or be read as a disk's file that is none. */
static void test_hostile(void **state)
{
	static const char *const units[] = { "[",        "'",         "disk=[",   "disk += [ 'a' ]\n",
					     "a=1\n",    "((((",      "\"\\",     "'a',",
					     "\n",       "#",         "'''",      "\\\n",
					     "if x:\n ", "disk = ['", "tap:",     "cdrom,",
					     " ,",       " cdrom, ",  "\xff\xfe", ",,,,",
					     "=" };
	const size_t size = CFG_SIZE_MAX;
	char *text = malloc(size + 2), buf[1024];
	struct timespec from, to;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < TD_NELEMS(units); i++) {
		struct disk d = { 0 };
		size_t n = strlen(units[i]);

		for (size_t j = 0; j + n <= size; j += n)
			memcpy(text + j, units[i], n + 1);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
		read_file(text, strlen(text), buf, sizeof(buf));
		td_ignore(disk_parse(text, &d, NULL)); /* too long */
		disk_done(&d);
		text[DISK_TEXT_MAX] = '\0';
		td_ignore(disk_parse(text, &d, NULL));
		disk_done(&d);
		td_ignore(disk_parse_wide(text, &d, NULL));
		disk_done(&d);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
		if (to.tv_sec - from.tv_sec > 10)
			fail_msg("%s again and again: %ld s", units[i], (long)(to.tv_sec - from.tv_sec));
	}
	memset(text, 'a', size + 1);
	read_file(text, size + 1, buf, sizeof(buf));
	assert_non_null(strstr(buf, "larger than"));
	free(text);
}

/* Chance: under the sanitizers, and no line without a reason. */
static void test_random(void **state)
{
	char text[4 * FILE_MAX_LEN], buf[8 * FILE_MAX_LEN];
	unsigned rounds = random_rounds(20000);

	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		struct td_err err = { .msg = "" };
		struct disk d = { 0 };

		random_file(text, sizeof(text));
		read_file(text, strlen(text), buf, sizeof(buf));
		random_line(text, 4 * LINE_MAX_LEN);
		if (disk_parse_wide(text, &d, &err) < 0)
			assert_true(err.msg[0]);
		disk_done(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files),   cmocka_unit_test(test_wide),
		cmocka_unit_test(test_render),  cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_hostile), cmocka_unit_test(test_random),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
