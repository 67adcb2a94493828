import pytest
import torch
from nerfstudio.data.scene_box import SceneBox

from fvgen_ns.fvgen_model import FVGenModelConfig


@pytest.mark.parametrize(
    ("photos", "background", "factor"), [(2, 0, 1.0), (3, 0, 1.0), (3, 10, 2.5), (4, 0, 2.5), (20, 10, 2.5)]
)
def test_sizes_learn_faster_where_photos_or_a_background_hold_them_in_check(photos, background, factor):
    points = torch.rand(50, 3), torch.full((50, 3), 128.0)
    model = FVGenModelConfig(size_growth=2.5).setup(
        scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])),
        num_train_data=30,  # generated views included
        metadata={"num_photos": photos, "num_background": background},
        seed_points=points,
    )
    assert model.size_growth == factor
