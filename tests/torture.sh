#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What `make check` does a little of, at length: `make torture`, or `make torture PARTS="matrix kills"`.
#
#	matrix		random disks over all options of all formats, random operations, against a model and qemu-img
#	kills		kill -9 of tapdisk under load, of tap-img in snapshot and amend; of the driver before each
#			operation, and of who adopts what was left
#	cuts		power cut before operation n, for every n; what was not flushed is lost in part, and torn
#	faults		operation n fails, for every n: EIO, ENOSPC, short, torn, an fsync that loses what it covered
#	fuzz		each libFuzzer target, FUZZ_SECONDS each
#	interop		images by us to qemu-img, images by qemu-img to us; each command on images that lie
#	check		damaged images: what check finds and repairs, beside qemu-img
#	sanitizers	the C tests, and the loops above for a round, under AddressSanitizer and UBSan
#	ring		the ring server: kills, hostile guests, each store of its journal
#	layers		commit, rebase and map on chains of random shape: kills, power cuts; beside qemu-img
#	tools		parsers of configurations against their model
#	lint		with clang's analyzer
#	xen		make check-xen, with ten kills of each daemon
#
# Each part prints its seed, and all of them follow from TEST_SEED: with the same seed it does the same again.  The
# counts below are what a release asks for; each can be set in the environment.  TORTURE_JOBS (2, or the number of
# processors) parts run at a time.  All output goes to torture-logs/PART.log, too.  Exit status 1: a part failed.
# Works in a build folder where all programs and tests are built.

set -euo pipefail
unset MAKEFLAGS MFLAGS MAKELEVEL

srcdir=${srcdir:-.}
export srcdir
all="matrix kills cuts faults interop check layers ring tools fuzz sanitizers lint xen"
seed=${TEST_SEED:-$(($(date +%s) * 1000 + $$ % 1000))}
cpus=$(nproc)
jobs=${TORTURE_JOBS:-$((cpus < 2 ? cpus : 2))}
logs=$PWD/torture-logs

# rounds N TEXT: what the part did; the last call counts for the summary.
rounds() { printf 'rounds: %s %s\n' "$1" "$2"; }

# at_least WANT GOT WHAT
at_least()
{
	[ "$2" -ge "$1" ] || { echo "only $2 $3, $1 are asked for"; return 1; }
}

# run_to FILE COMMAND...: with its output there and here.
run_to()
{
	local out=$1
	shift
	"$@" 2>&1 | tee -a "$out"
}

# sum FILE PATTERN: of the numbers before a word: "17 kills".
sum() { grep -oE "[0-9]+ $2" "$1" | awk '{ n += $1 } END { print n + 0 }'; }

# ---- the parts; the working folder is the build folder, $out a file of the part's own ----

# Half of them qcow2, half the other formats that can be written.
part_matrix()
{
	local wanted=${MATRIX_RUNS:-300}
	MATRIX_RUNS=$(((wanted + 1) / 2)) MATRIX_OTHER_RUNS=$(((wanted + 1) / 2)) \
		run_to "$out" "$srcdir/tests/e2e/matrix.sh"
	at_least "$wanted" "$(sum "$out" 'runs')" "random disks"
	rounds "$(sum "$out" 'runs')" "random disks"
}

# Real kills (twelve kinds of image, as many of each), then simulated ones between any two operations.
part_kills()
{
	local wanted=${KILLS:-500} real
	KILL9_ROUNDS=$(((wanted + 11) / 12)) KILL9_OTHER_ROUNDS=$(((wanted + 11) / 12)) \
		run_to "$out" "$srcdir/tests/e2e/kill9.sh"
	real=$(grep -c ': killed after' "$out")
	at_least "$wanted" "$real" kills
	KILL9_TOOLS_ROUNDS=${KILL_TOOLS:-10} run_to "$out" "$srcdir/tests/e2e/kill9-tools.sh"
	TEST_ROUNDS=${KILL_LOOPS:-4} TEST_STRIDE=1 run_to "$out" tests/driver/test-format-kill
	rounds "$real" "kills of tapdisk, and $(sum "$out" kills) of drivers"
}

part_cuts()
{
	local wanted=${CUTS:-2000} cuts
	TEST_ROUNDS=${CUT_LOOPS:-3} TEST_IMAGES=2 TEST_STRIDE=1 run_to "$out" tests/driver/test-format-crash
	TEST_EVERY=1 TEST_STRIDE=${CUT_STRIDE:-3} run_to "$out" tests/driver/test-qcow2-snapshot
	TEST_STRIDE=1 run_to "$out" tests/driver/test-qcow2-keyslots
	cuts=$(sum "$out" 'power cuts')
	at_least "$wanted" "$cuts" "power cuts"
	TEST_ROUNDS=60 run_to "$out" tests/driver/test-sim-aio
	rounds "$cuts" "power cuts of formats, and $(sum "$out" 'crash points') of raw; $(sum "$out" images) images"
}

# A round is one image of one kind, with a failure of each sort at every third operation, or every one.
part_faults()
{
	local wanted=${FAULT_ROUNDS:-200} images
	TEST_ROUNDS=$(((wanted + 34) / 35)) TEST_STRIDE=${FAULT_STRIDE:-3} run_to "$out" tests/driver/test-format-faults
	images=$(grep -cE '^# .*seed .* failures$' "$out")
	at_least "$wanted" "$images" rounds
	rounds "$images" "images of formats; $(sum "$out" failures) failures"
}

part_fuzz()
{
	run_to "$out" "$srcdir/tests/fuzz/run.sh" "${FUZZ_SECONDS:-60}"
	rounds "$(grep -c '^fuzz-' "$out")" "targets of ${FUZZ_SECONDS:-60} s; $(grep -oE 'executed [0-9]+' "$out" |
		awk '{ n += $2 } END { print n + 0 }') inputs"
}

part_interop()
{
	local i others=${INTEROP_OTHER_RUNS:-10}
	INTEROP_RUNS=${INTEROP_RUNS:-200} run_to "$out" "$srcdir/tests/e2e/interop-qcow2.sh"
	for ((i = 0; i < others; i++)); do
		INTEROP_SEED=$((INTEROP_SEED + i)) INTEROP_OPS=40 run_to "$out" "$srcdir/tests/e2e/interop-vmdk.sh"
	done
	INTEROP_RUNS=$others run_to "$out" "$srcdir/tests/e2e/interop-vhd.sh"
	INTEROP_RUNS=$others run_to "$out" "$srcdir/tests/e2e/interop-vhdx.sh"
	INTEROP_RUNS=$others run_to "$out" "$srcdir/tests/e2e/interop-vdi.sh"
	run_to "$out" "$srcdir/tests/e2e/interop-qcow.sh"
	run_to "$out" "$srcdir/tests/e2e/interop-crypt.sh"
	HOSTILE_VERBS=all run_to "$out" "$srcdir/tests/e2e/hostile-tools.sh"
	rounds "${INTEROP_RUNS:-200}" \
		"random disks of qcow2, $others times the tests of vmdk, vhd, vhdx and vdi, qcow, encryption, lies"
}

part_check()
{
	local images
	CHECK_SET=${CHECK_SET:-all} run_to "$out" "$srcdir/tests/e2e/check-damaged.sh"
	images=$(sum "$out" 'damaged images')
	at_least "${CHECK_IMAGES:-150}" "$images" "damaged images"
	TEST_STRIDE=${CHECK_STRIDE:-4} run_to "$out" tests/driver/test-qcow2-check
	REPAIR_ROUNDS=${REPAIR_ROUNDS:-15} run_to "$out" "$srcdir/tests/e2e/grains-repair.sh"
	rounds "$images" "damaged images"
}

part_ring()
{
	local t
	for t in test-ring test-crash test-journal test-hostile; do
		TEST_ROUNDS=${RING_ROUNDS:-20} run_to "$out" "tests/ring/$t"
	done
	for t in ring-load ring-hostile; do
		run_to "$out" "$srcdir/tests/e2e/$t.sh"
	done
	rounds "${RING_ROUNDS:-20}" "of each ring test"
}

part_layers()
{
	export MAP_CHAINS=${LAYERS_CHAINS:-60} REBASE_CHAINS=${LAYERS_CHAINS:-60} COMMIT_CHAINS=${LAYERS_CHAINS:-60}
	export REBASE_KILLS=${LAYERS_KILLS:-100} COMMIT_KILLS=${LAYERS_KILLS:-100}
	run_to "$out" "$srcdir/tests/e2e/tools-map.sh"
	run_to "$out" "$srcdir/tests/e2e/tools-rebase.sh"
	run_to "$out" "$srcdir/tests/e2e/tools-commit.sh"
	TEST_STRIDE=1 run_to "$out" tests/tools/test-layers
	rounds "$(sum "$out" chains)" "chains, $(sum "$out" kills) kills, $(sum "$out" images) power cuts"
}

part_tools()
{
	local i t
	for ((i = 0; i < 3; i++)); do
		for t in $TOOLS_TESTS; do
			TEST_ROUNDS=500 TEST_SEED=$((seed + i)) run_to "$out" "$t"
		done
	done
	TEST_ROUNDS=${TAPBACK_ROUNDS:-50} run_to "$out" tests/tapback/test-hostile
	rounds 1500 "of each parser test"
}

part_lint()
{
	LINT_ANALYZER=yes LINT_JOBS=1 run_to "$out" make -s lint
	rounds "$(grep -c ': clean' "$out")" "linters found nothing"
}

part_xen()
{
	CRASH_ROUNDS=${CRASH_ROUNDS:-10} run_to "$out" make -s check-xen
	rounds "$(sum "$out" passed)" "checks in emulated machines with Xen"
}

# A build of its own: kept, so that the next run has it.
part_sanitizers()
{
	local dir=$PWD/torture-asan t tests n=0 top cc
	top=$(cd "$srcdir" && pwd)
	cc=$(sed -n 's/^CC = //p' Makefile)
	mkdir -p "$dir"
	[ -e "$dir/Makefile" ] || (cd "$dir" && "$top/configure" -q --enable-sanitizers CC="$cc")
	make -s -C "$dir" config.status Makefile >/dev/null # what it says on the way is no name of a test
	tests=$(make -s --no-print-directory -C "$dir" print-sanitizer-tests)
	# shellcheck disable=SC2086 # words
	make -s -C "$dir" -j "$cpus" $tests 2>&1 | tail -20
	cd "$dir"
	srcdir=$top
	for t in $tests; do
		local status=0
		echo "$t"
		TEST_STRIDE=7 "$t" >"$out.one" 2>&1 || status=$?
		[ "$status" = 0 ] || [ "$status" = 77 ] || { tail -60 "$out.one"; return 1; }
		n=$((n + 1))
	done
	rounds "$n" "C tests under sanitizers"
}

# ---- running them ----

known() { declare -F "part_$1" >/dev/null; }

# run_part NAME: leaves seconds and status beside its log.
run_part()
{
	local name=$1 begun=$SECONDS status
	out=$logs/$name.out
	rm -f "$logs/$name".*
	export TEST_SEED=$seed KILL9_SEED=$((seed % 1000000000)) INTEROP_SEED=$((seed % 1000000000))
	set +e # within the part it counts
	(set -e; "part_$name") 2>&1 </dev/null | tee "$logs/$name.log" | sed -u "s/^/$name: /"
	status=${PIPESTATUS[0]}
	echo "$status $((SECONDS - begun))" >"$logs/$name.end"
}

result_of() # NAME: passed, FAILED, skipped, interrupted
{
	local status=x
	[ ! -e "$logs/$1.end" ] || read -r status _ <"$logs/$1.end"
	case $status in
	0) echo passed ;;
	77) echo skipped ;;
	x) echo "not run" ;;
	*) echo FAILED ;;
	esac
}

summary()
{
	local name seconds failed=0
	printf '\n%-12s %-10s %8s  %s\n' part result seconds 'what it did'
	for name in "$@"; do
		seconds=-
		[ ! -e "$logs/$name.end" ] || read -r _ seconds <"$logs/$name.end"
		printf '%-12s %-10s %8s  %s\n' "$name" "$(result_of "$name")" "$seconds" \
			"$(sed -n 's/^rounds: //p' "$logs/$name.log" 2>/dev/null | tail -1)"
		case $(result_of "$name") in
		FAILED | 'not run') failed=1 ;;
		esac
	done
	printf '%s s; the seed was TEST_SEED=%s\n' "$SECONDS" "$seed"
	return $failed
}

# Each part is a process group of its own, with all that it has started.
stop_parts()
{
	local pid
	trap '' INT TERM
	for pid in $(jobs -p); do
		kill -TERM -- "-$pid" 2>/dev/null || true
	done
	wait
}

main()
{
	local name parts=("$@")
	[ ${#parts[@]} -gt 0 ] || read -ra parts <<<"$all"
	for name in "${parts[@]}"; do
		known "$name" || { echo "torture: no part is called $name; there are: $all" >&2; exit 2; }
	done
	mkdir -p "$logs"
	rm -f "$logs"/*.end
	trap 'stop_parts; summary "${parts[@]}"; exit 130' INT TERM
	echo "torture: ${parts[*]}; $jobs at a time; again: make torture PARTS='${parts[*]}' TEST_SEED=$seed"
	set -m
	for name in "${parts[@]}"; do
		while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
			wait -n || true
		done
		run_part "$name" &
	done
	wait
	summary "${parts[@]}"
}

main "$@"
