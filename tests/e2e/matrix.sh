#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Random disks over the whole option matrix of qcow2, random operations, against a model; qemu-img check and compare
# as judges (see tests/driver/qcow2-matrix.c). MATRIX_RUNS says how many, TEST_SEED which.
. "${srcdir:-.}/tests/e2e/lib.sh"

require qemu-img qemu-io
MATRIX_RUNS=${MATRIX_RUNS:-200} exec tests/driver/qcow2-matrix
