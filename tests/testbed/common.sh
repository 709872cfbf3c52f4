# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Shared by fetch.sh and run.sh (sourced).
set -euo pipefail

cache=${BLKTAP_TESTBED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blktap/testbed}
root=$cache/root # the unpacked packages
# shellcheck disable=SC2034 # of the scripts that source this
testbed=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
libdir=$root/usr/lib/x86_64-linux-gnu

die()
{
	echo "testbed: $*" >&2
	exit 125
}

# put TREE SRC DEST: copy one file or folder into a guest's tree; for each ELF file also the shared libraries that it
# names (all laid flat in the loader's default folder, so RUNPATHs of a build tree need not exist in the guest).
put()
{
	local tree=$1 src=$2 dest=$3 file lib to
	[ -e "$src" ] || die "no such file: $src"
	[[ $dest != */ ]] || dest+=$(basename "$src")
	mkdir -p "$tree/$(dirname "$dest")"
	cp -rLT "$src" "$tree/$dest"
	while IFS= read -r -d '' file; do
		while read -r lib; do
			case $lib in
			/lib64/*) to=$lib ;;
			*) to=/lib/x86_64-linux-gnu/${lib##*/} ;;
			esac
			mkdir -p "$tree${to%/*}"
			[ -e "$tree$to" ] || cp -L "$lib" "$tree$to"
		done < <(libs_of "$file")
	done < <(find -L "$src" -type f -print0)
}

# The libraries that one ELF file needs, one path a line; nothing if it is static or no ELF file. The fetched packages'
# libraries win over the host's.
libs_of()
{
	[ "$(head -c4 "$1" 2>/dev/null | tr -d '\0')" = $'\x7fELF' ] || return 0
	local out
	out=$(LD_LIBRARY_PATH=$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ldd "$1" 2>/dev/null) || return 0
	! grep -q 'not found' <<<"$out" || die "$1: $(grep -m1 'not found' <<<"$out" | sed 's/^[[:space:]]*//')"
	sed -nE 's/^\s*(.* => )?(\/[^ ]+) \(0x.*/\2/p' <<<"$out"
}

# pack TREE FILE: an uncompressed cpio archive owned by root (the kernel takes several, one after the other).
pack()
{
	(cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio -0 --quiet -o -H newc -R 0:0) >"$2"
}
