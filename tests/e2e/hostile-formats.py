# SPDX-License-Identifier: BSD-2-Clause
# Images that lie, of all formats: usage: hostile-formats.py TAP-IMG PLAIN FOLDER SCRATCH EXPECT
# PLAIN: 1 MiB of anything but zeros.  EXPECT: a file that says what is to become of each of them.
import sys

import hostile_qcow
import hostile_qcow2
import hostile_qcow2_more
import hostile_sesparse
import hostile_vdi
import hostile_vhd
import hostile_vhdx
import hostile_vmdk
from hostile_lib import Folder

f = Folder(sys.argv[3], sys.argv[4], sys.argv[1])
for module in (hostile_qcow, hostile_qcow2, hostile_qcow2_more, hostile_vhd, hostile_vhdx, hostile_vdi,
               hostile_vmdk, hostile_sesparse):
    module.images(f, sys.argv[2])
f.done(sys.argv[5])
