#!/usr/bin/env bash
# The GPUs of this host in the form that Spark wants: {"name": "gpu", "addresses": ["0", "1"]}
set -euo pipefail

nvidia-smi --query-gpu=index --format=csv,noheader |
    awk '{ list = list (NR > 1 ? ", " : "") "\"" $1 "\"" } END { print "{\"name\": \"gpu\", \"addresses\": [" list "]}" }'
