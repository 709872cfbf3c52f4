# SPDX-License-Identifier: BSD-2-Clause
# Real Xen, emulated: minutes, so not in `make check`; bootstrap's check runs it.
EXTRA_DIST += tests/xen/README.md \
	tests/xen/agent.sh \
	tests/xen/boot.sh \
	tests/xen/check-xen.sh \
	tests/xen/lib.sh \
	tests/xen/machine.sh \
	tests/xen/no-xen.sh
EXTRA_DIST += tests/testbed/README.md \
	tests/testbed/common.sh \
	tests/testbed/fetch.sh \
	tests/testbed/guest/domu-init.sh \
	tests/testbed/guest/init.sh \
	tests/testbed/run.sh

# CHECK_XEN=SCENARIO... picks some.
check-xen: all
	@status=0; srcdir=$(srcdir) $(top_srcdir)/tests/xen/check-xen.sh $(CHECK_XEN) || status=$$?; \
		test $$status = 77 || exit $$status
.PHONY: check-xen
