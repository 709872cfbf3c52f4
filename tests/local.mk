# SPDX-License-Identifier: BSD-2-Clause
# What check does a little of, at length; PARTS="..." picks some parts, TEST_SEED repeats them: see tests/torture.sh.
dist_check_SCRIPTS += tests/torture.sh
EXTRA_DIST += tests/README.md

torture: all $(check_PROGRAMS)
	@srcdir=$(srcdir) TOOLS_TESTS='$(TOOLS_TESTS)' $(srcdir)/tests/torture.sh $(PARTS)
.PHONY: torture
