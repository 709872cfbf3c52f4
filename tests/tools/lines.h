// SPDX-License-Identifier: BSD-2-Clause
/*
 * Disks and files as people write them, and what chance makes of them.
 */
#ifndef TESTS_TOOLS_LINES_H
#define TESTS_TOOLS_LINES_H

#include <stddef.h>

#define LINE_MAX_LEN 128
#define FILE_MAX_LEN 1024

extern const char *const lines[];
extern const size_t lines_nr;
extern const char *const files[];
extern const size_t files_nr;

/* Prints TEST_SEED, which is the clock's unless given, and sets it. */
unsigned random_seed(void);
/* TEST_ROUNDS thousands, or so many as said here. */
unsigned random_rounds(unsigned otherwise);
unsigned random_below(unsigned n);

/* buf: 4 times the longest above. */
void random_line(char *buf, size_t size);
void random_file(char *buf, size_t size);

#endif
