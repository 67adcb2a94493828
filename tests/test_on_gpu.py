"""The whole on a GPU, small: what is fused, recorded and trained there, against the CPU where both can be compared."""

import copy

import pytest
import torch
import torch.nn.functional as F
from nerfstudio_commands import STEPS, train
from tiny_pipelines import FRAMES, tiny_pipeline

from fvgen.devices import default_device
from fvgen.evaluation.timing.gpu_clips import TINY
from fvgen.evaluation.timing.training import STAGES, TrainingTrial, measure_training
from fvgen.models.group_norm import GroupNorm32
from fvgen.types import Cameras

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("last", [False, True])
def test_fused_group_normalisation_equals_float64(last):
    torch.manual_seed(0)
    device = default_device()
    x, shift = torch.randn(2, 40, 24, 33) * 3 + 5, torch.randn(2, 40)
    norm = GroupNorm32(4, 40)
    torch.nn.init.normal_(norm.weight)
    exact = copy.deepcopy(norm).double()
    inputs = [t.double().requires_grad_() for t in (x, shift)]
    expected = F.silu(F.group_norm(inputs[0] + inputs[1][..., None, None], 4, exact.weight, exact.bias))
    expected.square().sum().backward()
    norm = norm.to(device)
    x = x.to(device, memory_format=torch.channels_last if last else torch.contiguous_format)
    ours = [t.to(device).requires_grad_() for t in (x, shift)]
    found = norm(ours[0], silu=True, shift=ours[1])
    found.square().sum().backward()
    pairs = [(found, expected), *((a.grad, b.grad) for a, b in zip(ours, inputs, strict=True))]
    pairs += [(norm.weight.grad, exact.weight.grad), (norm.bias.grad, exact.bias.grad)]
    for got, wanted in pairs:
        assert (got.cpu() - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("kind", ["student", "teacher"])
@pytest.mark.parametrize("graphs", [False, True])
def test_a_clip_is_the_cpus(kind, graphs):
    """Tolerance: TF32 is off in neither library's convolutions, and steps multiply its rounding."""
    pipeline = tiny_pipeline(kind)
    generator = torch.Generator().manual_seed(3)
    renders = torch.rand(1, FRAMES, 3, 24, 32, generator=generator)
    cameras = Cameras(torch.eye(4).repeat(FRAMES, 1, 1), torch.eye(3).repeat(FRAMES, 1, 1), 24, 32)
    call = {"renders": renders, "photos": renders[:, [0, -1]], "cameras": cameras, "num_inference_steps": 2}
    expected = pipeline(**call).frames
    pipeline.to(default_device())
    pipeline.prepare_for_gpu(graphs)
    for _ in range(2):  # recorded, then replayed
        assert (pipeline(**call).frames - expected).abs().mean() < 1e-2


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("backbone", ["full", "shared"])
def test_a_training_step_runs(stage, backbone):
    network = {**TINY.unet}
    trial = TrainingTrial(stage, backbone, default_device(), network, frames=3, height=8, width=8, adapter_rank=4)
    (row,) = measure_training([trial])
    assert "error" not in row, row
    assert row["step_s"] > 0 and row["peak_gib"] > 0


def test_the_plugin_trains_and_goes_on(tmp_path, tiny_room):
    options = ("--machine.device-type", default_device().type, "--max-num-iterations")
    train(tmp_path, tiny_room, *options, STEPS)
    folder = next(tmp_path.rglob("nerfstudio_models"))
    done = train(tmp_path, tiny_room, *options, STEPS + 10, "--load-dir", folder, timestamp="resumed")
    assert f"{STEPS} iterations are done, 10 to go" in done.stdout
