"""The DUSt3R adapter with a network that knows the scene: right up to scale, noise and confidence."""

import sys
import types

import pytest
import torch
from torch.nn import functional

from fvgen.checks import InputError
from fvgen.geometry import dust3r
from fvgen.geometry.cameras import pixel_rays
from fvgen.geometry.dust3r import Dust3r, baseline_scale
from fvgen.geometry.provider import GEOMETRY_PROVIDERS

SCALES = {(0, 1): 0.2, (1, 0): 3.0, (1, 2): 0.7, (2, 1): 1.0, (0, 2): 12.0, (2, 0): 0.05}


class Knowing:
    """Answers as DUSt3R does, from the exact depth of a capture: names, shapes and bounds are those of the package.

    (Seen with random weights: ``pts3d`` and ``conf`` of the first photo,
    ``pts3d_in_other_view`` and ``conf`` of the second; confidence is 1 + exp and so above 1. Its config on the hub must
    say ``PatchEmbedDust3R`` and not ``landscape_only``, or portrait photos are refused.)
    """

    def __init__(self, capture, noise=0.0):
        self.capture, self.noise = capture, noise
        self.seen = []

    def to(self, device):
        return self

    def eval(self):
        return self

    def __call__(self, first, second):
        (i,), (j,) = first["idx"], second["idx"]
        assert first["img"].shape[2] % 16 == 0 and first["img"].shape[3] % 16 == 0
        assert first["img"].min() < -0.2 and first["img"].max() > 0.2  # [-1, 1]
        for view in (first, second):
            assert view["true_shape"].tolist() == [list(view["img"].shape[2:])]
        self.seen.append((i, j))
        height, width = first["img"].shape[2:]
        cameras = self.capture.cameras.resized(height, width)
        depths = functional.interpolate(self.capture.depths[:, None], (height, width), mode="nearest-exact")[:, 0]
        points = pixel_rays(cameras) * depths[..., None]
        to_i = cameras.w2c[i] @ cameras.c2w[j]
        noise = 1 + self.noise * torch.randn(2, height, width, 1, generator=torch.Generator().manual_seed(10 * i + j))
        mine, other = SCALES[i, j] * points[i], SCALES[i, j] * (points[j] @ to_i[:3, :3].T + to_i[:3, 3])
        confidence = torch.full((1, height, width), 4.0)
        confidence[:, : height // 8] = 1.001
        return (
            {"pts3d": (noise[0] * mine)[None], "conf": confidence},
            {"pts3d_in_other_view": (noise[1] * other)[None], "conf": confidence},
        )


@pytest.fixture
def knowing(exact_capture, monkeypatch):
    def use(noise=0.0):
        network = Knowing(exact_capture, noise)
        monkeypatch.setattr(dust3r, "load_network", lambda model: network)
        return network

    return use


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 0.01), (0.02, 0.02)])
def test_depth_has_the_scale_of_the_cameras(exact_capture, knowing, noise, tolerance):
    network = knowing(noise)
    geometry = Dust3r(long_side=96).reconstruct(exact_capture)
    assert sorted(network.seen) == sorted(SCALES)
    known = geometry.depths > 0
    assert known.float().mean() > 0.6
    error = (geometry.depths / exact_capture.depths - 1).abs()[known]
    assert error.median() < tolerance
    assert len(geometry.points) == int(known.sum())
    assert ((geometry.confidences > 0) == known).all() and geometry.confidences.max() <= 1


def test_pixels_that_the_network_is_not_confidence_of_are_dropped(exact_capture, knowing):
    knowing()
    depths = Dust3r(long_side=96).reconstruct(exact_capture).depths
    assert (depths[:, : depths.shape[1] // 8 - 2] == 0).all()


def test_raw_depth_is_neither_cut_nor_filtered(exact_capture, knowing):
    """As ViewCrafter's teachers were trained: all pixels of two photos, whatever the confidence."""
    network = knowing(noise=0.3)  # neighbours contradict each other: the filters would drop most of it
    two = exact_capture[[0, 1]]
    geometry = GEOMETRY_PROVIDERS["dust3r-raw"](long_side=96).reconstruct(two)
    assert sorted(network.seen) == [(0, 1), (1, 0)]
    assert (geometry.depths > 0).float().mean() > 0.99
    assert len(geometry.points) == int((geometry.depths > 0).sum()) and (geometry.confidences == 1).any()
    cut = Dust3r(long_side=96).reconstruct(two).depths
    assert (cut > 0).float().mean() < 0.8


@pytest.mark.weights
def test_the_real_network_answers_as_the_one_above(exact_capture):
    """With the package on PYTHONPATH and its weights in the hub's cache."""
    pytest.importorskip("dust3r")
    network = dust3r.load_network(dust3r.WEIGHTS).eval()
    images = Dust3r(long_side=96)._images(exact_capture.photos)
    shape = torch.tensor([list(images.shape[2:])])
    views = [{"img": images[k][None], "true_shape": shape, "idx": [k], "instance": [str(k)]} for k in (0, 1)]
    with torch.no_grad():
        answers = network(*views)
    for answer, points in zip(answers, ("pts3d", "pts3d_in_other_view"), strict=True):
        assert answer[points].shape == (1, *images.shape[2:], 3)
        assert answer["conf"].shape == (1, *images.shape[2:]) and answer["conf"].min() >= 1
    assert (Dust3r(model=dust3r.WEIGHTS).reconstruct(exact_capture).depths > 0).any()


def test_scale_needs_a_baseline(exact_capture):
    cameras = exact_capture.cameras
    points = pixel_rays(cameras)[1] * exact_capture.depths[1][..., None]
    confidence = torch.ones(points.shape[:2])
    assert baseline_scale(points, confidence, torch.eye(4), pixel_rays(cameras)[1]) is None
    to_j = cameras.w2c[1] @ cameras.c2w[0]
    there = (points - to_j[:3, 3]) @ to_j[:3, :3]
    assert baseline_scale(0.25 * there, confidence, to_j, pixel_rays(cameras)[1]) == pytest.approx(4, rel=1e-3)
    wrong = there.clone()
    wrong[: len(wrong) // 4] *= 1.5  # a quarter of the picture is off
    assert baseline_scale(wrong, confidence, to_j, pixel_rays(cameras)[1]) == pytest.approx(1, rel=0.01)


def test_the_error_names_what_is_missing(exact_capture, monkeypatch):
    monkeypatch.setitem(sys.modules, "dust3r", None)
    with pytest.raises(InputError, match=r"must have the package dust3r installed.*git clone --recursive"):
        Dust3r().reconstruct(exact_capture)

    class AsymmetricCroCo3DStereo:
        @classmethod
        def from_pretrained(cls, model, local_files_only):
            assert local_files_only
            raise Exception(f"tried to load {model} from huggingface, but failed")

    package = types.ModuleType("dust3r.model")
    package.AsymmetricCroCo3DStereo = AsymmetricCroCo3DStereo
    monkeypatch.setitem(sys.modules, "dust3r", types.ModuleType("dust3r"))
    monkeypatch.setitem(sys.modules, "dust3r.model", package)
    with pytest.raises(InputError, match=r"must have its weights on this machine.*2\.3 GB, CC BY-NC-SA"):
        Dust3r().reconstruct(exact_capture)
    with pytest.raises(InputError, match="because a pickle can run code"):
        Dust3r(model="DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth").reconstruct(exact_capture)
