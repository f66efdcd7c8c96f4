#!/usr/bin/env bash
# End what infra/spark/start.sh started on this host, workers before their master; running jobs end with them.
set -euo pipefail

run=${SPARK_RUN_DIR:-${TMPDIR:-/tmp}/htcl-spark-$UID}
shopt -s nullglob

for file in "$run"/worker-*.pid "$run"/master.pid; do
    pid=$(cat "$file")
    # Each leads a session of its own; a number that another process has got since does not.
    kill -TERM -- "-$pid" 2>/dev/null || true
    for _ in $(seq 20); do
        kill -0 -- "-$pid" 2>/dev/null || break
        sleep 0.5
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    rm -f "$file"
done
