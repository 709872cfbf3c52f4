# SPDX-License-Identifier: BSD-2-Clause
noinst_HEADERS = \
	include/blktap/background.h \
	include/blktap/base.h \
	include/blktap/blkif.h \
	include/blktap/co.h \
	include/blktap/codec.h \
	include/blktap/crypt.h \
	include/blktap/ctl.h \
	include/blktap/err.h \
	include/blktap/export.h \
	include/blktap/grains.h \
	include/blktap/guid.h \
	include/blktap/hist.h \
	include/blktap/image.h \
	include/blktap/io.h \
	include/blktap/iov.h \
	include/blktap/keep.h \
	include/blktap/lock.h \
	include/blktap/log.h \
	include/blktap/loop.h \
	include/blktap/luks.h \
	include/blktap/meta.h \
	include/blktap/opts.h \
	include/blktap/packed.h \
	include/blktap/policy.h \
	include/blktap/pool.h \
	include/blktap/qcow.h \
	include/blktap/qcow2.h \
	include/blktap/ringwire.h \
	include/blktap/spec.h \
	include/blktap/usock.h \
	include/blktap/vbd.h \
	include/blktap/vdi.h \
	include/blktap/vhd.h \
	include/blktap/vhdx.h \
	include/blktap/vmdk.h \
	include/blktap/xs.h
