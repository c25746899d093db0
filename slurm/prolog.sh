#!/bin/sh
# Prolog of slurm.conf. One that fails drains the node, and the job is queued again: it never starts on a node that would cost it its first hour.
#   Prolog=/usr/local/sbin/piton-prolog
exec piton health
