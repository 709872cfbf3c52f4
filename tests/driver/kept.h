// SPDX-License-Identifier: BSD-2-Clause
/*
 * The file in which a driver keeps what a kill must not lose (blktap/keep.h), as a test sees it: where it is, and a
 * copy of it as it was at the moment of the kill.
 */
#ifndef TESTS_DRIVER_KEPT_H
#define TESTS_DRIVER_KEPT_H

#include <stddef.h>

/* Of this image, if dir is the run-time directory. */
void kept_path(const char *dir, const char *image, char *ret, size_t len);

void kept_copy(const char *from, const char *to);

#endif
