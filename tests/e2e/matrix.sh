#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Random disks over the whole option matrix of qcow2, then of the other formats; random operations, against a model;
# qemu-img check and compare as judges, or our own check where qemu-img has none (see tests/driver/qcow2-matrix.c).
# MATRIX_RUNS (of qcow2) and MATRIX_OTHER_RUNS say how many, TEST_SEED which.
. "${srcdir:-.}/tests/e2e/lib.sh"

require qemu-img qemu-io
# Not exec: the trap of lib.sh removes the folder.
MATRIX_RUNS=${MATRIX_RUNS:-60} tests/driver/qcow2-matrix
MATRIX_FORMAT=other MATRIX_RUNS=${MATRIX_OTHER_RUNS:-12} tests/driver/qcow2-matrix
