# What the scripts share. Sourced with bash from the other scripts, never run by itself.
#
# Goes out: `root` (the folder of the project, now the current one), `target` (where builds without MPI go),
# `mpi_target FAMILY` and `use_mpi FAMILY`, and the ways to print.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# rustup installs here, and a shell that was open before doesn't know it yet.
if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

target=${CARGO_TARGET_DIR:-$root/target}
case $target in
    /*) ;;
    *) target=$root/$target ;;
esac
# A registry that stumbles once should not cost a run.
export CARGO_NET_RETRY=${CARGO_NET_RETRY:-5}

# OpenMPI's launcher refuses root, and more ranks than cores, unless it is told twice. MPICH's needs nothing.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

heading() {
    printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}

complain() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
    complain "$@"
    exit 1
}

# Builds with MPI have a folder for each family of libraries: a changed MPICC alone would not make cargo build anew.
mpi_target() {
    printf '%s/%s\n' "$target" "$1"
}

mpi_name() {
    case $1 in
        openmpi) echo OpenMPI ;;
        mpich) echo MPICH ;;
        *) die "'$1' is no MPI that these scripts know; take openmpi or mpich" ;;
    esac
}

# Finds the compiler wrapper and the launcher of a family of MPI libraries, and sets MPICC (exported) and mpirun. Debian
# installs several side by side under names of their own; elsewhere the one on the PATH is asked which it is.
use_mpi() {
    local family=$1 says
    mpi_name "$family" >/dev/null
    mpirun=''
    if command -v "mpicc.$family" >/dev/null && command -v "mpirun.$family" >/dev/null; then
        MPICC=mpicc.$family
        mpirun=mpirun.$family
    elif command -v mpicc >/dev/null && command -v mpirun >/dev/null; then
        says=$(mpirun --version 2>&1 || true)
        case $family:$says in
            openmpi:*"Open MPI"* | openmpi:*OpenRTE* | mpich:*HYDRA*)
                MPICC=mpicc
                mpirun=mpirun
                ;;
            *) return 1 ;;
        esac
    else
        return 1
    fi
    export MPICC
}

require_cargo() {
    command -v cargo >/dev/null ||
        die "no cargo on the PATH. Install Rust $(rust_version) or newer (https://rustup.rs), then try again."
}

# The oldest toolchain that the project promises to build with.
rust_version() {
    sed -n 's/^rust-version *= *"\(.*\)"$/\1/p' Cargo.toml | head -n 1
}
