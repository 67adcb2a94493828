"""What a run logs: figures that mean what their names say, and warnings when a sign is bad."""

from __future__ import annotations

import json
import math
import threading
import warnings

import pytest
import torch
from full_disk import files_up_to
from stand_in import MemoryClips, Poisoned, StandInObjective, Taught, run, stand_in_config, taught_roles

from fvgen.checks import InputError
from fvgen.distillation.checkpoint import CHECKPOINTS
from fvgen.distillation.faults import DivergedError
from fvgen.distillation.health import PATIENCE, Watch, clip_statistics, compared_with_data
from fvgen.distillation.meters import LOG, Log, UpdateMeters, last_figures
from fvgen.distillation.parallel import Processes
from fvgen.distillation.settings import MeterConfig

ALONE = Processes()


def clips(seed: int, count: int = 64) -> torch.Tensor:
    return torch.randn(count, 5, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def compared(generated: torch.Tensor, real: torch.Tensor) -> dict[str, float]:
    return compared_with_data(clip_statistics(generated), clip_statistics(real))


def test_like_data_is_healthy():
    found = compared(clips(0), clips(1))
    assert found == pytest.approx({"variance_ratio": 1, "motion_ratio": 1, "colour_drift": 0}, abs=0.05)


def test_each_fault_has_its_figure():
    real = clips(1)
    assert compared(0.5 * real, real)["variance_ratio"] == pytest.approx(0.25, rel=1e-5)
    still = real[:, :1].expand_as(real)
    assert compared(still, real)["motion_ratio"] == 0 and compared(still, real)["variance_ratio"] > 0.9
    tinted = real.clone()
    tinted[:, :, 1] += 0.7
    assert compared(tinted, real)["colour_drift"] == pytest.approx(0.7, rel=0.02)


def test_micro_batches_add_up_to_the_batch():
    """Statistics of parts of different sizes equal those of the whole; pooled values keep every clip."""
    generated, real = clips(2, 6), clips(3, 6)
    whole, parts = UpdateMeters(6), UpdateMeters(6)
    logits = torch.linspace(-1, 2, 6)
    loss = torch.linspace(3, 8, 6)
    for meters, bounds in ((whole, [(0, 6)]), (parts, [(0, 1), (1, 4), (4, 6)])):
        for a, b in bounds:
            values = {"loss": loss[a:b].mean(), "logit_fake": logits[a:b], "generated": generated[a:b]}
            meters.add(values, real[a:b])
    (one, one_pools), (other, other_pools) = whole.totals(ALONE), parts.totals(ALONE)
    assert one == pytest.approx(other, rel=1e-5)
    assert torch.equal(one_pools["logit_fake"], other_pools["logit_fake"])
    assert one["loss"] == pytest.approx(5.5) and one["accuracy_fake"] == pytest.approx(2 / 6)
    assert one["logit_fake_mean"] == pytest.approx(0.5) and one["variance_ratio"] == pytest.approx(1, abs=0.2)


BAD_SIGNS = {
    "The discriminator is saturated": {"critic/accuracy_real": 1.0, "critic/accuracy_fake": 0.99},
    "0.10 of the data's variance": {"student/variance_ratio": 0.1},
    "0.00 of the data's motion": {"student/motion_ratio": 0.0},
    "colours drift": {"student/colour_drift": 2.0},
    "The discriminator is at chance": {"critic/accuracy_real": 0.93, "critic/accuracy_fake": 0.54},
    "saturated, the mean logit of the student's clips, -2.60,": {
        "student/logit_fake_mean": -2.6, "student/accuracy_fake": 1.0, "student/h_mean": 0.9, "student/h_spread": 0.0
    },
    "plain DMD: the discriminator is at chance, with a mean logit of -0.05, and the weights h(r) of all": {
        "student/logit_fake_mean": -0.05, "student/accuracy_fake": 1.0, "student/h_mean": 0.512,
        "student/h_spread": 0.009,
    },
    "plain DMD: the weights h(r)": {
        "student/logit_fake_mean": -1.0, "student/h_mean": 0.73, "student/h_spread": 0.05
    },
}  # fmt: skip


@pytest.mark.parametrize("words", BAD_SIGNS)
def test_a_bad_sign_that_lasts_is_warned_of_once(words):
    watch, well = Watch(), {"critic/accuracy_real": 1.0, "critic/accuracy_fake": 0.6, "student/variance_ratio": 1.0}
    texts = [watch.warnings(BAD_SIGNS[words]) for _ in range(PATIENCE + 3)]
    assert [bool(found) for found in texts] == [n == PATIENCE - 1 for n in range(PATIENCE + 3)]
    assert words in texts[PATIENCE - 1][0]
    assert not watch.warnings(well)
    assert [bool(watch.warnings(BAD_SIGNS[words])) for _ in range(PATIENCE)][-1]  # it was well in between


def test_advice_follows_from_the_failure():
    """A discriminator at chance wants the opposite of a saturated one."""
    for words, record in BAD_SIGNS.items():
        watch = Watch()
        text = [watch.warnings(record) for _ in range(PATIENCE)][-1][0]
        if "chance" in words:
            assert "multi-scale features, a weaker R1 and more critic steps" in text and "raise R1" not in text
        if "saturated" in words:
            assert "raise R1" in text and "more critic steps" not in text


def test_weights_that_differ_between_clips_are_well():
    record = {"student/logit_fake_mean": -0.2, "student/accuracy_fake": 1.0, "student/h_mean": 0.5}
    watch = Watch()
    assert not any(watch.warnings({**record, "student/h_spread": 0.06}) for _ in range(PATIENCE))


def test_a_record_has_figures_and_histograms(tmp_path):
    log = Log(tmp_path, MeterConfig(tensorboard=False), 0, {})
    log.write(1, {"student/loss": 0.5}, {"student/r": torch.tensor([0.1, 0.1, 20.0])})
    record = json.loads((tmp_path / LOG).read_text())
    assert record["step"] == 1 and record["student/loss"] == 0.5
    histogram = record["histograms"]["student/r"]
    assert sum(histogram["counts"]) == 3 and histogram["counts"][0] == 2 and len(histogram["edges"]) == 31


def test_equal_values_have_a_histogram_too(tmp_path):
    log = Log(tmp_path, MeterConfig(tensorboard=False), 0, {})
    log.write(1, {}, {"student/h": torch.ones(4)})
    assert sum(json.loads((tmp_path / LOG).read_text())["histograms"]["student/h"]["counts"]) == 4


def test_a_run_logs_what_it_promises(tmp_path):
    run(stand_in_config(4, meters=MeterConfig(log_every=2, samples_every=0, tensorboard=True)), tmp_path)
    records = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4]
    expected = {
        "critic/loss", "critic/accuracy_real", "critic/accuracy_fake", "critic/grad_norm_discriminator", "lr",
        "student/loss", "student/error", "student/grad_norm_student", "student/variance_ratio", "student/h_mean",
        "student/motion_ratio", "student/colour_drift", "student/h_spread", "seconds",
    }  # fmt: skip
    assert expected <= records[0].keys()
    assert {"critic/logit_real", "critic/logit_fake", "student/h"} == records[0]["histograms"].keys()
    assert records[0]["lr"] == pytest.approx(1e-2)  # warmed up over two steps
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_full_disk_costs_the_log_not_the_run(tmp_path):
    log = Log(tmp_path, MeterConfig(tensorboard=False), 0, {})
    (tmp_path / LOG).mkdir()  # cannot be written to
    with pytest.warns(UserWarning, match="step 1: not logged"):
        log.write(1, {"student/loss": 0.5}, {})


@pytest.mark.parametrize("what", ["a file", "a log that cannot be replaced"])
def test_a_log_that_cannot_be_begun_is_refused_in_one_sentence(what, tmp_path):
    folder = tmp_path / "run"
    if what == "a file":
        folder.touch()
    else:
        folder.mkdir()
        (folder / LOG).write_text('{"step": 1}\n{"step": 3}\n')
    words = (
        r"output must be writable, with room on its disk, got .*run \(.*\)\. Free disk space, or use another --output"
    )
    with files_up_to(5), pytest.raises(InputError, match=words):
        Log(folder, MeterConfig(tensorboard=False), 1, {})
    assert folder.is_file() or [path.name for path in folder.iterdir()] == [LOG]


def test_one_clip_has_no_spread():
    meters = UpdateMeters(1)
    meters.add({"h": torch.ones(1)}, clips(0, 1))
    assert meters.totals(ALONE)[0] == {"h_mean": 1.0}


def test_a_discriminator_without_weights_h_is_no_second_stage():
    watch = Watch()
    assert not any(watch.warnings({"student/accuracy_fake": 1.0}) for _ in range(PATIENCE))


def test_nan_stops_the_run_and_names_where(tmp_path):
    with pytest.raises(DivergedError, match="the discriminator's loss and gradient must be finite, got loss nan") as e:
        run(stand_in_config(3, every=1), tmp_path, Poisoned())
    assert "at step 1" in str(e.value) and "There is no checkpoint yet" in str(e.value)


def test_nan_leaves_the_last_good_checkpoint(tmp_path):
    class Later(StandInObjective):
        """Well for two steps."""

        calls = 0

        def student_loss(self, roles, batch, random):
            Later.calls += 1
            values = super().student_loss(roles, batch, random)
            return {**values, "loss": values["loss"] * float("inf")} if Later.calls > 4 else values

    with pytest.raises(DivergedError, match=r"the student's .* at step 3") as error:
        run(stand_in_config(5, every=1), tmp_path, Later())
    assert "step-00000002: end this run there with --steps 2," in str(error.value)
    assert "a new --output from them with --init-student and a lower learning rate" in str(error.value)
    assert (tmp_path / CHECKPOINTS / "step-00000002").is_dir() and not (
        tmp_path / CHECKPOINTS / "step-00000003"
    ).exists()


def test_a_frozen_network_that_gives_nan_is_named_without_advice_on_learning_rates(tmp_path):
    roles = taught_roles()
    roles.teacher.last.mix.weight.fill_(3e38)  # finite, but what it gives is not
    with pytest.raises(DivergedError, match=r"the student's loss .* at step 1\..* The teacher .* is frozen") as error:
        run(stand_in_config(3), tmp_path, Taught(), roles=roles)
    assert "There is no checkpoint yet." in str(error.value) and "lower learning rate" not in str(error.value)
    assert not any(module._forward_hooks for module in roles.modules().values())


def test_a_trained_network_that_gives_nan_is_told_to_learn_slower(tmp_path):
    roles = taught_roles()
    with torch.no_grad():
        roles.student.last.mix.weight.fill_(3e38)
    with pytest.raises(DivergedError, match="a lower learning rate"):
        run(stand_in_config(3), tmp_path, Taught(), roles=roles)


def test_clips_that_hold_nan_are_named(tmp_path):
    clips_with_nan = MemoryClips()
    clips_with_nan._latents[3, 0, 0, 0, 0] = math.nan
    with pytest.raises(DivergedError, match=r"The clips hold NaN or infinite values: make them again") as error:
        run(stand_in_config(4), tmp_path, source=clips_with_nan)
    assert "learning rate" not in str(error.value)


def test_a_healthy_run_warns_of_nothing(tmp_path):
    class Telling(StandInObjective):
        """Its discriminator is right on three of four clips, and its weights differ."""

        def critic_loss(self, roles, batch, random):
            logits = torch.tensor([1.0, 1.0, 1.0, -1.0])[: len(batch)]
            return {**super().critic_loss(roles, batch, random), "logit_real": logits, "logit_fake": -logits}

        def student_loss(self, roles, batch, random):
            weights = torch.tensor([0.3, 0.5, 0.6, 0.8])[: len(batch)]
            return {**super().student_loss(roles, batch, random), "h": weights}

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run(stand_in_config(PATIENCE + 2, micro_batch=4), tmp_path, Telling())


def test_a_full_disk_costs_figures_and_not_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda raised: None)  # TensorBoard's own thread complains, too
    log = Log(tmp_path, MeterConfig(), 0, {})
    log.write(1, {"student/loss": 1.0}, {})
    with files_up_to(500):
        with pytest.warns(UserWarning, match="step 2: not logged, .*File too large"):
            log.write(2, {f"student/{i}": 1.0 for i in range(100)}, {})
        log.picture(2, torch.rand(3, 64, 64))
        with pytest.warns(UserWarning, match="the boards' last figures were not written"):
            log.close()
    assert last_figures(tmp_path, 2) == {"student/loss": 1.0}
