# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Xenstore as a folder, $XS, and its commands as hotplug scripts call them: fake_xenstore puts them into PATH.
export XS=$T/xs

fake_xenstore()
{
	mkdir -p "$T/fake"
	cat >"$T/fake/xenstore-read" <<'END'
#!/bin/sh
[ -f "$XS/$1" ] || { echo "xenstore-read: couldn't read path $1" >&2; exit 1; }
cat "$XS/$1"
END
	cat >"$T/fake/xenstore-write" <<'END'
#!/bin/sh
while [ $# -ge 2 ]; do printf '%s\n' "$2" >"$XS/$1" || exit 1; shift 2; done
END
	cat >"$T/fake/xenstore-list" <<'END'
#!/bin/sh
ls "$XS/$1"
END
	chmod +x "$T/fake"/*
	PATH=$T/fake:$PATH
}
