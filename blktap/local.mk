# SPDX-License-Identifier: BSD-2-Clause
# The daemon; and libctl, by which commands talk to it.
noinst_LIBRARIES += blktap/libctl.a
blktap_libctl_a_SOURCES = \
	blktap/ctl-client.c \
	blktap/ctl-spawn.c \
	blktap/ctl-time.h \
	blktap/rundir.c

# The FUSE export; a program that links it needs $(FUSE_LIBS) $(BLKID_LIBS).
noinst_LIBRARIES += blktap/libfuse-export.a
blktap_libfuse_export_a_SOURCES = \
	blktap/fuse-dir-ops.c \
	blktap/fuse-dir.c \
	blktap/fuse-ops.c \
	blktap/fuse-parts.c \
	blktap/fuse-parts.h \
	blktap/fuse-slot.c \
	blktap/fuse-unmount.c \
	blktap/fuse-unmount.h \
	blktap/fuse.c \
	blktap/fuse.h
blktap_libfuse_export_a_CFLAGS = $(AM_CFLAGS) $(BLKID_CFLAGS)

# The disk, the NBD export and the control socket.
noinst_LIBRARIES += blktap/libtapdisk.a
blktap_libtapdisk_a_SOURCES = \
	blktap/control-cmd.c \
	blktap/control-events.c \
	blktap/control-info.c \
	blktap/control-ring.c \
	blktap/control.c \
	blktap/control.h \
	blktap/daemon-ring.c \
	blktap/daemon-sandbox.c \
	blktap/daemon.c \
	blktap/daemon.h \
	blktap/marker.c \
	blktap/marker.h \
	blktap/nbd-conn.c \
	blktap/nbd-listen.c \
	blktap/nbd-options.c \
	blktap/nbd-proto.h \
	blktap/nbd-reply.c \
	blktap/nbd-requests.c \
	blktap/nbd-server.c \
	blktap/nbd-wire.c \
	blktap/nbd-wire.h \
	blktap/nbd.h \
	blktap/sandbox-drop.c \
	blktap/sandbox-landlock.c \
	blktap/sandbox-seccomp.c \
	blktap/sandbox.c \
	blktap/sandbox.h \
	blktap/usock.c \
	blktap/vbd-policy.c \
	blktap/vbd-private.h \
	blktap/vbd-state.c \
	blktap/vbd.c

EXTRA_DIST += blktap/README.md

sbin_PROGRAMS += bin/tapdisk
bin_tapdisk_SOURCES = blktap/main.c
bin_tapdisk_LDADD = blktap/libtapdisk.a blktap/libfuse-export.a blktap/libctl.a $(DRIVER_LIBS) \
	$(FUSE_LIBS) $(BLKID_LIBS) $(JANSSON_LIBS) $(SECCOMP_LIBS) $(XEN_LIBS) $(DRIVER_SYSLIBS)
