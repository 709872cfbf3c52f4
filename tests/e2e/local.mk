# SPDX-License-Identifier: BSD-2-Clause
# End-to-end tests, one line each.
EXTRA_DIST += tests/e2e/lib.sh tests/e2e/README.md

E2E =
E2E += tests/e2e/tools-tap-ctl.sh
E2E += tests/e2e/tools-tap-img.sh

dist_check_SCRIPTS += $(E2E)
TESTS += $(E2E)
