#!/usr/bin/env bash
# Measures a whole job: how long a checkpoint blocks it, until it is committed, and how long the way back takes.
# BENCH holds the arguments, MPI the family of MPI libraries (openmpi or mpich).
set -euo pipefail
. "$(dirname "$0")/common.sh"
require_cargo

family=${MPI:-openmpi}
use_mpi "$family" || die "no $(mpi_name "$family") was found, and the whole-job benchmark needs it"
mkdir -p "${BENCH_DIR:=$target}"
folder=$(mktemp -d "$BENCH_DIR/piton-bench.XXXXXX")
trap 'rm -rf "$folder"' EXIT
# shellcheck disable=SC2086 # one word an argument
CARGO_TARGET_DIR=$(mpi_target "$family") cargo bench --features mpi --bench job -- \
    --dir "$folder" ${BENCH:---ranks 2 --mib 256 --json}
