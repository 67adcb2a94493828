"""Camera poses trained with the splat: the moved splat looks as the moved camera sees it, and the pose is found."""

from __future__ import annotations

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.lie_groups import exp_map_SO3xR3
from nerfstudio.data.scene_box import SceneBox

from fvgen_ns.fvgen_model import FVGenModel, FVGenModelConfig

ADJUSTMENT = torch.tensor([[0.05, -0.04, 0.03, 0.02, -0.03, 0.04]])
"""Position and rotation vector in the camera's frame."""


def model_of(mode: str) -> FVGenModel:
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(120, 3, generator=generator) * torch.tensor([2.0, 2.0, 1.0]) - torch.tensor([1.0, 1.0, 3.5])
    rgb = 255 * torch.rand(120, 3, generator=generator)
    model = FVGenModelConfig(
        camera_optimizer=CameraOptimizerConfig(mode=mode),
        background_color="black",
        initial_opacity=0.9,
        num_downscales=0,
        dropout=0.0,
    ).setup(
        scene_box=SceneBox(torch.eye(3)[:2]),
        num_train_data=3,
        metadata={"num_photos": 2, "scene_scale": 3.0},
        seed_points=(xyz, rgb),
    )
    with torch.no_grad():  # long ones, so that a turn shows
        model.scales.add_(torch.tensor([0.8, -0.5, 0.0]))
        model.quats.copy_(torch.nn.functional.normalize(torch.randn(120, 4, generator=generator), dim=1))
    model.optimizers = {}  # the strategy's, which does nothing yet
    return model.train()


def camera_at(c2w: torch.Tensor, index: int) -> Cameras:
    camera = Cameras(c2w[None, :3], 40.0, 40.0, 24.0, 20.0, 48, 40)
    camera.metadata = {"cam_idx": index}
    return camera


def refined_pose() -> torch.Tensor:
    adjustment = torch.cat([exp_map_SO3xR3(ADJUSTMENT)[0], torch.tensor([[0.0, 0, 0, 1]])])
    return torch.eye(4) @ adjustment


def test_a_photo_is_seen_from_its_refined_pose_and_a_generated_view_from_its_own():
    model, plain = model_of("SO3xR3"), model_of("off")
    expected = plain.get_outputs(camera_at(refined_pose(), 1))["rgb"]
    unmoved = plain.get_outputs(camera_at(torch.eye(4), 1))["rgb"]
    with torch.no_grad():
        model.camera_optimizer.pose_adjustment[1:] = ADJUSTMENT
    seen = [model.get_outputs(camera_at(torch.eye(4), index))["rgb"] for index in range(3)]
    torch.testing.assert_close(seen[1], expected, atol=2e-4, rtol=0)
    assert (expected - unmoved).abs().mean() > 0.02
    torch.testing.assert_close(seen[0], unmoved, atol=1e-6, rtol=0)
    torch.testing.assert_close(seen[2], unmoved, atol=1e-6, rtol=0)
    model.eval()
    torch.testing.assert_close(model.get_outputs(camera_at(torch.eye(4), 1))["rgb"], unmoved, atol=1e-6, rtol=0)


def test_training_finds_the_pose():
    model = model_of("SO3xR3")
    target = model_of("off").get_outputs(camera_at(refined_pose(), 0))["rgb"].detach()
    adjustment = model.camera_optimizer.pose_adjustment
    optimizer = torch.optim.Adam([adjustment], lr=4e-3)
    losses = []
    for _ in range(40):
        loss = (model.get_outputs(camera_at(torch.eye(4), 0))["rgb"] - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.2 * losses[0]
    turn = ADJUSTMENT[0, 3:]
    assert (adjustment[0, 3:] - turn).norm() < 0.4 * turn.norm()
    assert not adjustment[1:].any()
