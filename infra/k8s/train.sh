#!/usr/bin/env bash
# The ranks of one pod of train.yaml: train.sh CONFIG STAGE
#
# Reads NODES, RANKS_PER_NODE, JOBSET_NAME and the pod's JOB_COMPLETION_INDEX. The first rank that fails ends the
# others; 75 means that SIGTERM came and a checkpoint was written: the JobSet starts all pods again, and they go on.
set -uo pipefail
export MASTER_ADDR=${MASTER_ADDR:-$JOBSET_NAME-node-0-0.$JOBSET_NAME} MASTER_PORT=${MASTER_PORT:-29500}
export WORLD_SIZE=$((NODES * RANKS_PER_NODE))

declare -A left
end_all() { [ ${#left[@]} = 0 ] || kill -TERM "${!left[@]}" 2>/dev/null; }
trap end_all TERM INT
for local_rank in $(seq 0 $((RANKS_PER_NODE - 1))); do
    RANK=$((JOB_COMPLETION_INDEX * RANKS_PER_NODE + local_rank)) LOCAL_RANK=$local_rank htcl train "$1" "$2" &
    left[$!]=$local_rank
done
code=0
while [ ${#left[@]} -gt 0 ]; do
    wait -n -p ended "${!left[@]}"
    said=$?
    [ -n "${ended:-}" ] || continue # it was a signal that woke us
    unset "left[$ended]"
    if [ "$said" != 0 ] && [ "$code" = 0 ]; then
        code=$said
        end_all
    fi
done
exit "$code"
