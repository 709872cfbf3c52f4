// SPDX-License-Identifier: BSD-2-Clause
/*
 * Disks and configuration files as people write them, and random ones.  See lines.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <blktap/base.h>

#include "lines.h"

const char *const lines[] = {
	"/dev/vg/guest,raw,xvda,rw",
	"/dev/vg/guest,,hda",
	"/srv/a.img,raw,xvda,w",
	"/srv/a.qcow2,qcow2,xvdb,ro",
	"format=raw, vdev=xvda, access=rw, target=/dev/vg/guest",
	"raw:/dev/vg/guest,xvda,w",
	"phy:/dev/vg/guest,xvda,w",
	"phy:vg/guest,sda1,r",
	"file:/srv/a.img,xvda,w",
	"tap:aio:/srv/a.img,xvda,w",
	"tap:qcow2:/srv/a.qcow2,xvda,w",
	"tap:qcow:/srv/a.qcow,xvda,w",
	"tap:vhd:/srv/a.vhd,xvda,w",
	"tap:tapdisk:aio:/srv/a.img,xvda,w",
	"tap2:aio:/srv/a.img,xvda1,r",
	"tap2:tapdisk:qcow2:/srv/a.qcow2,xvda,w",
	"tap:ioemu:/srv/a.img,hda,w",
	"tap:vmdk:/srv/a.vmdk,xvda,w",
	"tap:tapdisk:vmdk:/srv/a.vmdk,xvda,w",
	"tap:aio:/srv/a=b.img,xvda,w",
	"tap:aio:/srv/a.img,xvda,w!",
	"phy:/dev/vg/guest,xvda,w,storage",
	"vmdk:/srv/a.vmdk,xvda,w",
	"vmdk:a.vmdk,xvda,w",
	"/srv/a.vmdk,vmdk,xvda,w",
	"format=vmdk,vdev=xvda,access=w,target=/srv/a.vmdk",
	"file:/srv/cd.iso,hdc:cdrom,r",
	"/srv/cd.iso,raw,hdc:cdrom,r",
	",hdc:cdrom,r",
	",,hdc:cdrom,r",
	",empty,hdc:cdrom",
	"phy:,hdc:cdrom,r",
	",raw,hdc,r,cdrom",
	"vdev=hdc,access=r,devtype=cdrom,target=/srv/cd.iso",
	"vdev=hdc,devtype=cdrom",
	"vdev=hdc,cdrom,format=empty",
	"/dev/vg/guest,raw,xvda:disk,w",
	"/dev/vg/guest,raw,xvda:floppy,w",
	"script=block-tapdisk,vdev=xvda,access=w,target=qcow2:/srv/a.qcow2",
	"script=block-tapdisk, vdev=xvda, access=w, target=vmdk:/srv/odd, name=1.vmdk",
	"vdev=xvda,script=/opt/block-mine,target=a,b=c",
	"iscsi:iqn.2001-05.com:disk,xvda,w",
	"nbd:server:1000,xvda,w",
	"enbd:1000,xvda,w",
	"drbd:guest-a,xvda,w",
	"backendtype=qdisk,format=qcow2,vdev=xvda,target=/srv/a.qcow2",
	"backendtype=tap,script=block-tapdisk,vdev=xvda,target=qcow2:/srv/a.qcow2",
	"backendtype=phy,backendtype=phy,vdev=xvda,target=/srv/a.img",
	"backendtype=phy,backendtype=tap,vdev=xvda,target=/srv/a.img",
	"backendtype=standalone,specification=virtio,vdev=xvda,target=/srv/a.img",
	"specification=xen,specification=virtio,vdev=xvda,target=/srv/a.img",
	"backend=storage,vdev=xvda,target=/dev/vg/guest",
	"vdev=xvda,direct-io-safe,discard,target=/srv/a.img",
	"vdev=xvda,no-discard,trusted,target=/srv/a.img",
	"vdev=xvda,untrusted,target=/srv/a.img,",
	"vdev=xvda,grant_usage=1,target=/srv/a.img",
	"vdev=xvda,grant_usage=2,target=/srv/a.img",
	("vdev=xvda,colo,colo-host=h,colo-port=9000,colo-export=e,active-disk=a,hidden-disk=b,target=/srv/"
	 "a.img"),
	"vdev=xvda,colo-port=none,target=/srv/a.img",
	"vdev=xvda,vdev=xvdb,target=/srv/a.img",
	"vdev=,vdev=xvdb,target=/srv/a.img",
	"format=qcow2,format=raw,vdev=xvda,target=/srv/a.img",
	"format=,vdev=xvda,access=,target=/srv/a.img",
	"  /srv/a.img,raw,xvda,w",
	"/srv/a.img, raw, xvda, w",
	"/srv/a.img,raw,xvda,w ",
	"/srv/a.img,raw,xvda,w,x",
	"/srv/a.img,raw,xvda,w,",
	"/srv/a.img,raw,xvda,w,discard",
	"/srv/a.img",
	"xvda",
	"vdev=xvda",
	"target=/srv/a.img",
	"",
	",",
	",,,,",
	"=",
	" ",
	"unknown=x,vdev=xvda,target=/srv/a.img",
	"unknown=long,vdev=xvda,target=/srv/a.img",
	"unknown=,vdev=xvda,target=/srv/a.img",
	"target=/srv/a\n.img,vdev=xvda",
	"/srv/a\n.img,raw,xvda,w",
	"tap:/srv/a\n.img,xvda,w",
	"devtype=tape,vdev=xvda,target=/dev/st0",
	"access=x,vdev=xvda,target=/srv/a.img",
	"specification=kvm,vdev=xvda,target=/srv/a.img",
	"cdrom,vdev=hdc,target=/srv/cd.iso",
	"cdromx,raw,hdc,r",
	"discards,raw,hdc,r",
	"/srv/\xc3\xa4.img,raw,xvda,w",
};
const size_t lines_nr = sizeof(lines) / sizeof(*lines);

const char *const files[] = {
	"",
	"\n",
	"disk = [ 'phy:/dev/a,xvda,w' ]\n",
	"disk=['phy:/dev/a,xvda,w']",
	("name = \"guest\"\nmemory = 128 # MiB\ndisk = [ 'tap:aio:/srv/a.img,xvda,w',\n         "
	 "\"file:/b,xvdb,r\",\n]\n"),
	"disk = [\n'a,raw,xvda,w' , # the first\n\n'b,raw,xvdb,w'\n# none\n]\nvif = ['']\n",
	"disk = [ 'a' ]\ndisk += [ 'b', 'c' ]\n",
	"disk += [ 'a' ]\n",
	"x = [[ 'a\\qb' ]\n]\n",
	"disk = [ 'a' ]\ndisk = [ 'b' ]\ndisk += [ 'c' ]\n",
	"disk = []\n",
	"disk = [ ]; disk += [ 'a' ]; name = 'x'\n",
	"disk = [ 'a', 'b' 'c' ]\n",
	"disk = [ , ]\n",
	"disk = [ 'a',, ]\n",
	"disk = [ 'a' \"b\" ]\n",
	"disk = 'a'\n",
	"disk = [ ['a'], 'b' ]\n",
	"disk = [ 'a' ] # end",
	"disk = [ 'a\\'b\\\\c\\td' ]\n",
	"disk = [ 'a\\qb' ]\n",
	"disk = [ 'it\"s', \"it's\" ]\n",
	"disk = [ 'open ]\n",
	"disk = [ 'a'\n",
	"disk = [ 'a' + 'b' ]\n",
	"name = Guest\ndisk = [ 'a' ]\n",
	"import os\ndisk = [ 'a' ]\n",
	"builder = 'hvm'\nusb=1;usbdevice='tablet'\ndisk = [ 'a' ]\nvcpus=0x2\n",
	"vif = [ 'mac=00:16:3e:00:00:01', [ 'x' ], ]\ndisk = [ 'a' ]\n",
	"name = 'a\nb'\ndisk = [ 'a' ]\n",
	"  disk = [ 'a' ]\n\tname = 'x'\n",
	"disk=[1,2,'a']\n",
	"a.b_c = 'x'\ndisk = [ 'a' ]\n",
	"Disk = [ 'a' ]\n",
};
const size_t files_nr = sizeof(files) / sizeof(*files);

/* ---- chance ---- */

static unsigned state;

unsigned random_seed(void)
{
	const char *text = getenv("TEST_SEED");

	state = text ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);
	printf("TEST_SEED=%u\n", state);
	return state;
}

unsigned random_rounds(unsigned otherwise)
{
	const char *text = getenv("TEST_ROUNDS");

	return text ? (unsigned)strtoul(text, NULL, 10) * 1000 : otherwise;
}

/* xorshift: the same everywhere for a seed. */
unsigned random_below(unsigned n)
{
	state += state == 0;
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return (state >> 3) % n;
}

static const char *const pieces[] = {
	",",
	",",
	",",
	"=",
	":",
	" ",
	"\t",
	"\n",
	"a",
	"/p",
	"tap:",
	"tap2:",
	"tapdisk:",
	"aio:",
	"file:",
	"phy:",
	"qcow2:",
	"qcow:",
	"vhd:",
	"raw:",
	"ioemu:",
	"vmdk:",
	"iscsi:",
	"nbd:",
	"drbd:",
	"enbd:",
	"x9:",
	"format=",
	"raw",
	"qcow2",
	"empty",
	"qed",
	"vdev=",
	"xvda",
	"hdc",
	":cdrom",
	":disk",
	"access=",
	"rw",
	"ro",
	"r",
	"w",
	"w!",
	"script=",
	"block-x",
	"backend=",
	"backendtype=",
	"phy",
	"tap",
	"qdisk",
	"standalone",
	"specification=",
	"xen",
	"virtio",
	"cdrom",
	"devtype=",
	"discard",
	"no-discard",
	"trusted",
	"untrusted",
	"direct-io-safe",
	"target=",
	"target=/x,",
	"colo",
	"colo-port=",
	"80",
	"no-",
	"x-y=",
	"b=c,",
	"\\",
	"!",
};

static const char *const file_pieces[] = {
	"disk",
	" = ",
	"=",
	"+=",
	"[",
	"]",
	",",
	"'",
	"\"",
	"\n",
	"\n",
	";",
	"#",
	"'a,b'",
	"\"c\"",
	"name",
	"= 'x'",
	"12",
	"0x",
	" ",
	"\t",
	"()",
	"\\",
	"\\\n",
	"\\'",
	"if ",
	":",
	"disk[",
	"A",
	"-",
	"'''",
	"{",
	"disk = [ 'a' ]\n",
	"disk += [ 'b' ]\n",
	"import x\n",
	"\n  ",
	"eval",
	"1.5",
	"'disk'",
};

/* A change of buf: a piece in, a part out, a byte changed. */
static void change(char *buf, size_t size, const char *const *from, unsigned nr)
{
	size_t len = strlen(buf), at = random_below((unsigned)len + 1);
	const char *piece = from[random_below(nr)];

	switch (random_below(4)) {
	case 0:
	case 1:
		if (len + strlen(piece) + 1 > size)
			return;
		memmove(buf + at + strlen(piece), buf + at, len - at + 1);
		memcpy(buf + at, piece, strlen(piece));
		return;
	case 2:
		if (at < len) {
			size_t n = 1 + random_below((unsigned)TD_MIN(len - at, (size_t)8));

			memmove(buf + at, buf + at + n, len - at - n + 1);
		}
		return;
	default:
		if (at < len)
			buf[at] = (char)(1 + random_below(255));
	}
}

void random_line(char *buf, size_t size)
{
	unsigned n = random_below(5);

	snprintf(buf, size, "%s", random_below(4) ? lines[random_below((unsigned)lines_nr)] : "");
	if (!*buf)
		n = random_below(12);
	while (n-- > 0)
		change(buf, size, pieces, TD_NELEMS(pieces));
}

void random_file(char *buf, size_t size)
{
	unsigned n = random_below(4);

	snprintf(buf, size, "%s%s", files[random_below((unsigned)files_nr)],
		 random_below(3) ? "" : files[random_below((unsigned)files_nr)]);
	while (n-- > 0)
		change(buf, size, file_pieces, TD_NELEMS(file_pieces));
}
