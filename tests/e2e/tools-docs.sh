#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Every option that a command's --help names is in its manual page and is offered by its completion, which offers no
# other; so is every verb, and every format wherever formats are; the pages are well-formed; --version says the version.
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

# offered WORD COMMAND [VERB]: what bash offers for "COMMAND [VERB] WORD".
offered()
{
	bash -c '
		. /usr/share/bash-completion/bash_completion 2>/dev/null
		. "$1" || exit 1
		word=$2
		shift 2
		COMP_WORDS=("$@" "$word") COMP_CWORD=$# COMP_LINE="$* $word" COMP_POINT=$((${#COMP_LINE}))
		spec=$(complete -p "$1") || exit 1
		fn=$(sed -n "s/.* -F \([^ ]*\) .*/\1/p" <<<"$spec")
		"$fn" "$1" "$word" "${COMP_WORDS[COMP_CWORD - 1]}"
		printf "%s\n" "${COMPREPLY[@]}"
	' bash "$srcdir/tools/completions/$2" "$@"
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
	offered - "${cmd[@]}" >"$T/offered" || fail "${cmd[*]}: the completion fails"
	if [ "${#cmd[@]}" = 2 ]; then
		grep -q -- "${cmd[*]}" "$man_text" || fail "$page does not speak of ${cmd[*]}"
		offered "${cmd[1]}" "${cmd[0]}" | grep -qx "${cmd[1]}" || fail "the completion does not offer ${cmd[*]}"
	fi
	options_of "${cmd[@]}" >"$T/options"
	# A command with verbs may have one that need not be said, with its options.
	if [ "${#cmd[@]}" = 2 ] || ! grep -qx 'commands:' "$T/help"; then
		sed -n 's/=$//; /^-/p' "$T/offered" | grep -vxFf "$T/options" >"$T/others" &&
			fail "${cmd[*]}: the completion offers what --help does not name: $(xargs <"$T/others")"
	fi
	while read -r opt; do
		grep -Eq -- "(^|[^A-Za-z0-9-])$opt([^A-Za-z0-9-]|\$)" "$man_text" ||
			fail "${cmd[*]} --help names $opt, $page does not"
		grep -qx -e "$opt" -e "$opt=" "$T/offered" ||
			fail "${cmd[*]} --help names $opt, the completion does not offer it"
		checked=$((checked + 1))
	done <"$T/options"
done < <(commands)
[ "$checked" -gt 50 ] || fail "only $checked options were found: is --help written in another way now?"

# What tapdisk knows beside the leaves and filters.
tapdisk -f nosuch:/ 2>"$T/drivers" && fail "tapdisk knows a driver 'nosuch'"
formats=$(sed -n 's/.*there are: //p' "$T/drivers" | tr ' ' '\n' |
	grep -vxE 'auto|raw|aio|null|ram|stdout|fault|throttle') || fail "tapdisk names no formats: $(cat "$T/drivers")"
for file in "$srcdir"/tools/completions/*; do
	grep -qw qcow2 "$file" || continue
	for format in $formats; do
		grep -qw "$format" "$file" || fail "$file: $format is not offered"
	done
done

if command -v mandoc >/dev/null; then
	for page in "$srcdir"/man/*.[1-9]; do
		mandoc -T lint -W warning "$page" >"$T/lint" || true
		[ ! -s "$T/lint" ] || fail "$(cat "$T/lint")"
	done
else
	say "the pages are not checked by mandoc, which is not installed"
fi
say "$checked options compared"
