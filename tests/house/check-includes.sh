#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# check-includes.sh [TOP [BUILD]]: who may include and call whom.
#
#  - a file includes "x.h" only from its own folder (tools/ also from tools/common/), <blktap/x.h> only as the table
#    below allows its room
#  - headers do not include each other in a circle
#  - in the objects of BUILD (default: the current folder; none there: not checked): functions call only downward
#    between rooms, and files of one room do not call each other in a circle
#
# One line for each finding: FILE:LINE: what. Exit 1 if there is one.
set -euo pipefail

top=${1:-${srcdir:-.}}
build=${2:-$PWD}
cd "$top"
found=0

say()
{
	echo "$*"
	found=1
}

# ---- the table ----

# Public headers by the room that implements them; a header that is not named here is nobody's: add it.
room_of_header()
{
	case $1 in
	base) echo all ;;
	background | co | err | hist | iov | lock | log | loop | opts | pool) echo rt ;;
	io) echo io ;;
	blkif | guid | luks | qcow2 | qcow | vdi | vhd | vhdx | vmdk) echo formats ;;
	check | codec | crypt | edge | grains | image | keep | meta | packed | policy | spec) echo drivers ;;
	ctl | export | stats | usock | vbd) echo blktap ;;
	ringwire) echo all ;; # numbers on a wire between two programs
	xs) echo xen ;;
	*) echo unknown ;;
	esac
}

# The room of a source file.
room_of_file()
{
	case $1 in
	include/*) echo include ;;
	formats/*) echo formats ;;
	drivers/rt/*) echo rt ;;
	drivers/io/*) echo io ;;
	drivers/aio*) echo leaf ;;
	drivers/filelock*) echo leaf ;;
	drivers/*/*) echo format-drivers ;;
	drivers/*) echo drivers ;;
	blktap/*) echo blktap ;;
	client/*) echo client ;;
	xen/*) echo xen ;;
	tapback/*) echo tapback ;;
	tools/*) echo tools ;;
	*) echo tests ;;
	esac
}

# may ROOM HEADER-ROOM HEADER: whether files of ROOM may include it.
may()
{
	[ "$2" = all ] && return 0
	case $1:$2 in
	include:*) return 0 ;; # circles are checked; a header may name what it needs
	formats:formats) return 0 ;;
	formats:rt) [ "$3" = err ] ;; # the sentence beside an errno, nothing that runs
	rt:rt) return 0 ;;
	io:rt | io:io) return 0 ;;
	leaf:rt | leaf:io | leaf:drivers) return 0 ;;
	drivers:rt | drivers:formats | drivers:drivers) return 0 ;;
	format-drivers:rt) [ "$3" != loop ] ;; # a format waits for its child, never for a descriptor
	format-drivers:formats | format-drivers:drivers) return 0 ;;
	blktap:rt | blktap:io | blktap:drivers | blktap:blktap) return 0 ;;
	blktap:formats | client:formats) [ "$3" = blkif ] ;; # the ring's ABI, and no image format
	xen:rt) [ "$3" = err ] ;;
	xen:xen) return 0 ;;
	tapback:rt | tapback:xen) return 0 ;;
	tapback:blktap) [ "$3" = ctl ] ;;
	tools:*) return 0 ;;
	tests:*) return 0 ;;
	*) return 1 ;;
	esac
}

# calls_may FROM-ROOM TO-ROOM: whether functions of one call functions of the other.
calls_may()
{
	case $1:$2 in
	formats:rt | formats:formats | rt:rt) return 0 ;;
	io:rt | io:io) return 0 ;;
	leaf:rt | leaf:io | leaf:leaf | leaf:drivers) return 0 ;;
	drivers:rt | drivers:formats | drivers:drivers | drivers:leaf) return 0 ;;
	format-drivers:rt | format-drivers:formats | format-drivers:drivers | format-drivers:format-drivers) return 0 ;;
	blktap:rt | blktap:io | blktap:drivers | blktap:blktap | blktap:formats) return 0 ;;
	client:formats | client:client | xen:xen) return 0 ;;
	tapback:rt | tapback:xen | tapback:blktap | tapback:tapback) return 0 ;;
	tools:*) return 0 ;;
	*) return 1 ;;
	esac
}

# ---- includes ----

sources()
{
	local dir
	for dir in include formats drivers blktap client xen tapback tools; do
		[ ! -d "$dir" ] || find "$dir" -name '*.[ch]' | sort
	done
}

# FILE:LINE:"x.h" or FILE:LINE:<x.h>
includes()
{
	sources | xargs -r grep -HnoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<][^">]*[">]' |
		sed -E 's/#[[:space:]]*include//; s/[[:space:]]//g'
}

check_public()
{
	local file=$1 line=$2 name=$3 room to
	room=$(room_of_file "$file")
	to=$(room_of_header "$name")
	if [ ! -f "include/blktap/$name.h" ]; then
		say "$file:$line: there is no include/blktap/$name.h"
	elif [ "$to" = unknown ]; then
		say "$file:$line: <blktap/$name.h> is in no room: name it in ${BASH_SOURCE[0]##*/}"
	elif ! may "$room" "$to" "$name"; then
		say "$file:$line: $room may not include <blktap/$name.h> ($to)"
	fi
}

check_private()
{
	local file=$1 line=$2 name=$3
	case $name in
	config.h) return ;;
	tools/common/*) # what the commands share
		case $file in
		tools/*) [ -f "$name" ] || say "$file:$line: there is no $name" ;;
		*) say "$file:$line: \"$name\" is for tools/ only" ;;
		esac
		;;
	*/*) say "$file:$line: \"$name\" is in another folder: its public face is in include/" ;;
	*) [ -f "${file%/*}/$name" ] || say "$file:$line: \"$name\" is not beside the file" ;;
	esac
	case $file in
	include/*) say "$file:$line: a public header includes \"$name\"" ;;
	esac
}

# The codecs do not touch the system.
check_system()
{
	local file=$1 line=$2 name=$3
	case $file:$name in
	formats/*:unistd.h | formats/*:fcntl.h | formats/*:sys/* | formats/*:pthread.h | formats/*:linux/*)
		say "$file:$line: formats are pure: not <$name>" ;;
	esac
}

check_includes()
{
	local file line what name
	while IFS=: read -r file line what; do
		name=${what:1:-1}
		case $what in
		'"'*) check_private "$file" "$line" "$name" ;;
		'<blktap/'*) name=${name#blktap/}; check_public "$file" "$line" "${name%.h}" ;;
		*) check_system "$file" "$line" "$name" ;;
		esac
	done < <(includes)
}

# ---- circles ----

# Pairs "a b" on stdin: a needs b.  Each circle is named with its members.
circles()
{
	local out
	out=$(tsort 2>&1 >/dev/null) || true
	# tsort: "-: input contains a loop:", then the members one a line.
	sed -n 's/^tsort: //p' <<<"$out" | awk '
		/input contains a loop/ { if (c != "") print c; c = ""; next }
		{ c = c (c == "" ? "" : " -> ") $0 }
		END { if (c != "") print c }'
}

check_header_circles()
{
	local circle
	while read -r circle; do
		say "${circle%% *}:1: headers include each other: $circle"
	done < <(includes | while IFS=: read -r file _ what; do
		case $file:$what in
		*.h:'<blktap/'*) what=${what#<}; echo "$file include/${what%>}" ;;
		*.h:'"'*) what=${what#\"}; echo "$file ${file%/*}/${what%\"}" ;;
		esac
	done | circles)
}

# ---- calls, by the symbols of objects ----

# drivers/rt/co.o, formats/libformats_a-compress.o -> drivers/rt/co.c ...
source_of()
{
	local dir=${1%/*} base=${1##*/}
	base=${base%.o}
	[ -f "$dir/$base.c" ] || base=${base#*-}
	[ ! -f "$dir/$base.c" ] || echo "$dir/$base.c"
}

# "D symbol file" for functions defined, "U symbol file" for what is called (or pointed at).
symbols()
{
	local dir obj src
	for dir in formats drivers blktap client xen tapback tools; do
		[ ! -d "$build/$dir" ] || (cd "$build" && find "$dir" -name '*.o' | sort)
	done | while read -r obj; do
		src=$(source_of "$obj")
		[ -n "$src" ] || continue
		nm "$build/$obj" 2>/dev/null | awk -v f="$src" '
			$2 == "T" { print "D", $3, f }
			$1 == "U" { print "U", $2, f }'
	done
}

# "caller callee symbol" between different files.
calls()
{
	symbols | awk '
		$1 == "D" { at[$2] = $3 }
		$1 == "U" { n++; sym[n] = $2; from[n] = $3 }
		END {
			for (i = 1; i <= n; i++)
				if (sym[i] in at && at[sym[i]] != from[i])
					print from[i], at[sym[i]], sym[i]
		}' | sort -u
}

line_of()
{
	grep -nwm1 "$2" "$1" | cut -d: -f1
}

check_calls()
{
	local calls from to sym circle
	calls=$(calls)
	while read -r from to sym; do
		[ -n "$from" ] || continue
		calls_may "$(room_of_file "$from")" "$(room_of_file "$to")" ||
			say "$from:$(line_of "$from" "$sym"): calls $sym of $to: not downward"
	done <<<"$calls"
	while read -r circle; do
		say "${circle%% *}:1: files call each other: $circle"
	done < <(awk 'NF { print $1, $2 }' <<<"$calls" | sort -u | circles)
}

check_includes
check_header_circles
check_calls
[ "$found" = 0 ] && echo "includes and calls: in order ($(sources | wc -l) files)"
exit "$found"
