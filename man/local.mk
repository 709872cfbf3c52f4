# SPDX-License-Identifier: BSD-2-Clause
dist_man_MANS += \
	man/blktap-spec.7 \
	man/blktap.conf.5 \
	man/tap-ctl.8 \
	man/tap-img.1
EXTRA_DIST += man/README.md
