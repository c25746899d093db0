#!/usr/bin/env bash
# Installs what builds and tests need from the system: a C compiler, libclang (for the bindings of MPI), OpenMPI, MPICH,
# Slurm, and for tests a browser and Prometheus. On Debian and Ubuntu with apt, as root or with a sudo that asks no password; elsewhere it says what is missing
# and succeeds, so that everything that can run without it does. Quick where all is there.
set -euo pipefail
. "$(dirname "$0")/common.sh"

# Each with what it is for. mpich and openmpi live side by side; `mpicc` and `mpirun` stay OpenMPI's.
declare -A packages=(
    [gcc]='builds zstd, and links'
    [libc6-dev]='builds zstd, and links'
    [make]='runs the Makefile'
    [libclang-dev]='reads the headers of MPI'
    [libopenmpi-dev]='builds with OpenMPI'
    [openmpi-bin]='runs ranks with OpenMPI'
    [libmpich-dev]='builds with MPICH'
    [mpich]='runs ranks with MPICH'
)
# The demo and the benchmarks do without.
if [ "${1:-}" != --without-tests ]; then
    packages+=(
        [python3]='recomputes accounts beside the program, in tests'
        [prometheus]='scrapes metrics and plays rules, in tests'
        [chromium]='opens the live page, in tests'
        [tmux]='a terminal for tests'
        [slurmctld]='tests on a Slurm cluster of namespaces'
        [slurmd]='tests on a Slurm cluster of namespaces'
        [slurm-client]='tests on a Slurm cluster of namespaces'
        [munge]='tests on a Slurm cluster of namespaces'
        [iproute2]='the network of that cluster'
        [util-linux]='its namespaces'
    )
fi

missing() {
    local package
    for package in "${!packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done | sort
}

as_root=()
can_be_root() {
    if [ "$(id -u)" = 0 ]; then
        return 0
    fi
    as_root=(sudo -n)
    command -v sudo >/dev/null && sudo -n true 2>/dev/null
}

install_packages() {
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
    heading "Setting up: installing $*"
    # A machine that was never updated knows no packages; one that was may know versions that are gone.
    "${apt[@]}" -q update || complain "apt-get update failed; trying with the package lists that are there"
    # Where one of them does not exist (Ubuntu has no package chromium), the others are wanted all the same.
    "${apt[@]}" -q install -y --no-install-recommends "$@" || {
        local package
        for package in "$@"; do
            "${apt[@]}" -q install -y --no-install-recommends "$package" || complain "could not install $package"
        done
    }
    # Its tests start one of their own; nobody asked for one that runs all the time.
    case " $* " in
    *" prometheus "*) "${as_root[@]}" systemctl disable --now prometheus >/dev/null 2>&1 || true ;;
    esac
    [ -z "$(missing)" ]
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    complain "this is not Debian or Ubuntu: nothing is installed; what is on the PATH is used."
    complain "Wanted: a C compiler, libclang, and OpenMPI or MPICH with their compiler wrappers (mpicc, mpirun)."
elif wanted=$(missing) && [ -n "$wanted" ]; then
    # shellcheck disable=SC2086 # one word a package
    set -- $wanted
    if ! can_be_root; then
        complain "these packages are missing, and without root (or sudo without a password) they can't be installed:"
    elif ! install_packages "$@"; then
        complain "apt-get could not install everything; still missing:"
    fi
    for package in $(missing); do
        complain "  $package  (${packages[$package]})"
        lacking=yes
    done
    if [ "${lacking:-no}" = yes ]; then
        complain "To install them yourself: apt-get install --no-install-recommends $(missing | tr '\n' ' ')"
        complain "Going on with what can run without them."
    fi
fi

command -v cc >/dev/null || complain "no C compiler (cc) is on the PATH: nothing can be built"
require_cargo
for family in openmpi mpich; do
    use_mpi "$family" || complain "no $(mpi_name "$family") was found: what needs it is skipped"
done
