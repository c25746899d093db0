#!/bin/sh
# HealthCheckProgram of slurm.conf, which takes no arguments:
#   HealthCheckProgram=/usr/local/sbin/piton-health
#   HealthCheckInterval=300
#   HealthCheckNodeState=ANY,CYCLE
# It ends within a minute, whatever hangs; a node that is not fit is drained with the reason, unless somebody has drained it already.
exec piton health --drain
