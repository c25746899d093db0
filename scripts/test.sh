#!/usr/bin/env bash
# Runs every test: without MPI, and tests/mpi*.rs in a build for OpenMPI and in one for MPICH. Arguments go to the test
# programs (`--show-output`, say).
#
# Ends with the tests that were skipped, each with its reason, and the line "N passed, N failed". Fails where a test
# failed. With PITON_TEST_SUMMARY=FILE, "PASSED FAILED SKIPPED" is written there too.
set -euo pipefail
. "$(dirname "$0")/common.sh"
require_cargo

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Tests that can't run here append a line each: what, and why.
export PITON_TEST_SKIPS=$scratch/skips
: >"$PITON_TEST_SKIPS"
passed=0 failed=0
broken=()

# Runs cargo and counts what it says. A run that fails without a failed test (it does not build, say, or crashes)
# counts as one failure.
run() {
    local what=$1 log=$scratch/log status=0 before=$failed
    shift
    heading "$what"
    "$@" 2>&1 | tee "$log" || status=$?
    local counts
    counts=$(awk '/^test result: / { for (i = 2; i <= NF; i++) {
        if ($i == "passed;") passed += $(i - 1); if ($i == "failed;") failed += $(i - 1) } }
        END { print passed + 0, failed + 0 }' "$log")
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    # A test that is ignored proves nothing either, except that some are tools to be run by name.
    sed -n "s/^test \(.*\) \.\.\. ignored\(, \(.*\)\)\{0,1\}$/\1 ($what): ignored \3/p" "$log" |
        { grep -v "run it by name" || true; } >>"$PITON_TEST_SKIPS"
    if [ "$status" != 0 ] && [ "$failed" = "$before" ]; then
        failed=$((failed + 1))
        broken+=("$what: cargo ended with status $status")
    fi
}

test_mpi() {
    local family=$1 name file tests=()
    name=$(mpi_name "$family")
    for file in tests/mpi*.rs; do
        [ -e "$file" ] || continue
        file=${file##*/}
        # These wait for Slurm most of their time, several at once.
        [ "$file" != mpi_slurm_life.rs ] || continue
        tests+=(--test "${file%.rs}")
    done
    [ ${#tests[@]} -gt 0 ] || return 0
    if ! use_mpi "$family"; then
        echo "tests/mpi*.rs with $name: no $name was found (mpicc.$family and mpirun.$family)" >>"$PITON_TEST_SKIPS"
        return 0
    fi
    local -x CARGO_TARGET_DIR
    CARGO_TARGET_DIR=$(mpi_target "$family")
    # In one go, so that no test waits for a compiler.
    run "Building the examples for $name" cargo build --examples --features mpi,ndarray
    run "Tests with $name" cargo test --no-fail-fast --features mpi,ndarray "${tests[@]}" -- "${arguments[@]}"
    # MPICH's ranks spin while they wait.
    local at_once=5
    [ "$family" != mpich ] || at_once=2
    run "Jobs under Slurm with $name" cargo test --features mpi,ndarray --test mpi_slurm_life -- --test-threads "$at_once" "${arguments[@]}"
}

arguments=("$@")
start=$SECONDS
CARGO_TARGET_DIR=$target run "Tests without MPI" \
    cargo test --no-fail-fast --workspace --features ndarray -- "${arguments[@]}"
# The program that the tests with MPI supervise jobs by; it never links one.
export PITON_TEST_PITON=$target/debug/piton
test_mpi openmpi
test_mpi mpich

skipped=$(grep -c . "$PITON_TEST_SKIPS" || true)
heading "Summary after $((SECONDS - start)) s"
if [ "$skipped" -gt 0 ]; then
    echo "$skipped skipped:"
    sed 's/^\(SKIPPED: \)\{0,1\}/  SKIPPED: /' "$PITON_TEST_SKIPS"
else
    echo "none skipped"
fi
for what in "${broken[@]}"; do
    echo "FAILED: $what"
done
if [ -n "${PITON_TEST_SUMMARY:-}" ]; then
    echo "$passed $failed $skipped" >"$PITON_TEST_SUMMARY"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
