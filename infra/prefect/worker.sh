#!/usr/bin/env bash
# Register the work pool and the deployments of prefect.yaml with the server at PREFECT_API_URL, then work for it.
#
# HTCL_DEPLOY_CONFIG names the configuration that the deployments run on; by default the demo's. HTCL_JOB_TEMPLATE names
# the pool's base job template, such as infra/prefect/secrets.json, which takes secrets from Prefect's blocks.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${PREFECT_API_URL:?set it to the API of a Prefect server, such as http://127.0.0.1:4200/api}"

# One run at a time: the three deployments write one workspace.
# What others have set of the pool stays.
prefect --no-prompt work-pool inspect htcl >/dev/null 2>&1 || prefect --no-prompt work-pool create --type process htcl
prefect --no-prompt work-pool update --concurrency-limit 1 \
    ${HTCL_JOB_TEMPLATE:+--base-job-template "$HTCL_JOB_TEMPLATE"} htcl
if [ -z "${HTCL_DEPLOY_CONFIG:-}" ]; then
    prefect --no-prompt deploy --all
else
    for name in full-pipeline nightly-finetune backfill; do
        prefect --no-prompt deploy --name "$name" --param "config=$HTCL_DEPLOY_CONFIG"
    done
fi
echo "In another terminal:  export PREFECT_API_URL=$PREFECT_API_URL"
echo "                      prefect deployment run htcl/full-pipeline"
exec prefect --no-prompt worker start --pool htcl
