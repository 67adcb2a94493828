"""The training runs behind the rows of `tiny_video`: clips, stages and budgets, by the programs that users run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fvgen.checks import require
from fvgen.distillation.configs import PRESETS, PresetName
from fvgen.distillation.objectives.draws import STUDENT_TIMESTEPS
from fvgen.files import write_json
from fvgen.models.folder import new_folder, read_settings

SCRIPTS = Path(__file__).parents[1] / "scripts"
FRAME_TEACHER = "frame_teacher"
"""Folder of the image model, beside the clips."""
CRITIC_WARMUP = 2
"""Updates in which critics' learning rates rise: fewer than the student's, whom they have to be ahead of."""
EMA_DECAY = 0.9
"""Of the student's average: stages are short."""
COST = "cost.json"
"""File in a run's folder that says what it took."""
BLOCK = 4
"""Clips of a shard: small, so that all cores have work to the end."""


@dataclass(frozen=True)
class Stage:
    """One run of ``scripts/train_distill.py``."""

    preset: PresetName
    share: float
    """Share of the updates of a row."""
    regression: float | None = 0.0
    """Weight of the regression to the real clips; None for a recipe without that term."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that differ from those of the other stages."""
    settles: bool = False
    """Whether the critics' learning rate falls to 0, so that the next stage does not start from a noisy iterate."""
    image_model: bool = False
    """Whether frames are matched with an image model."""


# What a preset for large networks needs to fit a small one without towers.
_UNGUIDED: dict[str, Any] = {"--objective.matching.guidance-scale": 1}
_TEACHERS_ODE: dict[str, Any] = {"--objective.guidance-scale": 1, "--objective.teacher-steps": 10}
_AVDM2: dict[str, Any] = {"--objective.matching.text-tokens": 0, "--objective.video-matching.guidance-scale": 1}

# Above half of all timesteps a discriminator sees little, so it is trained below, and asked about r there alone.
_LOW: dict[str, Any] = {"--objective.adversarial.t-range": (0.0, 0.5)}
_MATCHED: dict[str, Any] = {"--objective.matching.t-range": (0.02, 0.5)}
# A discriminator starts from nothing, so a first stage has the paper's 5 updates of it whatever the budget. The student
# is fast at first, then slow enough for the discriminator to keep up with it, and all but at rest in the end.
_FAST: dict[str, Any] = {"--objective.critic-steps": 5, "--student.lr": 2e-5}
_SLOW: dict[str, Any] = {"--objective.critic-steps": 5, "--student.lr": 4e-6, **_LOW}
_AT_REST: dict[str, Any] = {"--objective.critic-steps": 10, "--student.lr": 1e-6, **_LOW}
_FIRST = tuple(
    Stage("tiny-stage1", share, options=options, settles=True)
    for share, options in ((0.3, _FAST), (0.45, _SLOW), (0.1, _AT_REST))
)
_REST = 0.15
_GAN_ON = Stage("tiny-stage1", _REST, options={"--objective.critic-steps": 5, "--discriminator-lr-scale": 1, **_LOW})
_SOFTENED = Stage("tiny-stage2", _REST, options={**_LOW, **_MATCHED})

ROWS: Mapping[str, Sequence[Stage]] = {
    "no GAN": (Stage("tiny-no-gan", 1.0, options={**_LOW, **_MATCHED}),),
    "no GAN, reverse KL": (Stage("tiny-no-gan-reverse-kl", 1.0, options=_MATCHED),),
    "GAN only": (*_FIRST, _GAN_ON),
    "GAN, reverse KL": (*_FIRST, Stage("tiny-gan-dmd", _REST, options=_MATCHED)),
    "GAN, softened": (*_FIRST, _SOFTENED),
    "GAN, softened, regression": (
        *(replace(stage, regression=1.0) for stage in _FIRST),
        replace(_SOFTENED, regression=3.0),
    ),
    "noised real": (Stage("fvgen-stage1", 1.0), Stage("fvgen-stage2", 1.0, options=_UNGUIDED)),
    "simulated": (Stage("fvgen-simulated-stage1", 1.0), Stage("fvgen-simulated-stage2", 1.0, options=_UNGUIDED)),
    "DMD2": (Stage("dmd2", 1.0, None, _UNGUIDED),),
    "CausVid": (Stage("causvid-init", 1.0, None, _TEACHERS_ODE), Stage("causvid", 1.0, None, _UNGUIDED)),
    "AVDM2": (Stage("avdm2", 1.0, None, _AVDM2, image_model=True),),
    "AVDM2, video score": (Stage("avdm2-video-score", 1.0, None, _AVDM2),),
    "AVDM2, GAN alone": (Stage("avdm2-gan-alone", 1.0, None, _AVDM2),),
}
"""The paper's Table 3 with a regression added, each row with the same number of student updates; then large presets and
what FVGen is compared with, where a recipe of two runs has that number in each."""


@dataclass(frozen=True)
class Budget:
    """Budget of every row."""

    updates: int = 160
    """Updates of the student, over all stages of a row of Table 3, and in each of a preset for large networks."""
    critic_steps: int = 2
    """Updates of the fake score and the discriminator for each update of the student. A first stage has 5."""
    batch: int = 8
    """Clips in each update."""
    crop: int = 32
    """Height and width in pixels of the window that clips are cut to."""
    views: int = 16
    """Ways in which each clip is seen."""
    clips: int = 88
    """Number of procedural training clips."""
    lr: float = 1e-5
    """Highest learning rate of the student, but in first stages. Rows with and without one come to about the same sum
    of rates."""
    warmup_steps: int = 5
    """Updates in which the learning rates rise, in every stage."""

    def __post_init__(self) -> None:
        require(
            self.updates > 0 and self.updates % 20 == 0,
            "updates",
            "be a multiple of 20, for stages of twentieths",
            self.updates,
            "160 were published.",
        )


@dataclass(frozen=True)
class Plan:
    """A run, and what it starts from."""

    stage: Stage
    updates: int
    output: Path
    """Folder of the run."""
    before: Path | None
    """Folder of the run whose student it starts from; None for the teacher."""


@dataclass(frozen=True)
class Run:
    """A stage that has been trained."""

    stage: Stage
    updates: int
    output: Path
    """Folder of the run."""
    log: list[dict[str, Any]]
    """Records of its log.jsonl."""
    cpu_seconds: float
    """Processor time of its program, start and export included."""

    def mean(self, key: str) -> float | None:
        """Mean of a figure over the last half of the updates in which it was logged; None where it never was."""
        values = [line[key] for line in self.log if key in line and line["step"] > self.updates / 2]
        return sum(values) / len(values) if values else None


def keep_budget(work: Path, budget: Budget) -> None:
    """Note the budget of a folder of runs.

    Raises:
        InputError: its runs have another one.
    """
    file, given = work / "budget.json", asdict(budget)
    there = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else given
    require(there == given, "budget", f"be that of the runs in {work}, {there}", given, "Name another --work.")
    write_json(file, given)


def prepare_clips(folder: Path, count: int, seed: int, jobs: int) -> None:
    """Procedural clips, by ``jobs`` processes; what is there is kept."""
    index = folder / "index.json"
    if index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["shards"]
        if sum(len(shard["samples"]) for shard in shards) >= count:
            return
    parts = min(jobs, math.ceil(count / BLOCK))
    options = {"--output": folder, "--clips": count, "--seed": seed, "--block": BLOCK, "--plane-sweep": 0}
    shares = [{**options, "--shard": f"{part}/{parts}"} for part in range(parts)]
    with ThreadPoolExecutor(parts) as pool:
        calls = [pool.submit(_call, "prepare_clips.py", share, "procedural") for share in shares]
        for call in calls:
            call.result()


def planned_rows(work: Path, budget: Budget, names: Sequence[str] = tuple(ROWS)) -> dict[str, list[Plan]]:
    """The runs of these rows, in order. Rows that begin alike share a run, under one folder.

    Raises:
        InputError: there is no such row.
    """
    rows: dict[str, list[Plan]] = {}
    for name in names:
        require(name in ROWS, "only", f"name rows out of {', '.join(ROWS)}", name, "Leave it out for all.")
        stages = ROWS[name]
        before: Path | None = None
        rows[name] = []
        for stage in stages:
            updates = round(stage.share * budget.updates)
            begun = "" if before is None else f"{before.name}+"
            weight = "" if stage.regression is None else f"-{stage.regression:g}"
            output = work / f"{begun}{stage.preset}-{updates}{weight}"
            rows[name].append(Plan(stage, updates, output, before))
            before = output
    return rows


def train_rows(
    work: Path, clips: Path, teacher: Path, budget: Budget, jobs: int, names: Sequence[str] = tuple(ROWS), seed: int = 0
) -> dict[str, list[Run]]:
    """The runs of these rows, trained by ``jobs`` processes at once. Shared and finished ones are trained once."""
    rows = planned_rows(work, budget, names)
    plans = {plan.output: plan for row in rows.values() for plan in row}
    awaited = {plan.before for plan in plans.values()}
    # What others start from comes first, and nothing before what it starts from: who waits, waits for a run that is on.
    order = sorted(plans.values(), key=lambda plan: (plan.before is not None, plan.output not in awaited))
    trained: dict[Path | None, Future[None]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for plan in order:
            trained[plan.output] = pool.submit(_train, plan, trained.get(plan.before), clips, teacher, budget, seed)
        for future in trained.values():
            future.result()
    return {name: [_finished(plan) for plan in row] for name, row in rows.items()}


def _finished(plan: Plan) -> Run:
    lines = (plan.output / "log.jsonl").read_text(encoding="utf-8").splitlines()
    spent = json.loads((plan.output / COST).read_text(encoding="utf-8"))
    return Run(plan.stage, plan.updates, plan.output, [json.loads(line) for line in lines], **spent)


def untrained_student(teacher: Path, folder: Path) -> Path:
    """Where every row starts: the teacher's weights under the student's sampler."""
    with new_folder(folder, "few_step", read_settings(teacher).get("residual"), STUDENT_TIMESTEPS) as writer:
        writer.copy(teacher)
    return folder


def _train(plan: Plan, before: Future[None] | None, clips: Path, teacher: Path, budget: Budget, seed: int) -> None:
    """Train a run after the one that it starts from, unless that is done."""
    if before is not None:
        before.result()
    if (plan.output / COST).is_file():
        return
    start = {} if plan.before is None else {"--init-student": plan.before / "student"}
    objective = PRESETS[plan.stage.preset].objective
    options: dict[str, Any] = {
        "--preset": plan.stage.preset,
        "--data": clips,
        "--output": plan.output,
        "--teacher": teacher,
        **start,
        "--steps": plan.updates,
        "--ema-decay": EMA_DECAY,
        "--student.lr": budget.lr,
        "--student.decay-steps": 0,
        "--student.warmup-steps": budget.warmup_steps,
        "--critic.warmup-steps": CRITIC_WARMUP,
        "--critic.decay-steps": plan.updates + 1 if plan.stage.settles else 0,
        "--precision": "fp32",  # which all CPUs are quick at
        "--global-batch": budget.batch,
        "--micro-batch": budget.batch,
        "--seed": seed,
        "--held-out": 0,
        "--views": budget.views,
        "--crop": (budget.crop, budget.crop),
        "--meters.log-every": 1,
        "--meters.samples-every": 0,
    }
    if objective.critic_steps > 0:
        options["--objective.critic-steps"] = budget.critic_steps
    if plan.stage.regression is not None:
        options["--objective.regression.weight"] = plan.stage.regression
    if plan.stage.image_model:
        options["--frame-teacher"] = clips.parent / FRAME_TEACHER
    spent = _call("train_distill.py", {**options, **plan.stage.options}, "--other-size", "--meters.no-tensorboard")
    write_json(plan.output / COST, {"cpu_seconds": spent})


def _call(script: str, options: Mapping[str, Any], *more: str) -> float:
    """Run a script of this repository with options of one or several values; its output is the user's progress.

    Returns: the processor time that it took, in seconds.

    Raises:
        subprocess.CalledProcessError: it failed, and has printed why.
    """
    command = [sys.executable, str(SCRIPTS / script), *command_line(options, *more)]
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)  # of this process alone: others may be on
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime


def command_line(options: Mapping[str, Any], *more: str) -> list[str]:
    """Options of one or several values as words, after those of ``more``."""
    given = [(name, *(value if isinstance(value, tuple) else (value,))) for name, value in options.items()]
    return [*more, *(str(part) for option in given for part in option)]
