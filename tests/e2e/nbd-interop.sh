#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The NBD export seen by other people's clients: nbdinfo, nbdcopy, qemu-img, qemu-io, over unix sockets and TCP.
. "${srcdir:-.}/tests/e2e/lib.sh"
require nbdinfo nbdcopy qemu-img qemu-io

uri="nbd+unix:///?socket=$T/s"
named="nbd+unix:///my%20disk?socket=$T/s"

# 24 MiB of data with a hole in it, and a tail that is no multiple of 4 KiB.
random_file "$T/data" $((8 << 20)) 1
random_file "$T/more" $(((8 << 20) + 1536)) 2
cp "$T/data" "$T/img"
dd if="$T/more" of="$T/img" bs=1M seek=16 conv=notrunc status=none
size=$(stat -c %s "$T/img")

start_tapdisk --nbd "unix:$T/s" --nbd tcp:127.0.0.1:0 --nbd 'tcp:[::1]:0' --name "my disk" "raw:$T/img"
first=$TAPDISK_PID
tcp4=$(sed -n 's/^nbd tcp:127.0.0.1://p' "$TAPDISK_OUT")
tcp6=$(sed -n 's/^nbd tcp:\[::1\]://p' "$TAPDISK_OUT")

# Both names, and only those.
for u in "$uri" "$named" "nbd://127.0.0.1:$tcp4" "nbd://[::1]:$tcp6"; do
	[ "$(nbdinfo --size "$u")" = "$size" ] || fail "size of $u"
done
! nbdinfo --size "nbd+unix:///other?socket=$T/s" 2>/dev/null || fail "another name is served"
nbdinfo --list "$uri" | grep -q 'export="my disk"' || fail "the list"
for can in multi-conn fua zero fast-zero trim df cache flush; do
	nbdinfo --can $can "$uri" || fail "it cannot do $can"
done
for is in rotational read-only; do
	! nbdinfo --is $is "$uri" || fail "it is $is"
done

# The map: data, hole, data.
nbdinfo --map "$uri" | awk '{ print $1, $2, $4 }' >"$T/map"
printf '0 8388608 data\n8388608 8388608 hole,zero\n16777216 %d data\n' $((size - 16777216)) >"$T/map.want"
same "$T/map" "$T/map.want"

# In an image with clusters of 512 bytes each table covers 32 KiB: its pieces are put together again.
qemu-img create -q -f qcow2 -o cluster_size=512 "$T/small.qcow2" 4M
qemu-io -c 'write -P 1 0 1M' -c 'write -P 1 2M 300k' "$T/small.qcow2" >"$T/io"
start_tapdisk --nbd "unix:$T/s2" "qcow2:$T/small.qcow2"
nbdinfo --map "nbd+unix:///?socket=$T/s2" | awk '{ print $1, $2, $4 }' >"$T/map"
printf '%s\n' '0 1048576 data' '1048576 1048576 hole,zero' '2097152 307200 data' \
	'2404352 1789952 hole,zero' >"$T/map.want"
same "$T/map" "$T/map.want"
stop_tapdisk
TAPDISK_PID=$first

# Out, with many connections and in every mode.
for mode in "" "--no-extents" "--synchronous" "--connections=8 --requests=128" "--request-size=33554432"; do
	# shellcheck disable=SC2086
	nbdcopy $mode "$uri" "$T/out"
	same "$T/img" "$T/out"
	rm "$T/out"
done
nbdcopy "nbd://[::1]:$tcp6" "$T/out"
same "$T/img" "$T/out"
qemu-img convert -O raw "$named" "$T/out2"
same "$T/img" "$T/out2"
qemu-img compare "$uri" "$T/img" >/dev/null || fail "qemu-img compare"
stop_tapdisk

# In.
truncate -s "$size" "$T/new"
start_tapdisk --nbd "unix:$T/s" --name "my disk" "raw:$T/new"
nbdcopy --connections=4 "$T/img" "$uri"
qemu-img compare "$uri" "$T/img" >/dev/null || fail "after nbdcopy"
qemu-img convert -n -O raw "$T/more" "$uri"
qemu-io -f raw -c 'write -P 9 1M 3M' -c 'write -z -u 5M 64k' -c 'write -z 6M 64k' -c 'discard 7M 64k' \
	-c 'aio_write -P 7 123 4567' -c 'aio_flush' -c 'write -f -P 8 30000 1' -c flush \
	-c 'read -P 9 1M 3M' -c 'read -P 0 5M 64k' -c 'read -P 0 6M 64k' \
	-c 'read -P 7 123 4567' -c 'read -P 8 30000 1' "$named" >"$T/io" || fail "qemu-io: $(cat "$T/io")"
! grep -Eq 'failed|error' "$T/io" || fail "qemu-io: $(cat "$T/io")"
stop_tapdisk
qemu-io -f raw -c 'read -P 9 1M 3M' -c 'read -P 0 5M 64k' -c 'read -P 7 123 4567' -c 'read -P 8 30000 1' \
	"$T/new" >"$T/io"
! grep -Eq 'failed|error' "$T/io" || fail "in the file: $(cat "$T/io")"

# Failures of the storage are errors to the client, one line each in the log, and the disk goes on.
start_tapdisk --nbd "unix:$T/s" "fault(write-every=2,error=ENOSPC)/raw:$T/new"
qemu-io -t none -f raw -c 'write 0 4k' -c 'write 4k 4k' -c 'write 8k 4k' "$uri" >"$T/io" 2>&1 || true
[ "$(grep -c 'No space left' "$T/io")" = 1 ] || fail "ENOSPC does not reach the client: $(cat "$T/io")"
grep -Eq "write 0x1000\+4096: ENOSPC" "$TAPDISK_ERR" || fail "the log line: $(cat "$TAPDISK_ERR")"
stop_tapdisk
say "passed"
