// SPDX-License-Identifier: BSD-2-Clause
/*
 * Runs a fuzz target without libFuzzer: each file of its corpus as it is, cut off at every length, and with
 * every byte changed in a few ways.  Takes files as arguments instead, to replay what a fuzzer found.
 */
#include <dirent.h>
#include <limits.h>

#include "fuzz.h"

#define INPUT_MAX_BYTES (1u << 20)

static unsigned long runs;

static void run(const uint8_t *data, size_t len)
{
	/* Exactly as long as it says, for the sanitizers. */
	uint8_t *copy = malloc(len + 1);

	if (copy == NULL)
		return;
	memcpy(copy, data, len);
	copy = realloc(copy, len > 0 ? len : 1);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
	runs++;
}

static void run_variants(uint8_t *data, size_t len)
{
	static const uint8_t flips[] = { 0x01, 0x10, 0x80, 0xff };

	for (size_t cut = 0; cut < len; cut++)
		run(data, cut);
	for (size_t i = 0; i < len; i++) {
		for (size_t f = 0; f < TD_NELEMS(flips); f++) {
			data[i] ^= flips[f];
			run(data, len);
			data[i] ^= flips[f];
		}
	}
}

static int replay(const char *path, bool variants)
{
	static uint8_t buf[INPUT_MAX_BYTES];
	FILE *f = fopen(path, "r");
	size_t len;

	if (f == NULL) {
		perror(path);
		return -1;
	}
	len = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	run(buf, len);
	if (variants)
		run_variants(buf, len);
	return 0;
}

static int replay_corpus(void)
{
	const char *srcdir = getenv("srcdir");
	char dir[PATH_MAX], path[PATH_MAX + 256];
	struct dirent *e;
	unsigned files = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/" FUZZ_NAME, srcdir != NULL ? srcdir : ".");
	d = opendir(dir);
	if (d == NULL) {
		perror(dir);
		return 1;
	}
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (replay(path, true) < 0)
			break;
		files++;
	}
	closedir(d);
	printf(FUZZ_NAME ": %u files, %lu inputs\n", files, runs);
	return files == 0 || e != NULL; /* an empty corpus proves nothing */
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return replay_corpus();
	for (int i = 1; i < argc; i++) {
		if (replay(argv[i], false) < 0)
			return 1;
	}
	return 0;
}
