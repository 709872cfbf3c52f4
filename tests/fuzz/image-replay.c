// SPDX-License-Identifier: BSD-2-Clause
/*
 * Runs fuzz-image without libFuzzer: every seed as it is, then changed at random for $FUZZ_IMAGE_SECONDS (2).  An input
 * that fails is left in fuzz-found/.  Takes files as arguments instead, to replay what a fuzzer found (or to write its
 * image with --unpack FILE IMAGE).
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "image-input.h"
#include "image-seeds.h"
#include "testenv.h"

#define SEEDS_MAX 32u

static uint8_t current[INPUT_MAX];
static size_t current_len;

/* Nothing but system calls: whatever failed, it was here. */
static void keep_current(int sig)
{
	int fd;

	(void)mkdir("fuzz-found", 0777); /* it may be there */
	fd = open("fuzz-found/image-replay", O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (fd >= 0 && write(fd, current, current_len) == (ssize_t)current_len)
		(void)!write(2, "the input is fuzz-found/image-replay\n", 37);
	signal(sig, SIG_DFL);
	raise(sig);
}

static int load(const char *path)
{
	FILE *f = fopen(path, "r");

	if (!f) {
		perror(path);
		return -1;
	}
	current_len = fread(current, 1, sizeof(current), f);
	fclose(f);
	return 0;
}

static int unpack(const char *from, const char *to)
{
	static struct input in;
	int fd = open(to, O_RDWR | O_CREAT | O_TRUNC, 0666);

	if (load(from) < 0 || fd < 0 || input_decode(current, current_len, &in) < 0)
		return 1;
	for (unsigned i = 0; i < in.nr; i++)
		if (pwrite(fd, in.unit[i].data, INPUT_SECTOR, (off_t)(in.unit[i].sector * INPUT_SECTOR)) < 0)
			return 1;
	return ftruncate(fd, (off_t)in.file_len) < 0;
}

/* So that libFuzzer begins with something. */
static int write_seeds(const char *dir)
{
	for (unsigned i = 0; (current_len = image_seed(i, current, sizeof(current))) > 0; i++) {
		char path[512];
		FILE *f;

		(void)snprintf(path, sizeof(path), "%s/seed-%u", dir, i);
		f = fopen(path, "w");
		if (!f || fwrite(current, 1, current_len, f) != current_len || fclose(f) != 0) {
			perror(path);
			return 1;
		}
	}
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int run_random(void)
{
	static uint8_t seed[SEEDS_MAX][INPUT_MAX];
	size_t len[SEEDS_MAX];
	uint64_t random = test_seed(), end = now_ms() + 1000ull * test_count("FUZZ_IMAGE_SECONDS", 2);
	unsigned nr = 0, runs = 0;

	while (nr < SEEDS_MAX && (len[nr] = image_seed(nr, seed[nr], INPUT_MAX)) > 0)
		nr++;
	for (; nr > 0 && (runs < nr || now_ms() < end); runs++) {
		unsigned i = runs < nr ? runs : (unsigned)(test_random(&random) % nr);

		memcpy(current, seed[i], len[i]);
		current_len = len[i];
		if (runs >= nr)
			current_len =
				input_mutate(current, current_len, INPUT_MAX, (uint32_t)test_random(&random));
		(void)LLVMFuzzerTestOneInput(current, current_len);
	}
	printf("image: %u seeds, %u inputs\n", nr, runs);
	return nr == 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "--unpack") == 0)
		return unpack(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
		return write_seeds(argv[2]);
	if (argc < 2) {
		signal(SIGABRT, keep_current);
		signal(SIGSEGV, keep_current);
		return run_random();
	}
	for (int i = 1; i < argc; i++) {
		if (load(argv[i]) < 0)
			return 1;
		(void)LLVMFuzzerTestOneInput(current, current_len);
	}
	return 0;
}
