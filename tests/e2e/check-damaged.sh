#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Our check and qemu-img's on damaged images, and what both repair: see check-set.py.  A few images of each sort; all of
# them with CHECK_SET=all, or those whose names begin with what CHECK_SET says (kind of damage, then /base).
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-img qemu-io

case ${CHECK_SET:-quick} in
quick | all) set -- "${CHECK_SET:-quick}" ;;
*) set -- all "$CHECK_SET" ;;
esac
python3 "$srcdir/tests/e2e/check-set.py" "$T" "$@"
