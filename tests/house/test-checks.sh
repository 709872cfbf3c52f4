#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The house checks find what they are there for: each on a bad sample, by file and line; and nothing in a good one.
set -euo pipefail

here=$(cd "${srcdir:-.}/tests/house" && pwd)
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT

fail()
{
	echo "FAILED: $*" >&2
	exit 1
}

# put FILE: stdin under the licence line.
put()
{
	mkdir -p "$T/src/$(dirname "$1")"
	{ echo "// SPDX-License-Identifier: BSD-2-Clause"; cat; } >"$T/src/$1"
}

# says CHECK LINE: the check fails and has the line.
says()
{
	local check=$1 line=$2 out
	if out=$("$here/$check" "$T/src" "$T/build"); then
		fail "$check is content; expected: $line"
	fi
	grep -qxF -- "$line" <<<"$out" || fail "$check says \"$out\"; expected: $line"
}

# circle WHAT MEMBER: check-includes.sh names a circle with that member in it.
circle()
{
	local out
	out=$("$here/check-includes.sh" "$T/src" "$T/build") || :
	grep -q "$1: .*$2.* -> " <<<"$out" || fail "no circle of $2 in: $out"
}

content()
{
	"$here/$1" "$T/src" "$T/build" >"$T/out" || fail "$1 finds in a good tree: $(cat "$T/out")"
}

good_tree()
{
	rm -rf "$T/src" "$T/build"
	mkdir -p "$T/build"
	local h
	for h in base err image io qcow2 loop; do put "include/blktap/$h.h" </dev/null; done
	put formats/qcow2-a.c <<<'#include <blktap/qcow2.h>'
	put drivers/aio.c <<<'#include <blktap/io.h>'
	for h in formats drivers include/blktap; do echo "# $h" >"$T/src/$h/README.md"; done
}

# compile FILE: its object, where a build would leave it.
compile()
{
	mkdir -p "$T/build/$(dirname "$1")"
	${CC:-cc} -w -I"$T/src/include" -c -o "$T/build/${1%.c}.o" "$T/src/$1"
}

good_tree
content check-includes.sh
content check-style.sh

# ---- includes ----

put formats/bad.c <<<'#include <blktap/image.h>'
says check-includes.sh 'formats/bad.c:2: formats may not include <blktap/image.h> (drivers)'
put formats/bad.c <<<'#include <unistd.h>'
says check-includes.sh 'formats/bad.c:2: formats are pure: not <unistd.h>'
good_tree
put drivers/chain.c <<<'#  include <blktap/io.h>'
says check-includes.sh 'drivers/chain.c:2: drivers may not include <blktap/io.h> (io)'
put drivers/chain.c <<<'#include "rt/sanitize.h"'
says check-includes.sh 'drivers/chain.c:2: "rt/sanitize.h" is in another folder: its public face is in include/'
put drivers/chain.c <<<'#include "gone.h"'
says check-includes.sh 'drivers/chain.c:2: "gone.h" is not beside the file'
put drivers/chain.c <<<'#include <blktap/gone.h>'
says check-includes.sh 'drivers/chain.c:2: there is no include/blktap/gone.h'
good_tree
put include/blktap/odd.h </dev/null
put drivers/chain.c <<<'#include <blktap/odd.h>'
says check-includes.sh 'drivers/chain.c:2: <blktap/odd.h> is in no room: name it in check-includes.sh'
good_tree
put include/blktap/image.h <<<'#include <blktap/io.h>'
put include/blktap/io.h <<<'#include <blktap/image.h>'
circle 'headers include each other' include/blktap/i

# ---- calls ----

good_tree
put drivers/a.c <<<'void b(void); void a(void) { b(); }'
put drivers/b.c <<<'void a(void); void b(void) { a(); }'
compile drivers/a.c
compile drivers/b.c
circle 'files call each other' 'drivers/[ab].c'
good_tree
put drivers/rt/up.c <<<'void b(void); void a(void) { b(); }'
put drivers/b.c <<<'void b(void) { }'
echo >"$T/src/drivers/rt/README.md"
compile drivers/rt/up.c
compile drivers/b.c
says check-includes.sh 'drivers/rt/up.c:2: calls b of drivers/b.c: not downward'

# ---- style ----

good_tree
echo 'int x;' >"$T/src/formats/bare.c"
says check-style.sh 'formats/bare.c:1: no SPDX-License-Identifier: BSD-2-Clause on the first line'
good_tree
put formats/notes.c <<<"int x; /* TO""DO: y */"
says check-style.sh 'formats/notes.c:2: a note to self: do it, or open an issue'
put formats/notes.c <<<'int x; '
says check-style.sh 'formats/notes.c:2: blanks at the end of the line'
put formats/notes.c < <(printf '\t/* %0110d */\n' 0)
says check-style.sh 'formats/notes.c:2: 124 columns; at most 120'
put formats/notes.c < <(echo 'int long_one(void)'; echo '{'; seq -f '	f(%g);' 81; echo '}')
says check-style.sh 'formats/notes.c:3: long_one has 81 lines; at most 80'
put formats/notes.c < <(seq -f 'int x%g;' 700)
says check-style.sh 'formats/notes.c:700: the file has 701 lines; at most 700'
good_tree
rm "$T/src/formats/README.md"
says check-style.sh 'formats/README.md:1: the folder has no page'
echo "the checks find their bad samples"
