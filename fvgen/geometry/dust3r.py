"""Adapter to an installed DUSt3R (Wang et al., CVPR 2024): depth from a network, for photos that stereo cannot match.

DUSt3R is non-commercial (CC BY-NC-SA 4.0), code and weights, so it is never shipped, downloaded or required. Of two
photos it predicts where each pixel of both lies in the first camera's frame, up to a scale. The cameras are known here,
so only the depth is kept: each pair's scale is the one at which the second photo's pixels lie on that photo's own rays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.checks import InputError, complaint, require
from fvgen.geometry.cameras import check_cameras, pixel_rays
from fvgen.geometry.capture_depth import CaptureDepth
from fvgen.geometry.photo_order import view_change
from fvgen.geometry.points import depth_to_points
from fvgen.types import Cameras, Capture, Progress, SceneGeometry, no_progress

WEIGHTS = "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt"
"""The teacher's geometry: 2.3 GB on the Hugging Face hub."""
_PATCH = 16
"""Sides of the network's input are multiples of it."""
_LEAST_WEIGHT = 1e-6
"""Least weight of a kept pixel: DUSt3R's confidence is 1 + exp, which float32 rounds to 1 whose logarithm is 0."""
_LEAST_PARALLAX = 1e-3
"""Mean angle in radians between the two photos' views of a place below which a pair says nothing about scale."""


@dataclass(frozen=True)
class Dust3r:
    """Depth from DUSt3R's pairwise predictions at known cameras."""

    model: str = WEIGHTS
    """Folder with config.json and model.safetensors, or id of a repository in the local hub cache."""
    long_side: int = 512
    """Longest side of the photos that the network sees, in pixels."""
    neighbours: int = 3
    """How many of the nearest photos each one is paired with."""
    least_confidence: float = 1.1
    """Pixels of less confidence (1 and more) are dropped; the teacher's own data kept them from 1.0986."""
    filtered: bool = True
    """Whether depth that the photos or its own surroundings contradict is dropped, too."""

    def reconstruct(self, capture: Capture, progress: Progress = no_progress) -> SceneGeometry:
        """See `fvgen.geometry.provider.GeometryProvider`.

        Raises:
            InputError: DUSt3R or its weights are not installed, or the cameras cannot be used.
        """
        check_cameras(capture.cameras)
        require(len(capture) > 1, "the capture", "have at least two photos", len(capture), "Add photos.")
        network = load_network(self.model).to(capture.photos.device).eval()
        images = self._images(capture.photos)
        cameras = capture.cameras.resized(*images.shape[2:])
        pairs = self._pairs(cameras)
        total, weights = torch.zeros_like(images[:, 0]), torch.zeros_like(images[:, 0])
        for done, (i, j) in enumerate(pairs):
            progress(done, len(pairs), "DUSt3R")
            for photo, depth, confidence in pair_depths(network, images, cameras, i, j):
                # DUSt3R's own aligner weighs by the logarithm of confidence, too
                weight = confidence.log().clamp_min(_LEAST_WEIGHT)
                weight = weight * (confidence >= self.least_confidence) * (depth > 0)
                total[photo] += weight * depth.clamp_min(0)
                weights[photo] += weight
        progress(len(pairs), len(pairs), "DUSt3R")
        depths = torch.where(weights > 0, total / weights.clamp_min(1e-12), 0.0)
        depths = functional.interpolate(depths[:, None], capture.photos.shape[2:], mode="nearest-exact")[:, 0]
        depths = depths * capture.valid
        confidences = (depths > 0).to(depths)
        if self.filtered:
            depths, confidences = CaptureDepth().clean(depths, capture)
        points = depth_to_points(capture.photos, capture.cameras, depths, confidences)
        return SceneGeometry(capture.cameras, points, depths, confidences)

    def _images(self, photos: Tensor) -> Tensor:
        """[V, 3, h, w] in [-1, 1] at the network's size; stretched by a percent or two rather than cropped."""
        scale = self.long_side / max(photos.shape[2:])
        size = [max(round(side * scale / _PATCH), 1) * _PATCH for side in photos.shape[2:]]
        return 2 * functional.interpolate(photos, size, mode="bilinear", antialias=True, align_corners=False) - 1

    def _pairs(self, cameras: Cameras) -> list[tuple[int, int]]:
        """Each photo with its nearest ones, both ways round."""
        nearest = view_change(cameras, cameras).argsort(dim=1)[:, : self.neighbours + 1].tolist()
        one_way = {(i, j) for i, near in enumerate(nearest) for j in near if i != j}
        return sorted(one_way | {(j, i) for i, j in one_way})


def load_network(model: str) -> Any:
    """DUSt3R's network from safetensors.

    Raises:
        InputError: the package or the weights are not on this machine.
    """
    try:
        from dust3r.model import AsymmetricCroCo3DStereo
    except ImportError as error:
        raise InputError(
            complaint(
                "geometry dust3r",
                "have the package dust3r installed",
                f"'{error}'",
                "git clone --recursive https://github.com/naver/dust3r (CC BY-NC-SA 4.0, non-commercial) and put its "
                "folder on PYTHONPATH, or use the geometry plane-sweep.",
            )
        ) from error
    require(
        not str(model).endswith((".pth", ".pt", ".ckpt")),
        "model",
        "be a folder or hub id with safetensors, because a pickle can run code",
        model,
        f"Use {WEIGHTS}.",
    )
    try:
        return AsymmetricCroCo3DStereo.from_pretrained(model, local_files_only=True)
    except Exception as error:  # DUSt3R wraps what the hub raises into a bare Exception
        raise InputError(
            complaint(
                "geometry dust3r",
                "have its weights on this machine",
                f"{model} ({error})",
                f"Get them (2.3 GB, CC BY-NC-SA 4.0): huggingface-cli download {WEIGHTS}.",
            )
        ) from error


@torch.no_grad()
def pair_depths(network: Any, images: Tensor, cameras: Cameras, i: int, j: int) -> list[tuple[int, Tensor, Tensor]]:
    """(photo, depth [h, w], confidence [h, w]) for the photos i and j; nothing when the pair has no scale.

    Args:
        network: as from `load_network`.
        images: [V, 3, h, w] in [-1, 1].
        cameras: V cameras of the images.
        i: the photo in whose frame the network answers.
        j: the other photo.
    """
    shape = torch.tensor([list(images.shape[2:])])
    views = [{"img": images[k][None], "true_shape": shape, "idx": [k], "instance": [str(k)]} for k in (i, j)]
    first, second = network(*views)
    to_j = cameras.w2c[j] @ cameras.c2w[i]
    there = second["pts3d_in_other_view"][0].float()
    scale = baseline_scale(there, second["conf"][0].float(), to_j, pixel_rays(cameras[j])[0])
    if scale is None:
        return []
    seen_by_j = scale * there @ to_j[:3, :3].T.to(there) + to_j[:3, 3].to(there)
    return [
        (i, scale * first["pts3d"][0, ..., 2].float(), first["conf"][0].float()),
        (j, seen_by_j[..., 2], second["conf"][0].float()),
    ]


def baseline_scale(points: Tensor, confidence: Tensor, to_j: Tensor, rays: Tensor) -> float | None:
    """Factor on the points of photo j's pixels, given in frame i, that puts each onto its own ray.

    With rotation R and baseline t the point x of a pixel with ray r lies at ``s R x + t``, whose cross product with r
    must vanish. Along ``t x r``, the only direction that s moves it in, that is ``s a = m`` with one a and m per pixel.
    The least sum of absolute residuals, each relative to distance, is at a weighted median of ``m / a``.

    Args:
        points: [h, w, 3] in frame i, up to the scale.
        confidence: [h, w].
        to_j: [4, 4] from frame i to frame j.
        rays: [h, w, 3] of photo j's pixels, of any length.

    Returns:
        The scale; None where the baseline pulls no point sideways, or only behind the camera.
    """
    r = functional.normalize(rays.reshape(-1, 3).double(), dim=1)
    turned = points.reshape(-1, 3).double() @ to_j[:3, :3].T.double()
    moved = torch.linalg.cross(to_j[:3, 3].double().expand_as(r), r)
    a = (torch.linalg.cross(r, turned) * functional.normalize(moved, dim=1)).sum(1)
    weight = confidence.reshape(-1).double() * a.abs() / turned.norm(dim=1).clamp_min(1e-12)
    if weight.mean() <= _LEAST_PARALLAX * confidence.mean():
        return None
    ratio, order = (moved.norm(dim=1) / torch.where(a == 0, 1.0, a)).sort()
    reached = weight[order].cumsum(0)
    scale = float(ratio[torch.searchsorted(reached, reached[-1] / 2)])
    return scale if scale > 0 else None
