#!/usr/bin/env bash
# Start a standalone Spark cluster out of the pip package: a master and workers, each a process of its own.
#
#   infra/spark/start.sh [WORKERS]                            master and workers on this host
#   MASTER=spark://HOST:7077 infra/spark/start.sh [WORKERS]   only workers, which join that master
#
# Settings, all optional: SPARK_MASTER_HOST, SPARK_MASTER_PORT, SPARK_LOCAL_IP (address of the workers here),
# SPARK_WORKER_CORES and SPARK_WORKER_MEMORY (of each worker), SPARK_RUN_DIR (logs, pids, working folders).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export PATH="$here/../../.venv/bin:$PATH"
export SPARK_CONF_DIR="${SPARK_CONF_DIR:-$here}"
host=${SPARK_MASTER_HOST:-127.0.0.1} port=${SPARK_MASTER_PORT:-7077}
run=${SPARK_RUN_DIR:-${TMPDIR:-/tmp}/htcl-spark-$UID}
mkdir -p "$run"

start() { # NAME CLASS ARGUMENT...
    local name=$1
    shift
    setsid spark-class "$@" </dev/null >"$run/$name.log" 2>&1 &
    echo $! >"$run/$name.pid"
}

wait_for() { # NAME TEXT: until its log has the text
    for _ in $(seq 120); do
        if grep -qs "$2" "$run/$1.log"; then return; fi
        kill -0 "$(cat "$run/$1.pid")" 2>/dev/null || break
        sleep 0.5
    done
    echo "$1 did not start; see $run/$1.log" >&2
    "$here/stop.sh"
    exit 1
}

if compgen -G "$run/*.pid" >/dev/null; then
    echo "$run holds a running cluster; end it with infra/spark/stop.sh" >&2
    exit 1
fi
if [ -z "${MASTER:-}" ]; then
    start master org.apache.spark.deploy.master.Master --host "$host" --port "$port" --webui-port 0
    wait_for master "New state: ALIVE"
    MASTER="spark://$host:$port"
fi
case $MASTER in
    spark://127.*) own=127.0.0.1 ;;
    *) own=${SPARK_LOCAL_IP:-$(hostname)} ;;
esac
for number in $(seq "${1:-2}"); do
    start "worker-$number" org.apache.spark.deploy.worker.Worker --host "$own" --webui-port 0 \
        --cores "${SPARK_WORKER_CORES:-1}" --memory "${SPARK_WORKER_MEMORY:-2g}" --work-dir "$run/work-$number" "$MASTER"
done
for number in $(seq "${1:-2}"); do
    wait_for "worker-$number" "Successfully registered with master"
done
echo "$MASTER"
