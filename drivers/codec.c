// SPDX-License-Identifier: BSD-2-Clause
/*
 * What inflating and deflating work in: one for each thread that does either, made when it first does, gone with the
 * thread.  Workers end after some seconds without work (blktap/pool.h), so an idle disk keeps none.
 */
#include <pthread.h>

#include <blktap/codec.h>
#include <blktap/qcow2.h>

#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

static void codec_free(void *arg)
{
	struct qcow2_codec *k = arg;

	qcow2_codec_done(k);
	free(k);
}

static void make_key(void)
{
	has_key = pthread_key_create(&key, codec_free) == 0;
}

struct qcow2_codec *td_codec_mine(void)
{
	struct qcow2_codec *k;

	(void)pthread_once(&once, make_key);
	if (!has_key)
		return NULL;
	k = pthread_getspecific(key);
	if (k)
		return k;
	k = calloc(1, sizeof(*k));
	if (k && pthread_setspecific(key, k) != 0) {
		free(k);
		return NULL;
	}
	return k;
}
