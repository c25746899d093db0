#!/bin/bash
# A job that comes back by itself, under `piton run`. Made by `piton slurm script`.
# Submit it: sbatch SCRIPT PROGRAM ARGUMENTS...

#SBATCH --job-name=job
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --array=1-100%10
# One file for all starts of the job: without `append` each start would empty it.
#SBATCH --output=%x-%A_%a.out
#SBATCH --open-mode=append
# Slurm may start the job again: after the loss of this script's node, a preemption, and when piton gives it back.
#SBATCH --requeue
# 300 s before the time is up, and up to 60 s earlier, piton is told: it has a last checkpoint taken, and ends with status 75 after it has given the job back.
#SBATCH --signal=B:USR1@300

# srun does not pass on by itself how many processors a rank has; rayon and OpenMP do as they are told.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
export RAYON_NUM_THREADS=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK

# Each task of the array has checkpoints of its own.
export PITON_DIR=${PITON_DIR:-piton}/$SLURM_ARRAY_TASK_ID

[ $# -gt 0 ] || { echo "sbatch SCRIPT PROGRAM ARGUMENTS..." >&2; exit 2; }
# It takes the script's place, so that Slurm's signals come to it; --resume goes on from the newest checkpoint, where there is one.
exec piton run --requeue --resume -- "$@"
