#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Every option that a command's --help names is in its manual page and is offered by its completion; the pages are
# well-formed; --version says the version.
. "${srcdir:-.}/tests/e2e/lib.sh"

# A command, or a command and one of its verbs, in each line: whatever was built.
commands()
{
	local cmd verb
	for cmd in "$BUILD"/bin/*; do
		cmd=${cmd##*/}
		echo "$cmd"
		"$cmd" --help | sed -n '/^commands:$/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p' |
			while read -r verb; do echo "$cmd $verb"; done
	done
}

page_of()
{
	local page
	for page in "$srcdir/man/$1".[1-9]; do
		[ -e "$page" ] && echo "$page" && return
	done
	fail "$1 has no manual page"
}

# The options at the beginning of --help's lines: "-p, --pid PID   text" to "-p" and "--pid".
options_of()
{
	"$@" --help | sed -n 's/^ *\(-.*\)/\1/p' | sed 's/  .*//' |
		grep -oE '(^|[[:space:],])(-[A-Za-z0-9]|--[a-z][a-z0-9-]*)' | tr -d ' ,\t' | sort -u
}

# What bash offers for "COMMAND [VERB] -".
offered()
{
	bash -c '
		. /usr/share/bash-completion/bash_completion 2>/dev/null
		. "$1" || exit 1
		shift
		COMP_WORDS=("$@" -) COMP_CWORD=$# COMP_LINE="$* -" COMP_POINT=$((${#COMP_LINE}))
		spec=$(complete -p "$1") || exit 1
		fn=$(sed -n "s/.* -F \([^ ]*\) .*/\1/p" <<<"$spec")
		"$fn" "$1" - "${COMP_WORDS[COMP_CWORD - 1]}"
		printf "%s\n" "${COMPREPLY[@]}"
	' bash "$srcdir/tools/completions/$1" "$@"
}

checked=0
while read -r -a cmd; do
	command -v "${cmd[0]}" >/dev/null || fail "${cmd[0]} is not built"
	"${cmd[@]}" --help >"$T/help" || fail "${cmd[*]} --help: exit $?"
	[ -s "$T/help" ] || fail "${cmd[*]} --help prints nothing"
	"${cmd[@]}" --version | grep -q '[0-9]\.[0-9]' || fail "${cmd[*]} --version prints no version"
	[ -e "$srcdir/tools/completions/${cmd[0]}" ] || fail "${cmd[0]} has no completion"
	page=$(page_of "${cmd[0]}")
	man_text=$T/man.${cmd[0]}
	if command -v mandoc >/dev/null; then
		[ -e "$man_text" ] || mandoc -T ascii "$page" | sed 's/.\x08//g' >"$man_text"
	else
		sed 's/Fl -/--/g; s/Fl /-/g; s/Ns//g' "$page" >"$man_text"
	fi
	offered "${cmd[@]}" >"$T/offered" || fail "${cmd[*]}: the completion fails"
	[ "${#cmd[@]}" = 1 ] || grep -q -- "${cmd[*]}" "$man_text" || fail "$page does not speak of ${cmd[*]}"
	while read -r opt; do
		grep -Eq -- "(^|[^A-Za-z0-9-])$opt([^A-Za-z0-9-]|\$)" "$man_text" ||
			fail "${cmd[*]} --help names $opt, $page does not"
		grep -qx -e "$opt" -e "$opt=" "$T/offered" ||
			fail "${cmd[*]} --help names $opt, the completion does not offer it"
		checked=$((checked + 1))
	done < <(options_of "${cmd[@]}")
done < <(commands)
[ "$checked" -gt 50 ] || fail "only $checked options were found: is --help written in another way now?"

if command -v mandoc >/dev/null; then
	for page in "$srcdir"/man/*.[1-9]; do
		mandoc -T lint -W warning "$page" >"$T/lint" || true
		[ ! -s "$T/lint" ] || fail "$(cat "$T/lint")"
	done
else
	say "the pages are not checked by mandoc, which is not installed"
fi
say "$checked options compared"
