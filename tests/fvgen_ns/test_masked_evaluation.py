import pytest
import torch
from nerfstudio.data.scene_box import SceneBox

from fvgen.rendering.photometric_loss import photometric_loss
from fvgen_ns.fvgen_model import FVGenModelConfig


def test_what_a_mask_leaves_out_does_not_count():
    model = FVGenModelConfig(num_random=10, num_downscales=0).setup(
        scene_box=SceneBox(torch.eye(3)[:2]), num_train_data=2, metadata={}
    )
    torch.manual_seed(0)
    photo, render = torch.rand(40, 50, 3), torch.rand(40, 50, 3)
    spoilt, mask = render.clone(), torch.ones(40, 50, 1, dtype=torch.bool)
    spoilt[:, 30:] = 0
    mask[:, 30:] = False

    def measure(picture: torch.Tensor, **more: torch.Tensor) -> dict[str, float]:
        outputs = {"rgb": picture, "background": torch.zeros(40, 50, 3)}
        return model.get_image_metrics_and_images(outputs, {"image": photo, **more})[0]

    assert measure(spoilt, mask=mask) == pytest.approx(measure(render, mask=mask), abs=1e-4)
    assert measure(spoilt)["psnr"] < measure(render)["psnr"] - 0.2


def test_the_loss_sees_nothing_of_what_a_mask_hides():
    torch.manual_seed(0)
    photo, render = torch.rand(40, 50, 3), torch.rand(40, 50, 3, requires_grad=True)
    weight = torch.ones(40, 50, 1)
    weight[:, 30:] = 0
    spoilt = torch.where(weight > 0, photo, 1 - photo)
    losses = [photometric_loss(render, target, weight, 0.2) for target in (photo, spoilt)]
    assert torch.equal(*losses)  # though windows of pixels beside the mask reach over its border
    losses[0].backward()
    assert torch.equal(render.grad.abs().sum(dim=2) > 0, weight[..., 0] > 0)
