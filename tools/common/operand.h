// SPDX-License-Identifier: BSD-2-Clause
/*
 * SPEC|FILE: an operand is a disk specification, or a plain file whose format is said beside it.
 */
#ifndef TOOLS_OPERAND_H
#define TOOLS_OPERAND_H

#include <blktap/spec.h>

/*
 * fmt given: FILE, taken whole, in that format.  Else a specification if it begins with names of drivers.  Else
 * FILE, which is probed ("auto:") if may_probe, and refused otherwise.  *ret_spec is the caller's: td_spec_free.
 */
TD_CHECK int operand_parse(const char *operand, const char *fmt, bool may_probe, struct td_spec **ret_spec,
			   struct td_err *ret_err);

#endif
