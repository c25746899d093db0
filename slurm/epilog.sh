#!/bin/sh
# Epilog of slurm.conf, run as root on each node when a job has ended there: removes what processes that were killed have left in /dev/shm and /tmp.
#   Epilog=/usr/local/sbin/piton-epilog
# It never fails: that would drain the node. Another job of the same user on this node loses nothing: what is in use stays.
[ -n "$SLURM_JOB_USER" ] || exit 0
timeout 30 runuser -u "$SLURM_JOB_USER" -- piton clean >/dev/null 2>&1
exit 0
