"""Learned depth of single photos, fitted to measured depth; the networks are transformers' own, with random weights."""

import json

import pytest
import torch

from fvgen.checks import InputError
from fvgen.geometry.completion import CONFIDENCE, completed_by, fit_inverse_depth
from fvgen.geometry.points import depth_to_points
from fvgen.models.depth_anything import DepthAnything, find_depth_model
from fvgen.types import SceneGeometry


class StandIn:
    """True inverse depth, bent by a scale and a shift for each photo."""

    def __init__(self, depths, bend=(3.0, -0.2), noise=0.0):
        self.depths, self.bend, self.noise = depths, bend, noise

    def inverse_depth(self, photos, measured, progress=None):
        inverse = torch.where(self.depths > 0, 1 / self.depths.clamp_min(1e-9), 0.0)
        grain = torch.randn(inverse.shape, generator=torch.Generator().manual_seed(0))
        return (inverse * (1 + self.noise * grain) - self.bend[1]) / self.bend[0]


@pytest.fixture(scope="module")
def left_half(exact_capture):
    """Exact depth in the left half of each photo, nothing elsewhere."""
    known = exact_capture.depths > 0
    known[..., exact_capture.cameras.width // 2 :] = False
    depths = torch.where(known, exact_capture.depths, 0.0)
    points = depth_to_points(exact_capture.photos, exact_capture.cameras, depths, known.float())
    return SceneGeometry(exact_capture.cameras, points, depths, known.float())


def test_gaps_get_the_true_depth_and_measured_depth_stays(exact_capture, left_half):
    geometry, notes = completed_by(StandIn(exact_capture.depths), exact_capture, left_half)
    known = left_half.depths > 0
    assert not notes
    assert torch.equal(geometry.depths[known], left_half.depths[known])
    new = ~known & (geometry.depths > 0)
    assert new.float().mean() > 0.3
    error = (geometry.depths[new] / exact_capture.depths[new] - 1).abs()
    assert error.median() < 1e-3 and error.quantile(0.95) < 0.02
    assert (geometry.confidences[new] == CONFIDENCE).all()
    assert len(geometry.points) == int((geometry.depths > 0).sum())


def test_noise_and_wrong_measurements_do_not_move_the_fit(exact_capture):
    depth = exact_capture.depths[exact_capture.depths > 0]
    seen = StandIn(depth, noise=0.02).inverse_depth(None, None)
    measured = 1 / depth
    measured[::7] *= 3  # one in seven is wrong
    scale, shift, error = fit_inverse_depth(seen, measured)
    assert scale == pytest.approx(3.0, rel=0.05) and shift == pytest.approx(-0.2, abs=0.02) and error < 0.03


def test_depth_that_does_not_fit_is_left_out_with_a_note(exact_capture, left_half):
    upside_down = StandIn(exact_capture.depths, bend=(-1.0, 0.0))
    random = StandIn(exact_capture.depths.new_zeros(exact_capture.depths.shape) + 1, noise=1.0)
    for learned in (upside_down, random):
        geometry, notes = completed_by(learned, exact_capture, left_half)
        assert torch.equal(geometry.depths, left_half.depths)
        assert len(notes) == len(exact_capture) and "keeps its gaps" in notes[0]


def tiny_network(folder, prompted):
    """A network of transformers' with random weights, saved as the released ones are."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    kind = "PromptDepthAnything" if prompted else "DepthAnything"
    if not hasattr(transformers, f"{kind}Config"):
        pytest.skip(f"this transformers has no {kind}")
    config = getattr(transformers, f"{kind}Config")(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
        patch_size=14,
    )
    torch.manual_seed(0)
    getattr(transformers, f"{kind}ForDepthEstimation")(config).save_pretrained(folder)
    name = "PromptDepthAnythingImageProcessor" if prompted else "DPTImageProcessor"
    size = {"height": 56, "width": 56}
    settings = {"image_processor_type": name, "do_resize": True, "size": size, "ensure_multiple_of": 14}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"keep_aspect_ratio": True}))
    return folder


@pytest.mark.parametrize("prompted", [False, True])
def test_transformers_networks_are_read_and_asked(tmp_path, exact_capture, left_half, prompted):
    network = DepthAnything(find_depth_model(tiny_network(tmp_path, prompted)))
    maps = network.inverse_depth(exact_capture.photos, left_half.depths.clamp_min(2.0))
    assert maps.shape == left_half.depths.shape and torch.isfinite(maps).all() and maps.std() > 0
    geometry, _ = completed_by(network, exact_capture, left_half)  # untrained: it fits or is left out
    known = left_half.depths > 0
    assert torch.equal(geometry.depths[known], left_half.depths[known])


def test_a_missing_network_names_the_command_its_size_and_licence(tmp_path):
    with pytest.raises(InputError, match=r"fvgen download depth-anything-v2-small \(99 MB, Apache-2.0\)"):
        find_depth_model(tmp_path)


def test_another_network_is_refused_in_one_line(tmp_path):
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="be a network that transformers reads"):
        DepthAnything(find_depth_model(tmp_path))
