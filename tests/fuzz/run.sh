#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# tests/fuzz/run.sh [SECONDS]: each libFuzzer target for so long (default 2, or $FUZZ_SECONDS), from its corpus.
# Compiles the targets itself, with clang and the sanitizers, so that any build folder will do. A find is left in
# fuzz-found/ in the current folder; replay it with tests/fuzz/replay-NAME FILE.  The targets `image` and `ring` take
# all drivers and half a minute to compile: they run from 20 seconds on; make check has tests/fuzz/replay-image and
# -ring.
set -eu

seconds=${1:-${FUZZ_SECONDS:-2}}
src=${srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
clang=${FUZZ_CC:-clang}
names="header tables snapshots inflate"

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

flags="-std=gnu17 -D_GNU_SOURCE -O1 -g -I. -I$src/include -fsanitize=address,undefined -fno-sanitize-recover=all"
libs=-lz
if grep -q '^#define HAVE_ZSTD 1' config.h; then
	libs="$libs -lzstd"
fi
for f in "$src"/formats/*.c; do
	# shellcheck disable=SC2086 # flags are words
	"$clang" $flags -fsanitize=fuzzer-no-link -c -o "$tmp/$(basename "$f" .c).o" "$f"
done

fuzz()
{
	# shellcheck disable=SC2086
	"$clang" $flags -fsanitize=fuzzer -o "$tmp/fuzz-$1" "$src/tests/fuzz/fuzz-$1.c" "$tmp"/*.o $libs
	mkdir -p "$tmp/new-$1" fuzz-found
	if ! "$tmp/fuzz-$1" -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=512 -print_final_stats=1 \
		-artifact_prefix="fuzz-found/$1-" "$tmp/new-$1" "$src/tests/fuzz/corpus/$1" >"$tmp/log" 2>&1; then
		tail -40 "$tmp/log"
		echo "FAILED: fuzz-$1: see fuzz-found/"
		return 1
	fi
	echo "fuzz-$1: $(sed -n 's/^stat::number_of_executed_units: */executed /p' "$tmp/log") in ${seconds} s," \
		"seed $(sed -n 's/^INFO: Seed: //p' "$tmp/log")"
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
	for f in "$src"/drivers/*.c "$src"/drivers/rt/*.c "$src"/drivers/io/*.c "$src"/drivers/qcow2/*.c \
		"$src"/tests/lib/testenv.c "$src"/tests/lib/simdisk.c "$src"/tests/lib/simfile.c; do
		# shellcheck disable=SC2086
		"$clang" $flags -I"$src/tests/lib" -fsanitize=fuzzer-no-link -c \
			-o "$tmp/driver-$(echo "${f#"$src"/}" | tr / -).o" "$f"
	done
	image="fuzz-image image-input image-model image-seeds"
	for f in $image image-replay image-mutator; do
		# shellcheck disable=SC2086
		"$clang" $flags -I"$src/tests/lib" -fsanitize=fuzzer-no-link -c -o "$tmp/image-$f.obj" \
			"$src/tests/fuzz/$f.c"
	done
	libs="$libs $(sed -n 's/^URING_LIBS = //p' Makefile) -laio -lpthread"
	objs=$(for f in $image; do echo "$tmp/image-$f.obj"; done)
	# shellcheck disable=SC2086
	"$clang" $flags -fsanitize=fuzzer-no-link -o "$tmp/replay-image" "$tmp/image-image-replay.obj" $objs \
		"$tmp"/*.o $libs
	# shellcheck disable=SC2086
	"$clang" $flags -fsanitize=fuzzer -o "$tmp/fuzz-image" "$tmp/image-image-mutator.obj" $objs "$tmp"/*.o \
		$libs
	image_seeds || { echo "FAILED: fuzz-image has no seeds"; return 1; }
	mkdir -p fuzz-found "$tmp/new-image"
	if ! "$tmp/fuzz-image" -max_total_time="$seconds" -max_len=100000 -rss_limit_mb=1024 -malloc_limit_mb=1024 \
		-timeout=20 -print_final_stats=1 -artifact_prefix=fuzz-found/image- "$tmp/new-image" "$tmp/seeds" \
		>"$tmp/log" 2>&1; then
		tail -40 "$tmp/log"
		echo "FAILED: fuzz-image: see fuzz-found/"
		return 1
	fi
	echo "fuzz-image: $(sed -n 's/^stat::number_of_executed_units: */executed /p' "$tmp/log") in ${seconds} s," \
		"seed $(sed -n 's/^INFO: Seed: //p' "$tmp/log")"
}

# The ring server on a disk in memory: the drivers' objects are those of fuzz_image.
fuzz_ring()
{
	cflags="$flags -I$src/tests/lib -I$src/blktap/ring $(sed -n 's/^JANSSON_CFLAGS = //p' Makefile)"
	ring="ring/ring.c ring/ring-request.c ring/ring-grants.c ring/ring-journal.c ring/ring-features.c"
	for f in vbd.c vbd-state.c $ring; do
		# shellcheck disable=SC2086
		"$clang" $cflags -fsanitize=fuzzer-no-link -c -o "$tmp/blktap-$(echo "$f" | tr / -).obj" \
			"$src/blktap/$f"
	done
	# shellcheck disable=SC2086
	"$clang" $cflags -fsanitize=fuzzer -o "$tmp/fuzz-ring" "$src/tests/fuzz/fuzz-ring.c" "$tmp"/blktap-*.obj \
		"$tmp"/*.o $libs
	mkdir -p fuzz-found "$tmp/new-ring"
	if ! "$tmp/fuzz-ring" -max_total_time="$seconds" -max_len=1024 -rss_limit_mb=1024 -timeout=20 \
		-print_final_stats=1 -artifact_prefix=fuzz-found/ring- "$tmp/new-ring" "$src/tests/fuzz/corpus/ring" \
		>"$tmp/log" 2>&1; then
		tail -40 "$tmp/log"
		echo "FAILED: fuzz-ring: see fuzz-found/"
		return 1
	fi
	echo "fuzz-ring: $(sed -n 's/^stat::number_of_executed_units: */executed /p' "$tmp/log") in ${seconds} s," \
		"seed $(sed -n 's/^INFO: Seed: //p' "$tmp/log")"
}

for name in $names; do
	fuzz "$name"
done
if [ "$seconds" -ge 20 ]; then
	fuzz_image
	fuzz_ring
fi
rmdir fuzz-found 2>/dev/null || :
