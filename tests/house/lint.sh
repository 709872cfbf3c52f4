#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# lint.sh: `make lint`: clang-tidy and cppcheck over all code that is not a test, shellcheck over the scripts, codespell
# over everything. Clean, or exit 1 with what each of them said. Runs in the build folder; $LINT_FLAGS are the
# preprocessor's flags for the libraries. LINT_ANALYZER=no: without clang's analyzer, which takes 19 of 20 seconds.
set -uo pipefail

top=$(cd "${srcdir:-.}" && pwd)
build=$PWD
jobs=${LINT_JOBS:-$(nproc)}
failed=0
cd "$top" || exit 1

# with TOOL: is it there?
with()
{
	command -v "$1" >/dev/null && return
	echo "lint: $1 is not installed: not run"
	return 1
}

# step NAME COMMAND...: quiet when clean.
step()
{
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "lint: $name: clean"
	else
		printf '%s\nlint: %s: FAILED\n' "$out" "$name"
		failed=1
	fi
}

code()
{
	find formats drivers blktap client xen tapback tools -name '*.c' | sort
}

scripts()
{
	{ find tests tools .ci -type f; echo bootstrap; } | while read -r file; do
		case $file in
		*.sh) echo "$file" ;;
		*) head -c 20 "$file" | head -n 1 | tr -d '\0' | grep -q '^#!.*sh' && echo "$file" ;;
		esac
	done | sort -u
}

# What configure and the Makefile would say; the values of the folders do not matter here.
flags=(-std=gnu17 -D_GNU_SOURCE "-I$build" -I. -Iinclude -Iclient '-DTD_SYSCONFDIR="/etc"' '-DTD_BINDIR="/usr/bin"'
	'-DTD_SBINDIR="/usr/sbin"')
read -ra packages <<<"${LINT_FLAGS:-}"

# stderr only counts the warnings in system headers, which are hidden.
tidy()
{
	code | xargs -P "$jobs" -I{} clang-tidy --quiet "$@" {} -- "${flags[@]}" "${packages[@]}" 2>/dev/null
}

# Off, because cppcheck 2.10 takes these for bugs: what a scope's end frees (memleak), a waiter on its coroutine's own
# stack (autoVariables), entries reached through the list macros (uninitvar, which clang's analyzer does better),
# a descriptor returned by "fd < 0 ? error : fd" (resourceLeak), TD_MIN (internalAstError).
check_cpp()
{
	local queue
	queue=$(echo '#include <sys/queue.h>' | cc -E -M -xc - | grep -o '/[^ ]*sys/queue.h')
	code | xargs cppcheck --quiet --std=c11 -j "$jobs" --error-exitcode=1 --inline-suppr --max-configs=4 \
		"--include=$queue" --enable=warning,performance,portability \
		--suppress=missingInclude --suppress=missingIncludeSystem --suppress="*:$queue" --suppress=memleak \
		--suppress=autoVariables --suppress=uninitvar --suppress=resourceLeak --suppress=internalAstError \
		"-I$build" -I. -Iinclude -D_GNU_SOURCE -D__linux__ -D__x86_64__
}

check_shell()
{
	scripts | xargs shellcheck -S warning -x -P SCRIPTDIR -P "$top"
}

check_spelling()
{
	# Words of the trade, and identifiers.
	codespell -q 3 -L "trim,ba,te,inout,fo,nd,conectix,sise,hda" \
		include formats drivers blktap client xen tapback tools tests man doc README.md \
		bootstrap configure.ac Makefile.am
}

if [ "${LINT_ANALYZER:-yes}" = yes ]; then
	with clang-tidy && step clang-tidy tidy
else
	with clang-tidy && step "clang-tidy, without the analyzer" tidy '--checks=-clang-analyzer-*'
fi
with cppcheck && step cppcheck check_cpp
with shellcheck && step shellcheck check_shell
with codespell && step codespell check_spelling
exit "$failed"
