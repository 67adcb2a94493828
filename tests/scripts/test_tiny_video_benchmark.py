"""benchmarks/tiny_video.py: which runs its rows are made of, in what order they are trained, and the whole command."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from fvgen.checks import InputError
from fvgen.clip import Conditions, TrainBatch
from fvgen.distillation.clip_checks import check_guidance
from fvgen.distillation.options import parse

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tiny_video.py"
TABLE_3 = {"no GAN", "GAN only", "GAN, reverse KL", "GAN, softened"}


@pytest.fixture
def runs(monkeypatch):
    """The benchmark's part that needs none of its neighbours."""
    spec = importlib.util.spec_from_file_location("tiny_video_runs", SCRIPT.with_name("tiny_video_runs.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Calls:
    """Stands in for the programs: takes a while, leaves what they leave, and notes who was on."""

    def __init__(self, failing: str = "") -> None:
        self.order: list[tuple[str, str]] = []
        self.most, self._on, self._failing = 0, 0, failing
        self._lock = threading.Lock()

    def __call__(self, script: str, options, *more: str) -> float:
        name = options["--output"].name
        with self._lock:
            self._on += 1
            self.most = max(self.most, self._on)
            self.order.append(("begun", name))
        time.sleep(0.02)
        if script == "train_distill.py":
            if self._failing and options["--preset"] == self._failing:
                raise subprocess.CalledProcessError(1, script)
            student = options["--output"] / "student"
            student.mkdir(parents=True)
            (student / "model_index.json").touch()
            (student.parent / "log.jsonl").write_text('{"step": 1, "seconds": 2.0}\n')
        with self._lock:
            self._on -= 1
            self.order.append(("done", name))
        return 1.5


def train(runs, work, jobs=2):
    return runs.train_rows(work, work / "clips", work / "teacher", runs.Budget(), jobs)


def test_rows_of_table_3_have_as_many_updates_and_share_what_they_begin_with(runs, tmp_path):
    rows = runs.planned_rows(tmp_path, runs.Budget(updates=20))
    assert set(rows) > TABLE_3
    assert {sum(plan.updates for plan in rows[name]) for name in TABLE_3} == {20}
    assert {plan.updates for plan in (*rows["CausVid"], *rows["simulated"], *rows["DMD2"])} == {20}
    assert rows["GAN, reverse KL"][0] == rows["GAN, softened"][0] != rows["GAN, softened, regression"][0]
    for row in rows.values():
        assert [plan.before for plan in row] == [None, *(plan.output for plan in row[:-1])]
    assert all(plan.stage.regression == 0 for name in TABLE_3 for plan in rows[name])


@pytest.mark.parametrize("jobs", [1, 2, 16])
def test_each_run_is_trained_once_after_the_one_that_it_starts_from(runs, tmp_path, monkeypatch, jobs):
    calls = Calls()
    monkeypatch.setattr(runs, "_call", calls)
    rows = train(runs, tmp_path, jobs)
    plans = {plan.output.name: plan for row in runs.planned_rows(tmp_path, runs.Budget()).values() for plan in row}
    assert sorted(name for what, name in calls.order if what == "begun") == sorted(plans)
    for name, plan in plans.items():
        if plan.before is not None:
            assert calls.order.index(("done", plan.before.name)) < calls.order.index(("begun", name))
    assert 1 <= calls.most <= jobs and (calls.most > 1) == (jobs > 1)
    assert [run.log[0]["seconds"] for run in rows["GAN, softened"]] == [2.0] * 4
    assert {run.cpu_seconds for run in rows["GAN, softened"]} == {1.5}
    again = Calls()
    monkeypatch.setattr(runs, "_call", again)
    train(runs, tmp_path)
    assert again.order == []


def test_every_row_is_a_command_line_that_the_trainer_takes(runs, tmp_path, monkeypatch):
    """And every recipe without guidance, for which the bundled pair has no towers."""
    taken = {}

    def parsed(script: str, options, *more: str) -> float:
        taken[options["--output"].name] = parse(runs.command_line(options, *more), "")
        (options["--output"] / "student").mkdir(parents=True)
        (options["--output"].joinpath("log.jsonl")).write_text("")
        return 0.0

    monkeypatch.setattr(runs, "_call", parsed)
    train(runs, tmp_path, jobs=1)
    assert {options.preset for options in taken.values()} >= {
        "dmd2", "causvid-init", "causvid", "avdm2", "avdm2-video-score", "avdm2-gan-alone", "tiny-no-gan",
        "tiny-no-gan-reverse-kl", "fvgen-stage1", "fvgen-stage2", "fvgen-simulated-stage1", "fvgen-simulated-stage2",
    }  # fmt: skip
    assert all(options.other_size for options in taken.values())
    assert taken["tiny-no-gan-160-0"].train.student.lr == runs.Budget().lr
    assert taken["tiny-stage1-48-0"].train.student.lr == 2e-5
    latents = torch.zeros(1, 1, 1, 1, 1)
    clip = TrainBatch(latents, Conditions(latents, torch.zeros(1, 1, 1), torch.ones(1)))
    for options in taken.values():
        check_guidance(asdict(options.objective), clip)


def test_what_starts_from_a_failed_run_is_not_begun(runs, tmp_path, monkeypatch):
    calls = Calls(failing="tiny-stage1")
    monkeypatch.setattr(runs, "_call", calls)
    with pytest.raises(subprocess.CalledProcessError):
        train(runs, tmp_path)
    begun = [name for what, name in calls.order if what == "begun"]
    assert begun and not any(name.startswith("tiny-stage1") and "+" in name for name in begun)


def test_a_folder_keeps_its_budget(runs, tmp_path):
    runs.keep_budget(tmp_path, runs.Budget())
    runs.keep_budget(tmp_path, runs.Budget())
    with pytest.raises(InputError, match=r"budget must be that of the runs in .* Name another --work"):
        runs.keep_budget(tmp_path, runs.Budget(lr=1e-3))
    with pytest.raises(InputError, match="updates must be a multiple of 20"):
        runs.Budget(updates=30)


def test_an_unknown_row_is_refused(runs, tmp_path):
    assert set(runs.planned_rows(tmp_path, runs.Budget(), ["GAN only"])) == {"GAN only"}
    with pytest.raises(InputError, match=r"only must name rows out of no GAN, .*, got GAN and more"):
        runs.planned_rows(tmp_path, runs.Budget(), ["GAN and more"])


def test_clips_are_shared_out_until_all_are_there(runs, tmp_path, monkeypatch):
    def parts(count: int, jobs: int) -> set[str]:
        shares = []
        monkeypatch.setattr(runs, "_call", lambda script, options, *more: shares.append(options["--shard"]))
        runs.prepare_clips(tmp_path, count, 0, jobs)
        return set(shares)

    assert parts(10, 2) == {"0/2", "1/2"}
    assert parts(10, 64) == {"0/3", "1/3", "2/3"}  # no part without a shard
    half = {"shards": [{"samples": [{}] * 4}]}  # as a broken-off preparation leaves it
    (tmp_path / "index.json").write_text(json.dumps(half))
    assert parts(8, 2) == {"0/2", "1/2"}
    (tmp_path / "index.json").write_text(json.dumps({"shards": half["shards"] * 2}))
    assert parts(8, 2) == set()


@pytest.mark.slow
def test_the_whole_command(tmp_path):
    file = tmp_path / "figures.json"
    few = (
        "--budget.updates",
        20,
        "--budget.batch",
        1,
        "--budget.clips",
        4,
        "--budget.views",
        1,
        "--count",
        2,
        "--teacher-steps",
        2,
    )
    command = [sys.executable, SCRIPT, "--work", tmp_path / "work", "--output", file, "--side", 64, *few]
    subprocess.run([str(part) for part in command], check=True, timeout=900)
    figures = json.loads(file.read_text())
    assert set(figures["rows"]) > TABLE_3 | {"teacher", "warp", "untrained student", "bundled student"}
    bar = figures["rows"]["teacher"]["psnr"]
    for row in figures["rows"].values():
        assert row["psnr_over_teacher"] == pytest.approx(row["psnr"] - bar)
    for row in TABLE_3:
        assert sum(run["updates"] for run in figures["runs"][row]) == figures["rows"][row]["updates"] == 20
        assert all(run["cpu_seconds"] > 0 for run in figures["runs"][row])
    assert 0 <= figures["runs"]["GAN only"][0]["own noise, fake right"] <= 1
    assert figures["rows"]["GAN only"]["ssim_se"] > 0
    assert all(spent["wall"] > 0 and spent["cpu"] > 0 for spent in figures["seconds"].values())
    assert file.with_suffix(".png").is_file() and str(tmp_path) not in file.read_text()
