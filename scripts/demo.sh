#!/usr/bin/env bash
# Installs what is needed and runs the main job: a splat from a few photos, beside the one that photos alone give.
# Usage: bash scripts/demo.sh [CAPTURE]      without CAPTURE: on a procedural room that is made first
set -euo pipefail
root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ] && [ ! -e "$1" ]; then
    echo "CAPTURE must be an existing folder, got $1. Check the path." >&2
    exit 2
fi
bash "$root/scripts/install.sh"
# Threads that wait for one another spin first; beside other work that takes half of the machine.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-20000}
exec "$root/.venv/bin/python" "$root/scripts/demo.py" "$@"
