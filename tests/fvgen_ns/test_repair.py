"""Generated views drawn once more with the splat: where the photos stand, and a real run with a resumed one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio_commands import config_of, train

from fvgen.types import Cameras, Capture
from fvgen_ns.frames import to_nerfstudio
from fvgen_ns.repair import FOLDER
from fvgen_ns.splat.geometry import at_refined_poses


def test_photos_stand_where_the_camera_optimizer_has_put_them():
    config = CameraOptimizerConfig(mode="SO3xR3")
    optimizer = config.setup(num_cameras=3, device="cpu")
    optimizer.pose_adjustment.data = 0.1 * torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    cameras = Cameras(torch.eye(4).repeat(2, 1, 1), torch.eye(3).repeat(2, 1, 1), 4, 6)
    cameras.c2w[1, :3, 3] = torch.tensor([1.0, 2, 3])
    capture = Capture(torch.zeros(2, 3, 4, 6), cameras, torch.ones(2, 4, 6, dtype=torch.bool))
    model = SimpleNamespace(
        config=SimpleNamespace(camera_optimizer=config), camera_optimizer=optimizer, device=torch.device("cpu")
    )
    found = at_refined_poses(model, capture).cameras.c2w
    for i in range(2):
        frame = SimpleNamespace(K=cameras.K[i].numpy(), size=(6, 4))
        opengl = cameras.c2w[i, :3] * torch.tensor([1.0, -1, -1, 1])
        camera = to_nerfstudio([frame], opengl[None])
        camera.metadata = {"cam_idx": i}
        refined = optimizer.apply_to_camera(camera)[0].detach() * torch.tensor([1.0, -1, -1, 1])
        torch.testing.assert_close(found[i, :3], refined[:3], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_views_are_repaired_and_a_resumed_run_has_them(tiny_room, tmp_path):
    options = ("--generator", "points", "--repair-steps", 8, 20, "--steps-per-save", 16)
    first = train(tmp_path, tiny_room, *options, "--max-num-iterations", 17)
    assert "Repair at step 8: " in first.stdout
    folder = config_of(tmp_path).parent / FOLDER / "000008"
    meta = json.loads((folder / "transforms.json").read_text())
    assert meta["fvgen"]["step"] == 8 and meta["fvgen"]["generator"] == "points" and len(meta["frames"]) > 0
    for frame in meta["frames"]:
        assert frame["fvgen"]["agreement"]["after"] > frame["fvgen"]["agreement"]["before"]
        assert (folder / frame["file_path"]).is_file()

    models = config_of(tmp_path).parent / "nerfstudio_models"
    resumed = train(tmp_path, tiny_room, *options, "--load-dir", models, timestamp="resumed")
    assert f"{len(meta['frames'])} views that were repaired are trained on again." in resumed.stdout
    assert "Repair at step 20: " in resumed.stdout and "Repair at step 8: " not in resumed.stdout
    again = config_of(tmp_path, "resumed").parent / FOLDER
    assert sorted(path.name for path in again.iterdir()) == ["000008", "000020"]
    for name in ("transforms.json", "images/00000.png"):
        assert (again / "000008" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_a_student_starts_from_the_renders(tiny_room, tmp_path):
    options = ("--generator", "student", "--repair-steps", 8)
    assert "Repair at step 8: " in train(tmp_path, tiny_room, *options, "--max-num-iterations", 12).stdout


def test_repair_without_a_generator_is_refused(tiny_room, tmp_path):
    done = train(tmp_path, tiny_room, "--generator", "none", "--repair-steps", 8, check=False)
    assert done.returncode == 2 and "--repair-steps must come after the first step" in done.stdout + done.stderr
