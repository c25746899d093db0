#!/usr/bin/env bash
# A real Slurm cluster of several nodes on one Linux machine, for tests: slurmctld, slurmd and munged as Debian ships them.
#
#   cluster.sh up                  from whatever is there; returns when all nodes are idle
#   cluster.sh down [--purge]      ends it; --purge also removes its files
#   cluster.sh can                 whether this machine can do it; says why not
#   cluster.sh exec NODE CMD...    runs CMD on a node: ctl (the controller), n1, n2, ...
#   cluster.sh power-off NODE      cable out, then everything on the node is killed
#   cluster.sh power-on NODE       boots it again, with empty /tmp and /dev/shm
#   cluster.sh cut NODE            the network loses everything from and to the node; its processes live on
#   cluster.sh mend NODE           undoes that
#   cluster.sh idle SECONDS [NODE...]   waits until they (or all nodes) are idle
#   cluster.sh pids NODE           process numbers on the host of all that runs on the node
#
# A node is a set of namespaces (network, mounts, host name, IPC, processes). Killing the first process of its process namespace makes the
# kernel kill all others in it: no list of names, nothing that escapes. The nodes' network is a bridge in a namespace of its own; neither the
# host nor the nodes have a route out of it or into it.
#
# Shared by all nodes: $TESTBED/shared, under the same name (the parallel file system). A node's own /tmp, /dev/shm, /run, /var/spool and /var/log
# are empty when it boots. Everything else is the host's, as the host has it.
#
# Settings (environment): TESTBED=/tmp/piton-testbed  TESTBED_NAME=pb  TESTBED_NODES=4  TESTBED_CPUS=4  TESTBED_NET=10.78.0
set -euo pipefail

bed=${TESTBED:-/tmp/piton-testbed}
name=${TESTBED_NAME:-pb}
count=${TESTBED_NODES:-4}
cpus=${TESTBED_CPUS:-4}
net=${TESTBED_NET:-10.78.0}
self=$(readlink -f "${BASH_SOURCE[0]}")
switch=$name-switch

fail() {
    echo "cluster.sh: $*" >&2
    exit 1
}

nodes() {
    local at
    for ((at = 1; at <= count; at++)); do echo "n$at"; done
}

address() {
    if [ "$1" = ctl ]; then echo "$net.1"; else echo "$net.$((10 + ${1#n}))"; fi
}

check_node() {
    # Not by a pipe: whoever writes to one that nobody reads any more fails.
    [ "$1" = ctl ] || [[ " $(nodes | tr '\n' ' ') " == *" $1 "* ]] || fail "there is no node $1"
}

# The host's number of a node's first process. The file that says so is believed only where that process is in the node's network: it may be of
# another boot, and the number somebody else's now.
first_process() {
    local number
    number=$(cat "$bed/nodes/$1/first" 2>/dev/null) && [ -n "$number" ] || return 1
    [ "$(stat -Lc %d:%i "/proc/$number/ns/net" 2>/dev/null)" = "$(stat -Lc %d:%i "/run/netns/$name-$1" 2>/dev/null)" ] || return 1
    echo "$number"
}

kill_node() {
    local number tries
    number=$(first_process "$1") || return 0
    kill -KILL "$number" 2>/dev/null || return 0
    for ((tries = 0; tries < 200; tries++)); do
        [ -e "/proc/$number" ] || break
        sleep 0.02
    done
    rm -f "$bed/nodes/$1/first"
}

can() {
    [ "$(id -u)" = 0 ] || fail "needs root, for namespaces"
    local command
    for command in ip nsenter unshare munged slurmctld slurmd srun sinfo; do
        command -v "$command" >/dev/null || fail "there is no $command: install slurmctld, slurmd, slurm-client, munge, iproute2, util-linux"
    done
    # Containers may forbid what root may do elsewhere.
    unshare --net --mount --uts --ipc --pid --fork --mount-proc true 2>/dev/null || fail "namespaces are not permitted here"
    ip netns add "$name-try" 2>/dev/null || fail "network namespaces are not permitted here"
    ip netns del "$name-try"
}

write_configuration() {
    mkdir -p "$bed/etc/slurm/plugstack.conf.d" "$bed/shared" "$bed/state"
    {
        echo "127.0.0.1 localhost"
        for node in ctl $(nodes); do echo "$(address "$node") $node"; done
    } >"$bed/etc/hosts"
    [ -s "$bed/etc/munge.key" ] || (umask 077 && head -c 128 /dev/urandom >"$bed/etc/munge.key")
    # slurmd loads a plugin for control groups although nothing here uses any; that of version 2 wants systemd.
    echo "CgroupPlugin=cgroup/v1" >"$bed/etc/slurm/cgroup.conf"
    cat >"$bed/etc/slurm/slurm.conf" <<CONF
ClusterName=$name
SlurmctldHost=ctl($(address ctl))
SlurmUser=root
AuthType=auth/munge
# A requeued job waits so long and one second more; 120 s on a real cluster.
AuthInfo=cred_expire=5
StateSaveLocation=$bed/state
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
# The nodes share the machine's processors.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# Whoever launches an MPI program says which; a default of pmix would leak into what MPICH starts.
MpiDefault=none
# What Slurm takes to see a lost node. The default is 300 s: what is to be shown is that nobody waits for that.
SlurmdTimeout=30
SlurmctldTimeout=30
MessageTimeout=10
TCPTimeout=2
KillWait=10
UnkillableStepTimeout=15
BatchStartTimeout=10
ReturnToService=2
JobRequeue=1
MinJobAge=600
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
NodeName=n[1-$count] CPUs=$cpus State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=low Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 State=UP
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=20 PreemptMode=OFF State=UP
CONF
}

# (Re)makes a node's network, plugged into the switch.
plug() {
    local node=$1 own=$name-$1 last
    ip netns del "$own" 2>/dev/null || true
    ip -n "$switch" link del "$node" 2>/dev/null || true
    ip netns add "$own"
    # The same hardware address at each boot, as a real machine has: its peers remember it.
    last=$(address "$node")
    ip -n "$switch" link add "$node" type veth peer name eth0 address "02:00:00:00:00:$(printf %02x "${last##*.}")" netns "$own"
    ip -n "$switch" link set "$node" master bridge up
    ip -n "$own" link set lo up
    ip -n "$own" link set eth0 up
    ip -n "$own" addr add "$(address "$node")/24" dev eth0
}

# The first process of a node, in all of its namespaces.
run_node() {
    local node=$1 files=$bed/nodes/$1
    exec 3>"$files/ready"
    hostname "$node"
    mount --make-rprivate /
    mount --bind "$bed/etc/hosts" /etc/hosts
    mkdir -p /etc/slurm && mount --bind "$bed/etc/slurm" /etc/slurm
    # What is wanted of $bed, held before /tmp is covered.
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/shared /mnt/log /mnt/state
    mount --bind "$bed/shared" /mnt/shared
    mount --bind "$files/log" /mnt/log
    mount --bind "$bed/state" /mnt/state
    install -m 400 "$bed/etc/munge.key" /mnt/munge.key
    mount -t sysfs -o ro sysfs /sys
    mount --bind /mnt/log /var/log
    mount -t tmpfs -o mode=1777,size=2g tmpfs /dev/shm
    mount -t tmpfs -o mode=755 tmpfs /var/spool
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/munge /run/lock /var/spool/slurmd
    mount -t tmpfs -o mode=1777,size=4g tmpfs /tmp
    mkdir -p "$bed/shared" "$bed/state"
    mount --bind /mnt/shared "$bed/shared"
    [ "$node" != ctl ] || mount --bind /mnt/state "$bed/state"
    cd /
    munged --force --key-file=/mnt/munge.key --socket=/run/munge/munge.socket.2 --pid-file=/run/munge/munged.pid \
        --seed-file=/run/munge/seed --log-file=/var/log/munged.log
    if [ "$node" = ctl ]; then slurmctld -D & else slurmd -D & fi
    echo ready >&3
    exec 3>&-
    # Orphans come to the first process: it waits for them, and never ends.
    while true; do
        sleep 3600 &
        wait $! || true
    done
}

boot() {
    local node=$1 files=$bed/nodes/$1 outer inner="" tries
    mkdir -p "$files/log"
    rm -f "$files/ready"
    # What slurmd has in its environment, jobs may see.
    setsid env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root \
        TESTBED="$bed" TESTBED_NAME="$name" TESTBED_NODES="$count" TESTBED_CPUS="$cpus" TESTBED_NET="$net" \
        nsenter --net="/run/netns/$name-$node" \
        unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc \
        bash "$self" run-node "$node" </dev/null >>"$files/log/first.log" 2>&1 &
    outer=$!
    for ((tries = 0; tries < 500; tries++)); do
        inner=$(tr -d ' ' <"/proc/$outer/task/$outer/children" 2>/dev/null) || true
        if [ -n "$inner" ] && [ -s "$files/ready" ]; then
            echo "$inner" >"$files/first"
            return 0
        fi
        sleep 0.02
    done
    fail "$node does not boot: $(tail -n 3 "$files/log/first.log")"
}

run_on() {
    local number node=$1
    shift
    number=$(first_process "$node") || fail "$node is off"
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    unset TMPDIR
    # shellcheck disable=SC2016 # meant for the inner shell
    exec nsenter -t "$number" -m -u -i -n -p -- bash -c 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"' _ "$PWD" "$@"
}

wait_idle() {
    local until=$((SECONDS + $1)) wanted idle
    shift
    wanted=${*:-$(nodes)}
    while ((SECONDS < until)); do
        # shellcheck disable=SC2086 # one word a node
        idle=$( (run_on ctl sinfo -h -N -p main -n "$(echo $wanted | tr ' ' ',')" -o '%N %T') 2>/dev/null | grep -c ' idle$' || true)
        [ "$idle" = "$(wc -w <<<"$wanted")" ] && return 0
        sleep 0.1
    done
    return 1
}

down() {
    local folder space
    for folder in "$bed"/nodes/*/; do
        [ -d "$folder" ] && kill_node "$(basename "$folder")"
    done
    for space in $(ip netns list 2>/dev/null | awk '{print $1}' | grep -E "^$name-(switch|ctl|n[0-9]+)$" || true); do
        ip netns del "$space"
    done
    [ "${1:-}" != --purge ] || rm -rf "$bed"
}

up() {
    can
    down
    rm -rf "$bed/state" "$bed/nodes" "$bed/etc"
    mkdir -p "$bed"
    write_configuration
    ip netns add "$switch"
    ip -n "$switch" link add bridge type bridge stp_state 0 forward_delay 0
    ip -n "$switch" link set bridge up
    local node
    for node in ctl $(nodes); do plug "$node"; done
    for node in ctl $(nodes); do boot "$node"; done
    wait_idle 60 || fail "the nodes do not become idle; see $bed/nodes/*/log"
}

pids() {
    local space process
    space=$(readlink "/proc/$(first_process "$1" || fail "$1 is off")/ns/pid")
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/ns/pid" 2>/dev/null)" = "$space" ] || continue
        echo "${process#/proc/} $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null)"
    done
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    up) up ;;
    down) down "$@" ;;
    can) can ;;
    exec) check_node "${1:-}" && run_on "$@" ;;
    # A machine without power says nothing to its peers.
    power-off) check_node "${1:-}" && ip -n "$switch" link set "$1" nomaster && kill_node "$1" ;;
    power-on) check_node "${1:-}" && plug "$1" && boot "$1" ;;
    cut) check_node "${1:-}" && ip -n "$switch" link set "$1" nomaster ;;
    mend) check_node "${1:-}" && ip -n "$switch" link set "$1" master bridge ;;
    idle) wait_idle "${1:-60}" "${@:2}" ;;
    pids) check_node "${1:-}" && pids "$1" ;;
    run-node) run_node "$1" ;;
    *)
        sed -n '2,/^set /p' "$self" | sed '$d; s/^# \{0,1\}//'
        exit 2
        ;;
esac
