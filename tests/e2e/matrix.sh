#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Random disks over the whole option matrix of qcow2, random operations, against a model; qemu-img check and compare
# as judges (see tests/driver/qcow2-matrix.c). MATRIX_RUNS says how many, TEST_SEED which.
. "${srcdir:-.}/tests/e2e/lib.sh"

require qemu-img qemu-io
# Not exec: the trap of lib.sh removes the folder.
MATRIX_RUNS=${MATRIX_RUNS:-60} tests/driver/qcow2-matrix
