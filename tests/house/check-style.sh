#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# check-style.sh [TOP]: what a machine can say of the house style.
#
#  - the licence is on line 1 (line 2 after #!) of each source, script and makefile
#  - no notes to self, no trailing blanks, no line over 120 columns
#  - files of at most 700 lines; functions of at most 80 outside tests/
#  - a folder has its page, README.md
#
# One line for each finding: FILE:LINE: what. Exit 1 if there is one.
set -euo pipefail
export LC_ALL=C.UTF-8

cd "${1:-${srcdir:-.}}"
MAX_COLUMNS=120 MAX_FILE=700 MAX_FUNCTION=80
out=$(mktemp)
trap 'rm -f "$out"' EXIT

rooms()
{
	local dir
	for dir in include formats drivers blktap client xen tapback tools tests man doc .ci; do
		[ ! -d "$dir" ] || echo "$dir"
	done
}

# What is written by hand; a build in the tree leaves other things beside it.
sources()
{
	rooms | xargs -I{} find {} -type f \( -name '*.[chS]' -o -name '*.sh' -o -name '*.py' -o -name '*.mk' \
		-o -path '.ci/*' \) | sort
	for file in bootstrap configure.ac Makefile.am; do
		[ ! -f "$file" ] || echo "$file"
	done
}

pages()
{
	find . -maxdepth 1 -name '*.md'
	rooms | xargs -I{} find {} -type f \( -name '*.md' -o -name '*.[1-9]' -o -name '*.in' \) | sort
}

check_licence()
{
	local file
	sources | while read -r file; do
		head -n 2 "$file" | grep -q 'SPDX-License-Identifier: BSD-2-Clause' ||
			echo "$file:1: no SPDX-License-Identifier: BSD-2-Clause on the first line"
	done
}

# finding WHAT: grep's FILE:LINE:TEXT becomes FILE:LINE: WHAT.
finding()
{
	sed -E "s/^([^:]*:[0-9]+):.*/\\1: $1/"
}

check_lines()
{
	{ sources; pages; } | xargs -d '\n' grep -HnE "[[:blank:]]+$" | finding "blanks at the end of the line"
	# Split, so that this script does not find itself.
	{ sources; pages; } | xargs -d '\n' grep -HnwE "TO""DO|FIX""ME|XX""X" |
		finding "a note to self: do it, or open an issue"
	sources | while read -r file; do
		expand "$file" | awk -v f="$file" -v max="$MAX_COLUMNS" \
			'length($0) > max { printf "%s:%d: %d columns; at most %d\n", f, NR, length($0), max }'
	done
}

check_file_lengths()
{
	sources | grep -E '\.([ch]|sh)$' | xargs -d '\n' wc -l | awk -v max="$MAX_FILE" \
		'$2 != "total" && $1 > max { printf "%s:%d: the file has %d lines; at most %d\n", $2, max, $1, max }'
}

# A function's body is between a { and a } in column 1; its name is the last word before a ( above it.
check_function_lengths()
{
	sources | grep '\.c$' | grep -v '^tests/' | xargs -r -d '\n' awk -v max="$MAX_FUNCTION" '
		/^[a-z_A-Z].*\(/ { head = $0; sub(/\(.*/, "", head); sub(/.*[ *]/, "", head) }
		/^\{/ { start = FNR }
		/^\}/ && start {
			n = FNR - start - 1
			if (n > max)
				printf "%s:%d: %s has %d lines; at most %d\n", FILENAME, start, head, n, max
			start = 0
		}'
}

check_pages()
{
	local dir
	for dir in formats drivers drivers/rt drivers/io drivers/qcow2 blktap xen tools include/blktap \
		tests tests/unit tests/rt tests/driver tests/fuzz tests/house tests/e2e \
		tests/testbed tests/xen man; do
		[ ! -d "$dir" ] || [ -f "$dir/README.md" ] || echo "$dir/README.md:1: the folder has no page"
	done
}

{
	check_licence
	check_lines
	check_file_lengths
	check_function_lengths
	check_pages
} >"$out" || :
cat "$out"
[ ! -s "$out" ] || exit 1
echo "style: in order ($(sources | wc -l) files)"
