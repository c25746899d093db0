#!/usr/bin/env bash
# The main job: a tsunami on four MPI ranks, of which one is killed in mid-run; resumed, it must end with the very bits
# of a run that nothing happened to. Whatever is not as promised ends this with a failure.
#
# MPI=openmpi (default) or mpich. Without any MPI it is shown with one process. DEMO_SIZE, DEMO_STEPS, DEMO_EVERY,
# DEMO_KILL_AT and DEMO_PACE change the job.
set -euo pipefail
. "$(dirname "$0")/common.sh"
require_cargo

family=${MPI:-openmpi}
name=$(mpi_name "$family")
size=${DEMO_SIZE:-360x273}
steps=${DEMO_STEPS:-2000}
every=${DEMO_EVERY:-200}
# Half-way between two checkpoints, so that steps are lost and computed again.
kill_at=${DEMO_KILL_AT:-$((every * 5 + every / 2))}
# Milliseconds that a step takes at least: a checkpoint is committed while the simulation goes on, not in no time.
pace=${DEMO_PACE:-2}

folder=$root/piton-demo
store=$folder/checkpoints
picture=$folder/tsunami.png

expect() {
    local what=$1
    shift
    "$@" || die "not as promised: $what"
    echo "ok: $what"
}

# From the output of a run: its last line, where that is the one that scripts compare.
final_state() {
    tail -n 1 "$1" | grep -E '^final state: [0-9a-f]+ \(step [0-9]+\)$'
}

# The events of a kind in the journals of an attempt, as the JSON lines that they are.
events() {
    local epoch=$1 kind=$2
    cat "$store"/tsunami/"$epoch"/journal.*.jsonl | grep "\"kind\":\"$kind\""
}

# The whole number under a key of the first JSON line.
number() {
    sed -n "1s/.*\"$1\":\([0-9]*\)[,}].*/\1/p"
}

# Shows a command and runs it; its output is shown, and its standard output kept in a file. The status goes to `status`, the time to `took`.
launch() {
    local log=$1 since=$SECONDS
    shift
    printf '  $ %s\n' "$(sed "s|$root/||g" <<<"$*")"
    status=0
    "$@" </dev/null | tee "$log" | sed -u 's/^/    /' || status=$?
    took=$((SECONDS - since))
}

ranks=4 victim=2
if use_mpi "$family"; then
    features=mpi
    export CARGO_TARGET_DIR
    CARGO_TARGET_DIR=$(mpi_target "$family")
    where="$ranks MPI ranks ($name)"
    launcher=("$mpirun" -n "$ranks")
else
    complain "no $name was found, so this is shown with one process instead of $ranks MPI ranks"
    features=''
    export CARGO_TARGET_DIR=$target
    ranks=1 victim=0
    where='one process'
    launcher=()
fi

heading "Building the tsunami and the program piton (the first time takes a few minutes)"
cargo build --release --example tsunami --features "$features"
CARGO_TARGET_DIR=$target cargo build --release --package piton-cli
tsunami=$CARGO_TARGET_DIR/release/examples/tsunami
piton=$target/release/piton

rm -rf "$folder"
mkdir -p "$folder"
job=("${launcher[@]}" "$tsunami" --size "$size" --steps "$steps" --every "$every" --pace "$pace")

heading "1. For comparison: $steps steps on $where that nothing happens to"
launch "$folder/reference.log" "${job[@]}" --dir "$folder/reference" \
    --picture "$folder/reference.png" --gauges "$folder/reference-gauges.csv"
reference_took=$took
expect "the run ended well, after $took s" [ "$status" = 0 ]
reference=$(final_state "$folder/reference.log") || die "not as promised: the run ends with a line 'final state: ...'"

heading "2. The same, and rank $victim is killed (SIGKILL) after step $kill_at"
job+=(--dir "$store" --picture "$picture" --gauges "$folder/gauges.csv")
launch "$folder/killed.log" "${job[@]}" --inject "kill-rank=$victim@step=$kill_at"
# How OpenMPI (and a shell) and MPICH say SIGKILL; anything else would be another death than the one planned.
expect "the job died after $took s, by SIGKILL (exit status $status)" [ "$status" = 137 -o "$status" = 9 ]
expect "it did not come to its end" [ -z "$(final_state "$folder/killed.log" || true)" ]

heading "3. What is left: checkpoints that were committed while it ran"
"$piton" --dir "$store" ls
committed=$(events 000001 committed | wc -l)
expect "$committed checkpoints were committed before the end" [ "$committed" -gt 0 ]

heading "4. The same command once more, with --resume"
launch "$folder/resumed.log" "${job[@]}" --resume
expect "the run ended well, after $took s" [ "$status" = 0 ]
resumed=$(events 000002 resumed) || die "not as promised: the journal of the second attempt says that it resumed"
said=$(grep -o '"epoch":[0-9]*,"id":[0-9]*,"step":[0-9]*' <<<"$resumed" | sort -u | wc -l)
expect "every rank that speaks of it names the same checkpoint" [ "$said" = 1 ]
resumed=$(head -n 1 <<<"$resumed")
echo "  its journal says: $resumed"
id=$(number id <<<"$resumed")
step=$(number step <<<"$resumed")
[ -n "$id" ] && [ -n "$step" ] || die "not as promised: the journal names the checkpoint and its step"
expect "it resumed from checkpoint $id: steps 1 to $step were not computed again, $((kill_at - step)) were lost" \
    [ "$step" -gt 0 -a "$step" -lt "$kill_at" ]
same=$(events 000001 committed | grep "\"id\":$id,") || same=''
expect "that is a checkpoint which the killed attempt had committed at that step" \
    [ "$(number step <<<"$same")" = "$step" ]

heading "5. Is it the same sea?"
final=$(final_state "$folder/resumed.log") || die "not as promised: the run ends with a line 'final state: ...'"
echo "  undisturbed          $reference"
echo "  killed and resumed   $final"
expect "bit-identical" [ "$final" = "$reference" ]
expect "the log of the tide gauges has every line once" cmp "$folder/gauges.csv" "$folder/reference-gauges.csv"

heading "6. Reading back every byte"
"$piton" --dir "$store" verify || die "not as promised: every checkpoint verifies"
expect "the wave was drawn: piton-demo/tsunami.png" [ -s "$picture" ]

heading "All as promised"
echo "Undisturbed $reference_took s; the resumed attempt alone $took s. The checkpoints are in piton-demo/checkpoints:"
echo "try  ${piton#"$root"/} --dir piton-demo/checkpoints show"
