#!/bin/bash
# A job that comes back by itself, under `piton run`. Made by `piton slurm script`.
# Submit it: sbatch SCRIPT PROGRAM ARGUMENTS...

#SBATCH --job-name=job
# One of the nodes stands by, and computes where another one is lost.
#SBATCH --nodes=5
#SBATCH --ntasks-per-node=32
#SBATCH --time=24:00:00
# One file for all starts of the job: without `append` each start would empty it.
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
# Where a node is lost, the script lives on: piton launches the job again within seconds, and does not wait for Slurm to notice.
#SBATCH --no-kill
# Slurm may start the job again: after the loss of this script's node, a preemption, and when piton gives it back.
#SBATCH --requeue
# 300 s before the time is up, and up to 60 s earlier, piton is told: it has a last checkpoint taken, and ends with status 75 after it has given the job back.
#SBATCH --signal=B:USR1@300

# MPICH before 4.2 hangs in MPI_Finalize now and then. Ranks that live on so long after the job has finished are ended; give them longer
# where the program itself has more to do then.
export PITON_LINGER_MAX=${PITON_LINGER_MAX:-10min}

[ $# -gt 0 ] || { echo "sbatch SCRIPT PROGRAM ARGUMENTS..." >&2; exit 2; }
# It takes the script's place, so that Slurm's signals come to it; --resume goes on from the newest checkpoint, where there is one.
exec piton run --spares 1 --requeue --mpi pmi2 --resume -- "$@"
