#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# tests/fuzz/run.sh [SECONDS]: each libFuzzer target for so long (default 2, or $FUZZ_SECONDS), from its corpus.
# Compiles the targets itself, with clang and the sanitizers, so that any build folder will do. A find is left in
# fuzz-found/ in the current folder; replay it with tests/fuzz/replay-NAME FILE.
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

for name in $names; do
	fuzz "$name"
done
rmdir fuzz-found 2>/dev/null || :
