#!/usr/bin/env bash
# A Prefect server and one process worker on this machine, with the deployments of prefect.yaml. Ctrl-C ends both.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PREFECT_SERVER_API_PORT=${PREFECT_SERVER_API_PORT:-4200}
export PREFECT_API_URL=http://127.0.0.1:$PREFECT_SERVER_API_PORT/api
# The SQLite file is waited for on a busy machine: a query that is given up ends a run.
export PREFECT_SERVER_DATABASE_TIMEOUT=60 PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT=60
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 PREFECT_LOGGING_EXTRA_LOGGERS=htcl

# In the background, as a process group of its own, so that its own children end with it. Nothing may ask at the
# terminal: a group in the background is stopped as it reads from one.
start() {
    set -m
    "$@" </dev/null &
    set +m
}

# The worker first, since it reports to the server as it ends; what has not ended by itself in time is killed.
stop() {
    trap : INT TERM # asked twice, it goes on ending them
    for process in ${worker:-} "$server"; do
        kill -- "$process" 2>/dev/null || continue
        timeout 20 tail --pid="$process" -f /dev/null || kill -KILL -- "-$process"
    done
}

start prefect --no-prompt server start --host 127.0.0.1
server=$!
trap stop EXIT
trap 'exit 143' INT TERM
for _ in $(seq 120); do
    if python -c "import urllib.request as u; u.urlopen('$PREFECT_API_URL/health')" 2>/dev/null; then break; fi
    kill -0 "$server" 2>/dev/null || { echo "the Prefect server ended; is port $PREFECT_SERVER_API_PORT taken?" >&2; exit 1; }
    sleep 0.5
done
start infra/prefect/worker.sh
worker=$!
wait -n "$server" "$worker"
