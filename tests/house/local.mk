# SPDX-License-Identifier: BSD-2-Clause
# The cheap checks are tests; lint takes minutes.
HOUSE_TESTS = \
	tests/house/check-includes.sh \
	tests/house/check-style.sh \
	tests/house/test-checks.sh

dist_check_SCRIPTS += $(HOUSE_TESTS)
TESTS += $(HOUSE_TESTS)
EXTRA_DIST += tests/house/README.md tests/house/lint.sh

lint: config.h
	srcdir=$(srcdir) LINT_FLAGS='$(FUSE_CFLAGS) $(JANSSON_CFLAGS) $(URING_CFLAGS)' \
		$(SHELL) $(srcdir)/tests/house/lint.sh
.PHONY: lint
