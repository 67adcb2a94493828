#!/usr/bin/env bash
# Installs what is needed and runs the main job: a splat from a few photos, beside the one that photos alone give.
# Usage: bash scripts/demo.sh [CAPTURE] [--output FOLDER] [--method METHOD]
#   CAPTURE          a folder that Nerfstudio can read, or a folder of photos, a video, or a zip archive of either;
#                    without it a procedural room with 6 photos is made
#   --output FOLDER  for everything that is made; demo without it
#   --method METHOD  fvgen-splat, or fvgen-splat-cpu for the quick one: the default where there is no GPU
# A minute or two on two CPU cores, after an installation of some minutes the first time.
set -euo pipefail
case " $* " in *" --help "* | *" -h "*) sed -n '/^#!/d; /^set/q; s/^# //p' "${BASH_SOURCE[0]}" && exit ;; esac
root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ] && [ ! -e "$1" ]; then
    echo "CAPTURE must be an existing folder, video or zip archive, got $1. Check the path." >&2
    exit 2
fi
bash "$root/scripts/install.sh"
# Threads that wait for one another spin first; beside other work that takes half of the machine.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-20000}
exec "$root/.venv/bin/python" "$root/scripts/demo.py" "$@"
