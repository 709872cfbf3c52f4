#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# libblktap-client as somebody else's program finds it: installed, by pkg-config, the manual page's example as it
# stands, shared and static, in C and in C++; it needs nothing but the C library, and shows nothing but its own names.
. "${srcdir:-.}/tests/e2e/lib.sh"
require pkg-config gcc make
[ -f "$BUILD/client/libblktap-client.la" ] || skip "the library is not built"
grep -q fsanitize "$BUILD/client/libblktap-client.la" "$BUILD/config.status" && skip "a build with sanitizers"

env -u MAKEFLAGS -u MFLAGS make -s -C "$BUILD" install-libLTLIBRARIES install-includeHEADERS install-pkgconfigDATA \
	DESTDIR="$T/inst" >"$T/make.log" 2>&1 || fail "make install: $(cat "$T/make.log")"
pc=$(find "$T/inst" -name blktap-client.pc)
[ -n "$pc" ] || fail "no blktap-client.pc"
lib=$(dirname "$(find "$T/inst" -name libblktap-client.so)")
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$T/inst
read -ra flags <<<"$(pkg-config --cflags --libs blktap-client)"
read -ra cflags <<<"$(pkg-config --cflags blktap-client)"
[ ${#flags[@]} -ge 2 ] || fail "pkg-config"

# The page's example: between .Bd and .Ed, roff's backslash undone.
sed -n '/^#include <blktap-client.h>/,/^\.Ed/p' "$srcdir/man/libblktap-client.3" |
	sed '/^\.Ed/d; s/\\e/\\/g' >"$T/first.c"
gcc -Wall -Wextra -Werror -o "$T/first" "$T/first.c" "${flags[@]}" || fail "the example does not build"
gcc -o "$T/first-static" "$T/first.c" "${cflags[@]}" "$lib/libblktap-client.a" -pthread ||
	fail "the example does not build with the archive"
if command -v g++ >/dev/null; then
	echo '#include <blktap-client.h>' | g++ -Wall -Werror -fsyntax-only -x c++ - "${cflags[@]}" ||
		fail "the header is no C++"
fi

random_file "$T/disk" 1048576
start_tapdisk --ring "unix:$T/r" "raw:$T/disk"
for program in first first-static; do
	LD_LIBRARY_PATH=$lib "$T/$program" "unix:$T/r" >"$T/out" || fail "$program"
	cmp "$T/out" <(head -c 4096 "$T/disk") || fail "$program read something else"
done
LD_LIBRARY_PATH=$lib expect_fail "none: cannot connect" "$T/first" "unix:$T/none"
stop_tapdisk

needs=$(objdump -p "$lib/libblktap-client.so" | awk '/NEEDED/ { print $2 }' | grep -v '^libc\.so' || true)
[ -z "$needs" ] || fail "it needs $needs"
names=$(nm -D --defined-only "$lib/libblktap-client.so" | awk '{ print $3 }' | grep -v '^blktap_' || true)
[ -z "$names" ] || fail "it shows $names"
# Each function of the header is there, and has its place in the page.
sed -n 's/^[a-z].*[ *]\(blktap_[a-z_]*\)(.*/\1/p' "$srcdir/client/blktap-client.h" | sort -u >"$T/declared"
nm -D --defined-only "$lib/libblktap-client.so" | awk '{ print $3 }' | sort -u | cmp - "$T/declared" ||
	fail "header and library differ"
while read -r name; do
	grep -q "^\.Fn $name" "$srcdir/man/libblktap-client.3" || fail "$name is not in the page"
done <"$T/declared"
say "passed: $(wc -l <"$T/declared") functions"
