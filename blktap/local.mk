# SPDX-License-Identifier: BSD-2-Clause
# The daemon; and libctl, by which commands talk to it.
noinst_LIBRARIES += blktap/libctl.a
blktap_libctl_a_SOURCES = \
	blktap/ctl-client.c \
	blktap/ctl-spawn.c \
	blktap/ctl-time.h \
	blktap/rundir.c
