"""scripts/check_parity.py: passes what is equal, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference_files import VECTOR_FOLDERS, VECTORS, needs_vectors
from safetensors.torch import load_file, save_file

from fvgen.checks import InputError
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.evaluation.parity.command import main
from fvgen.evaluation.parity.diffusion import first_nan
from fvgen.evaluation.parity.run import CHECKS, check_file, check_folder, kind_of
from fvgen.models.convert_viewcrafter_unet import load_unet_vector, revert_unet_state_dict, viewcrafter_unet_config
from fvgen.models.image_projector import ImageProjector
from fvgen.models.unet_3d import VideoUNet

REPOSITORY = Path(__file__).parents[2]


def run_script(folder: Path) -> subprocess.CompletedProcess:
    script = REPOSITORY / "scripts" / "check_parity.py"
    environment = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "PATH": ""}
    return subprocess.run(
        [sys.executable, script, folder], capture_output=True, text=True, env=environment, check=False
    )


def copy(folder: Path, *names: str, configuration: bool = True) -> None:
    for name in names:
        for suffix in (".safetensors", ".json") if configuration else (".safetensors",):
            if (VECTORS / name).with_suffix(suffix).exists():
                shutil.copyfile((VECTORS / name).with_suffix(suffix), (folder / name).with_suffix(suffix))


def change(file: Path, **tensors) -> None:
    """Rewrite a vector file with some tensors replaced; dots in names are written as __."""
    known = load_file(file)
    known |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    file.unlink()
    save_file({name: tensor.contiguous() for name, tensor in known.items() if tensor is not None}, file)


@pytest.mark.parametrize("folder", VECTOR_FOLDERS, ids=lambda folder: folder.parents[1].name)
def test_every_vector_passes(folder):
    result = run_script(folder)
    count = len(list(folder.glob("*.safetensors")))
    assert count >= 10
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].startswith(f"parity: {count} of {count} files passed")


def test_damage_and_strangers_exit_with_one(tmp_path, capsys):
    copy(tmp_path, "resampler_a", "diffusion_math", "traj_focus_slerp")
    y = load_file(tmp_path / "resampler_a.safetensors")["out.y"]
    y[0, 0, 0] += 1e-3
    change(tmp_path / "resampler_a.safetensors", out__y=y)
    (tmp_path / "diffusion_math.safetensors").write_bytes(b"\x00" * 40)
    save_file({"out.y": torch.zeros(1)}, tmp_path / "lora_a.safetensors")
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    summary = printed.splitlines()[-1]
    assert summary.startswith("parity: 1 of 4 files passed")
    assert "diffusion_math" in summary and "lora_a" in summary and "resampler_a" in summary
    assert "kind that cannot be run" in printed and "must be readable" in printed


def test_a_folder_without_vectors_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"FOLDER must hold \.safetensors files"):
            check_folder(folder)


def test_kinds_by_name():
    assert kind_of("unet_a") == "unet" and kind_of("traj_interp") == kind_of("traj_interp_b") == "traj_interp"
    assert kind_of("schedule") == "schedule" and kind_of("render_wide_2") == "render"
    assert kind_of("unets_a") is None and kind_of("traj") is None
    assert all(kind_of(kind) == kind for kind in CHECKS)


@pytest.mark.parametrize(
    "name",
    [
        "unet_alpha",
        pytest.param("vae_a", marks=needs_vectors("vae_a")),
        "resampler_a",
        "openclip_tiny",
        "traj_single",
        "diffusion_math",
        "render_big_radius",
    ],
)
def test_configuration_may_stand_in_the_file_itself(tmp_path, name):
    copy(tmp_path, name, configuration=False)
    report = check_file(tmp_path / f"{name}.safetensors")
    assert report.passed, report


def test_without_any_configuration_it_fails_in_words(tmp_path):
    copy(tmp_path, "render_big_radius", configuration=False)
    change(tmp_path / "render_big_radius.safetensors")  # rewritten without metadata
    report = check_file(tmp_path / "render_big_radius.safetensors")
    assert not report.passed and "configuration must say radius" in report.failure


def test_a_reference_nobody_compares_fails(tmp_path):
    copy(tmp_path, "resampler_a")
    change(tmp_path / "resampler_a.safetensors", out__attention=torch.zeros(3))
    report = check_file(tmp_path / "resampler_a.safetensors")
    assert not report.passed and "out.attention" in report.failure


@needs_vectors("ddim_eta0", "ddim_eta1")
def test_sampler_weights_in_another_file(tmp_path):
    copy(tmp_path, "ddim_eta0")
    alone = check_file(tmp_path / "ddim_eta0.safetensors")
    assert not alone.passed and "ddim_eta1.safetensors beside it" in alone.failure
    copy(tmp_path, "ddim_eta1")
    assert check_file(tmp_path / "ddim_eta0.safetensors").passed
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"ddim_eta1{suffix}").rename(tmp_path / f"ddim_other_name{suffix}")
    assert check_file(tmp_path / "ddim_eta0.safetensors").passed


@needs_vectors("ddim_eta1")
def test_nan_fails_where_the_original_makes_none(tmp_path):
    copy(tmp_path, "ddim_eta1")
    file = tmp_path / "ddim_eta1.safetensors"
    x = load_file(file)["steps.x_prev"]
    x[3:] = torch.nan
    change(file, steps__x_prev=x)
    assert not check_file(file).passed


def test_nan_is_expected_where_the_original_makes_it():
    """At 5 steps it makes none; at 7 it loses the sample in its first step."""
    schedule = NoiseSchedule(base_scale=0.7)
    lost = {steps for steps in range(4, 40) if first_nan(schedule, schedule.timesteps(steps), 1.0) == 0}
    assert lost == {7, 11, 14, 15, 20, 25, 33, 34, 35, 37, 38, 39}  # FACTS section 9
    assert all(first_nan(schedule, schedule.timesteps(steps), 0.0) == steps for steps in (5, 7, 11))


def test_altered_slots_without_a_point_fail(tmp_path):
    copy(tmp_path, "render_small")
    file = tmp_path / "render_small.safetensors"
    tensors = load_file(file)
    name = next(key for key in tensors if key.endswith("frag.zbuf"))
    z = tensors[name]
    z[tensors[name.replace("zbuf", "idx")] < 0] = 2.0
    change(file, **{name.replace(".", "__"): z})
    assert not check_file(file).passed


def test_files_that_cannot_be_run_fail(tmp_path):
    copy(tmp_path, "resampler_a")
    (tmp_path / "unet_c.json").write_text("{}")
    torch.save({}, tmp_path / "vae_b.pt")
    failed = [report.name for report in check_folder(tmp_path) if not report.passed]
    assert failed == ["vae_b.pt", "unet_c.json"]


@pytest.mark.parametrize("name", [pytest.param("vae_a", marks=needs_vectors("vae_a")), "resampler_a"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_references_in_other_precisions(tmp_path, dtype, name):
    copy(tmp_path, name)
    file = tmp_path / f"{name}.safetensors"
    change(file, **{key: tensor.to(dtype) for key, tensor in load_file(file).items() if key.startswith("out.")})
    assert check_file(file).passed


def test_other_sizes_are_taken_from_the_file(tmp_path):
    """Plumbing: files of other sizes, written from networks of this house, come out equal."""
    torch.manual_seed(0)
    sizes = {"dim": 24, "depth": 3, "dim_head": 4, "heads": 6, "num_queries": 5, "embedding_dim": 10, "output_dim": 14}
    sizes |= {"ff_mult": 2, "video_length": 2}
    projector, x = ImageProjector(**sizes), torch.randn(3, 9, 10)
    state = {f"sd.{name}": tensor for name, tensor in projector.state_dict().items()}
    file = tmp_path / "resampler_other.safetensors"
    save_file({**state, "in.x": x, "out.y": projector(x).detach()}, file)
    file.with_suffix(".json").write_text(json.dumps({"config": sizes, "seed": 1}))
    assert check_file(file).passed


def test_a_unet_of_another_shape(tmp_path):
    torch.manual_seed(0)
    config = {"in_channels": 6, "out_channels": 3, "model_channels": 32, "channel_mult": [1, 1, 2], "num_res_blocks": 2}
    config |= {"attention_resolutions": [4], "num_head_channels": 8, "context_dim": 24, "use_linear": True}
    config |= {"temporal_conv": True, "temporal_attention": True, "temporal_selfatt_only": True, "temporal_length": 3}
    config |= {"addition_attention": True, "image_cross_attention": True, "fs_condition": True, "default_fs": 7}
    unet = VideoUNet(**viewcrafter_unet_config(config))
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    state = {f"sd.{k}": v.contiguous() for k, v in revert_unet_state_dict(unet.state_dict(), unet).items()}
    x, c = torch.randn(2, 1, 3, 5, 4, 8)
    t, fs, context = torch.tensor([37]), torch.tensor([4]), torch.randn(1, 77 + 10, 24)
    sample = torch.cat([x, c], dim=1).transpose(1, 2)
    with torch.no_grad():
        y = load_unet_vector(config, {k[3:]: v for k, v in state.items()})(sample, t, context, fs).sample
    inputs = {"in.x": x, "in.c_concat": c, "in.context": context, "in.timesteps": t, "in.fs": fs}
    file = tmp_path / "unet_other.safetensors"
    save_file({**state, **inputs, "out.y": y.transpose(1, 2).contiguous()}, file)
    file.with_suffix(".json").write_text(json.dumps({"config": config}))
    report = check_file(file)
    assert report.passed, report
    change(file, out__y=y.transpose(1, 2) + 1e-4)
    assert not check_file(file).passed
