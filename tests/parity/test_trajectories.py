"""Camera paths against the reference's own (float64 to 1e-6; vectors kept as float32 carry their own rounding)."""

from __future__ import annotations

import json

import pytest
import torch
from reference_files import VECTORS
from safetensors.torch import load_file

from fvgen.geometry import reference_trajectory as reference


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", ["two25", "three25", "four9"])
def test_interpolated_path(case):
    vectors = load_file(VECTORS / "traj_interp.safetensors")
    frames = json.loads((VECTORS / "traj_interp.json").read_text())[case]["video_length"]
    c2w = reference.interpolated_poses(vectors[f"{case}.in.c2w"], frames)
    rotation, translation = reference.to_pytorch3d(c2w)
    close(c2w, vectors[f"{case}.out.c2w_path"])
    close(rotation, vectors[f"{case}.out.R"])
    close(translation, vectors[f"{case}.out.T"])
    focal = reference.interpolated_values(vectors[f"{case}.in.focal"], frames)
    close(focal.expand(-1, 2), vectors[f"{case}.out.focal"])
    close(reference.interpolated_values(vectors[f"{case}.in.pp"], frames), vectors[f"{case}.out.pp"])


def test_focus_path():
    vectors = load_file(VECTORS / "traj_focus_slerp.safetensors")
    c2w = vectors["in.c2w"]
    close(reference.axes_meeting_point(c2w[:2]), vectors["out.focus01"])
    close(reference.focus_path(c2w, inserts=6), vectors["out.path"])


def test_single_view_paths():
    vectors = load_file(VECTORS / "traj_single.safetensors")
    config = json.loads((VECTORS / "traj_single.json").read_text())
    pose, points = reference.world_to_object(
        vectors["obj.in.pose"], vectors["obj.in.points"], -1, float(vectors["obj.in.r"]), config["elevation"]
    )
    close(pose, vectors["obj.out.pose"])
    close(points, vectors["obj.out.points"])
    anchor, frames = vectors["obj.out.pose"][0], config["frame"]
    moves = [config[name] for name in ("d_theta", "d_phi", "d_r", "d_x", "d_y")]
    paths = {
        "specified": reference.specified_path(anchor, *moves, frames),
        "txt": reference.listed_path(anchor, config["theta"], config["phi"], config["r"], frames),
    }
    for name, path in paths.items():
        rotation, translation = reference.to_pytorch3d(path)
        close(rotation, vectors[f"{name}.out.R"])
        close(translation, vectors[f"{name}.out.T"])
