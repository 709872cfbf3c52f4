# SPDX-License-Identifier: BSD-2-Clause
bin_PROGRAMS += bin/tap-config

# What a configuration says and what becomes of it: no files, no host.
noinst_LIBRARIES += tools/tap-config/libtapconfig.a
tools_tap_config_libtapconfig_a_SOURCES = \
	tools/tap-config/config.c tools/tap-config/config.h \
	tools/tap-config/disk.c tools/tap-config/disk.h \
	tools/tap-config/lexer.c tools/tap-config/lexer.h \
	tools/tap-config/terms.c \
	tools/tap-config/verdict.c tools/tap-config/verdict.h \
	tools/tap-config/xm.c

bin_tap_config_SOURCES = \
	tools/tap-config/host.c tools/tap-config/host.h \
	tools/tap-config/lint.c \
	tools/tap-config/list.c \
	tools/tap-config/load.c tools/tap-config/load.h \
	tools/tap-config/main.c \
	tools/tap-config/translate.c \
	tools/tap-config/verbs.h
bin_tap_config_LDADD = tools/tap-config/libtapconfig.a tools/libtoolcommon.a blktap/libctl.a xen/libxs.a \
	$(DRIVER_LIBS) $(JANSSON_LIBS) $(XEN_LIBS) $(DRIVER_SYSLIBS)

dist_man_MANS += man/tap-config.1
dist_bashcompletion_DATA += tools/completions/tap-config
EXTRA_DIST += tools/tap-config/README.md
