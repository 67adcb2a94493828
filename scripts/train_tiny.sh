#!/usr/bin/env bash
# Makes the bundled teacher and student from nothing: clips, teacher, both stages of distillation, figures.
# Usage: bash scripts/train_tiny.sh [--smoke] [WORK]
#   --smoke  every part once, on a dozen clips and for four steps: minutes, and weights that are no good
#   WORK     folder for clips and runs (3 GB); runs/tiny, or runs/tiny_smoke, without it
# Two and a quarter hours on 2 CPU cores; with a GPU it trains longer on more clips. Start it again and it goes on.
# PYTHON=INTERPRETER takes that one, as it is, instead of installing into .venv.
set -euo pipefail
case "${1:-}" in --help | -h) sed -n '/^#!/d; /^set/q; s/^# //p' "${BASH_SOURCE[0]}" && exit ;; esac
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
smoke=
if [ "${1:-}" = --smoke ]; then
    smoke=yes
    shift
fi
work=${1:-runs/tiny${smoke:+_smoke}}
[ -n "${PYTHON:-}" ] || bash scripts/install.sh
python=${PYTHON:-.venv/bin/python}
say() { echo "[train_tiny] $*"; }
cores=$(env -u OMP_NUM_THREADS nproc) # nproc takes that variable for the number of cores

if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    processes=$cores launch=("$python") clips=4000
    teacher=(--steps 40000 --student.decay-steps 40000 --global-batch 16 --micro-batch 16)
    stage=(--steps 4000 --student.decay-steps 4000 --critic.decay-steps 4000 --global-batch 16 --micro-batch 16)
else
    # One thread a process: many small convolutions gain more from two processes than from two threads.
    export OMP_NUM_THREADS=1
    processes=$((cores < 2 ? 1 : 2)) clips=620
    launch=("$python" -m accelerate.commands.launch --config_file scripts/accelerate/ddp_cpu.yaml --num_processes "$processes")
    teacher=(--micro-batch $((4 / processes))) # the presets' steps and batch
    stage=("${teacher[@]}")
fi
held_out=40 block=20 few=()
if [ -n "$smoke" ]; then
    clips=12 held_out=4 block=2
    few=(--steps 4 --held-out 2 --meters.samples-every 4 --meters.log-every 1)
fi
prepare() { # FOLDER CLIPS SEED
    say "clips in $1"
    local part jobs=()
    for part in $(seq 0 $((processes - 1))); do
        "$python" scripts/prepare_clips.py procedural --output "$1" --clips "$2" --block "$block" --seed "$3" \
            --shard "$part/$processes" &
        jobs+=($!)
    done
    for part in "${jobs[@]}"; do wait "$part"; done # fails when one of them fails
}
train() { # PRESET FOLDER OPTIONS...
    say "$1 in $2"
    "${launch[@]}" scripts/train_distill.py --preset "$1" --data "$work/clips" --output "$2" \
        --views 16 --crop 96 96 --export-dtype float16 --export-shard-size 15MB "${@:3}" "${few[@]}"
}

prepare "$work/clips" "$clips" 0
prepare "$work/clips_held_out" "$held_out" 1000000
train tiny-teacher "$work/teacher" "${teacher[@]}"
# As the bundled pair was made: with a weaker discriminator than the presets have by now (see docs/training.md).
train tiny-stage1 "$work/stage1" --teacher "$work/teacher/teacher" \
    --objective.adversarial.features middle --objective.adversarial.r1-weight 100 --objective.critic-steps 2 \
    --objective.student-input noised_real --discriminator-lr-scale 1 "${stage[@]}"
train tiny-stage2 "$work/stage2" --teacher "$work/teacher/teacher" --init-student "$work/stage1/student" \
    --objective.discriminator-every 0 --objective.adversarial.features middle --objective.critic-steps 2 "${stage[@]}"
say "figures in $work/bundled_training.json"
"$python" benchmarks/training_curves.py --runs teacher "$work/teacher" stage1 "$work/stage1" stage2 "$work/stage2" \
    --held-out "$work/clips_held_out" --teacher "$work/teacher/teacher" --output "$work/bundled_training.json"
say "done: $work/teacher/teacher and $work/stage2/student"
if [ -n "$smoke" ]; then
    say "this was a smoke run: these weights are no good. Start it without --smoke for better ones."
    exit
fi
say "compare: $python benchmarks/generator.py --captures CAPTURES --teacher $work/teacher/teacher \
    --student $work/stage2/student --clips $work/clips_held_out --output generator.json"
