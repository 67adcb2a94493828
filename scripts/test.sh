#!/usr/bin/env bash
# Installs what is needed and runs lint, types and tests; stops at the first that fails, with its exit code.
# Usage: bash scripts/test.sh [--slow]
#   --slow  the tests marked slow, too
set -euo pipefail
case "$*" in
    "") choice=() ;;
    --slow) choice=(-m "not gpu and not weights") ;;
    --help | -h) sed -n '/^#!/d; /^set/q; s/^# //p' "${BASH_SOURCE[0]}" && exit ;;
    *) echo "The only option is --slow, got $*. See --help." >&2 && exit 2 ;;
esac
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/install.sh test

export OMP_NUM_THREADS=1 # the tests are many small computations: threads that wait for one another only slow them

run() {
    echo "[test] $*"
    ".venv/bin/$1" "${@:2}"
}
run ruff format --check .
run ruff check .
run mypy
run pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder "${choice[@]}"
echo "[test] all passed"
