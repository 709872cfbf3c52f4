# SPDX-License-Identifier: BSD-2-Clause
dist_man_MANS += \
	man/blktap-control.7 \
	man/blktap-spec.7 \
	man/blktap.conf.5 \
	man/tap-ctl.8 \
	man/tap-img.1
dist_man_MANS += man/tapdisk.8 man/tapfuse.1
EXTRA_DIST += man/README.md
