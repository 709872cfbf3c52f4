#!/bin/busybox sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
# First process of a guest's own system: obeys lines "NUMBER COMMAND" on the console (see vm in lib.sh).
stty -F /dev/hvc0 -echo
mount -t tmpfs tmp /tmp 2>/dev/null
echo
echo "@@ready"
while read -r number command; do
	(eval "$command") </dev/null
	status=$?
	echo
	echo "@@$number $status"
done </dev/hvc0
