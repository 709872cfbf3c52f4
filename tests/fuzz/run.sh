#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# tests/fuzz/run.sh [SECONDS [TARGET...]]: each libFuzzer target for so long (default 2, or $FUZZ_SECONDS), from its
# corpus; with $TEST_SEED the same again.  Compiles the targets itself, with clang and the sanitizers, so that any build
# folder will do.  A find is left in fuzz-found/ in the current folder; replay it with tests/fuzz/replay-NAME FILE.
# The targets that take all drivers need half a minute to compile: without being named they run from 20 seconds on; make
# check replays their corpora (tests/fuzz/replay-*).
set -eu

seconds=${1:-${FUZZ_SECONDS:-2}}
[ $# = 0 ] || shift
src=${srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
clang=${FUZZ_CC:-clang}
codecs="header tables snapshots bitmaps inflate luks qcow vdi vhd vhdx vmdk"
drivers="refcounts image ring nbd"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

skip()
{
	echo "skipped: $1"
	exit 77
}

command -v "$clang" >/dev/null || skip "$clang is not installed"
cat >"$tmp/try.c" <<'END'
int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size);
int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size)
{
	return size > 9 && data[9] == 9;
}
END
"$clang" -fsanitize=fuzzer,address,undefined -o "$tmp/try" "$tmp/try.c" 2>/dev/null || skip "$clang has no libFuzzer"

flags="-std=gnu17 -D_GNU_SOURCE -O1 -g -I. -I$src/include -I$src/tests/lib -I$src/tests/driver -I$src/drivers"
flags="$flags -I$src/blktap -I$src/blktap/ring $(sed -n 's/^JANSSON_CFLAGS = //p' Makefile)"
flags="$flags -fsanitize=address,undefined -fno-sanitize-recover=all"
libs='ZLIB\|LIBDEFLATE\|ZSTD\|CRYPTO\|NETTLE\|URING\|PTHREAD\|JANSSON'
libs=$(sed -n "s/^\($libs\)_LIBS = //p; s/^LIBS = //p" Makefile | tr '\n' ' ')

# compile KIND FILE...: objects of that kind.
compile()
{
	kind=$1
	shift
	for f in "$@"; do
		# shellcheck disable=SC2086 # flags are words
		"$clang" $flags -fsanitize=fuzzer-no-link -c \
			-o "$tmp/$kind-$(echo "${f#"$src"/}" | tr / -).o" "$f"
	done
}

# build NAME KIND...: the target of that name, of its own file and all objects of these kinds.
build()
{
	name=$1
	shift
	compile "target$name" "$src/tests/fuzz/fuzz-$name.c"
	objs=$(for kind in "target$name" "$@"; do echo "$tmp/$kind"-*.o; done)
	# shellcheck disable=SC2086
	"$clang" $flags -fsanitize=fuzzer -o "$tmp/fuzz-$name" $objs $libs
}

# fuzz NAME CORPUS OPTION...
fuzz()
{
	name=$1 corpus=$2
	shift 2
	mkdir -p "$tmp/new-$name" fuzz-found
	if ! "$tmp/fuzz-$name" -max_total_time="$seconds" ${TEST_SEED:+-seed=$((TEST_SEED % 1000000000))} \
		-timeout=100 -print_final_stats=1 -artifact_prefix="fuzz-found/$name-" "$@" "$tmp/new-$name" \
		"$corpus" >"$tmp/log" 2>&1; then
		tail -40 "$tmp/log"
		echo "FAILED: fuzz-$name: see fuzz-found/"
		return 1
	fi
	echo "fuzz-$name: $(sed -n 's/^stat::number_of_executed_units: */executed /p' "$tmp/log") in ${seconds} s," \
		"seed $(sed -n 's/^INFO: Seed: //p' "$tmp/log")"
	[ -z "${FUZZ_KEEP:-}" ] || cp -r "$tmp/new-$name" "$FUZZ_KEEP/"
}

# Whole images: ours, and a few by qemu-img, which knows compression and snapshots.
image_seeds()
{
	mkdir -p "$tmp/seeds"
	"$tmp/replay-image" --seeds "$tmp/seeds" 2>/dev/null || return 1
	command -v qemu-img >/dev/null || return 0
	for opts in cluster_size=512 cluster_size=1k,refcount_bits=64 cluster_size=2k,compat=0.10; do
		q="$tmp/seeds/qemu-$opts"
		head -c 9000 /dev/urandom >"$tmp/raw"
		head -c 20000 "$src/tests/fuzz/run.sh" >>"$tmp/raw"
		truncate -s 256k "$tmp/raw"
		qemu-img convert -q -c -f raw -O qcow2 -o "$opts" "$tmp/raw" "$q"
		qemu-img snapshot -c one "$q"
	done
}

fuzz_image()
{
	for f in image-input image-model image-seeds; do
		compile image "$src/tests/fuzz/$f.c"
	done
	compile mutator "$src/tests/fuzz/image-mutator.c"
	compile targetimage "$src/tests/fuzz/fuzz-image.c"
	compile replay "$src/tests/fuzz/image-replay.c"
	# shellcheck disable=SC2086
	"$clang" $flags -o "$tmp/replay-image" "$tmp"/replay-*.o "$tmp"/targetimage-*.o "$tmp"/image-*.o \
		"$tmp"/driver-*.o "$tmp"/codec-*.o $libs
	build image image mutator driver codec
	image_seeds || { echo "FAILED: fuzz-image has no seeds"; return 1; }
	fuzz image "$tmp/seeds" -max_len=100000 -rss_limit_mb=1024 -malloc_limit_mb=1024
}

# The daemon's part: the disk, and the exports that decode what a client says.
compile_daemon()
{
	[ ! -e "$tmp/daemon" ] || return 0
	compile daemon "$src"/blktap/vbd*.c "$src"/blktap/nbd-*.c "$src"/blktap/usock.c
	for f in ring ring-request ring-grants ring-journal ring-features; do
		compile daemon "$src/blktap/ring/$f.c"
	done
	touch "$tmp/daemon"
}

compile_drivers()
{
	[ ! -e "$tmp/driver" ] || return 0
	compile driver "$src"/drivers/*.c "$src"/drivers/*/*.c \
		"$src"/tests/lib/testenv.c "$src"/tests/lib/sim*.c
	touch "$tmp/driver"
}

one()
{
	case $1 in
	header | tables | snapshots | bitmaps | inflate | luks | qcow | vdi | vhd | vhdx | vmdk)
		build "$1" codec
		fuzz "$1" "$src/tests/fuzz/corpus/$1" -max_len=4096 -rss_limit_mb=512
		;;
	image)
		compile_drivers
		fuzz_image
		;;
	refcounts)
		compile_drivers
		compile fsck "$src/tests/driver/qcow2-fsck.c"
		build refcounts fsck driver codec
		fuzz refcounts "$src/tests/fuzz/corpus/refcounts" -max_len=256 -rss_limit_mb=1024
		;;
	ring | nbd)
		compile_drivers
		compile_daemon
		build "$1" daemon driver codec
		fuzz "$1" "$src/tests/fuzz/corpus/$1" -max_len=1024 -rss_limit_mb=1024
		;;
	*)
		echo "no target is called $1; there are: $codecs $drivers" >&2
		exit 2
		;;
	esac
}

compile codec "$src"/formats/*.c
if [ $# = 0 ]; then
	# shellcheck disable=SC2086
	set -- $codecs
	# shellcheck disable=SC2086
	[ "$seconds" -lt 20 ] || set -- $codecs $drivers
fi
status=0
for name in "$@"; do
	one "$name" || status=1
done
rmdir fuzz-found 2>/dev/null || :
exit $status
